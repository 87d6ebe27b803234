"""How fast a replayer turns a journal that is already there into rows, and what it costs it and the secondary.

    python bench/apply.py [--scale 0.2] [--only inserts,updates,deletes,pgbench,huge,hot] [--rounds 3] [--sessions 1,2]
                          [--built-in]

For each load: a primary and a secondary that `init` has made alike, the load on the primary, its log in a journal
through a real shipper. Then a replayer (memory off) applies that journal to a fresh copy of the secondary, again and
again: median seconds, CPU seconds of the replayer by thread and of the backend that writes. With ``--built-in`` a
subscription without a copy drains the same load, from a slot of its own; its apply worker's CPU stands beside ours.
Each round compares the tables' checksums with the primary's.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import psycopg

from logship.config import Intervals, ReplayBounds
from logship.journal import Journal, Source
from logship.lsn import Lsn
from logship.replay.ddl.message import Verifier
from logship.replay.persistence import Persistence
from logship.service.demo.servers import Server, environment, find_binaries
from logship.service.initial.init import initialise
from logship.service.positions import Positions, Stage
from logship.service.replay.hold import Gate
from logship.service.replay.lookups import Lookups
from logship.service.replay.replayer import Replayer
from logship.service.replica import find

T = TypeVar("T")
_TICKS = os.sysconf("SC_CLK_TCK")
_TABLE = (
    "create table t (id bigint primary key, n int not null, v text, at timestamptz not null default now())"
)
_ROWS = (
    "insert into t select g, g % 1000, 'a value of some thirty bytes ' || g from generate_series({}, {}) g"
)


@dataclass(frozen=True)
class Load:
    """``before`` is there when `init` comes; ``work`` goes through the log, ``times`` times with {i}."""

    before: tuple[str, ...]
    work: str
    times: int  # transactions at full scale
    pgbench: bool = False
    scaled: bool = True  # fewer transactions at a smaller scale, else fewer rows in one


LOADS: dict[str, Load] = {
    "inserts": Load((_TABLE,), _ROWS.format("{i} * 1000 + 1", "{i} * 1000 + 1000"), 1000),
    "updates": Load(
        (_TABLE, _ROWS.format(1, 500_000)),
        "update t set n = n + 1, v = 'changed ' || id where id between {i} * 1000 + 1 and {i} * 1000 + 1000",
        500,
    ),
    "deletes": Load(
        (_TABLE, _ROWS.format(1, 500_000)),
        "delete from t where id between {i} * 1000 + 1 and {i} * 1000 + 1000",
        500,
    ),
    "pgbench": Load((), "", 100_000, pgbench=True),
    "huge": Load((_TABLE,), _ROWS.format("1", "{rows}"), 1, scaled=False),
    "hot": Load((_TABLE, _ROWS.format(1, 1000)), "update t set n = n + 1 where id = {i} % 1000 + 1", 200_000),
}


@dataclass
class Round:
    wall_s: float
    threads: dict[str, float] = field(default_factory=dict)  # CPU seconds by name
    backend_s: float = 0.0  # of all sessions that write
    figures: str = ""


class Bench:
    """The servers, and one database for each load on each of them."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Bench:
        enter, binaries = self._stack.enter_context, find_binaries()
        self.directory = Path(enter(tempfile.TemporaryDirectory(prefix="logship-bench-")))
        shared = {"shared_buffers": "512MB", "max_wal_size": "4GB", "checkpoint_timeout": "30min"}
        self.primary = enter(Server(binaries, "primary", shared, tcp="trust"))
        retried = {"wal_retrieve_retry_interval": "200ms", "max_logical_replication_workers": "4"}
        self.secondary = enter(Server(binaries, "secondary", shared | retried, tcp="trust"))
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def pgbench(self, *arguments: str, database: str) -> None:
        program = self.primary.binaries.directory / "pgbench"
        subprocess.run(
            [program, *arguments, self.primary.conninfo(database)],
            check=True, capture_output=True, cwd=self.directory, env=environment(),
        )  # fmt: skip


def one(conninfo: str, query: str) -> object:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        row = connection.execute(query.encode()).fetchone()
    return row[0] if row else None


def execute(conninfo: str, *statements: str) -> None:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def until(condition: Callable[[], T], deadline_s: float = 300.0) -> T:
    end_s = time.monotonic() + deadline_s
    while not (value := condition()):
        if time.monotonic() > end_s:
            raise SystemExit("it took too long")
        time.sleep(0.005)
    return value


