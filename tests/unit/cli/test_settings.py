"""logship.toml: what it may say, and how a mistake in it is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from logship.cli.settings import Known, default_map, load
from logship.errors import UsageError

KNOWN = [
    Known((), frozenset({"log_level"})),
    Known(("run",), frozenset({"primary", "secondary", "memory_budget"})),
    Known(("init",), frozenset({"primary", "secondary", "jobs"})),
    Known(("journal",), frozenset()),
    Known(("journal", "ls"), frozenset({"journal"})),
]
FILE = Path("logship.toml")


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
    assert made["run"] == {"primary": "q", "memory_budget": 5}
    assert made["init"] == {"primary": "p"}


def test_a_table_of_a_group_is_for_its_commands() -> None:
    assert default_map({"journal": {"journal": "j"}}, KNOWN, FILE)["journal"] == {"ls": {"journal": "j"}}


@pytest.mark.parametrize(
    ("table", "sentence", "hint"),
    [
        ({"primry": "p"}, "logship.toml: there is no setting 'primry'", "did you mean primary?"),
        ({"run": {"jobs": 4}}, "logship.toml: [run] has no setting 'jobs'", "`logship COMMAND --help`"),
        ({"rum": {}}, "logship.toml: no command 'rum'", "did you mean run?"),
    ],
)
def test_an_unknown_key_is_refused(table: dict[str, object], sentence: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        default_map(table, KNOWN, FILE)
    assert caught.value.message == sentence
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
