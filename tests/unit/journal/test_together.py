"""Plain transactions are appended and read many at once, and nobody can tell by what is in the journal."""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logship.errors import InternalError
from logship.journal import Journal, Record, RecordKind
from logship.journal.cursor import Cursor
from logship.journal.segment import Stretch
from logship.kernel import frame
from logship.lsn import Lsn
from tests.unit.journal.journals import (
    NONE,
    SMALL,
    SOURCE,
    changes,
    drain,
    insert,
    one_by_one,
    position,
    relation,
    shape,
    stretch_of,
    together,
)  # fmt: skip
from tests.unit.journal.journals import write as write_groups
from tests.unit.plain import row, stretches, transaction


@st.composite
def logs(draw: st.DrawFn) -> list[list[Record] | Stretch]:
    """Stretches, and between them what is none."""
    groups: list[list[Record] | Stretch] = []
    at = 100
    for _ in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(["stretch", "stretch", "described", "pieces", "position"]))
        if kind == "stretch":
            groups.append(stretch_of(draw(stretches(start=at))))
        elif kind == "position":
            groups.append([position(at)])
        elif kind == "described":
            run = transaction(at, relation(1, f"t{at}"), row(1, bytes(draw(st.integers(0, 2000)))))
            groups.append([changes(at + 8, commit=at, run=run)])
        else:
            pieces = [changes(at + 8, first=True, last=False, commit=at, run=frame([insert(1, bytes(30))]))]
            groups.append(
                [*pieces, changes(at + 8, first=False, commit=at, run=frame([insert(2, bytes(30))]))]
            )
        newest = groups[-1]
        at = (newest if isinstance(newest, Stretch) else newest[-1]).end_lsn
    return groups


@settings(max_examples=30, deadline=None)
@given(logs(), st.data())
def test_from_every_lsn_all_that_ends_behind_it_is_read(
    groups: list[list[Record] | Stretch], data: st.DataObject
) -> None:
    alone = [group.records() if isinstance(group, Stretch) else [group] for group in groups]
    whole = [one if isinstance(one, list) else [one] for group in alone for one in group]
    with (
        TemporaryDirectory() as directory,
        Journal.open(Path(directory), SOURCE, segment_bytes=SMALL) as journal,
    ):
        for group in groups:
            if isinstance(group, Stretch):
                journal.append_stretch(group)
            else:
                write_groups(journal, [group])
        journal.write()
        ends = [one[-1].end_lsn for one in whole]
        start = Lsn(max(0, data.draw(st.sampled_from(ends)) + data.draw(st.integers(-12, 3))))
        expected = [record for one in whole if one[-1].end_lsn > start for record in one]
        with journal.reader(start) as read:
            assert shape(one_by_one(together(read, 3000))) == expected
        with journal.reader(start, whole=True) as read:
            assert shape(one_by_one(together(read, 3000))) == expected


@settings(max_examples=15, deadline=None)
@given(logs(), st.integers(1, 3000), st.integers(0, 20))
def test_the_journal_is_the_same_as_of_records_by_themselves(
    groups: list[list[Record] | Stretch], max_bytes: int, back: int
) -> None:
    alone = [group.records() if isinstance(group, Stretch) else group for group in groups]
    with (
        TemporaryDirectory() as one,
        TemporaryDirectory() as other,
        Journal.open(Path(one), SOURCE, segment_bytes=SMALL) as journal,
        Journal.open(Path(other), SOURCE, segment_bytes=SMALL) as reference,
    ):
        for group in groups:
            if isinstance(group, Stretch):
                assert journal.append_stretch(group) == group.end_lsn
            else:
                write_groups(journal, [group])
        journal.write()
        write_groups(reference, alone)
        start = Lsn(max(0, journal.written_lsn - back))
        with journal.reader(NONE) as read, reference.reader(NONE) as expected:
            records = drain(expected)
            assert one_by_one(together(read, max_bytes)) == records
            assert shape(records) == [record for group in alone for record in group]
        with journal.reader(start) as read, reference.reader(start) as expected:
            assert one_by_one(together(read, max_bytes)) == drain(expected)
        with journal.reader(NONE, whole=True) as whole:
            assert one_by_one(together(whole, max_bytes)) == records
        assert journal.segments() == reference.segments()


