"""Journals to test with: runs, records, and histories of transactions as hypothesis draws them."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

from hypothesis import strategies as st

from logship.journal import Journal, JournalReader, Record, RecordKind, Source
from logship.journal.segment import Stretch
from logship.kernel import frame, plain
from logship.lsn import Lsn
from tests.unit.plain import row, transaction

SOURCE = Source(7_000_000_000_000_000_001, 3, "sales")
SMALL = 8 * 1024  # the smallest segment: header page and 4 kB of records
NONE = Lsn(0)


def relation(oid: int, name: str, schema: str = "public") -> bytes:
    return b"R" + struct.pack(">I", oid) + schema.encode() + b"\0" + name.encode() + b"\0d\0\0"


def insert(oid: int, payload: bytes = b"") -> bytes:
    return b"I" + struct.pack(">I", oid) + payload


def changes(
    end: int,
    *,
    first: bool = True,
    last: bool = True,
    xid: int = 1,
    commit: int | None = None,
    run: bytes = b"",
) -> Record:
    """Part of a transaction whose commit record starts at ``commit`` (by default 8 before its end)."""
    start = Lsn(end - 8 if commit is None else commit)
    return Record(RecordKind.CHANGES, first, last, xid, start, Lsn(end) if last else NONE, end * 10, run)


def plain_changes(end: int, *, xid: int = 1, size: int = 300) -> Record:
    """A plain transaction, as it stands in a stretch."""
    run = transaction(end - 8, row(1, bytes([65 + xid % 20]) * size), xid=xid, end_lsn=end, time_us=end)
    return Record(RecordKind.CHANGES, True, True, xid, Lsn(end - 8), Lsn(end), end, run)


def stretch_of(runs: list[bytes]) -> Stretch:
    run = b"".join(runs)
    told = plain(run)
    assert told is not None
    return Stretch.of(run, told)


def position(end: int) -> Record:
    return Record(RecordKind.POSITION, False, False, 0, NONE, Lsn(end), 0, b"")


def abandon(record: Record) -> Record:
    return Record(RecordKind.ABANDON, False, False, record.xid, record.commit_lsn, NONE, 0, b"")


@st.composite
def histories(draw: st.DrawFn, *, most: int = 12, largest: int = 3000) -> list[list[Record]]:
    """Groups of records: a transaction in pieces, a position, or a transaction that is abandoned."""
    groups: list[list[Record]] = []
    at = draw(st.integers(100, 200))
    for xid in range(1, draw(st.integers(1, most)) + 1):
        commit = at + draw(st.integers(0, 40))
        end = commit + draw(st.integers(1, 40))
        kind = draw(st.sampled_from(["transaction", "transaction", "transaction", "position", "abandoned"]))
        if kind == "position":
            groups.append([position(commit)])
            at = commit
            continue
        sizes = draw(st.lists(st.integers(0, largest), min_size=1, max_size=4))
        messages = [[relation(oid := xid % 3 + 1, f"t{oid}"), insert(oid, bytes(size))] for size in sizes]
        pieces = [
            changes(end, first=index == 0, last=False, xid=xid, commit=commit, run=frame(run))
            for index, run in enumerate(messages)
        ]
        if kind == "abandoned":
            groups.append([*pieces, abandon(pieces[0])])
            at = commit
            continue
        final = pieces[-1]
        pieces[-1] = changes(end, first=final.first, last=True, xid=xid, commit=commit, run=final.run)
        groups.append(pieces)
        at = end
    return groups


def write(journal: Journal, groups: Iterable[Iterable[Record]]) -> None:
    for group in groups:
        for record in group:
            journal.append(record)
    journal.write()


def filled(directory: Path, groups: Iterable[Iterable[Record]], **options: int) -> None:
    with Journal.open(directory, SOURCE, segment_bytes=options.get("segment_bytes", SMALL)) as journal:
        write(journal, groups)


def drain(reader: JournalReader) -> list[Record]:
    """All that can be read now."""
    found: list[Record] = []
    while records := reader.read(1 << 20, 0):
        found += records
    return found


def together(reader: JournalReader, max_bytes: int) -> list[Record | Stretch]:
    """All that can be read now, stretches as such."""
    found: list[Record | Stretch] = []
    while records := reader.read_together(max_bytes, 0):
        found += records
    return found


def one_by_one(found: list[Record | Stretch]) -> list[Record]:
    return [record for one in found for record in (one.records() if isinstance(one, Stretch) else [one])]


def shape(records: Iterable[Record]) -> list[Record]:
    """Without the SCHEMA that a reader begins with."""
    return [record for record in records if record.kind is not RecordKind.SCHEMA]


def stored(directory: Path) -> list[Record]:
    """What a fresh writer finds there: without what the journal itself adds."""
    with (
        Journal.open(directory, SOURCE, segment_bytes=SMALL) as journal,
        journal.reader(journal.oldest_lsn) as reader,
    ):
        return shape(drain(reader))
