"""What the documents say, held to the code: commands and options, errors, settings, the pages that are made."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from docs.reference import INTERNAL, error_page, sentences
from logship.cli import settings
from logship.cli.main import logship

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").rglob("*.md")])
BLOCK = re.compile(r"^```[^`\n]*\n(.*?)^```$", re.M | re.S)


def lines(page: Path) -> Iterator[str]:
    """What a reader would type: lines of code blocks, and code between backticks."""
    text = page.read_text()
    for block in BLOCK.findall(text):
        yield from block.splitlines()
    yield from re.findall(r"`([^`\n]+)`", BLOCK.sub("", text))


def options_of(words: list[str]) -> tuple[str, set[str]] | None:
    """The command that ``words`` begin with, and the options it has; None when there is none."""
    known = {
        known.path: {name for option in known.options.values() for name in option.opts}
        for known in settings.commands(logship, click.Context(logship))
    }
    named = max((path for path in known if path and tuple(words[: len(path)]) == path), key=len, default=None)
    return None if named is None else (" ".join(named), known[named])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_exists_with_its_options(page: Path) -> None:
    wrong = []
    for line in lines(page):
        found = re.match(r"(?:\S*/)?logship ([a-z].*)", line.strip())
        if not found or "…" in found[1].split()[0]:
            continue
        words = found[1].split("#")[0].split()
        command = options_of(words)
        if command is None:
            wrong.append(line)
            continue
        given = {word.partition("=")[0] for word in words if re.match(r"--[a-z]", word)}
        wrong += [f"{line}: {name}" for name in given - command[1] - {"--help", "--config"}]
    assert wrong == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_variable_is_known(page: Path) -> None:
    known = {
        option.envvar
        for known in settings.commands(logship, click.Context(logship))
        for option in known.options.values()
    } | settings.VARIABLES.keys()
    said = set(re.findall(r"LOGSHIP_[A-Z_]+[A-Z]", page.read_text()))
    assert {name for name in said - known if not name.startswith("LOGSHIP_TEST_")} == set()


def test_settings_files_in_the_documents_are_settings_files() -> None:
    known = list(settings.commands(logship, click.Context(logship)))
    for page in PAGES:
        for block in re.findall(r"^```toml\n(.*?)^```$", page.read_text(), re.M | re.S):
            file = settings.File(page, settings.Places.of(block))
            settings.default_map(tomllib.loads(block), known, file)


def test_the_list_of_errors_is_the_codes() -> None:
    assert (ROOT / "docs" / "errors.md").read_text() == error_page(), "stale: run `make docs`"


def test_every_error_says_what_to_do() -> None:
    """Where the code names a class of ours and a sentence, there is a hint: a stranger finds the next step."""
    silent = [
        (kind, sentence) for _, sentence, kind, hint in sentences() if not hint and kind not in INTERNAL
    ]
    assert silent == []


def test_the_guide_has_what_an_operator_looks_for() -> None:
    headings = set(re.findall(r"^##+ (.*)$", (ROOT / "docs" / "operations.md").read_text(), re.M))
    assert headings >= {
        "Start", "Watch", "Add a table", "Add a replica", "Upgrade", "Remove without a trace",
        "The primary is down", "The secondary is down", "A disk is full", "The slot is lost", "The journal is lost",
        "The shape differs",
    }  # fmt: skip
