"""What a row of the log costs from the journal's run to what leaves the process: CPU seconds of each stage, with the
kernel in Python and in Cython.

    python bench/kernel.py [--rows 1000000]

Made up, without a server: inserts in transactions of 1,000, updates of as many rows in as many, and pgbench's
transactions of four rows. Batches are of 16 MB, as the replayer's. Each implementation has a process of its own; a
stage's figure is the CPU time of its thread.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from logship import kernel, pgoutput
from logship.change import Begin, Column, Commit, Event, Insert, Relation, Update
from logship.kernel.choice import CYTHON, PYTHON, is_built
from logship.lsn import Lsn
from logship.replay.assemble import Abandoned
from logship.replay.batch import Batch, NetChanges, Rows
from logship.replay.batcher import Batcher
from logship.replay.classify import Classifier
from logship.replay.merge import merged
from logship.replay.target import Target, TargetColumn

BATCH_BYTES = 16 << 20
INT, TEXT = 23, 25
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Record:
    first: bool
    last: bool
    xid: int
    commit_lsn: Lsn
    end_lsn: Lsn
    commit_time_us: int
    run: bytes


def relation(oid: int, name: str, *columns: tuple[str, int], keyed: bool = True) -> Relation:
    made = tuple(Column(column, of_type, -1, keyed and n == 0) for n, (column, of_type) in enumerate(columns))
    return Relation(oid, "public", name, "d", made)


EVENTS = relation(1, "events", ("id", INT), ("account", INT), ("at", TEXT), ("note", TEXT))
ACCOUNTS = relation(2, "pgbench_accounts", ("aid", INT), ("bid", INT), ("abalance", INT), ("filler", TEXT))
TELLERS = relation(3, "pgbench_tellers", ("tid", INT), ("bid", INT), ("tbalance", INT), ("filler", TEXT))
BRANCHES = relation(4, "pgbench_branches", ("bid", INT), ("bbalance", INT), ("filler", TEXT))
HISTORY = relation(
    5, "pgbench_history", ("tid", INT), ("bid", INT), ("aid", INT), ("delta", INT), ("mtime", TEXT)
)


def resolve(shape: Relation, _types: object) -> Target:
    columns = tuple(TargetColumn(c.name, "text", c.type_oid, -1, False, "", "", True) for c in shape.columns)
    return Target(shape, shape.oid, "r", 10, "o", columns, () if shape.oid == HISTORY.oid else (0,))


def record(number: int, events: list[Event]) -> Record:
    end = Lsn(number * 1000)
    commit = Lsn(end - 10)
    run = kernel.frame(
        [
            pgoutput.encode(one)
            for one in (Begin(commit, number, number), *events, Commit(commit, end, number))
        ]
    )
    return Record(True, True, number, commit, end, number, run)


def inserts(rows: int) -> Iterator[Record]:
    for number in range(rows // 1000):
        first = number * 1000
        yield record(number + 1, [Insert(1, event(n)) for n in range(first, first + 1000)])


def updates(rows: int) -> Iterator[Record]:
    """Half as many as there are rows."""
    for number in range(rows // 2000):
        first = number * 1000
        yield record(number + 1, [Update(1, None, False, event(n)) for n in range(first, first + 1000)])


def pgbench(rows: int) -> Iterator[Record]:
    for n in range(rows // 10):
        key, teller, number = b"%d" % (n * 7919 % 1_000_000), b"%d" % (n % 100), b"%d" % n
        changes: list[Event] = [
            Update(2, None, False, [key, b"1", number, b" " * 84]),
            Update(3, None, False, [teller, b"1", number, None]),
            Update(4, None, False, [b"%d" % (n % 10), number, None]),
            Insert(5, [teller, b"1", key, number, b"2026-01-01 00:00:00.123456"]),
        ]
        yield record(n + 1, changes)


def event(n: int) -> list[bytes | None]:  # type: ignore[misc]
    return [b"%d" % n, b"%d" % (n % 1000), b"2026-01-01 00:00:00.%06d+00" % (n % 1_000_000), b"note %d" % n]


def batches(records: list[Record], bound_bytes: int) -> list[Batch]:
    batcher = Batcher(Classifier(resolve), Lsn(0), bound_bytes=bound_bytes)
    described = [EVENTS, ACCOUNTS, TELLERS, BRANCHES, HISTORY]
    batcher.schema(kernel.frame([pgoutput.encode(shape) for shape in described]))
    made = [item for one in records for item in batcher.changes(one)]
    if batcher.pending:
        made.append(batcher.take())
    return [item for item in made if not isinstance(item, Abandoned)]


def rows_of(made: list[Batch]) -> Iterator[kernel.Rows]:
    for step in (step for batch in made for step in batch.steps if isinstance(step, Rows)):
        for table in step.tables:
            if isinstance(table, NetChanges):
                yield table.inserts
                yield from (group.rows for group in table.updates)
            else:
                yield from (operation.rows for operation in table.operations if hasattr(operation, "rows"))


Parts = list[kernel.Rows]
FORMS: dict[str, Callable[[Parts], object]] = {
    "text[]": lambda parts: [part.text_array(i) for part in parts for i in range(part.width)],
    "COPY text": lambda parts: [part.copy_text(range(part.width)) for part in parts],
    "COPY binary": lambda parts: [
        part.copy_binary(range(part.width), "4" + "t" * (part.width - 1)) for part in parts
    ],
    "Arrow text": lambda parts: [part.arrow_text(i) for part in parts for i in range(part.width)],
    "Arrow int": lambda parts: [part.arrow_int(0, 32) for part in parts],
}


def measure(rows: int) -> dict[str, float]:
    seconds: dict[str, float] = {}

    def timed(name: str, work: Callable[[], T]) -> T:
        start = time.thread_time()
        result = work()
        seconds[name] = time.thread_time() - start
        return result

    for name, records in (("inserts", inserts), ("updates", updates), ("pgbench", pgbench)):
        log = list(records(rows))
        parts = list(rows_of(timed(f"{name}: runs to rows", partial(batches, log, BATCH_BYTES))))
        for form, leave in FORMS.items():
            timed(f"{name}: {form}", partial(leave, parts))
        waiting = batches(log, 1 << 20)
        timed(f"{name}: batches of 1 MB merged", lambda waiting=waiting: list(merged(waiting)))
    return seconds


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rows", type=int, default=1_000_000)
    arguments.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.child:
        print(json.dumps(measure(given.rows)))
        return
    found: dict[str, dict[str, float]] = defaultdict(dict)
    names = [PYTHON, CYTHON] if is_built() else [PYTHON]
    for name in names:
        command = [sys.executable, __file__, "--child", "--rows", str(given.rows)]
        environment = os.environ | {"LOGSHIP_KERNEL": name}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        for stage, seconds in json.loads(done.stdout).items():
            found[stage][name] = seconds
    print(f"{'CPU seconds':34}{''.join(f'{name:>10}' for name in names)}{'ratio':>8}")
    for stage, by_name in found.items():
        ratio = f"{by_name[PYTHON] / by_name[CYTHON]:8.1f}" if CYTHON in by_name else ""
        print(f"{stage:34}{''.join(f'{by_name[name]:10.3f}' for name in names)}{ratio}")


if __name__ == "__main__":
    main()
