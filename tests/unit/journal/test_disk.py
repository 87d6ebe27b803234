"""Disks that fail: one clear sentence, nothing lost, and the journal is usable when it is opened again."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from logship.errors import InternalError, JournalError, JournalFull, JournalReadOnly
from logship.journal import Journal, Record
from logship.journal.files import Files
from logship.kernel import frame
from logship.lsn import Lsn
from tests.unit.journal.journals import (
    SMALL,
    SOURCE,
    changes,
    drain,
    insert,
    plain_changes,
    shape,
    stretch_of,
)

DEADLINE_S = 20
ERRORS = [
    (errno.ENOSPC, JournalFull),
    (errno.EDQUOT, JournalFull),
    (errno.EFBIG, JournalFull),
    (errno.EROFS, JournalReadOnly),
    (errno.EACCES, JournalReadOnly),
    (errno.EIO, JournalError),
]


class Failing(Files):
    """Real files until ``fails`` is set to an errno; then the named call fails with it, once."""

    def __init__(self, call: str) -> None:
        self.call = call
        self.fails = 0
        self.calls = 0
        self.partly = 0  # bytes that a failing write still writes

    def _turn(self, call: str) -> None:
        if call == self.call and self.fails:
            self.calls += 1
            code, self.fails = self.fails, 0
            raise OSError(code, os.strerror(code))

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        if self.call == "pwrite" and self.fails and self.partly:
            written = super().pwrite(fd, data[: self.partly], offset)
            self.partly = 0
            return written
        self._turn("pwrite")
        return super().pwrite(fd, data, offset)

    def fdatasync(self, fd: int) -> None:
        self._turn("fdatasync")
        super().fdatasync(fd)

    def fallocate(self, fd: int, size: int) -> None:
        self._turn("fallocate")
        super().fallocate(fd, size)


def reopened(directory: Path) -> list[Record]:
    with Journal.open(directory, SOURCE, segment_bytes=SMALL) as journal, journal.reader(Lsn(0)) as reader:
        journal.append(changes(10_000))
        journal.write()
        return shape(drain(reader))


@pytest.mark.parametrize(("code", "kind"), ERRORS)
def test_a_write_that_fails_half_way_ends_the_journal(
    tmp_path: Path, code: int, kind: type[JournalError]
) -> None:
    files = Failing("pwrite")
    journal = Journal.open(tmp_path, SOURCE, segment_bytes=SMALL, files=files)
    journal.append(changes(100))
    journal.write()
    assert journal.wait_flushed(Lsn(100), DEADLINE_S)
    files.fails, files.partly = code, 30
    journal.append(changes(200))
    with pytest.raises(kind) as caught:
        journal.write()
    assert caught.value.hint
    assert str(tmp_path) in str(caught.value)
    for again in (
        journal.write,
        lambda: journal.append(changes(300)),
        lambda: journal.wait_flushed(Lsn(200), 0),
    ):
        with pytest.raises(kind):
            again()
    assert journal.flushed_lsn == journal.written_lsn == 100
    journal.close()
    assert reopened(tmp_path) == [changes(100), changes(10_000)]


@pytest.mark.parametrize(("code", "kind"), ERRORS)
def test_after_a_failed_fsync_nothing_is_ever_called_durable(
    tmp_path: Path, code: int, kind: type[JournalError]
) -> None:
    files = Failing("fdatasync")
    called: list[Lsn] = []
    journal = Journal.open(tmp_path, SOURCE, segment_bytes=SMALL, files=files)
    files.fails = code
    journal.append(changes(100), called.append)
    journal.write()
    for again in (
        lambda: journal.wait_flushed(Lsn(100), DEADLINE_S),
        journal.write,
        lambda: journal.append(changes(200)),
    ):
        with pytest.raises(kind):
            again()
    journal.close()
    assert (called, journal.flushed_lsn, files.calls) == ([], 0, 1)


def test_a_failure_nobody_has_heard_of_is_raised_at_the_end(tmp_path: Path) -> None:
    files = Failing("fdatasync")
    journal = Journal.open(tmp_path, SOURCE, files=files)
    files.fails = errno.EIO
    journal.append(changes(100))
    journal.write()
    with pytest.raises(JournalError, match="fsync"):
        journal.close()
    Journal.open(tmp_path, SOURCE).close()


@pytest.mark.parametrize(("code", "kind"), ERRORS)
def test_a_segment_that_can_not_be_made_leaves_what_was_written(
    tmp_path: Path, code: int, kind: type[JournalError]
) -> None:
    files = Failing("fallocate")
    journal = Journal.open(tmp_path, SOURCE, segment_bytes=SMALL, files=files)
    written: list[Record] = []
    files.fails = code
    with pytest.raises(kind):
        for end in range(100, 2000, 100):
            record = changes(end, run=frame([insert(1, bytes(900))]))
            journal.append(record)
            written.append(record)
    journal.close()
    assert not list(tmp_path.glob("*.new"))
    assert reopened(tmp_path) == [*written, changes(10_000)]


def test_a_segment_that_can_not_be_made_in_the_middle_of_a_stretch(tmp_path: Path) -> None:
    """What stands before it is durable and whole; nobody is told that the stretch is."""
    files = Failing("fallocate")
    journal = Journal.open(tmp_path, SOURCE, segment_bytes=SMALL, files=files)
    stretch, told = [plain_changes(end, xid=end, size=900) for end in range(100, 1100, 100)], list[Lsn]()
    files.fails = errno.ENOSPC
    with pytest.raises(JournalFull):
        journal.append_stretch(stretch_of([one.run for one in stretch]), told.append)
    with pytest.raises(JournalFull):
        journal.write()
    flushed = journal.flushed_lsn
    assert told == []
    assert 100 <= flushed < 1000
    assert flushed == journal.written_lsn
    journal.close()
    kept = [one for one in stretch if one.end_lsn <= flushed]
    assert reopened(tmp_path) == [*kept, changes(10_000)]


@pytest.mark.parametrize("call", ["pwrite", "fdatasync"])
def test_a_disk_that_fails_under_a_stretch(tmp_path: Path, call: str) -> None:
    """Half of it is written, or all and not fsynced: it is told of to nobody, also where fsyncs are put off."""
    files = Failing(call)
    journal = Journal.open(tmp_path, SOURCE, segment_bytes=SMALL, files=files)
    journal.space_fsyncs(0.005)
    journal.append(changes(50))
    journal.write()
    assert journal.wait_flushed(Lsn(50), DEADLINE_S)
    stretch, told = [plain_changes(end, xid=end) for end in range(100, 600, 100)], list[Lsn]()
    files.fails, files.partly = errno.ENOSPC, 900
    with pytest.raises(JournalFull):
        journal.append_stretch(stretch_of([one.run for one in stretch]), told.append)
        journal.write()
        journal.wait_flushed(Lsn(500), DEADLINE_S)
    assert (told, journal.flushed_lsn) == ([], 50)
    journal.close()
    *kept, behind = reopened(tmp_path)
    assert kept == [changes(50), *stretch][: len(kept)]
    assert behind == changes(10_000)


def test_a_disk_without_fallocate_is_filled_with_zeros(tmp_path: Path) -> None:
    files = Failing("fallocate")
    files.fails = errno.EOPNOTSUPP
    with Journal.open(tmp_path, SOURCE, segment_bytes=SMALL, files=files) as journal:
        assert journal.size_bytes == SMALL
    assert reopened(tmp_path)[-1] == changes(10_000)


def test_a_completion_that_raises_ends_the_journal(tmp_path: Path) -> None:
    def broken(_: Lsn) -> None:
        raise ZeroDivisionError

    journal = Journal.open(tmp_path, SOURCE)
    journal.append(changes(100), broken)
    journal.write()
    with pytest.raises(InternalError, match="ZeroDivisionError"):
        journal.close()


def test_a_directory_that_can_not_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="file"):
        Journal.open(tmp_path / "file" / "journal", SOURCE)


LIMITED = """
import resource, sys
from pathlib import Path
from logship.errors import JournalFull
from logship.journal import Journal, Record, RecordKind, Source
from logship.lsn import Lsn
from logship.kernel import frame
source = Source(7_000_000_000_000_000_001, 3, "sales")
journal = Journal.open(Path(sys.argv[1]), source, segment_bytes=8192)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
run = frame([b"I" + bytes(30_000)])
journal.append(Record(RecordKind.CHANGES, True, True, 1, Lsn(92), Lsn(100), 0, b""))
try:
    journal.append(Record(RecordKind.CHANGES, True, True, 1, Lsn(192), Lsn(200), 0, run))
except JournalFull as error:
    print(error, "|", error.hint)
journal.close()
"""


def test_a_file_size_limit_is_a_full_disk(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "disk is full" in done.stdout
    assert "Make room" in done.stdout
    assert reopened(tmp_path)[0].end_lsn == 100
