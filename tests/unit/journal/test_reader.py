"""Readers: from every position exactly what ends after it, while the writer writes."""

from __future__ import annotations

import threading
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logship.errors import JournalDamaged, JournalError, JournalTooOld
from logship.journal import Journal, Record, RecordKind, contents
from logship.journal.contents import Schema, walk
from logship.journal.inspection import inspect
from logship.kernel import frame, split_run
from logship.lsn import Lsn
from tests.unit.journal.journals import (
    SMALL,
    SOURCE,
    abandon,
    changes,
    drain,
    filled,
    histories,
    insert,
    position,
    shape,
    write,
)

DEADLINE_S = 20


def end_of(group: list[Record]) -> int:
    return group[-1].end_lsn


def expected(groups: list[list[Record]], start: int) -> list[Record]:
    """What a reader gets, from the first group on that ends after ``start``."""
    for index, group in enumerate(groups):
        if end_of(group) > start:
            return [record for later in groups[index:] for record in later]
    return []


def committed(records: list[Record], start: int = -1) -> list[Record]:
    """Without what may stand in front and changes nothing: transactions that were abandoned, and positions
    that the reader had when it started there."""
    for index, record in enumerate(records):
        if record.kind is RecordKind.ABANDON or (
            record.kind is RecordKind.POSITION and record.end_lsn <= start
        ):
            return committed(records[index + 1 :], start)
        if record.last or record.kind is RecordKind.POSITION:
            break
    return records


def schema_before(groups: list[list[Record]], rest: list[Record]) -> list[bytes]:
    """Relation and Type messages of everything that stands before what is read."""
    schema: Schema = {}
    records = [record for group in groups for record in group]
    for record in records[: len(records) - len(rest)]:
        walk(record.run, schema, set())
    return sorted(schema.values())


@settings(max_examples=25, deadline=None)
@given(histories(), st.data())
def test_from_every_lsn_it_equals_the_model(groups: list[list[Record]], data: st.DataObject) -> None:
    with TemporaryDirectory() as name, Journal.open(Path(name), SOURCE, segment_bytes=SMALL) as journal:
        write(journal, groups)
        interesting = {0} | {
            lsn + d
            for group in groups
            for r in group
            for lsn in (r.commit_lsn, r.end_lsn)
            for d in (-1, 0, 1)
        }
        for start in sorted(interesting - {-1}):
            with journal.reader(Lsn(start)) as reader:
                found = drain(reader)
            rest = expected(groups, start)
            assert committed(shape(found), start) == rest
            if found:
                assert found[0].kind is RecordKind.SCHEMA
                assert sorted(split_run(found[0].run)) == schema_before(groups, shape(found))
        start = data.draw(st.sampled_from(sorted(interesting - {-1})))
        offline = [located.record for located in inspect(Path(name)).records(start=Lsn(start))]
        kept = [record for record in offline if record.kind not in {RecordKind.SCHEMA, RecordKind.INDEX}]
        assert committed(kept, start) == expected(groups, start)


@settings(max_examples=20, deadline=None)
@given(histories())
def test_after_reopening_it_equals_the_model(groups: list[list[Record]]) -> None:
    with TemporaryDirectory() as name:
        filled(Path(name), groups)
        last = max(end_of(group) for group in groups)
        with (
            Journal.open(Path(name), SOURCE, segment_bytes=SMALL) as journal,
            journal.reader(Lsn(0)) as reader,
        ):
            found = committed(shape(drain(reader)))
            rest = expected(groups, 0)
            assert found[: len(rest)] == rest
            assert all(record == position(last) for record in found[len(rest) :])
            assert journal.flushed_lsn == journal.written_lsn == last


def test_a_position_inside_a_commit_record_gets_that_transaction_whole(tmp_path: Path) -> None:
    pieces = [changes(200, commit=100, first=i == 0, last=i == 2, run=frame([insert(1)])) for i in range(3)]
    with Journal.open(tmp_path, SOURCE) as journal:
        write(journal, [[changes(90)], pieces])
        with journal.reader(Lsn(150)) as reader:
            assert shape(drain(reader)) == pieces
        with journal.reader(Lsn(200)) as reader:
            assert drain(reader) == []


def test_a_transaction_that_began_before_is_not_given_in_part(tmp_path: Path) -> None:
    """A reader that starts in a segment in the middle of an abandoned transaction never sees its rest."""
    with Journal.open(tmp_path, SOURCE, segment_bytes=SMALL) as journal:
        void = [changes(200, first=i == 0, last=False, run=frame([insert(1, bytes(3000))])) for i in range(3)]
        write(journal, [[changes(100)], [*void, abandon(void[0])], [changes(300)]])
        journal.apply_retention({}, limit_bytes=1)
        with journal.reader(journal.oldest_lsn) as reader:
            assert shape(drain(reader)) == [changes(300)]


