"""Makes docs/ddl-matrix.md from the statement matrix: `make docs`. A test fails when it is stale.

In: the cases, and PostgreSQL 18's list of commands. Out: Markdown. A command is said to be carried only
when a case runs it: what the cases run is read by PostgreSQL's grammar.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from logship.replay.ddl.grammar import split
from tests.integration.ddl.matrix import Case, all_cases
from tests.integration.ddl.matrix_commands import COMMANDS, OTHERS, Command, How

PAGE: Final = Path(__file__).resolve().parents[3] / "docs" / "ddl-matrix.md"
_SHOWN: Final = 2  # of the cases that run a command
_HEAD: Final = """# Which statements are carried

<!-- Made by `make docs` from tests/integration/ddl/cases_*.py and matrix_commands.py: change those. -->

Every command of PostgreSQL 18 that changes a schema, and what becomes of it. Each one that is carried is run by
the tests named beside it, on a primary with a replica behind it: after each step everything that the two
catalogs say is the same, and so is every row, and pg_dump writes the same of both.

A statement is carried by its own text, wherever it stands: in a string of several, in a `DO` block, in a function
or procedure in PL/pgSQL or SQL, in a script of psql, beside a savepoint that is rolled back. Where no text is certain
(several in one string could be the one that changed something; two functions in SQL have one name), CREATE,
ALTER TABLE, ALTER SEQUENCE, COMMENT and DROP are made from what the catalog says; of the others, replay stops and
says what it saw: [ddl.md](ddl.md).

`CONCURRENTLY` is left out on the secondary, where everything runs in the transaction of its rows. An index that
wasn't finished on the primary (`INVALID`) is no statement that succeeded, and doesn't arrive.

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
    text += "\n## No schema change\n\nThe rest of PostgreSQL's commands.\n\n"
    text += "| commands | what becomes of them |\n|---|---|\n"
    return text + "".join(f"| {', '.join(names)} | {what} |\n" for what, names in OTHERS.items())


def _line(command: Command, cases: Sequence[str]) -> str:
    how = f"{command.how.value}; {command.why}" if command.why else command.how.value
    more = f", and {len(cases) - _SHOWN} more" if len(cases) > _SHOWN else ""
    return f"| {command.name} | {how} | {'; '.join(cases[:_SHOWN])}{more} |"


def _tested() -> dict[str, list[str]]:
    """The names of the cases that run each command; first those that run little else."""
    shares: dict[str, dict[str, float]] = {}
    for cases in all_cases().values():
        for case in cases:
            # What PostgreSQL's grammar doesn't take is psql's.
            pieces = (piece for text in _texts(case) for piece in split(text) or ())
            tags = Counter(piece.tag for piece in pieces if piece.tag)
            for tag, count in tags.items():
                shares.setdefault(tag, {})[case.name] = -count / tags.total()
    return {tag: sorted(names, key=lambda name: names[name]) for tag, names in shares.items()}


def _texts(case: Case) -> list[str]:
    return [text for step in case.steps for text in step]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
