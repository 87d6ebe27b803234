"""`logship config show`, and the file that `init --write-config` leaves."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from logship.cli import options, settings, settings_file
from logship.cli.main import logship, run_command

Run = Callable[..., tuple[int, str, str]]
SECRET = "geheim"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = run_command(logship, arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def shown(run: Run, *words: str) -> dict[tuple[str, str], dict[str, Any]]:
    code, out, err = run("config", "show", "--json", *words)
    assert code == 0, err
    return {(each["command"], each["setting"]): each for each in json.loads(out)}


def test_every_option_of_every_command_is_there(run: Run) -> None:
    ctx = click.Context(logship)
    expected = {
        (" ".join(known.path) or "(all)", option.opts[0].removeprefix("--"))
        for known in settings.commands(logship, ctx)
        for option in known.options.values()
    }
    assert shown(run).keys() == expected


def test_each_source_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("logship.toml").write_text("primary = 'host=db1'\n\n[run]\nbatch-size = '8MB'\n[init]\njobs = 2")
    monkeypatch.setenv("LOGSHIP_QUEUE_SIZE", "16MB")
    found = shown(run, "run", "--segment-size", "2MB", "--report-interval", "500ms")

    def of(name: str) -> tuple[Any, ...]:
        each = found["run", name]
        return each["value"], each["default"], each["source"], each["where"]

    assert of("primary") == ("host=db1", None, "file", "logship.toml line 1")
    assert of("batch-size") == ("8MB", "4MB", "file", "logship.toml line 4")
    assert of("queue-size") == ("16MB", "8MB", "variable", "LOGSHIP_QUEUE_SIZE")
    assert of("segment-size") == ("2MB", "64MB", "flag", "--segment-size")
    assert of("report-interval") == ("500ms", "1s", "flag", "--report-interval")
    assert of("journal") == (None, None, "not given", None)
    assert of("memory") == ("lazy", "lazy", "default", None)
    assert shown(run)["init", "jobs"]["where"] == "logship.toml line 6"


def test_a_variable_wins_over_the_file_and_a_flag_over_both(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("logship.toml").write_text("batch-size = '8MB'")
    monkeypatch.setenv("LOGSHIP_BATCH_SIZE", "16MB")
    assert shown(run, "run")["run", "batch-size"]["value"] == "16MB"
    assert shown(run, "run", "--batch-size", "32MB")["run", "batch-size"]["value"] == "32MB"


def test_the_file_that_is_named_is_the_one(run: Run) -> None:
    Path("other.toml").write_text("log-level = 'debug'\nname = 'x'")
    code, out, _ = run("--config", "other.toml", "config", "show", "--json")
    found = {(each["command"], each["setting"]): each for each in json.loads(out)}
    assert code == 0
    assert found["(all)", "log-level"]["where"] == "other.toml line 1"
    assert found["run", "name"]["value"] == "x"


def test_a_group_shows_all_its_commands(run: Run) -> None:
    assert {command for command, _ in shown(run, "journal")} == {
        "journal ls",
        "journal dump",
        "journal verify",
    }
    assert {command for command, _ in shown(run, "journal", "dump", "/somewhere")} == {"journal dump"}


@pytest.mark.parametrize(
    "conninfo",
    [
        f"host=db1 dbname=app user=me password={SECRET}",
        f"postgresql://me:{SECRET}@db1/app",
        f"host=db1 dbname=app user=me sslpassword={SECRET}",
    ],
)
def test_passwords_are_not_shown(run: Run, monkeypatch: pytest.MonkeyPatch, conninfo: str) -> None:
    monkeypatch.setenv("LOGSHIP_SECONDARY", conninfo)
    for arguments in (["config", "show"], ["config", "show", "--json"], ["config", "show", "run"]):
        code, out, err = run(*arguments, *(["--primary", conninfo] if "run" in arguments else []))
        assert code == 0
        assert SECRET not in out + err
        assert "with a password" in out
    found = shown(run, "run")["run", "secondary"]
    assert found["password_given"] is True
    assert "host=db1" in found["value"]


def test_an_unreadable_conninfo_is_not_quoted(run: Run) -> None:
    code, out, _ = run("config", "show", "run", "--primary", f"password={SECRET} nonsense")
    assert code == 0
    assert SECRET not in out
    assert "unreadable conninfo" in out


def test_every_conninfo_is_known_as_one() -> None:
    """Or its password would be shown."""
    for known in settings.commands(logship, click.Context(logship)):
        for name, option in known.options.items():
            assert options.is_conninfo(option) == (name in {"primary", "secondary", "shipper"}), (
                known.path,
                name,
            )


@pytest.mark.parametrize(
    ("arguments", "sentence", "hint"),
    [
        (["rum"], "there is no command 'rum'", "did you mean run?"),
        (["run", "--batch-sise", "1"], "there is no option --batch-sise", "did you mean --batch-size?"),
        (["run", "--journal", ""], "--journal: it is empty: name a directory", ""),
        (["run", "--memory-loaders", "0"], "--memory-loaders: 0 is out of bounds: from 1 to 16", ""),
        (["ddl", "ls", "--last", "0"], "--last: 0 is out of bounds: at least 1", ""),
        (["run", "--batch-size", "8MiB"], "--batch-size: '8MiB' is not a size: did you mean 8MB?", ""),
    ],
)
def test_what_the_command_would_refuse(run: Run, arguments: list[str], sentence: str, hint: str) -> None:
    code, _, err = run("config", "show", *arguments)
    assert code == 2
    assert sentence in err
    assert hint in err


# -- init --write-config ---------------------------------------------------------------------------


@pytest.fixture
def writing(run: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """init, up to the point where it would write: what comes before needs servers, and is tried with them."""
    command = logship.get_command(click.Context(logship), "init")  # type: ignore[attr-defined]
    monkeypatch.setattr(command, "callback", lambda **_: settings_file.write(click.get_current_context()))
    return run


def test_the_file_has_what_init_was_given(writing: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGSHIP_KEYLESS", "refuse")
    primary = f"host=db1 dbname=app password='{SECRET} two'"
    code, out, err = writing(
        "init", "--primary", primary, "--secondary", "host=db2 dbname=app", "--jobs", "7", "--write-config"
    )
    assert (code, out) == (0, ""), err
    assert err == "settings written to logship.toml, without passwords\n"
    text = Path("logship.toml").read_text()
    assert SECRET not in text
    assert "A password was given and is left out" in text
    made = tomllib.loads(text)
    assert (made["primary"], made["secondary"]) == ("dbname=app host=db1", "host=db2 dbname=app")
    assert made["init"] == {"keyless": "refuse", "jobs": "7"} or made["init"] == {
        "keyless": "refuse",
        "jobs": 7,
    }
    assert made["run"] == {}
    # and it is read back
    found = shown(writing, "init")
    assert found["init", "jobs"]["where"].startswith("logship.toml line ")
    assert "host=db1" in found["init", "primary"]["value"]


def test_what_stands_there_as_a_comment_is_right(writing: Run) -> None:
    """Each commented line, taken as it is, is a setting that its command takes."""
    assert writing("init", "--primary", "p=", "--secondary", "s=", "--write-config", "x.toml")[0] == 0
    text = Path("x.toml").read_text()
    lines = [line.removeprefix("#") for line in text.splitlines() if line[:1] == "#" and line[:2] != "# "]
    assert any(line.startswith("batch-size = ") for line in lines)
    assert any(line.startswith("journal = ") for line in lines)
    uncommented = "\n".join(
        line.removeprefix("#") if line[:1] == "#" and line[:2] != "# " else line for line in text.splitlines()
    )
    table = tomllib.loads(uncommented)
    known = list(settings.commands(logship, click.Context(logship)))
    file = settings.File(Path("x.toml"), settings.Places.of(uncommented))
    settings.default_map(table, known, file)
    # What can't be written as a value is described, and its place is held by the word for such a value.
    assert (table["run"]["metrics"], table["run"]["memory-budget"]) == ("HOST:PORT", "SIZE")
    assert (table["init"]["ddl"], table["init"]["jobs"]) == ("on|off", "N")
    assert (
        "# What the tables in memory may take; a table that doesn't fit stays on the secondary only." in text
    )
    assert "By default a quarter of the machine's memory." in " ".join(text.replace("#", "").split())
    assert max(map(len, text.splitlines())) <= 110


def test_a_file_that_is_there_is_refused_before_anything_begins(writing: Run) -> None:
    Path("logship.toml").write_text("name = 'x'")
    code, _, err = writing("init", "--primary", "p", "--secondary", "s", "--write-config")
    assert code == 2
    assert "logship.toml exists already" in err
    assert Path("logship.toml").read_text() == "name = 'x'"


def test_a_directory_that_isnt_there_is_refused(writing: Run) -> None:
    code, _, err = writing("init", "--primary", "p", "--secondary", "s", "--write-config", "no/where.toml")
    assert code == 2
    assert "is no directory" in err


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_every_text_comes_back(text: str) -> None:
    assert tomllib.loads(f"a = {settings_file.quoted(text)}") == {"a": text}
