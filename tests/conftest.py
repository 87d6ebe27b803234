"""Fixtures for real servers.

- `primary_server`, `secondary_server`: one server each per session, fsync off, TCP with trust.
- `primary`, `secondary`: a fresh `Database` on each, dropped after the test with its slots, and the
  roles and origins that came with it. `pair` is both: ``source, target = pair``.
- `upgraded_secondary`: a `secondary` that has the schema logship already, for tests that aren't about init.
- `make_server(name, durable=True, settings={}, tcp="trust")`: a server of the test's own, for tests that kill
  or configure servers. `make_database(server)`: one more database.
- `logship`: the command line, each command a process (`tests.servers.Logship`), forked from one that has the
  imports already (`tests.preloaded`); ``logship.start(…, fresh=True)`` is `python -m logship`.

The servers' files are in memory where there is enough of it, and no test waits for initdb: `tests.clusters`.

LOGSHIP_TEST_PG_BIN chooses the binaries of the primary, LOGSHIP_TEST_PG_BIN_SECONDARY those of the
secondary (default: the primary's).
"""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Literal, NamedTuple

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from psycopg import sql

from logship import kernel
from logship.catalog import migrate
from logship.connection import Side
from logship.service.demo.servers import Binaries, Server, find_binaries
from tests.clusters import Cluster, directory
from tests.preloaded import Preloaded
from tests.servers import Database, Logship, Shared

_numbers = itertools.count(1)

# `make fuzz`: the properties of what reads a peer's or a file's bytes, at length.
settings.register_profile(
    "fuzz", max_examples=3000, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


def pytest_configure() -> None:
    # A shell starts its background jobs with SIGINT ignored, and so would be every command under test.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> str:
    return f"logship's kernel: {kernel.IN_USE}"


class Pair(NamedTuple):
    primary: Database
    secondary: Database


@pytest.fixture(scope="session")
def primary_binaries() -> Binaries:
    return find_binaries()


@pytest.fixture(scope="session")
def secondary_binaries(primary_binaries: Binaries) -> Binaries:
    variable = "LOGSHIP_TEST_PG_BIN_SECONDARY"
    return find_binaries(variable) if os.environ.get(variable) else primary_binaries


@pytest.fixture(scope="session")
def primary_server(primary_binaries: Binaries) -> Iterator[Server]:
    with Cluster(primary_binaries, "primary", durable=False, tcp="trust", parent=directory()) as server:
        yield server


@pytest.fixture(scope="session")
def secondary_server(secondary_binaries: Binaries) -> Iterator[Server]:
    with Cluster(secondary_binaries, "secondary", durable=False, tcp="trust", parent=directory()) as server:
        yield server


@pytest.fixture
def make_server(primary_binaries: Binaries) -> Iterator[Callable[..., Server]]:
    with ExitStack() as stack:

        def make(
            name: str = "own",
            *,
            binaries: Binaries | None = None,
            durable: bool = True,
            settings: Mapping[str, str] | None = None,
            tcp: Literal["trust", "scram-sha-256"] | None = "trust",
        ) -> Server:
            server = Cluster(
                binaries or primary_binaries, name, settings or {}, durable, tcp, parent=directory()
            )
            return stack.enter_context(server)

        yield make


def create_database(server: Server, role: str, template: str = "template0") -> Database:
    name = f"{role}_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(server.conninfo(), autocommit=True) as connection:
        connection.execute(
            sql.SQL("create database {} template {}").format(sql.Identifier(name), sql.Identifier(template))
        )
    return Database(server, name)


def _fresh(server: Server, role: str, template: str = "template0") -> Iterator[Database]:
    before = Shared.of(server)
    database = create_database(server, role, template)
    yield database
    database.drop()
    before.restore(server)


@pytest.fixture
def primary(primary_server: Server) -> Iterator[Database]:
    yield from _fresh(primary_server, "primary")


@pytest.fixture
def secondary(secondary_server: Server) -> Iterator[Database]:
    yield from _fresh(secondary_server, "secondary")


@pytest.fixture(scope="session")
def _upgraded(secondary_server: Server) -> str:
    database = create_database(secondary_server, "upgraded")
    migrate.upgrade(database.conninfo, Side.SECONDARY)
    return database.name


@pytest.fixture
def upgraded_secondary(secondary_server: Server, _upgraded: str) -> Iterator[Database]:
    yield from _fresh(secondary_server, "secondary", _upgraded)


@pytest.fixture
def pair(primary: Database, secondary: Database) -> Pair:
    return Pair(primary, secondary)


@pytest.fixture
def make_database() -> Iterator[Callable[[Server], Database]]:
    """Further databases, on any server that is still running when the test ends."""
    with ExitStack() as stack:

        def make(server: Server) -> Database:
            before = Shared.of(server)
            stack.callback(before.restore, server)
            database = create_database(server, "more")
            stack.callback(database.drop)
            return database

        yield make


@pytest.fixture(scope="session")
def preloaded() -> Iterator[Preloaded]:
    process = Preloaded()
    yield process
    process.close()


@pytest.fixture
def logship(tmp_path: Path, preloaded: Preloaded) -> Iterator[Logship]:
    commands = Logship(tmp_path / "logship", preloaded)
    yield commands
    commands.close()
