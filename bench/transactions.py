"""What a small transaction costs a replayer before its rows are written: CPU µs of each step, from the relay's frames
to batches, with transactions one by one and as stretches.

    python -m bench.transactions [--transactions 50000]

Made up, without a server: pgbench's transactions, three updates and an insert each.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from bench.kernel import ACCOUNTS, BRANCHES, HISTORY, TELLERS, pgbench, resolve
from logship import pgoutput
from logship.journal import Journal, Record, RecordKind, Source
from logship.journal.segment import Stretch
from logship.kernel import frame, plain
from logship.lsn import Lsn
from logship.relay.frames import RelayedKind, RelayedRecord, decode_record, encode_record
from logship.replay.batcher import Batcher, Item
from logship.replay.classify import Classifier
from logship.service.replay.intake import Intake

GROUP = 256  # transactions that arrive together
READ_BYTES, BATCH_BYTES = 1 << 20, 16 << 20
Received = Sequence[Record | Stretch]
T = TypeVar("T")


def payloads(records: Sequence[Record], *, together: bool) -> list[bytes]:
    """CopyData of the relay, of records one by one or of stretches."""
    if not together:
        return [payload(RelayedKind.CHANGES, one, one.run) for one in records]
    groups = [records[at : at + GROUP] for at in range(0, len(records), GROUP)]
    return [payload(RelayedKind.STRETCH, group[-1], b"".join(one.run for one in group)) for group in groups]


def payload(kind: RelayedKind, last: Record, run: bytes) -> bytes:
    return encode_record(
        kind.value, first=True, last=True, xid=last.xid, commit_lsn=last.commit_lsn, end_lsn=last.end_lsn,
        commit_time_us=last.commit_time_us, run=run,
    )[5:]  # fmt: skip


def taken(relayed: list[RelayedRecord]) -> Received:
    intake = Intake(Lsn(0))
    intake.begin()
    return intake.take(relayed)


def append(journal: Journal, records: Received) -> None:
    for number, one in enumerate(records):
        if isinstance(one, Stretch):
            journal.append_stretch(one)
        else:
            journal.append(one)
        if isinstance(one, Stretch) or number % GROUP == 0:
            journal.write()
    journal.write()


def read(journal: Journal, *, together: bool) -> Received:
    found: list[Record | Stretch] = []
    with journal.reader(Lsn(0)) as reader:
        while more := reader.read_together(READ_BYTES, 0) if together else reader.read(READ_BYTES, 0):
            found += more
    return found


def batches(records: Received) -> list[Item]:
    batcher = Batcher(Classifier(resolve), Lsn(0), bound_bytes=BATCH_BYTES)
    batcher.schema(frame([pgoutput.encode(shape) for shape in (ACCOUNTS, TELLERS, BRANCHES, HISTORY)]))
    made: list[Item] = []
    for one in records:
        if isinstance(one, Stretch):
            made += batcher.stretch(one)
        elif one.kind is RecordKind.CHANGES:
            made += batcher.changes(one)
    return [*made, batcher.take()]


def measure(records: Sequence[Record], *, together: bool) -> dict[str, float]:
    spent: dict[str, float] = {}

    def timed(step: str, work: Callable[[], T]) -> T:
        began = time.thread_time()
        result = work()
        spent[step] = (time.thread_time() - began) / len(records) * 1e6
        return result

    frames = payloads(records, together=together)
    with (
        tempfile.TemporaryDirectory(prefix="logship-bench-") as directory,
        Journal.open(Path(directory), Source(1, 1, "bench")) as journal,
    ):
        relayed = timed("decode the relay's frames", lambda: [decode_record(one) for one in frames])
        received = timed("check what came", lambda: taken(relayed))
        timed("append to the journal", lambda: append(journal, received))
        found = timed("read the journal", lambda: read(journal, together=together))
        timed("make batches", lambda: batches(found))
    spent["together"] = sum(spent.values())
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--transactions", type=int, default=50_000)
    records = [
        Record(RecordKind.CHANGES, True, True, one.xid, one.commit_lsn, one.end_lsn, one.commit_time_us, one.run)
        for one in pgbench(10 * parser.parse_args().transactions)
    ]  # fmt: skip
    assert plain(records[0].run), "the transactions are plain"
    alone, together = measure(records, together=False), measure(records, together=True)
    print(f"{'µs of CPU a transaction':28}{'one by one':>12}{'stretches':>12}")
    for step, us in alone.items():
        print(f"{step:28}{us:12.2f}{together[step]:12.2f}")


if __name__ == "__main__":
    main()
