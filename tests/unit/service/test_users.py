"""The relay's users: what a file may say, who may read it, and that a verifier is PostgreSQL's."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from logship.errors import UsageError
from logship.relay.scram import Verifier, make_verifier
from logship.service.ship.users import FileUsers, read_users, verifier_line

GOOD = str(make_verifier("secret"))
PARSED = Verifier.parse(GOOD)


def written(directory: Path, text: str, mode: int = 0o600) -> Path:
    path = directory / "users"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_names_verifiers_comments_and_quoted_names(tmp_path: Path) -> None:
    path = written(tmp_path, f'# who\n\n  a {GOOD}  \n"b c ""d""" {GOOD}\n')
    assert read_users(path) == {"a": PARSED, 'b c "d"': PARSED}


@pytest.mark.parametrize("name", ["a", "with space", 'quo"te', "#hash", "ünï"])
def test_a_line_is_read_back(tmp_path: Path, name: str) -> None:
    line = verifier_line(name, "pässword")
    assert list(read_users(written(tmp_path, line + "\n"))) == [name]


@pytest.mark.parametrize("mode", [0o604, 0o620, 0o666, 0o601])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(UsageError, match="by others") as refused:
        read_users(written(tmp_path, f"a {GOOD}\n", mode))
    assert "chmod 600" in refused.value.hint


@pytest.mark.parametrize(
    "text", ["a zsecret", "zonly", "a md5abc", f"a {GOOD} more", f'"a {GOOD}', f"a {GOOD[:-3]}!"]
)
def test_a_malformed_line_is_named_by_its_number_and_not_shown(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match="line 2 of") as refused:
        read_users(written(tmp_path, f"b {GOOD}\n{text}\n"))
    assert text.rsplit(maxsplit=1)[-1] not in refused.value.message


def test_a_name_stands_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'a' once more"):
        read_users(written(tmp_path, f"a {GOOD}\na {GOOD}\n"))


def test_a_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="can't read"):
        read_users(tmp_path / "nobody")


def test_reload_takes_the_new_and_keeps_the_old_when_it_is_bad(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    users = FileUsers(written(tmp_path, f"a {GOOD}\n"))
    written(tmp_path, f"b {GOOD}\n")
    users.reload()
    assert users("a") is None
    assert users("b") == PARSED
    written(tmp_path, "b nonsense\n")
    with caplog.at_level(logging.ERROR):
        users.reload()
    assert users("b") == PARSED
    assert "stays in force" in caplog.text
