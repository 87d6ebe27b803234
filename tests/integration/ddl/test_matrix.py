"""Every case of the statement matrix: CREATE, ALTER and DROP arrive, and both sides are the same after each.

`make test` runs the cases together, with one look for all that is made, all that is altered, all that is dropped;
`make test-matrix` each by itself, with a look after each step.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from logship.service.demo.servers import Server
from tests.integration.ddl.matrix import Case, Matrix, all_cases
from tests.integration.ddl.matrix_commands import COMMANDS, OTHERS
from tests.integration.ddl.matrix_page import PAGE, page

_CASES = {f"{group}: {case.name}": case for group, cases in all_cases().items() for case in cases}


@pytest.fixture(scope="module")
def current(
    primary_server: Server, secondary_server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], Matrix]]:
    """The databases that the cases share; others once a case has broken them."""
    with ExitStack() as stack:
        latest: list[Matrix] = []

        def get() -> Matrix:
            if not latest or latest[-1].broken:
                stack.close()
                directory: Path = tmp_path_factory.mktemp("matrix")
                latest.append(stack.enter_context(Matrix(primary_server, secondary_server, directory)))
            return latest[-1]

        yield get


def test_all_cases_together(current: Callable[[], Matrix]) -> None:
    current().run_together(list(_CASES.values()))


@pytest.mark.matrix
@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in _CASES.items()])
def test_a_case(current: Callable[[], Matrix], case: Case) -> None:
    matrix = current()
    if matrix.applies(case):
        matrix.run(case)


def test_every_command_of_postgresql_is_there(primary_server: Server) -> None:
    """psql lists them, in columns as wide as the longest."""
    shown = subprocess.run(
        [primary_server.binaries.directory / "psql", "-X", "-c", r"\h", primary_server.conninfo()],
        capture_output=True, text=True, check=True, timeout=60,
    ).stdout.splitlines()  # fmt: skip
    width = len("CREATE TEXT SEARCH CONFIGURATION ")
    listed = {
        name
        for line in shown
        if line.startswith("  ")
        for start in range(2, len(line), width)
        if (name := line[start : start + width].strip())
    }
    known = [command.name for command in COMMANDS] + [name for names in OTHERS.values() for name in names]
    assert sorted(known) == sorted(set(known))
    assert listed - set(known) == set()
    assert set(known) - listed == set()


def test_the_page_is_what_the_cases_say() -> None:
    assert PAGE.read_text() == page(), "stale: run `make docs`"