def whole(groups: list[list[Record]]) -> list[Record]:
    """What a whole reader gets of these."""
    return [record for group in groups if group[-1].kind is not RecordKind.ABANDON for record in group]


@settings(max_examples=20, deadline=None)
@given(histories(), st.booleans())
def test_a_whole_reader_gives_nothing_of_a_transaction_before_its_end_is_written(
    groups: list[list[Record]], stepwise: bool
) -> None:
    """Whatever the history, read after every record or at the end; the same as the model each time."""
    with (
        TemporaryDirectory() as name,
        Journal.open(Path(name), SOURCE, segment_bytes=SMALL) as journal,
        journal.reader(Lsn(0), whole=True) as reader,
    ):
        found: list[Record] = []
        for index, group in enumerate(groups):
            for record in group:
                if stepwise:
                    found += shape(drain(reader))
                    assert found == whole(groups[:index])
                journal.append(record)
                journal.write()
        assert found + shape(drain(reader)) == whole(groups)


def test_a_whole_reader_waits_for_the_end_of_a_transaction_and_is_woken_by_it(tmp_path: Path) -> None:
    pieces = [changes(200, first=i == 0, last=i == 2, run=frame([insert(1, bytes(3000))])) for i in range(3)]
    with (
        Journal.open(tmp_path, SOURCE, segment_bytes=SMALL) as journal,
        journal.reader(Lsn(0), whole=True) as reader,
    ):
        write(journal, [[changes(100)], pieces[:2]])
        assert shape(reader.read(1 << 20, 0)) == [changes(100)]
        results: list[list[Record]] = []
        thread = threading.Thread(target=lambda: results.append(reader.read(1 << 20, DEADLINE_S)))
        thread.start()
        write(journal, [[pieces[2]]])
        thread.join(DEADLINE_S)
        assert results[0] + drain(reader) == pieces


def test_a_whole_reader_is_told_when_retention_took_what_it_looks_for(tmp_path: Path) -> None:
    void = [changes(200, first=i == 0, last=False, run=frame([insert(1, bytes(3000))])) for i in range(4)]
    with (
        Journal.open(tmp_path, SOURCE, segment_bytes=SMALL) as journal,
        journal.reader(Lsn(0), whole=True) as reader,
    ):
        write(journal, [void[:1]])
        assert shape(drain(reader)) == []
        write(journal, [[*void[1:], abandon(void[0])], [changes(end) for end in range(300, 400, 20)]])
        write(journal, [[changes(500, run=frame([insert(1, bytes(3000))]))], [changes(600)]])
        journal.apply_retention({}, limit_bytes=1)
        with pytest.raises(JournalTooOld):
            drain(reader)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("read_of_it", [1, 3])
def test_a_reader_inside_a_transaction_that_is_void_and_gone_goes_on_behind_it(
    tmp_path: Path, whole: bool, read_of_it: int
) -> None:
    """Retention owes nothing to a transaction that was abandoned; who has begun to read it must not wait for it."""
    void = [changes(200, first=i == 0, last=False, run=frame([insert(1, bytes(3000))])) for i in range(6)]
    rest = [changes(300, run=frame([insert(1, bytes(3000))]))]
    with (
        Journal.open(tmp_path, SOURCE, segment_bytes=SMALL) as journal,
        journal.reader(Lsn(100), whole=whole) as reader,
    ):
        write(journal, [[changes(100)], void[:read_of_it]])
        first = shape(drain(reader))
        assert first == ([] if whole else void[:read_of_it])
        write(journal, [[*void[read_of_it:], abandon(void[0])], rest])
        assert journal.apply_retention({"a": Lsn(100)}).drop
        assert drain(reader) == (rest if whole else [abandon(void[0]), *rest])
        write(journal, [[changes(400)]])
        assert drain(reader) == [changes(400)]


def test_a_reader_waits_and_is_woken(tmp_path: Path) -> None:
    with Journal.open(tmp_path, SOURCE) as journal, journal.reader(Lsn(0)) as reader:
        assert reader.read(1, 0) == []
        results: list[list[Record]] = []
        thread = threading.Thread(target=lambda: results.append(reader.read(1, DEADLINE_S)))
        thread.start()
        reader.wake()
        thread.join(DEADLINE_S)
        assert results == [[]]
        thread = threading.Thread(target=lambda: results.append(reader.read(1, DEADLINE_S)))
        thread.start()
        write(journal, [[changes(100)]])
        thread.join(DEADLINE_S)
        assert shape(results[1]) == [changes(100)]


