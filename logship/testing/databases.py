"""Databases of one test: made on a server that somebody named, and gone afterwards.

In: a conninfo whose user may create databases, replicate, and create event triggers. Out: `Database`, empty,
with a name of its own. Never touches another database of that server; what a replica left behind in its
cluster (a slot, a replication origin) is removed by `Replica`.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import psycopg
from psycopg import conninfo as libpq
from psycopg import sql

from logship.connection import Side, connect

_OTHERS = (
    "select pg_catalog.pg_terminate_backend(a.pid) from pg_catalog.pg_stat_activity a where a.datname = %s"
)


@dataclass(frozen=True, slots=True)
class Database:
    """``conninfo`` is libpq's."""

    conninfo: str
    side: Side

    def url(self, driver: str = "psycopg") -> str:
        """For SQLAlchemy: ``postgresql+driver://…``, a socket's directory and further options behind the ``?``."""
        given = {name: str(value) for name, value in libpq.conninfo_to_dict(self.conninfo).items()}
        login = quote(given.pop("user", ""), safe="")
        if password := given.pop("password", ""):
            login += ":" + quote(password, safe="")
        name = quote(given.pop("dbname", ""), safe="")
        return f"postgresql+{driver}://{login}{'@' if login else ''}/{name}?{urlencode(given)}"

    def execute(self, statement: str, parameters: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        """Run a statement (or several, without parameters) and commit; the rows of the last one."""
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), parameters)
            while cursor.nextset():
                pass
            return cursor.fetchall() if cursor.description else []


@dataclass(frozen=True, slots=True)
class Place:
    """A server of one side. ``conninfo`` leads to any of its databases."""

    conninfo: str
    side: Side

    @contextmanager
    def database(self) -> Iterator[Database]:
        name = f"logship_test_{self.side.value}_{secrets.token_hex(4)}"
        with connect(self.conninfo, self.side) as connection:
            connection.execute(sql.SQL("create database {} template template0").format(sql.Identifier(name)))
        try:
            yield Database(libpq.make_conninfo(self.conninfo, dbname=name), self.side)
        finally:
            with connect(self.conninfo, self.side) as connection:
                connection.execute(_OTHERS, [name])  # a pool that the test forgot
                connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))