class Prepared:
    """One load: its databases, its journal, and where it ends."""

    def __init__(self, bench: Bench, name: str, load: Load, scale: float, *, built_in: bool) -> None:
        self._bench, self.name = bench, name
        self.primary = bench.primary.conninfo(name)
        execute(bench.primary.conninfo(), f"create database {name}")
        execute(bench.secondary.conninfo(), f"create database {name}_made")
        if load.pgbench:
            bench.pgbench("-i", "-s", "10", database=name)
        else:
            execute(self.primary, *load.before)
        made = bench.secondary.conninfo(f"{name}_made")
        initialise(self.primary, made)
        execute(made, "vacuum analyze")
        if built_in:
            execute(self.primary, "create publication built_in for tables in schema public")
            one(self.primary, f"select pg_create_logical_replication_slot('built_in_{name}', 'pgoutput')")
        self.journal = bench.directory / name
        with shipper(self.primary, self.journal, bench.directory / f"{name}.log"):
            self._work(load, scale)
            self.end = Lsn.parse(str(one(self.primary, "select pg_current_wal_insert_lsn()")))
            one(self.primary, "select pg_logical_emit_message(true, 'bench', 'end')")
            slot = (
                f"select confirmed_flush_lsn >= '{self.end}' from pg_replication_slots "
                f"where database = '{name}' and slot_name not like 'built%'"
            )
            until(lambda: one(self.primary, slot))

    def _work(self, load: Load, scale: float) -> None:
        if load.pgbench:
            count = str(int(load.times * scale / 4))
            self._bench.pgbench("-n", "-c", "4", "-j", "2", "-t", count, "-M", "prepared", database=self.name)
            return
        times = int(load.times * scale) if load.scaled else load.times
        rows = int(1_000_000 * scale)
        with psycopg.connect(self.primary, autocommit=True) as connection:
            connection.execute("set synchronous_commit = off")
            for i in range(times):
                connection.execute(load.work.replace("{i}", str(i)).replace("{rows}", str(rows)).encode())

    def fresh(self, database: str) -> str:
        execute(
            self._bench.secondary.conninfo(), f"drop database if exists {database} with (force)",
            f"create database {database} template {self.name}_made", "checkpoint",
        )  # fmt: skip
        return self._bench.secondary.conninfo(database)

    def compare(self, secondary: str) -> None:
        tables = (
            "select array_agg(c.oid::regclass::text order by 1) from pg_class c "
            "where c.relkind = 'r' and c.relnamespace = 'public'::regnamespace"
        )
        names = one(self.primary, tables)
        assert isinstance(names, list)
        for name in names:
            checksum = (
                f"select count(*) || ':' || coalesce(sum(hashtextextended(t::text, 0)), 0) from {name} t"
            )
            ours, theirs = one(secondary, checksum), one(self.primary, checksum)
            if ours != theirs:
                raise SystemExit(f"{self.name}: {name} differs: {ours}, {theirs}")


@contextlib.contextmanager
def shipper(primary: str, journal: Path, log: Path) -> Iterator[None]:
    arguments = [
        "ship",
        "--primary",
        primary,
        "--journal",
        str(journal),
        "--listen",
        "127.0.0.1:0",
        "--auth",
        "trust",
    ]
    with log.open("wb") as out, subprocess.Popen(
        [sys.executable, "-m", "logship", *arguments], stderr=out, stdout=out
    ) as process:  # fmt: skip
        try:
            until(lambda: b"streaming " in log.read_bytes() or process.poll() is not None)
            if process.poll() is not None:
                raise SystemExit(log.read_text())
            yield
        finally:
            process.terminate()