def test_who_listens_hears_of_what_is_written_and_whether_it_is_hurried_until_the_reader_is_closed(
    tmp_path: Path,
) -> None:
    with Journal.open(tmp_path, SOURCE) as journal:
        reader = journal.reader(Lsn(0))
        heard: list[tuple[bool, int]] = []
        reader.listen(lambda hurried: heard.append((hurried, len(shape(reader.read(1 << 20, 0))))))
        write(journal, [[changes(100)]])
        journal.append(changes(200))
        journal.write_through(lambda: heard.append((False, -1)))
        assert heard == [
            (False, 1),
            (True, 1),
            (False, -1),
        ]  # before the fsync, and before anybody else is told
        reader.close()
        write(journal, [[changes(300)]])
        assert len(heard) == 3


def test_a_reader_is_told_when_the_journal_is_closed(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, SOURCE)
    reader = journal.reader(Lsn(0))
    journal.append(changes(100))
    journal.close()
    assert shape(reader.read(1 << 20, None)) == [changes(100), position(100)]
    with pytest.raises(JournalError, match="closed"):
        reader.read(1, None)
    reader.close()


def test_it_gives_about_as_much_as_is_asked_for(tmp_path: Path) -> None:
    records = [changes(end, run=frame([insert(1, bytes(1000))])) for end in range(100, 2000, 100)]
    with Journal.open(tmp_path, SOURCE) as journal, journal.reader(Lsn(0)) as reader:
        write(journal, [records])
        assert len(shape(reader.read(1, 0))) <= 1
        assert len(reader.read(3000, 0)) == 3


def test_bad_bytes_are_named_with_file_and_offset(tmp_path: Path) -> None:
    with Journal.open(tmp_path, SOURCE) as journal, journal.reader(Lsn(0)) as reader:
        write(journal, [[changes(100, run=frame([insert(1, bytes(500))]))]])
        (path,) = tmp_path.glob("*.seg")
        with path.open("r+b") as file:
            file.seek(4096 + 48 + 100)
            file.write(b"\xff")
        with pytest.raises(JournalDamaged) as caught:
            drain(reader)
    assert (caught.value.file, caught.value.offset) == (str(path), 4096 + 48)


def test_a_sealed_segment_that_ends_wrongly_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its index is whole as a record and none of ours: nobody goes on behind it to what may not be next."""
    monkeypatch.setattr(contents, "encode_index", lambda *_: bytes(128))
    with (
        Journal.open(tmp_path, SOURCE, segment_bytes=SMALL) as journal,
        journal.reader(Lsn(0)) as reader,
    ):
        write(journal, [[changes(end, run=frame([insert(1, bytes(1000))]))] for end in range(100, 1100, 100)])
        first = min(tmp_path.glob("*.seg"))
        with pytest.raises(JournalDamaged, match="does not end with the index") as caught:
            drain(reader)
    assert caught.value.file == str(first)
    assert 4096 < caught.value.offset < first.stat().st_size


def test_writer_readers_and_retention_at_once(tmp_path: Path) -> None:
    """What two readers see, one of them late, is what was written, in order, each record once."""
    total = 1500
    records = [
        changes(end * 10, xid=end, run=frame([insert(1, bytes(end % 700))])) for end in range(1, total + 1)
    ]
    seen: dict[str, list[Record]] = {"a": [], "b": []}
    problems: list[Exception] = []
    with Journal.open(tmp_path, SOURCE, segment_bytes=SMALL) as journal:

        def follow(name: str) -> None:
            try:
                with journal.reader(Lsn(0)) as reader:
                    while len(seen[name]) < total:
                        found = shape(reader.read(20_000, DEADLINE_S))
                        assert found
                        seen[name] += found
                        if all(seen.values()):  # first this: then neither can be further back than `reached`
                            reached = min(records_[-1].end_lsn for records_ in seen.values())
                            journal.apply_retention({"slowest": reached})
            except (JournalError, AssertionError) as error:  # handed to the test's thread
                problems.append(error)

        threads = [threading.Thread(target=follow, args=[name]) for name in seen]
        for thread in threads:
            thread.start()
        for index, record in enumerate(records):
            journal.append(record)
            if index % 7 == 0:
                journal.write()
        journal.write()
        for thread in threads:
            thread.join(DEADLINE_S)
    assert not problems
    assert seen["a"] == seen["b"] == records
