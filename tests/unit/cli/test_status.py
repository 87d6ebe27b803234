"""`logship status` and `logship journal`: what they say of what was reported, and which journal they read."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from logship.cli.main import logship, run_command
from logship.cli.status import ENDED, SILENT_S, state_said
from logship.service.watch.health import State


def ago(seconds: float) -> datetime.timedelta:
    return datetime.timedelta(seconds=seconds)


def test_a_state_that_nobody_confirms_any_more_is_doubted() -> None:
    assert state_said(None, None) == "unknown: nothing was reported"
    assert state_said("streaming", ago(1)) == "streaming"
    assert state_said("streaming", ago(SILENT_S + 300)).startswith(
        "streaming, said 5 min 30 s ago: it may not"
    )


def test_an_end_needs_no_confirmation() -> None:
    assert {State(word) for word in ENDED} == {State.STOPPED, State.FAILED}
    for word in ENDED:
        assert state_said(word, ago(86400)) == word


@pytest.mark.parametrize("command", ["ls", "dump", "verify"])
def test_the_journal_is_the_one_that_the_settings_name(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command(logship, ["journal", command]) == 2
    assert "it isn't said which journal" in capsys.readouterr().err
    Path("logship.toml").write_text("journal = 'from_the_file'")
    for arguments, read in (
        ([], "from_the_file"), (["--journal", "flagged"], "flagged"), (["argued"], "argued"),
    ):  # fmt: skip
        assert run_command(logship, ["journal", command, *arguments]) == 5
        assert f"there is no directory {read}" in capsys.readouterr().err
