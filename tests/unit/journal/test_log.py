"""The journal as its writer sees it: positions, completions, segments, what a reopening finds."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from logship.errors import InternalError, JournalForeign, JournalLocked, JournalTooOld, UsageError
from logship.journal import Journal, RecordKind, Source
from logship.journal.files import Files
from logship.journal.inspection import inspect
from logship.kernel import frame, split_run
from logship.lsn import Lsn
from tests.servers import eventually
from tests.unit.journal.journals import (
    SMALL,
    SOURCE,
    abandon,
    changes,
    drain,
    insert,
    position,
    relation,
    shape,
    stored,
)

DEADLINE_S = 20


def test_an_empty_journal_begins_where_it_is_told(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "made" / "when missing", SOURCE, start=Lsn(500)) as journal:
        assert (journal.oldest_lsn, journal.written_lsn, journal.flushed_lsn) == (500, 500, 500)
        with pytest.raises(JournalTooOld) as caught:
            journal.reader(Lsn(499))
    assert (caught.value.asked, caught.value.oldest, caught.value.exit_code) == (499, 500, 5)


def test_positions_are_ends_of_whole_transactions(tmp_path: Path) -> None:
    with Journal.open(tmp_path, SOURCE) as journal:
        assert journal.append(changes(100)) == 100
        assert journal.append(changes(200, last=False)) == 100
        assert journal.written_lsn == 0
        journal.write()
        assert journal.written_lsn == 100
        assert journal.wait_flushed(Lsn(100), DEADLINE_S)
        assert journal.flushed_lsn == 100
        journal.append(changes(200, first=False))
        journal.append(position(210))
        journal.write()
        assert journal.wait_flushed(Lsn(210), DEADLINE_S)
        assert not journal.wait_flushed(Lsn(211), 0)


def test_completions_come_in_order_and_only_for_what_is_durable(tmp_path: Path) -> None:
    called: list[tuple[int, Lsn]] = []
    done = threading.Event()
    with Journal.open(tmp_path, SOURCE) as journal:

        def complete(end: int, lsn: Lsn) -> None:
            assert end <= lsn <= journal.flushed_lsn
            called.append((end, lsn))
            if end == 3000:
                done.set()

        for end in range(100, 3001, 100):
            journal.append(changes(end), lambda lsn, end=end: complete(end, lsn))
            assert not done.is_set()
            if end % 300 == 0:
                journal.write()
        assert done.wait(DEADLINE_S)
    assert [end for end, _ in called] == list(range(100, 3001, 100))


def test_a_record_that_may_not_stand_here_changes_nothing(tmp_path: Path) -> None:
    with Journal.open(tmp_path, SOURCE) as journal:
        journal.append(changes(100))
        for wrong in (changes(100), changes(200, first=False), abandon(changes(200))):
            with pytest.raises(InternalError):
                journal.append(wrong)
        with pytest.raises(InternalError, match="can't be coded"):
            journal.append(changes(200, run=b"no run"))
        journal.append(changes(200))
    assert stored(tmp_path)[:2] == [changes(100), changes(200)]


def test_segments_follow_one_another_and_open_with_the_schema(tmp_path: Path) -> None:
    with Journal.open(tmp_path, SOURCE, segment_bytes=SMALL) as journal:
        journal.append(changes(10, run=frame([relation(7, "orders")])))
        for end in range(20, 200, 10):
            journal.append(changes(end, xid=end, run=frame([insert(7, bytes(900))])))
        journal.write()
        names = [segment.name for segment in journal.segments()]
        assert journal.size_bytes == sum(path.stat().st_size for path in tmp_path.glob("*.seg"))
    assert len(names) > 3
    found = inspect(tmp_path)
    schemas = [located.record for located in found.records() if located.record.kind is RecordKind.SCHEMA]
    assert [split_run(record.run) for record in schemas] == [
        [],
        *[[relation(7, "orders")]] * (len(names) - 1),
    ]
    described = found.segments()
    assert [item.segment.sealed for item in described] == [True] * (len(names) - 1) + [False]
    assert all(
        [(r.oid, r.schema, r.name) for r in item.relations] == [(7, "public", "orders")] for item in described
    )
    assert sum(item.segment.transactions for item in described) == 19


def test_the_schema_in_force_survives_reopening(tmp_path: Path) -> None:
    for end, name in ((10, "a"), (20, "b")):
        with Journal.open(tmp_path, SOURCE, segment_bytes=SMALL) as journal:
            journal.append(changes(end, run=frame([relation(end, name)])))
    with Journal.open(tmp_path, SOURCE, segment_bytes=SMALL) as journal, journal.reader(Lsn(20)) as reader:
        journal.append(changes(30, run=frame([insert(10)])))
        journal.write()
        schema, *_ = reader.read(1, DEADLINE_S)
    assert split_run(schema.run) == [relation(10, "a"), relation(20, "b")]


def test_a_transaction_may_span_segments_and_a_record_may_be_larger_than_one(tmp_path: Path) -> None:
    pieces = [changes(100, first=i == 0, last=i == 9, run=frame([insert(1, bytes(3000))])) for i in range(10)]
    large = changes(200, xid=2, run=frame([insert(1, bytes(50_000))]))
    with Journal.open(tmp_path, SOURCE, segment_bytes=SMALL) as journal:
        for record in (*pieces, large):
            journal.append(record)
        journal.write()
        names = [segment.name for segment in journal.segments()]
        with journal.reader(Lsn(0)) as reader:
            assert shape(drain(reader)) == [*pieces, large]
    assert names[:3] == ["0000000000000000.seg", "0000000000000000_000001.seg", "0000000000000000_000002.seg"]
    assert names[-1] == "0000000000000064.seg"
    assert stored(tmp_path)[:11] == [*pieces, large]


def test_a_transaction_left_open_is_abandoned_when_the_journal_is_opened_or_closed(tmp_path: Path) -> None:
    with Journal.open(tmp_path, SOURCE) as journal:
        journal.append(changes(100))
        journal.append(changes(200, xid=2, last=False))
    void = changes(200, xid=2, last=False)
    assert stored(tmp_path) == [changes(100), void, abandon(void), position(100)]


def test_abandon_is_for_an_open_transaction_only(tmp_path: Path) -> None:
    with Journal.open(tmp_path, SOURCE) as journal, journal.reader(Lsn(0)) as reader:
        journal.abandon()
        journal.append(changes(100, last=False))
        journal.abandon()
        journal.append(changes(100))
        journal.write()
        assert shape(drain(reader)) == [changes(100, last=False), abandon(changes(100)), changes(100)]


def test_closing_and_opening_again_adds_nothing_more(tmp_path: Path) -> None:
    with Journal.open(tmp_path, SOURCE) as journal:
        journal.append(changes(100))
    counts = []
    for _ in range(3):
        Journal.open(tmp_path, SOURCE).close()
        counts.append(inspect(tmp_path).verify().records)
    assert len(set(counts)) == 1


def test_one_directory_has_one_writer(tmp_path: Path) -> None:
    with Journal.open(tmp_path, SOURCE), pytest.raises(JournalLocked, match=str(os.getpid())):
        Journal.open(tmp_path, SOURCE)
    Journal.open(tmp_path, SOURCE).close()


@pytest.mark.parametrize(
    "other",
    [
        Source(1, SOURCE.timeline, SOURCE.database),
        Source(SOURCE.system_identifier, SOURCE.timeline, "other"),
        Source(SOURCE.system_identifier, SOURCE.timeline - 1, SOURCE.database),
        Source(SOURCE.system_identifier, SOURCE.timeline + 1, SOURCE.database),
    ],
)
def test_a_journal_of_another_source_is_refused_and_both_are_named(tmp_path: Path, other: Source) -> None:
    Journal.open(tmp_path, SOURCE).close()
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.suffix == ".seg"}
    with pytest.raises(JournalForeign) as caught:
        Journal.open(tmp_path, other)
    assert str(SOURCE) in str(caught.value)
    assert str(other) in str(caught.value)
    assert before == {path: path.read_bytes() for path in before}


def test_a_segment_size_that_holds_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        Journal.open(tmp_path, SOURCE, segment_bytes=4096)


def test_retention_unlinks_and_a_reader_of_what_is_gone_is_told(tmp_path: Path) -> None:
    with Journal.open(tmp_path, SOURCE, segment_bytes=SMALL) as journal:
        late = journal.reader(Lsn(0))
        for end in range(10, 200, 10):
            journal.append(changes(end, xid=end, run=frame([insert(7, bytes(900))])))
        journal.write()
        assert late.read(1, DEADLINE_S)
        held = journal.apply_retention({"a": Lsn(100)})
        assert held.drop
        assert held.lost == ()
        assert journal.oldest_lsn <= 100
        with journal.reader(Lsn(100)) as reader:
            assert shape(drain(reader))[0].end_lsn == 110
        with pytest.raises(JournalTooOld):
            journal.reader(Lsn(5))
        with pytest.raises(JournalTooOld):
            drain(late)
        late.close()
        lost = journal.apply_retention({"a": Lsn(100)}, limit_bytes=1)
        assert lost.lost == ("a",)
        assert [path.name for path in tmp_path.glob("*.seg")] == [journal.segments()[0].name]
    assert inspect(tmp_path).verify().segments == 1


def test_who_waits_may_fsync_in_its_own_thread(tmp_path: Path) -> None:
    threads: list[str] = []
    with Journal.open(tmp_path, SOURCE) as journal, journal.reader(Lsn(0)) as reader:
        journal.append(changes(100), lambda _: threads.append(threading.current_thread().name))
        seen: list[int] = []
        journal.write_through(lambda: seen.append(len(drain(reader))))
        assert (journal.flushed_lsn, threads) == (100, [threading.current_thread().name])
        assert seen[0] > 0  # readers had it before the fsync
        journal.write_through(lambda: seen.append(0))
        assert len(seen) == 1  # nothing to write: nothing is told


class Held(Files):
    """The fdatasync of the fsync thread waits until it is let go."""

    def __init__(self) -> None:
        self.holding, self.begun, self.go = False, threading.Event(), threading.Event()

    def fdatasync(self, fd: int) -> None:
        if self.holding:
            self.begun.set()
            assert self.go.wait(DEADLINE_S)
        super().fdatasync(fd)


def test_an_fsync_under_way_makes_the_next_one_too(tmp_path: Path) -> None:
    files, threads = Held(), set()
    with Journal.open(tmp_path, SOURCE, files=files) as journal:
        files.holding = True
        journal.append(changes(100))
        journal.write()
        assert files.begun.wait(DEADLINE_S)
        journal.append(changes(200), lambda _: threads.add(threading.current_thread().name))
        journal.write_through(lambda: None)  # doesn't wait for the one under way
        assert journal.flushed_lsn == 0
        files.go.set()
        assert journal.wait_flushed(Lsn(200), DEADLINE_S)
    assert threads == {"journal fsync"}


def test_where_fsyncs_take_long_they_are_left_to_the_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("logship.journal.flush._QUICK_S", -1.0)
    threads = set()
    with Journal.open(tmp_path, SOURCE) as journal:
        journal.append(changes(100), lambda _: threads.add(threading.current_thread().name))
        journal.write_through(lambda: None)
        assert journal.wait_flushed(Lsn(100), DEADLINE_S)
    assert threads == {"journal fsync"}


def test_fsyncs_that_are_spaced_come_at_once_for_who_waits(tmp_path: Path) -> None:
    with Journal.open(tmp_path, SOURCE) as journal:
        journal.append(changes(100))
        journal.write()
        assert journal.wait_flushed(Lsn(100), DEADLINE_S)
        journal.space_fsyncs(10_000.0)
        for end in (200, 300):
            journal.append(changes(end))
            journal.write()
        assert journal.flushed_lsn == 100  # they are put off
        assert journal.wait_flushed(Lsn(300), DEADLINE_S)
        journal.append(changes(400))
        journal.write()
        journal.space_fsyncs(0.0)  # what is put off comes now
        eventually(lambda: journal.flushed_lsn == 400, what="the fsync that was put off")
        journal.space_fsyncs(10_000.0)
        journal.append(changes(500))
        journal.write()
    with Journal.open(tmp_path, SOURCE) as journal:  # closing puts nothing off
        assert journal.flushed_lsn == 500
