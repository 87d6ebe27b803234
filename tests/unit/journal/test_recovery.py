"""Torn tails are cut at the last whole record; damage to what was fsynced is refused, wherever it is."""

from __future__ import annotations

import logging
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logship.errors import JournalDamaged, JournalError
from logship.journal import Journal, Record, RecordKind
from logship.journal.inspection import inspect
from logship.kernel import frame
from logship.lsn import Lsn
from tests.unit.journal.journals import (
    SMALL,
    SOURCE,
    changes,
    drain,
    filled,
    histories,
    insert,
    plain_changes,
    shape,
    stretch_of,
    together,
    write,
)

PAGE = 512  # smaller than a real one, so that short tails have several
SEGMENT = 64 * 1024


def segments(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.seg"))


def synced_then_torn(
    directory: Path, synced: list[Record], torn: list[Record], *, at_once: bool = False
) -> tuple[int, int]:
    """A journal whose writer dies: ``synced`` is fsynced, ``torn`` only written, ``at_once`` as one stretch. Where the
    latter stands."""
    journal = Journal.open(directory, SOURCE, segment_bytes=SEGMENT)
    for record in synced:
        journal.append(record)
    journal.write()
    journal.wait_flushed(journal.written_lsn, 20)
    start = used(directory)
    if at_once:
        journal.append_stretch(stretch_of([record.run for record in torn]))
    else:
        for record in torn:
            journal.append(record)
    journal.write()
    end = used(directory)
    journal._release()  # gives the lock up without the empty record that a proper end writes
    return start, end


def used(directory: Path) -> int:
    return inspect(directory).segments()[-1].segment.used_bytes


def reopened(directory: Path) -> list[Record]:
    with Journal.open(directory, SOURCE, segment_bytes=SEGMENT) as journal, journal.reader(Lsn(0)) as reader:
        return shape(drain(reader))


def transactions(count: int, start: int = 100) -> list[Record]:
    return [
        changes(start + 10 * i, xid=i, run=frame([insert(1, bytes([65 + i % 20]) * 300)]))
        for i in range(count)
    ]


def plain_transactions(count: int, start: int = 100) -> list[Record]:
    return [plain_changes(start + 10 * i, xid=i) for i in range(count)]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(1, 8), st.booleans(), st.data())
def test_a_torn_tail_recovers_to_a_prefix_of_whole_records(
    before: int, after: int, at_once: bool, data: st.DataObject
) -> None:
    """Also of a stretch: what of its transactions is whole stays, and those behind come again."""
    synced = transactions(before)
    torn = plain_transactions(after, start=1000) if at_once else transactions(after, start=1000)
    with TemporaryDirectory() as name:
        directory = Path(name)
        start, end = synced_then_torn(directory, synced, torn, at_once=at_once)
        (path,) = segments(directory)
        content = bytearray(path.read_bytes())
        cut = data.draw(st.integers(start, end))
        content[cut:end] = bytes(end - cut)
        pages = data.draw(st.sets(st.integers(start // PAGE + 1, max(start // PAGE + 1, end // PAGE))))
        for page in pages:  # pages that never reached the disk, in any order
            if page * PAGE >= start:
                content[page * PAGE : page * PAGE + PAGE] = bytes(PAGE)
        path.write_bytes(content)
        found = reopened(directory)
        assert found[:before] == synced
        kept = found[before:]
        assert kept == torn[: len(kept)]
        again = reopened(directory)
        assert [r for r in again if r.kind is not RecordKind.POSITION] == found
        assert inspect(directory).verify().torn == ""


def test_stale_bytes_behind_a_cut_never_become_readable_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    start, _ = synced_then_torn(tmp_path, transactions(2), transactions(5, start=1000))
    (path,) = segments(tmp_path)
    with path.open("r+b") as file:
        file.seek(start + 60)
        file.write(b"\xff" * 8)
    with caplog.at_level(logging.WARNING):
        assert reopened(tmp_path) == transactions(2)
    assert f"torn tail at byte {start}" in caplog.text
    content = path.read_bytes()
    assert content[used(tmp_path) :].count(0) == len(content) - used(tmp_path)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_flipped_bit_is_found(finished: tuple[Path, int], data: st.DataObject) -> None:
    """In a journal that was closed, up to its last record, which is empty and proves the others."""
    directory, total = finished
    path = data.draw(st.sampled_from(segments(directory)))
    last = path == segments(directory)[-1]
    content = path.read_bytes()
    end = total - 48 if last else len(content)
    bit = data.draw(st.integers(0, end * 8 - 1))
    flipped = bytearray(content)
    flipped[bit // 8] ^= 1 << bit % 8
    path.write_bytes(flipped)
    try:
        for look in (inspected, reads_through, reads_stretches):
            with pytest.raises(JournalDamaged) as caught:
                look(directory)
            assert caught.value.file == str(path)
            assert caught.value.hint
        assert path.read_bytes() == flipped
    finally:
        path.write_bytes(content)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_every_truncation_is_found(finished: tuple[Path, int], data: st.DataObject) -> None:
    directory, _ = finished
    path = data.draw(st.sampled_from(segments(directory)))
    content = path.read_bytes()
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    try:
        for look in (inspected, reads_through, reads_stretches):
            with pytest.raises(JournalDamaged):
                look(directory)
    finally:
        path.write_bytes(content)


def reads_through(directory: Path) -> None:
    with Journal.open(directory, SOURCE, segment_bytes=SMALL) as journal, journal.reader(Lsn(0)) as reader:
        drain(reader)
        raise AssertionError("damage was read over")


def reads_stretches(directory: Path) -> None:
    with Journal.open(directory, SOURCE, segment_bytes=SMALL) as journal, journal.reader(Lsn(0)) as reader:
        together(reader, 3000)
        raise AssertionError("damage was read over")


def inspected(directory: Path) -> None:
    inspect(directory).verify()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A closed journal of several segments, with stretches in it, and how much of the last one is used."""
    directory = tmp_path_factory.mktemp("journal")
    with Journal.open(directory, SOURCE, segment_bytes=SMALL) as journal:
        for start in range(100, 500, 100):
            write(journal, [transactions(3, start)])
            journal.append_stretch(stretch_of([one.run for one in plain_transactions(7, start + 30)]))
            journal.write()
    assert len(segments(directory)) > 2
    return directory, used(directory)


def test_a_missing_segment_is_damage(tmp_path: Path) -> None:
    filled(tmp_path, [transactions(40)])
    segments(tmp_path)[1].unlink()
    for look in (lambda: inspect(tmp_path).verify(), lambda: Journal.open(tmp_path, SOURCE)):
        with pytest.raises(JournalDamaged, match="missing"):
            look()


@settings(max_examples=30, deadline=None)
@given(histories(most=5), st.data())
def test_noise_in_a_segment_only_raises_errors_of_the_journal(
    groups: list[list[Record]], data: st.DataObject
) -> None:
    with TemporaryDirectory() as name:
        directory = Path(name)
        filled(directory, groups)
        path = data.draw(st.sampled_from(segments(directory)))
        content = bytearray(path.read_bytes())
        at = data.draw(st.integers(0, len(content) - 1))
        noise = data.draw(st.binary(min_size=1, max_size=64))
        content[at : at + len(noise)] = noise
        path.write_bytes(content)
        try:
            found = inspect(directory)
            found.segments()
            list(found.records())
            found.verify()
            reopened(directory)
        except JournalError as error:
            assert error.message
            assert error.file