def test_a_backlog_of_small_transactions_is_read_in_few_steps(tmp_path: Path) -> None:
    runs = [transaction(100 + 10 * n, row(1, b"x" * 50), xid=n + 1) for n in range(500)]
    with Journal.open(tmp_path, SOURCE) as journal, journal.reader(Lsn(100)) as reader:
        told: list[Lsn] = []
        journal.append_stretch(stretch_of(runs), told.append)
        journal.write()
        assert journal.wait_flushed(Lsn(100 + 10 * 499 + 8), 20)
        found = reader.read_together(1 << 20, 0)
    assert [type(one) for one in found] == [Record, Record, Stretch]
    assert [one.kind for one in found if isinstance(one, Record)] == [RecordKind.SCHEMA, RecordKind.CHANGES]
    assert told == [Lsn(100 + 10 * 499 + 8)]
    assert [record.xid for record in shape(one_by_one(found))] == list(range(1, 501))


def test_where_reading_begins_is_found_in_few_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And so is where the records end, when a journal is opened: not by a step for each transaction."""
    runs = [transaction(100 + 10 * n, row(1, b"x" * 50), xid=n + 1) for n in range(20_000)]
    with Journal.open(tmp_path, SOURCE) as journal:
        journal.append_stretch(stretch_of(runs))
        journal.write()
        expected = journal.segments()
    steps = [0]
    step = Cursor.step

    def counted(cursor: Cursor, limit: int) -> Record | None:
        steps[0] += 1
        return step(cursor, limit)

    monkeypatch.setattr(Cursor, "step", counted)
    with Journal.open(tmp_path, SOURCE) as journal:
        opened = steps[0]
        assert journal.written_lsn == 100 + 10 * 19_999 + 8
        assert journal.segments()[0].transactions == expected[0].transactions
        for start in (5_000, 123_456, 200_000):
            steps[0] = 0
            with journal.reader(Lsn(start)) as reader:
                found = shape(one_by_one(reader.read_together(1 << 22, 0)))
            assert found[0].xid == (start - 108) // 10 + 2
            assert steps[0] < 100
    assert opened < 100


def test_the_end_of_a_segment_is_passed_in_few_steps(tmp_path: Path) -> None:
    """Its index names each transaction; a reader that goes on behind it doesn't look at them."""
    runs = [transaction(100 + 10 * n, row(1, b"x" * 50), xid=n + 1) for n in range(20_000)]
    calls = [0]

    def counted(frame: FrameType, event: str, argument: object) -> None:
        calls[0] += event == "call"

    with (
        Journal.open(tmp_path, SOURCE, segment_bytes=1 << 20) as journal,
        journal.reader(Lsn(0)) as reader,
    ):
        for at in range(0, len(runs), 100):
            journal.append_stretch(stretch_of(runs[at : at + 100]))
        journal.write()
        segments = len(journal.segments())
        before = sys.getprofile()
        sys.setprofile(counted)
        try:
            found = together(reader, 1 << 20)
        finally:
            sys.setprofile(before)
    assert segments > 3
    assert len(shape(one_by_one(found))) == len(runs)
    assert calls[0] < len(runs) / 4


def test_a_stretch_stands_behind_all_that_is_there(tmp_path: Path) -> None:
    with Journal.open(tmp_path, SOURCE, start=Lsn(105)) as journal:
        with pytest.raises(InternalError, match="has been already"):
            journal.append_stretch(stretch_of([transaction(100)]))
        journal.append(changes(130, first=True, last=False))
        with pytest.raises(InternalError, match="begins in another"):
            journal.append_stretch(stretch_of([transaction(200)]))
        journal.abandon()
        assert journal.append_stretch(stretch_of([transaction(200)])) == Lsn(208)
