"""logship.toml and LOGSHIP_*: what they may say, and how a mistake in them is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click
import pytest

from logship.cli.main import logship, run_command
from logship.cli.places import Places
from logship.cli.settings import File, Known, default_map, load
from logship.errors import UsageError

Run = Callable[..., tuple[int, str, str]]


def known(*path: str, flags: str = "", many: str = "", one: str = "") -> Known:
    made = {name: click.Option([f"--{name}"]) for name in one.split()}
    made |= {name: click.Option([f"--{name}"], is_flag=True) for name in flags.split()}
    made |= {name: click.Option([f"--{name}"], multiple=True) for name in many.split()}
    return Known(path, {name.replace("-", "_"): option for name, option in made.items()})


KNOWN = [
    known(one="log-level"),
    known("run", one="primary secondary memory-budget"),
    known("init", one="primary secondary jobs", flags="quick", many="tables"),
    known("journal"),
    known("journal", "ls", one="journal"),
]
FILE = File(Path("logship.toml"), Places({}))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = run_command(logship, arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_a_top_key_is_for_every_command_that_has_it() -> None:
    made = default_map({"primary": "p", "log-level": "debug", "journal": "j"}, KNOWN, FILE)
    assert made == {
        "log_level": "debug",
        "run": {"primary": "p"},
        "init": {"primary": "p"},
        "journal": {"ls": {"journal": "j"}},
    }


def test_a_table_is_for_its_command_and_wins() -> None:
    made = default_map({"primary": "p", "run": {"primary": "q", "memory-budget": 5}}, KNOWN, FILE)
    assert made["run"] == {"primary": "q", "memory_budget": "5"}
    assert made["init"] == {"primary": "p"}


def test_a_table_of_a_group_is_for_its_commands() -> None:
    made = default_map({"journal": {"journal": "j"}}, KNOWN, FILE)
    assert made["journal"] == {"ls": {"journal": "j"}}


def test_what_takes_several_takes_a_list_or_one() -> None:
    assert default_map({"tables": ["a", "b"]}, KNOWN, FILE)["init"] == {"tables": ["a", "b"]}
    assert default_map({"tables": "ab"}, KNOWN, FILE)["init"] == {"tables": ["ab"]}


@pytest.mark.parametrize(
    ("table", "sentence", "hint"),
    [
        ({"primry": "p"}, "logship.toml: there is no setting 'primry'", "did you mean primary?"),
        ({"memory-bugdet": 1}, "logship.toml: there is no setting", "did you mean memory-budget?"),
        ({"run": {"jobs": 4}}, "logship.toml: [run] has no setting 'jobs'", "`logship COMMAND --help`"),
        ({"rum": {}}, "logship.toml: no command 'rum'", "did you mean run?"),
        ({"primary": ["p"]}, "logship.toml: primary takes one value, not a list", "write: primary = '…'"),
        ({"primary": {"host": "h"}}, "logship.toml: primary takes one value, not a table", "write: primary"),
        ({"quick": "yes"}, "logship.toml: quick is true or false", "write: quick = true"),
    ],
)
def test_what_cant_be_meant_is_refused(table: dict[str, object], sentence: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        default_map(table, KNOWN, FILE)
    assert caught.value.message.startswith(sentence)
    assert caught.value.hint.startswith(hint)


def test_a_broken_file_is_told_without_its_contents(tmp_path: Path) -> None:
    file = tmp_path / "logship.toml"
    file.write_text("primary = password=secret")
    with pytest.raises(UsageError, match="line 1") as caught:
        load(file)
    assert "secret" not in str(caught.value)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        load(tmp_path / "absent.toml")


def test_places() -> None:
    text = "a = 1\n# b = 2\n\n[run] # why\nmemory-budget = '1GB'\nqueue_size='1MB'\n[ journal ]\nx.y = 3\n"
    lines = Places.of(text).lines
    assert lines["", "a"] == 1
    assert lines["run", ""] == 4
    assert (lines["run", "memory_budget"], lines["run", "queue_size"]) == (5, 6)
    assert lines["journal", ""] == 7
    assert ("", "b") not in lines


@pytest.mark.parametrize(
    ("text", "sentence", "hint"),
    [
        ("primary = 'p'\nbatch-sise = '1MB'", "logship.toml line 2: there is no setting", "batch-size?"),
        ("[rum]\na = 1", "logship.toml line 1: no command 'rum'", "did you mean run?"),
        ("[run]\n\njobs = 1", "logship.toml line 3: [run] has no setting 'jobs'", "`logship COMMAND"),
        ("[run]\nbatch-size = '8 MiB'", "logship.toml line 2: batch-size: '8 MiB' is not a size: "
         "did you mean 8MB?", "`logship run --help`"),
        ("report-interval = 5", "logship.toml line 1: report-interval: '5' is not a duration: did you mean 5s?",
         "`logship run --help`"),
        ("report-interval = '10 mins'", "logship.toml line 1: report-interval: '10 mins' is not a duration: "
         "did you mean 10min?", "`logship run --help`"),
        ("memory-budget = 1.5", "logship.toml line 1: memory-budget: '1.5' is not a size", "`logship run"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_file_is_told_with_its_line(run: Run, text: str, sentence: str, hint: str) -> None:
    Path("logship.toml").write_text(text)
    code, out, err = run("run", "--primary", "p", "--secondary", "s", "--journal", "j")
    assert (code, out) == (2, "")
    first, second = err.splitlines()
    assert first.startswith(f"logship: error: {sentence}")
    assert hint in second


@pytest.mark.parametrize("text", ["primary = ", "nonsense = 1", "[run]\nbatch-size = 'x'"])
@pytest.mark.parametrize("arguments", [["run", "-h"], ["--help"], ["journal", "ls", "--help"]])
def test_a_bad_file_keeps_nobody_from_help(run: Run, text: str, arguments: list[str]) -> None:
    Path("logship.toml").write_text(text)
    assert run(*arguments)[0] == 0
    Path("other.toml").write_text(text)
    assert run("run", "--config", "other.toml", "--help")[0] == 0


def test_a_wrong_variable_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGSHIP_QUEUE_SIZE", "many")
    _, _, err = run("run", "--primary", "p", "--secondary", "s", "--journal", "j")
    assert err.startswith("logship: error: LOGSHIP_QUEUE_SIZE: 'many' is not a size")


def test_a_variable_that_means_nothing_is_warned_of(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGSHIP_QUEU_SIZE", "geheim")
    monkeypatch.setenv("LOGSHIP_TEST_PG_BIN", "/nowhere")
    monkeypatch.setenv("LOGSHIP_DEBUG", "0")
    code, _, err = run("config", "show")
    assert code == 0
    warnings = [line for line in err.splitlines() if "WARNING" in line]
    assert len(warnings) == 1
    assert (
        "LOGSHIP_QUEU_SIZE is set, and no command knows it: did you mean LOGSHIP_QUEUE_SIZE?" in warnings[0]
    )
    assert "geheim" not in err


def test_one_file_serves_commands_whose_flags_differ(run: Run) -> None:
    """`memory` is a setting of run; verify's --memory is a question of its own, and no file answers it."""
    away = "host=127.0.0.1 port=1"
    Path("logship.toml").write_text(f"memory = 'lazy'\nprimary = '{away}'\nsecondary = '{away}'\n")
    for arguments in (["verify"], ["verify", "--memory"], ["status"]):
        code, _, error = run(*arguments)
        assert code == 4, error
        assert "Connection refused" in error


@pytest.mark.parametrize("command", ["run", "replay"])
def test_applied_in_memory_needs_a_memory(command: str, run: Run) -> None:
    arguments = ("--primary", "host=x", "--secondary", "host=y", "--journal", "j")
    code, _, error = run(command, *arguments, "--applied", "memory", "--memory", "off")
    assert code == 2
    assert "contradict" in error
    assert "give --memory lazy, or --applied persistence" in error
