"""A journal is told from every other, and from one that was begun anew where it stood."""

from __future__ import annotations

from pathlib import Path

import pytest

from logship.journal import Journal, identity
from logship.journal.files import Files
from logship.lsn import Lsn
from tests.unit.journal.journals import SMALL, SOURCE, changes


def identity_of(directory: Path) -> str:
    with Journal.open(directory, SOURCE, start=Lsn(5), segment_bytes=SMALL) as journal:
        return journal.identity


def test_it_stays_and_no_two_are_alike(tmp_path: Path) -> None:
    first = identity_of(tmp_path / "a")
    assert identity_of(tmp_path / "a") == identity.read(tmp_path / "a") == first
    assert identity_of(tmp_path / "b") != first


def test_one_that_is_begun_anew_is_another_although_the_file_is_left(tmp_path: Path) -> None:
    first = identity_of(tmp_path)
    for path in tmp_path.glob("*.seg"):
        path.unlink()
    assert identity_of(tmp_path) != first


@pytest.mark.parametrize("damage", [b"", b"0" * 32, b"\xff" * 33])
def test_without_its_file_it_is_another(tmp_path: Path, damage: bytes) -> None:
    first = identity_of(tmp_path)
    (tmp_path / identity.NAME).write_bytes(damage)
    assert identity.read(tmp_path) is None
    assert identity_of(tmp_path) not in (first, "")


def test_where_it_begins_is_asked_only_of_an_empty_one_and_under_the_lock(tmp_path: Path) -> None:
    asked = []

    def begin() -> Lsn:
        asked.append((tmp_path / "lock").exists())
        return Lsn(7)

    with Journal.open(tmp_path, SOURCE, start=begin) as journal:
        assert journal.oldest_lsn == 7
        journal.append(changes(100))
        journal.write()
    with Journal.open(tmp_path, SOURCE, start=begin) as journal:
        assert journal.written_lsn == 100
    assert asked == [True]


def test_it_is_durable_before_the_first_segment_is_there(tmp_path: Path) -> None:
    """A disk that fails at the file leaves no journal that could be taken for a known one."""

    class NoRename(Files):
        def rename(self, source: Path, target: Path) -> None:
            raise OSError(28, "No space left on device")

    with pytest.raises(Exception, match="full"):
        Journal.open(tmp_path, SOURCE, files=NoRename())
    assert not list(tmp_path.glob("*.seg"))
    assert identity.read(tmp_path) is None
