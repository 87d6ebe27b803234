"""Makes docs/ddl-matrix.md from the statement matrix: `make docs`. A test fails when it is stale.

In: the cases, and PostgreSQL 18's list of commands. Out: Markdown. A command is said to be carried only
when a case runs it: what the cases run is read by PostgreSQL's grammar.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from logship.replay.ddl.grammar import split
from tests.integration.ddl.matrix import all_cases
from tests.integration.ddl.matrix_commands import COMMANDS, Command, How

PAGE: Final = Path(__file__).resolve().parents[3] / "docs" / "ddl-matrix.md"
_HEAD: Final = """# Which statements are carried

<!-- Made by `make docs` from tests/integration/ddl/cases_*.py and matrix_commands.py: change those. -->

Every command of PostgreSQL 18 that changes a schema, and what becomes of it. Each one that is carried is run by
the tests named beside it, on a primary with a replica behind it: after each step everything that the two
catalogs say is the same, and so is every row.

"""


def page() -> str:
    tested = _tested()
    claimed = {command.name for command in COMMANDS if command.how is not How.NOT}
    if unknown := sorted(set(tested) - {command.name for command in COMMANDS}):
        raise ValueError(f"cases run what matrix_commands.py doesn't list: {', '.join(unknown)}")
    lines = ["| command | carried | tested with |", "|---|---|---|"]
    lines += [_line(command, tested.get(command.name, ())) for command in COMMANDS if command.name in claimed]
    missing = [command.name for command in COMMANDS if command.name in claimed and command.name not in tested]
    if missing:
        raise ValueError(f"no case runs {', '.join(missing)}")
    text = _HEAD + "## Carried\n\n" + "\n".join(lines) + "\n\n## Not carried\n\n"
    text += "| command | why | what to do |\n|---|---|---|\n"
    for command in COMMANDS:
        if command.how is How.NOT:
            text += f"| {command.name} | {command.why} | {command.instead} |\n"
    return text


def _line(command: Command, cases: Iterable[str]) -> str:
    how = f"{command.how.value}; {command.why}" if command.why else command.how.value
    return f"| {command.name} | {how} | {', '.join(cases)} |"


def _tested() -> dict[str, list[str]]:
    """The names of the cases that run each command."""
    tested: dict[str, list[str]] = {}
    for cases in all_cases().values():
        for case in cases:
            for statement in (text for step in case.steps for text in step):
                pieces = split(statement)
                if pieces is None:
                    continue  # a later version's grammar
                for piece in pieces:
                    names = tested.setdefault(piece.tag, [])
                    if case.name not in names:
                        names.append(case.name)
    tested.pop("", None)
    return tested


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
