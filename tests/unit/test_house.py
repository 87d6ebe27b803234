"""The rules of the house that no linter knows, and whether the repository's own files say what is true."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

import logship
from logship.cli.main import logship as command_line

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("logship", "migrations", "tests")
LINES_AT_MOST = 500


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders or FOLDERS for path in (ROOT / folder).rglob("*.py"))


def text_files() -> Iterator[Path]:
    for folder in (*FOLDERS, "docs", ".ci"):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts and path.suffix not in {".so", ".gz"}:
                yield path
    yield from (path for path in ROOT.glob("*") if path.is_file())


def documents() -> list[Path]:
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def relative(paths: Iterator[Path] | list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


def test_no_file_is_too_long() -> None:
    assert relative([p for p in python_files() if len(p.read_text().splitlines()) > LINES_AT_MOST]) == []


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        path
        for path in python_files("logship", "migrations")
        if (source := path.read_text()).strip() and ast.get_docstring(ast.parse(source)) is None
    ]
    assert relative(silent) == []


def test_nothing_is_left_for_later() -> None:
    word = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "X" * 3, "HA" + "CK"]) + r")\b")
    assert relative([path for path in text_files() if word.search(path.read_text())]) == []


def test_no_place_of_ours_is_mentioned() -> None:
    """A path of the machine that this was written on helps nobody elsewhere."""
    place = re.compile(
        "(?<![A-Za-z0-9_.])/(" + "|".join(["wo" + "rk", "sha" + "red", "ro" + "ot"]) + r")/[a-z]"
    )
    assert relative([path for path in text_files() if place.search(path.read_text())]) == []


def test_no_error_is_swallowed() -> None:
    """`except Exception: pass` in any spelling; a narrow class may be suppressed."""
    found = []
    for path in python_files():
        source = path.read_text()
        if "except" not in source or "pass" not in source:
            continue  # nothing to be found: parsing takes its time
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, ast.ExceptHandler):
                continue
            broad = node.type is None or (
                isinstance(node.type, ast.Name) and node.type.id in {"Exception", "BaseException"}
            )
            if broad and all(isinstance(statement, ast.Pass) for statement in node.body):
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert found == []


def test_tests_wait_on_conditions() -> None:
    """Only `eventually` sleeps."""
    # Parsing takes its time: only of what has the word.
    candidates = [path for path in python_files("tests") if "sleep" in path.read_text()]
    sleeping = [path for path in candidates if re.search(r"(?<!def )\bsleep\(", _code(path))]
    assert relative([path for path in sleeping if path.name not in {"servers.py", "test_house.py"}]) == []


def test_servers_are_real() -> None:
    fakes = re.compile(r"^\s*(from|import) (unittest\.mock|unittest import mock|mock)\b", re.M)
    assert relative([path for path in python_files("tests") if fakes.search(path.read_text())]) == []


def _code(path: Path) -> str:
    """The file without its strings: SQL may say pg_sleep, and prose may say sleep."""
    return ast.unparse(_Blank().visit(ast.parse(path.read_text())))


class _Blank(ast.NodeTransformer):
    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        return ast.Constant("" if isinstance(node.value, str) else node.value)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.Constant:
        return ast.Constant("")


def test_every_package_is_listed_for_the_wheel() -> None:
    listed = set(_pyproject()["tool"]["setuptools"]["packages"])
    found = {
        ".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "logship").rglob("__init__.py")
    }
    assert found | {"logship.migrations"} == listed


def test_the_version_stands_twice_and_is_one() -> None:
    assert _pyproject()["project"]["version"] == logship.__version__


def test_the_changelog_has_a_place_for_the_next_change() -> None:
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text()


def _pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


# -- documents -----------------------------------------------------------------------------------


def test_links_lead_somewhere() -> None:
    broken = [
        f"{path.relative_to(ROOT)}: {target}"
        for path in documents()
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text())
        if not (path.parent / target).exists()
    ]
    assert broken == []


def test_every_document_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    inside = [path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")]
    assert [str(path) for path in inside if path.name != "README.md" and f"({path})" not in index] == []


def test_commands_in_the_documents_exist() -> None:
    """`logship …` in code blocks and backticks; what is planned is named in prose only."""
    unknown = []
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "docs" / "tutorial.md"):
        for used in re.findall(r"(?:^|`)logship ([a-z][^`\n]*)", _code_in(path), re.M):
            unknown += [f"{path.name}: logship {used}: {wrong}" for wrong in _wrong(used.split())]
    assert unknown == []


def _code_in(document: Path) -> str:
    """Its code blocks and what stands in backticks, a line each."""
    text = document.read_text()
    blocks = re.findall(r"^```[^`\n]*\n(.*?)^```$", text, re.M | re.S)
    return "\n".join([*blocks, *re.findall(r"(?<!`)`[^`\n]+`(?!`)", text)])


def test_make_targets_in_the_documents_exist() -> None:
    targets = set(_make_targets())
    for path in documents():
        for used in re.findall(r"(?:^|`)(?:\w+=\S+ )?make ([a-z][a-z-]*)", _code_in(path), re.M):
            assert used in targets, f"{path.name}: make {used}"


def _make_targets() -> list[str]:
    return re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.M)


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_help_lists_every_target() -> None:
    # Under `make check` this is a make inside a make, which would say where it is.
    shown = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.M)
    assert phony is not None
    assert set(phony[1].split()) == set(_make_targets())
    assert {line.split()[1] for line in shown.splitlines()} == set(_make_targets())


def test_ci_is_a_program() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o100
    subprocess.run(["bash", "-n", script], check=True)


# -- commands that documents name ------------------------------------------------------------------


def _command(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that ``words`` lead to, and what is left of them."""
    command: click.Command = command_line
    rest = list(words)
    while rest and isinstance(command, click.Group):
        below = command.get_command(click.Context(command), rest[0])
        if below is None:
            break
        command, rest = below, rest[1:]
    return command, rest


def _wrong(words: list[str]) -> list[str]:
    """Options of ``words`` that their command doesn't have, or its name when there is no such command."""
    command, rest = _command([word for word in words if word != "…"])
    if command is command_line and rest and not rest[0].startswith("-"):
        return [rest[0]]
    known = {option for parameter in command.params for option in parameter.opts} | {"--help", "--version"}
    return [word for word in rest if word.startswith("--") and word.partition("=")[0] not in known]
