"""How soon a change is visible in main memory, at 500 transactions a second.

In: the two servers. Out: the milliseconds from each transaction's commit on the primary, by the time that its commit
record bears, until a reader in the replicating process can see it. Shipper and replayer run in this process,
as ``logship run`` has them, and so does who watches: it looks twice in a millisecond.
"""

from __future__ import annotations

import bisect
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import logship.memory
from bench.apply import Bench, execute, one, until
from bench.memory_figures import Figures, cpu
from logship.cli.following import memory_of
from logship.config import MemorySettings
from logship.journal import Journal, Source
from logship.journal.segment import RecordKind
from logship.lsn import Lsn
from logship.replay.memory.memory import Memory
from logship.replay.memory.resident import SHOWN
from logship.service.initial.init import initialise
from logship.service.replica import find
from logship.service.run import Run, RunSettings
from logship.service.watch.probe import flushed_position

RATE: Final = 500
_LOOK_S: Final = 0.0005
_EPOCH_S: Final = 946_684_800  # of commit times: 2000-01-01
_TABLE: Final = "create table t (id bigserial primary key, at timestamptz default now(), n int, v text)"
# One in four is an update of a row that came before.
_SCRIPT: Final = (
    "\\set which random(1, 4)\n\\set at random(1, 100000)\n"
    "\\if :which = 1\nupdate t set n = n + 1 where id = :at;\n"
    "\\else\ninsert into t (n, v) values (:at, 'twenty bytes of text');\n\\endif\n"
)


@dataclass
class Watched:
    """When which position was there; in order."""

    memory: Memory
    lsns: list[Lsn] = field(default_factory=list)
    times_s: list[float] = field(default_factory=list)

    def look(self, over: threading.Event) -> None:
        last = Lsn(0)
        while not over.is_set():
            there = self.memory.memory_lsn
            if there != last:
                self.times_s.append(time.time())
                self.lsns.append(there)
                last = there
            time.sleep(_LOOK_S)

    def lag_ms(self, end: Lsn, committed_s: float) -> float:
        return (self.times_s[bisect.bisect_left(self.lsns, end)] - committed_s) * 1e3


def freshness(bench: Bench, figures: Figures, seconds: int) -> None:
    database, copy = bench.primary.conninfo("fresh"), bench.secondary.conninfo("fresh")
    for server in (bench.primary, bench.secondary):
        execute(server.conninfo(), "create database fresh")
    execute(
        database, _TABLE, "insert into t (n, v) select g, 'a first value' from generate_series(1, 200000) g"
    )
    initialise(database, copy)
    script, journal = bench.directory / "fresh.sql", bench.directory / "fresh-journal"
    script.write_text(_SCRIPT)

    def work(for_s: int) -> None:
        bench.pgbench("-n", "-c", "4", "-R", str(RATE), "-T", str(for_s), "-f", str(script), database="fresh")

    with _running(database, copy, journal) as run:
        work(3)  # the table is loaded, the caches are warm
        query = "select count(*) from public.t"
        memory = until(lambda: run.memory)
        assert memory is not None
        until(lambda: [state.residence in SHOWN for state in memory.objects()] == [True])
        logship.memory.of(run).query(query, at_least=flushed_position(database), timeout_s=60)
        watched, over, start = Watched(memory), threading.Event(), memory.memory_lsn
        watcher = threading.Thread(target=watched.look, args=(over,))
        watcher.start()
        used = cpu()
        work(seconds)
        spent_s = cpu() - used
        end = flushed_position(database)
        answer = logship.memory.of(run).query(query, at_least=end, timeout_s=60)
        over.set()
        watcher.join()
        if answer.table.column(0)[0].as_py() != one(database, query):
            raise SystemExit("fresh: t differs in memory")
    reached = watched.lsns[-1]
    lags = sorted(
        watched.lag_ms(lsn, at) for lsn, at in _commits(journal, copy, start) if start < lsn <= reached
    )
    median, most = statistics.median(lags), lags[int(len(lags) * 0.99)]
    figures.add(
        f"visible in memory after the commit, {RATE} transactions a second",
        f"median {median:.1f} ms, 99th percentile {most:.1f} ms; {len(lags)} transactions in"
        f" {len(watched.lsns)} batches, CPU of shipper, replayer and watcher"
        f" {spent_s / len(watched.lsns) * 1e3:.1f} ms a batch",
        None, "10 and 50 ms", median <= 10 and most <= 50,
    )  # fmt: skip


@contextmanager
def _running(primary: str, secondary: str, journal: Path) -> Iterator[Run]:
    run = Run(
        RunSettings(
            primary=primary, secondary=secondary, journal=journal, memory=memory_of(MemorySettings(1 << 30))
        )
    )
    failed: list[BaseException] = []

    def follow() -> None:
        try:
            run.run()
        except BaseException as error:  # noqa: BLE001 - raised below
            failed.append(error)

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        yield run
    finally:
        run.stop()
        thread.join()
    if failed:
        raise failed[0]


def _commits(journal: Path, secondary: str, start: Lsn) -> Iterator[tuple[Lsn, float]]:
    """The end of every transaction behind ``start``, and when it was committed."""
    replica = find(secondary, None).replica
    source = Source(replica.system_identifier, replica.timeline, replica.database)
    with Journal.open(journal, source) as opened, opened.reader(start) as reader:
        while records := reader.read(1 << 20, timeout_s=0.0):
            for record in records:
                if record.kind is RecordKind.CHANGES and record.last:
                    yield record.end_lsn, _EPOCH_S + record.commit_time_us / 1e6
