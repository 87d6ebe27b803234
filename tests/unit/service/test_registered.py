"""The file of the registered replicas: what a call promised is there after a crash at any of its steps."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from logship.errors import JournalDamaged, JournalFull
from logship.journal.files import Files
from logship.journal.log import Journal
from logship.journal.segment import Source
from logship.lsn import Lsn
from logship.service.ship.registered import FILE_NAME, RegisteredReplicas


class FullDisk(Files):
    full = False

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        if self.full:
            raise OSError(28, os.strerror(28))
        return super().pwrite(fd, data, offset)


def test_registrations_and_saved_progress_survive(tmp_path: Path) -> None:
    registered = RegisteredReplicas(tmp_path)
    registered.add("a", Lsn(10))
    registered.add("b", Lsn(20))
    registered.flushed("a", Lsn(15))
    assert RegisteredReplicas(tmp_path).needed() == {"a": Lsn(10), "b": Lsn(20)}
    registered.save()
    assert RegisteredReplicas(tmp_path).needed() == {"a": Lsn(15), "b": Lsn(20)}
    assert registered.drop("a")
    assert not registered.drop("a")
    assert RegisteredReplicas(tmp_path).needed() == {"b": Lsn(20)}


def test_a_temporary_one_does_not_survive(tmp_path: Path) -> None:
    """Its client's connection doesn't either, and the journal would be kept for nobody."""
    registered = RegisteredReplicas(tmp_path)
    registered.add("a", Lsn(10))
    registered.add("t", Lsn(5), temporary=True)
    registered.flushed("t", Lsn(7))
    registered.save()
    assert registered.needed() == {"a": Lsn(10), "t": Lsn(7)}
    assert RegisteredReplicas(tmp_path).needed() == {"a": Lsn(10)}
    assert registered.drop("t")
    assert registered.needed() == {"a": Lsn(10)}


def test_nothing_new_is_not_written(tmp_path: Path) -> None:
    registered = RegisteredReplicas(tmp_path)
    registered.save()
    assert not (tmp_path / FILE_NAME).exists()
    registered.add("a", Lsn(10))
    (tmp_path / FILE_NAME).unlink()
    registered.flushed("a", Lsn(10))
    registered.add("a", Lsn(12))
    registered.save()
    assert not (tmp_path / FILE_NAME).exists()


def test_who_lost_something_is_still_marked_after_a_restart(tmp_path: Path) -> None:
    registered = RegisteredReplicas(tmp_path)
    registered.add("a", Lsn(10))
    assert registered.begins_at(Lsn(30)) == ["a"]
    registered.save()
    found = RegisteredReplicas(tmp_path).get("a")
    assert found is not None
    assert found.lost_lsn == Lsn(30)


def test_a_refused_registration_is_none(tmp_path: Path) -> None:
    files = FullDisk()
    registered = RegisteredReplicas(tmp_path, files)
    registered.add("a", Lsn(10))
    files.full = True
    with pytest.raises(JournalFull):
        registered.add("b", Lsn(10))
    with pytest.raises(JournalFull):
        registered.drop("a")
    assert registered.needed() == RegisteredReplicas(tmp_path).needed() == {"a": Lsn(10)}
    registered.flushed("a", Lsn(20))
    with pytest.raises(JournalFull):
        registered.save()
    files.full = False
    registered.save()  # what couldn't be written is not forgotten
    assert RegisteredReplicas(tmp_path).needed() == {"a": Lsn(20)}


def test_a_report_does_not_wait_for_the_disk(tmp_path: Path) -> None:
    """The relay's event loop takes reports, which commits on the primary may wait for."""

    class SlowDisk(Files):
        reported = 0

        def fsync(self, fd: int) -> None:
            self.reported += 1
            report = threading.Thread(target=registered.flushed, args=("a", Lsn(10 + self.reported)))
            report.start()
            report.join(5)
            assert not report.is_alive(), "it waits for the fsync"
            super().fsync(fd)

    registered = RegisteredReplicas(tmp_path)
    registered.add("a", Lsn(10))
    registered.flushed("a", Lsn(11))
    registered._files = SlowDisk()
    registered.save()
    assert RegisteredReplicas(tmp_path).needed() == {"a": Lsn(11)}
    registered._files = Files()
    registered.flushed("a", Lsn(20))
    registered.save()  # what came meanwhile, or since, is written the next time
    assert RegisteredReplicas(tmp_path).needed() == {"a": Lsn(20)}


def test_damage_is_said_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text('{"format": 1, "replicas": []}')
    with pytest.raises(JournalDamaged, match=FILE_NAME) as caught:
        RegisteredReplicas(tmp_path)
    assert "remove this file" in caught.value.hint


@pytest.mark.parametrize(("failpoint", "there"), [("registry.written", False), ("registry.renamed", True)])
def test_killed_while_registering(tmp_path: Path, failpoint: str, there: bool) -> None:
    """Killed in the second registration: the first is there whole, and the second whole or not at all."""
    code = (
        "import sys; from pathlib import Path; from logship.lsn import Lsn\n"
        "from logship.service.ship.registered import RegisteredReplicas\n"
        "registered = RegisteredReplicas(Path(sys.argv[1]))\n"
        "registered.add('a', Lsn(10)); print('registered', flush=True); registered.add('b', Lsn(20))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env={**os.environ, "LOGSHIP_FAILPOINTS": f"{failpoint}=2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (-signal.SIGKILL, "registered\n"), ended.stderr
    expected = {"a": Lsn(10), "b": Lsn(20)} if there else {"a": Lsn(10)}
    assert RegisteredReplicas(tmp_path).needed() == expected


def test_the_journal_takes_no_notice_of_the_file(tmp_path: Path) -> None:
    source = Source(1, 1, "app")
    Journal.open(tmp_path, source, start=Lsn(10), segment_bytes=1 << 20).close()
    RegisteredReplicas(tmp_path).add("a", Lsn(10))
    (tmp_path / (FILE_NAME + ".new")).write_bytes(b"left by a crash")
    Journal.open(tmp_path, source, start=Lsn(10), segment_bytes=1 << 20).close()
    assert RegisteredReplicas(tmp_path).needed() == {"a": Lsn(10)}
