"""Main memory beside built-in replication and the secondary: replay, merges, aggregates, memory used.

Run: ``python -m bench.memory [--quick] [--only tight,batch,fresh,replay,aggregate] [--write]``. Everything in one
run, on servers that this starts:

- ``batch``: 1,000 changes (updates, deletes, inserts over random keys) on a table of a million and one of ten
  million rows, in turns, and the merges that follow;
- ``fresh``: how soon a change is visible in memory (``bench/memory_fresh.py``);
- ``replay``: a journal of inserts, updates and pgbench replayed into memory, and the same log applied by a
  subscription (``bench/apply.py`` makes both);
- ``aggregate``: over 5 million rows on the secondary, in memory merged, and with 1 % of them in the delta; then
  updates in a loop with the merges that follow, and the memory that the process takes of its budget meanwhile;
- ``tight``: the same over a table of half of its budget, before anything else.

Prints ratios, and what they should be; ``--write`` puts them into docs/memory.md. Nothing else should run on the
machine meanwhile: CPU seconds stand beside.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import psycopg

from bench.apply import LOADS, Bench, Prepared, execute, one, theirs
from bench.memory_budget import Churn, Clock, row, rss_bytes, updates
from bench.memory_figures import Figures, cpu
from bench.memory_fresh import freshness
from logship.change import Column, Relation
from logship.config import ReplayBounds
from logship.journal import Journal, Source
from logship.journal.segment import RecordKind, Stretch
from logship.lsn import Lsn
from logship.replay.batch import Batch, NetChanges, Rows
from logship.replay.batcher import Batcher
from logship.replay.classify import Classifier
from logship.replay.memory.main import Writing
from logship.replay.memory.memory import Memory
from logship.replay.memory.merge import Merger
from logship.replay.memory.reading import ReaderThreads
from logship.replay.memory.replay import OpenTransaction, carry_out, prepare
from logship.replay.memory.resident import MemoryObject, Residence
from logship.replay.memory.source import Loader
from logship.replay.memory.store import Store
from logship.replay.memory.table import table_of
from logship.replay.target import Target, TargetColumn
from logship.service.initial.init import initialise
from logship.service.replay.lookups import Lookups
from logship.service.replay.queue import ByteQueue
from logship.service.replay.relations import Relations
from logship.service.replica import find

COLUMNS = (
    ("id", 23, -1),
    ("n", 20, -1),
    ("note", 25, -1),
    ("at", 1114, -1),
    ("amount", 1700, (12 << 16 | 2) + 4),
)
FILL = (
    "select i::int as c0, i::bigint * 7 as c1, 'note of row ' || i as c2, '2026-01-01'::timestamp + to_seconds(i)"
    " as c3, (i % 1000 / 7.0)::decimal(12,2) as c4 from range({}, {}) r(i)"
)
REPLAYED = 0.3  # of bench/apply.py's loads: the whole run is to end within minutes
TIGHT = 1_500_000, 200_000_000  # rows, which take half of it, and the budget
PAGE = Path(__file__).parents[1] / "docs" / "memory.md"
AGGREGATES = (
    "select count(*), sum(n), avg(amount) from public.t",
    "select n % 10, count(*), sum(amount) from public.t group by 1 order by 1",
)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.memory",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of everything")
    parser.add_argument("--only", default="tight,batch,fresh,replay,aggregate", help="parts, with commas")
    parser.add_argument("--loads", default="inserts,updates,pgbench", help="of replay, with commas")
    parser.add_argument("--write", action="store_true", help="the table goes into docs/memory.md")
    given = parser.parse_args()
    scale = 0.1 if given.quick else 1.0
    chosen = given.only.split(",")
    figures = Figures(" ".join(["python -m bench.memory", *sys.argv[1:]]))
    if "tight" in chosen:  # the first: what others gave back to nobody would be free for it
        with Bench() as bench:
            tight(bench, figures)
    if "fresh" in chosen:
        with Bench() as bench:
            freshness(bench, figures, 5 if given.quick else 15)
    if "batch" in chosen:
        batches(figures, max(scale, 0.2))
    if {"replay", "aggregate"} & set(chosen):
        with Bench() as bench:
            if "replay" in chosen:
                for name in given.loads.split(","):
                    replay(bench, figures, name, scale * REPLAYED)
            if "aggregate" in chosen:
                aggregate(bench, figures, int(5_000_000 * scale))
    if given.write:
        figures.write(PAGE)


# -- a batch on a small and on a large table ---------------------------------------------------------------


def target(name: str) -> Target:
    relation = Relation(
        1, "public", name, "d", tuple(Column(*column, column[0] == "id") for column in COLUMNS)
    )
    held = tuple(TargetColumn(label, "", kind, mod, False, "", "", True) for label, kind, mod in COLUMNS)
    return Target(relation, 1, "r", 10, "owner", held, (0,))


class Filled:
    """A table of ``count`` rows in a store, and changes that fit it."""

    def __init__(self, store: Store, name: str, count: int) -> None:
        self.store, self.known = store, MemoryObject(target(name))
        self._there, self._next = count, count
        self._gone: set[int] = set()
        self.known.table = table_of(self.known.target, frozenset())
        writing = Writing(store, self.known.held, self.known.parts, Lsn(1))
        writing.create()
        for start in range(0, count, 1 << 20):
            writing.append(store.table(FILL.format(start, min(count, start + (1 << 20)))))
        self.known.residence = Residence.RESIDENT
        self.known.lay_out(replace(writing.parts, shown=True))
        store.execute(self.known.held.show(self.known.parts))

    def mixed(self, count: int) -> Rows:
        drawn = {random.randrange(self._there) for _ in range(count * 2 // 3)} - self._gone
        ids = list(drawn)
        deleted, updated = ids[: count // 3], ids[count // 3 :]
        self._gone.update(deleted)
        inserted = range(self._next, self._next + count - len(ids))
        self._next = inserted.stop
        changes = NetChanges.of(
            self.known.target,
            deletes=[[b"%d" % number] for number in deleted],
            updates=[(range(5), [[b"%d" % number] for number in updated], [row(n) for n in updated])],
            inserts=[row(number) for number in inserted],
        )
        return Rows([changes])

    def replay(self, step: Rows) -> None:
        opened = OpenTransaction()
        batch = Batch(Lsn(2), 0, True, (step,), 1, 1, 1, 1, (), {}, frozenset())
        prepared = prepare(batch, self.store, lambda _: self.known)
        self.store.begin()
        carry_out(prepared, opened, self.store, Lsn(2))
        self.store.commit(Lsn(2))
        opened.add(prepared)
        parts = next(iter(opened.changes.values())).parts
        assert parts is not None
        self.known.lay_out(parts)


def batches(figures: Figures, scale: float) -> None:
    store = Store(limit_bytes=8 << 30, spill_directory=None, threads=2, start_lsn=Lsn(1))
    small, large = (
        Filled(store, "small", int(1_000_000 * scale)),
        Filled(store, "large", int(10_000_000 * scale)),
    )
    took: dict[Filled, list[tuple[float, float]]] = {small: [], large: []}
    for _ in range(40):
        for filled in (small, large):
            step = filled.mixed(1000)
            began, used = time.perf_counter(), cpu()
            filled.replay(step)
            took[filled].append((time.perf_counter() - began, cpu() - used))
    medians = {
        filled: [statistics.median(column) * 1e3 for column in zip(*each, strict=True)]
        for filled, each in took.items()
    }
    told = ", ".join(
        f"{filled.known.target.name} {wall:.1f} ms (CPU {own:.1f})" for filled, (wall, own) in medians.items()
    )
    ratio = medians[large][1] / medians[small][1]
    figures.add("batch of 1,000 changes", told, ratio, "at most 1.5", ratio <= 1.5)
    for filled in (small, large):
        merged(figures, store, filled.known)
    store.close()


def merged(figures: Figures, store: Store, known: MemoryObject) -> None:
    """Merge its delta, and rewrite a segment."""
    steps: list[tuple[float, float]] = []
    merger, count = Merger(store, time.monotonic), known.parts.delta_rows

    def timed(work: Callable[[], object]) -> tuple[float, float]:
        began, used = time.perf_counter(), cpu()
        work()
        return (time.perf_counter() - began) * 1e3, (cpu() - used) * 1e3

    while known.parts.delta_rows:
        steps.append(timed(lambda: merger.merge(known, Lsn(2))))
    walls, own = zip(*steps, strict=True)
    rewritten_ms, rewritten_cpu_ms = timed(lambda: merger.rewrite(known, known.parts.segments[0], Lsn(2)))
    figures.add(
        f"steps of merging {count} rows into {known.target.name}",
        f"{len(steps)}, in all {sum(walls):.0f} ms (CPU {sum(own):.0f}); the longest {max(walls):.0f} ms (CPU"
        f" {max(own):.0f}); a segment rewritten in {rewritten_ms:.0f} ms (CPU {rewritten_cpu_ms:.0f})",
        None, "each under 50 ms of CPU", max(*own, rewritten_cpu_ms) < 50,
    )  # fmt: skip


# -- a journal into memory ---------------------------------------------------------------------------------


class There:
    """Persistence that has everything: what is measured is memory."""

    def reached(self, lsn: Lsn) -> bool:
        return True

    def wait(self, lsn: Lsn) -> None:
        pass


@dataclass
class IntoMemory:
    wall_s: float
    reading_s: float  # of CPU: journal to batches
    memory_s: float


def memory_at(
    secondary: str, replica: str, start: Lsn, budget_bytes: int, now: Callable[[], float] = time.monotonic
) -> Memory:
    readers = ReaderThreads(lambda: Loader(secondary, replica), 1, wait=lambda lsn, given_up: None)
    return Memory(readers, start_lsn=start, budget_bytes=budget_bytes, behind=There(), now=now)


def load(memory: Memory, targets: Sequence[Target]) -> None:
    for wanted in targets:
        memory.want(wanted)
    end_s = time.monotonic() + 300
    while [state.residence for state in memory.objects()].count(Residence.RESIDENT) < len(targets):
        if not memory.serve():
            time.sleep(0.001)
        if time.monotonic() > end_s:
            raise SystemExit(f"not loaded: {[state.reason for state in memory.objects()]}")


class Log:
    """The journal of one load, as batches; again and again."""

    def __init__(self, prepared: Prepared, secondary: str) -> None:
        found = find(secondary, None)
        self.replica = found.replica
        self._prepared, self._left_out = prepared, found.left_out
        self._lookups = Lookups(secondary, trouble=lambda error: None)
        self._relations = Relations(self._lookups.resolve)
        row = one(secondary, "select replay_lsn from logship.position")
        self.start = Lsn.parse(str(row))

    def batches(self, journal: Journal, wants: Callable[[], bool]) -> Iterator[Batch]:
        """``wants``: whether the consumer waits, which is when it gets what there is."""
        bounds = ReplayBounds()
        batcher = Batcher(
            Classifier(self._relations.resolve, self._left_out, {}),
            self.start,
            bound_bytes=bounds.batch_bytes,
        )
        with journal.reader(self.start) as reader:
            while batcher.position < self._prepared.end:
                for record in reader.read_together(bounds.read_bytes, timeout_s=1.0):
                    if isinstance(record, Stretch):
                        yield from (item for item in batcher.stretch(record) if isinstance(item, Batch))
                    elif record.kind is RecordKind.SCHEMA:
                        batcher.schema(record.run)
                    elif record.kind is RecordKind.POSITION:
                        batcher.advance(record.end_lsn)
                    elif record.kind is RecordKind.CHANGES:
                        yield from (item for item in batcher.changes(record) if isinstance(item, Batch))
                if batcher.pending and wants():
                    yield batcher.take()
            if batcher.pending:
                yield batcher.take()

    def open(self) -> Journal:
        return Journal.open(
            self._prepared.journal,
            Source(self.replica.system_identifier, self.replica.timeline, self.replica.database),
        )

    def close(self) -> None:
        self._relations.close()
        self._lookups.close()


def into_memory(prepared: Prepared) -> IntoMemory:
    secondary = prepared.fresh(f"{prepared.name}_memory")
    log = Log(prepared, secondary)
    with log.open() as journal:
        targets = {
            changed.name: changed
            for batch in log.batches(journal, lambda: False)
            for changed, _ in batch.changed()
        }
        memory = memory_at(secondary, log.replica.name, log.start, 4 << 30)
        load(memory, list(targets.values()))
        queue: ByteQueue[Batch] = ByteQueue(ReplayBounds().queue_bytes, lambda: None)
        spent: list[float] = []

        def read() -> None:
            used = time.thread_time()
            for batch in log.batches(journal, lambda: queue.idle):
                queue.put(batch, batch.size_bytes)
            spent.append(time.thread_time() - used)

        thread = threading.Thread(target=read)
        began, used = time.monotonic(), cpu()
        thread.start()
        while memory.memory_lsn < prepared.end and (thread.is_alive() or queue.size_bytes):
            taken = queue.take(ReplayBounds().batch_bytes, 0.05)
            if taken and taken[0].complete:
                memory.replay(taken)
            else:
                for piece in taken:
                    memory.replay([piece])
            memory.serve()
        wall_s = time.monotonic() - began
        thread.join()
        whole_s = cpu() - used
        for name in targets:
            table, _ = memory.query(f'select count(*) from public."{name}"')
            expected = one(prepared.primary, f'select count(*) from public."{name}"')
            if table.column(0)[0].as_py() != expected:
                raise SystemExit(f"{prepared.name}: {name} differs in memory")
        memory.close()
    log.close()
    return IntoMemory(wall_s, spent[0], whole_s - spent[0])


def replay(bench: Bench, figures: Figures, name: str, scale: float) -> None:
    prepared = Prepared(bench, name, LOADS[name], scale, built_in=True)
    other, mine = theirs(prepared), into_memory(prepared)
    ratio = other.wall_s / mine.wall_s
    by_cpu = other.backend_s / (mine.reading_s + mine.memory_s)
    figures.add(
        f"replay of {name}",
        f"built-in {other.wall_s:.2f} s (its worker's CPU {other.backend_s:.2f}), into memory {mine.wall_s:.2f} s "
        f"(CPU: journal to batches {mine.reading_s:.2f}, memory {mine.memory_s:.2f}; by CPU {by_cpu:.1f} times)",
        ratio, "5", ratio >= 5,
    )  # fmt: skip


# -- aggregates, and the memory they take --------------------------------------------------------------------


@dataclass
class Copied:
    """A table of ``rows`` on both servers, in databases of their own, and in memory."""

    memory: Memory
    target: Target
    secondary: str
    rows: int
    start: int
    before: int  # bytes of this process, without the rows
    budget: int
    clock: Clock

    @classmethod
    @contextlib.contextmanager
    def made(cls, bench: Bench, name: str, rows: int, budget: int) -> Iterator[Self]:
        database, copy = bench.primary.conninfo(name), bench.secondary.conninfo(name)
        for server in (bench.primary, bench.secondary):
            execute(server.conninfo(), f"create database {name}")
        execute(
            database,
            "create table t (id int primary key, n bigint, note text, at timestamp, amount numeric(12,2))",
            "insert into t select i, i::bigint * 7, 'note of row ' || i, timestamp '2026-01-01' + i * interval '1 s',"
            f" i % 1000 / 7.0 from generate_series(0, {rows - 1}) i",
        )
        initialise(database, copy)
        execute(copy, "vacuum analyze")
        start = Lsn.parse(str(one(copy, "select replay_lsn from logship.position")))
        lookups = Lookups(copy, trouble=lambda error: None)
        wanted = lookups.resolve(_relation(database), {})
        before, clock = rss_bytes(), Clock()
        memory = memory_at(copy, find(copy, None).replica.name, start, budget, clock)
        used, began = cpu(), time.monotonic()
        load(memory, [wanted])
        print(
            f"{rows:,} rows loaded in {time.monotonic() - began:.1f} s, CPU {cpu() - used:.1f} s", flush=True
        )
        try:
            yield cls(memory, wanted, copy, rows, int(start), before, budget, clock)
        finally:
            memory.close()
            lookups.close()

    def churn(self, figures: Figures, what: str, each: int, turns: int) -> None:
        made = Churn(self.memory, self.target, self.rows, self.start + 1000, each, turns, self.clock)
        made.measure(figures, what, self.before, self.budget)


def aggregate(bench: Bench, figures: Figures, rows: int) -> None:
    with Copied.made(bench, "sums", rows, max(256 << 20, rows * 200)) as copied:
        memory, asked = copied.memory, Asked(copied.memory, copied.secondary)
        asked.compare(figures, "merged", 20)
        ids = random.sample(range(rows), rows // 100)
        for nth, place in enumerate(range(0, len(ids), 5000)):
            memory.replay([updates(copied.target, ids[place : place + 5000], copied.start + 1 + nth)])
        asked.compare(figures, f"{memory.objects()[0].delta_rows:,} rows not merged", 7)
        copied.churn(figures, "memory used, loaded, updated and merged", rows // 250, 30)


def tight(bench: Bench, figures: Figures) -> None:
    """A table of half of the budget: what is rewritten needs space before the old has gone."""
    with Copied.made(bench, "tight", *TIGHT) as copied:
        copied.churn(figures, "memory used where the table is half of the budget", 5000, 100)


def _relation(conninfo: str) -> Relation:
    oid = one(conninfo, "select 'public.t'::regclass::oid::bigint")
    assert isinstance(oid, int)
    return Relation(oid, "public", "t", "d", tuple(Column(*column, column[0] == "id") for column in COLUMNS))


def _ask(conninfo: str, query: str) -> None:
    with psycopg.connect(conninfo) as connection:
        connection.execute(query.encode()).fetchall()


@dataclass
class Asked:
    """The same questions to both, in turns."""

    memory: Memory
    secondary: str

    def compare(self, figures: Figures, what: str, bound: float, times: int = 5) -> None:
        for query in AGGREGATES:
            slow, fast = [], []
            for _ in range(times):
                slow.append(self._timed(lambda q=query: _ask(self.secondary, q)))  # type: ignore[misc]
                fast.append(self._timed(lambda q=query: self.memory.query(q)))  # type: ignore[misc]
            theirs_s, _, ours_s, ours_cpu = (
                statistics.median(column) for each in (slow, fast) for column in zip(*each, strict=True)
            )
            ratio = theirs_s / ours_s
            told = (
                f"secondary {theirs_s * 1e3:.0f} ms, memory {ours_s * 1e3:.0f} ms (CPU {ours_cpu * 1e3:.0f})"
            )
            selected = query.partition(" from")[0]
            figures.add(f"`{selected}`, {what}", told, ratio, f"{bound:g}", ratio >= bound)

    @staticmethod
    def _timed(work: Callable[[], object]) -> tuple[float, float]:
        """Elapsed, and this process's CPU."""
        began, before = time.perf_counter(), cpu()
        work()
        return time.perf_counter() - began, cpu() - before


if __name__ == "__main__":
    main()
