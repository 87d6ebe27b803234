"""The file of `verify --resume`: it is found out at once whether it can be kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from logship.lsn import Lsn
from logship.service.compare.verify import Notes, NotesUnreadable
from logship.snapshot.verify_compare import TableResult


def test_what_was_equal_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    Notes.read(path, "r").note(TableResult("public.t", "public", "t"), Lsn(0x10))
    again = Notes.read(path, "r")
    assert again.equal == {"public.t": "0/10"}
    again.finish()
    assert not path.exists()


def test_a_file_that_cannot_be_written_is_told_before_anything_is_compared(tmp_path: Path) -> None:
    with pytest.raises(NotesUnreadable, match="can't be written: No such file or directory") as refused:
        Notes.read(tmp_path / "nowhere" / "notes", "r")
    assert "--resume" in refused.value.hint
    assert refused.value.exit_code == 2


def test_another_replicas_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    Notes.read(path, "one")
    with pytest.raises(NotesUnreadable, match='is about replica "one", not "other"'):
        Notes.read(path, "other")