def cpu_s(pid: int, thread: int | None = None) -> float:
    path = f"/proc/{pid}/stat" if thread is None else f"/proc/{pid}/task/{thread}/stat"
    fields = Path(path).read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def ours(prepared: Prepared, sessions: int) -> Round:
    secondary = prepared.fresh(f"{prepared.name}_ours")
    found = find(secondary, None)
    replica = found.replica
    lookups = Lookups(secondary, trouble=lambda error: None)
    bounds = ReplayBounds(apply_sessions=sessions)
    persistence, positions = Persistence(secondary, replica.name, sessions=sessions), Positions()
    with Journal.open(
        prepared.journal, Source(replica.system_identifier, replica.timeline, replica.database)
    ) as journal:
        replayer = Replayer(
            journal=journal, persistence=persistence, resolve=lookups.resolve,
            verifier=lambda: Verifier(lookups.ddl_keys, replica.database), renamed=lambda: (), make_memory=None,
            left_out=found.left_out, gate=Gate(), positions=positions, bounds=bounds, intervals=Intervals(),
        )  # fmt: skip
        began = time.monotonic()
        thread = threading.Thread(target=replayer.run)
        thread.start()
        until(lambda: positions.lsn(Stage.PERSISTENCE) or not thread.is_alive())
        positions.wait(Stage.PERSISTENCE, prepared.end, None, lambda: not thread.is_alive())
        wall_s = time.monotonic() - began
        spent = {t.name: cpu_s(os.getpid(), t.native_id) for t in threading.enumerate() if t.native_id}
        pids = {persistence.backend_pid, *(lane.session.backend_pid for lane in persistence.lanes)}
        backend_s = sum(cpu_s(pid) for pid in pids if pid)
        figures = replayer.replayed.abreast
        replayer.stop()
        thread.join()
        persistence.close()
        lookups.close()
    prepared.compare(secondary)
    threads: dict[str, float] = {}
    for name, seconds in spent.items():
        kind = "persistence" if name.startswith("persistence") else name
        threads[kind] = threads.get(kind, 0.0) + seconds
    return Round(wall_s, threads, backend_s, str(figures) if sessions > 1 else "")


def theirs(prepared: Prepared) -> Round:
    """The slot gives its log once for each round: copies of it stand by."""
    secondary = prepared.fresh(f"{prepared.name}_theirs")
    slot = f"round_{prepared.name}"
    one(prepared.primary, f"select pg_copy_logical_replication_slot('built_in_{prepared.name}', '{slot}')")
    began = time.monotonic()
    execute(
        secondary,
        f"create subscription built_in connection '{prepared.primary}' publication built_in "
        f"with (connect = false, slot_name = '{slot}', enabled = false)",
        "alter subscription built_in enable",
        "alter subscription built_in refresh publication with (copy_data = false)",
    )  # fmt: skip
    there = (
        f"select replay_lsn >= '{prepared.end}' from pg_stat_replication where application_name = 'built_in'"
    )
    until(lambda: one(prepared.primary, there))
    wall_s = time.monotonic() - began
    pid = one(secondary, "select pid from pg_stat_subscription where subname = 'built_in'")
    assert isinstance(pid, int)
    backend_s = cpu_s(pid)
    prepared.compare(secondary)
    execute(secondary, "alter subscription built_in disable")
    execute(secondary, "alter subscription built_in set (slot_name = none)", "drop subscription built_in")
    until(
        lambda: one(
            prepared.primary, f"select not active from pg_replication_slots where slot_name = '{slot}'"
        )
    )
    one(prepared.primary, f"select pg_drop_replication_slot('{slot}')")
    return Round(wall_s, {}, backend_s)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scale", type=float, default=0.2, help="1: a million rows")
    parser.add_argument("--only", default=",".join(LOADS), help="which loads, with commas")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--sessions", default="1", help="how many write, with commas: each in turn, in every round"
    )
    parser.add_argument("--built-in", action="store_true", help="a subscription, too")
    given = parser.parse_args()
    with Bench() as bench:
        for name in given.only.split(","):
            prepared = Prepared(bench, name, LOADS[name], given.scale, built_in=given.built_in)
            counts = [int(count) for count in given.sessions.split(",")]
            mine: dict[int, list[Round]] = {count: [] for count in counts}
            other = []
            for _ in range(given.rounds):
                for count in counts:
                    mine[count].append(ours(prepared, count))
                if given.built_in:
                    other.append(theirs(prepared))
            for count in counts:
                report(f"{name} {count}" if len(counts) > 1 else name, mine[count], other)


def report(name: str, mine: list[Round], other: list[Round]) -> None:
    def median(rounds: list[Round], value: Callable[[Round], float]) -> float:
        return statistics.median(map(value, rounds))

    wall_s = median(mine, lambda each: each.wall_s)
    threads = "  ".join(
        f"{thread} {median(mine, lambda each, t=thread: each.threads.get(t, 0.0)):5.2f}"  # type: ignore[misc]
        for thread in ("replay", "persistence")
    )
    backend_s = median(mine, lambda each: each.backend_s)
    line = f"{name:10} {wall_s:6.2f} s   CPU s: {threads}  backend {backend_s:5.2f}"
    if mine[-1].figures:
        line += f"   {mine[-1].figures}"
    if other:
        their_s, worker_s = (
            median(other, lambda each: each.wall_s),
            median(other, lambda each: each.backend_s),
        )
        line += f"   built-in {their_s:6.2f} s, worker {worker_s:5.2f}   ratio {their_s / wall_s:5.2f}"
    print(line, flush=True)


if __name__ == "__main__":
    main()
