"""The statement matrix: cases of schema changes, and what runs them on a primary with a replica behind it.

In: `Case`s, listed in the modules ``cases_*.py`` as ``CASES``. Out: after each step of a case everything that the
two catalogs say, and every row, is the same on both sides. docs/ddl-matrix.md is made from the same cases
(`tests.integration.ddl.matrix_page`). A case leaves nothing behind, and names nothing that another names.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psycopg

from logship.catalog import ddl
from logship.service.compare.catalogs import catalog, differences
from logship.service.demo.servers import Server
from tests.conftest import create_database
from tests.follow import Follower, assert_equal
from tests.servers import Database, Shared

OWNER: Final = "matrix owner"  # an ordinary role on both servers, with a name that needs its quotes
OTHER: Final = "matrix_other"  # another, to grant to, and to give things to
LEAVER: Final = "matrix_leaver"  # a third, for DROP OWNED
_ROLES: Final = f"""
do $$ begin
  if not exists (select from pg_roles where rolname = '{OTHER}') then
    create role "{OWNER}" login;
    create role {OTHER} login;
    create role {LEAVER};
    grant {OTHER} to "{OWNER}";
  end if;
end $$
"""
_RIGHTS: Final = f"""
grant create on schema public to "{OWNER}", {OTHER};
do $$ begin execute format('grant create on database %I to "{OWNER}", {OTHER}', current_database()); end $$;
"""
# Their owners are known to init.
_OWNED: Final = f"""
create table of_owner (id int primary key); alter table of_owner owner to "{OWNER}";
create table of_other (id int primary key); alter table of_other owner to {OTHER};
create table of_leaver (id int primary key); alter table of_leaver owner to {LEAVER};
create table of_superuser (id int primary key);
"""
# Parts of a dump: event triggers, also as what a comment is on, and what init grants to the replica's roles.
_EACH_SIDES: Final = re.compile("EVENT TRIGGER|; Type: ACL; Schema: pg_catalog;")


@dataclass(frozen=True, slots=True)
class Case:
    """Each step is a tuple of strings, sent one by one as they stand; a string may hold several statements.

    ``name`` is for people, and stands on the page: what the commands of the case are about. ``as_superuser``:
    else they run as `OWNER`. ``psql``: each step is a script for it. ``since``, ``until``: major versions
    of both servers that have it.
    """

    name: str
    create: tuple[str, ...]
    alter: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    as_superuser: bool = False
    psql: bool = False
    since: int = 15
    until: int = 99

    @property
    def steps(self) -> Iterator[tuple[str, ...]]:
        yield from (step for step in (self.create, self.alter, self.drop) if step)


def all_cases() -> dict[str, tuple[Case, ...]]:
    """Of every module ``cases_*``, by the module's name without that."""
    here = Path(__file__).parent
    names = [found.name for found in pkgutil.iter_modules([str(here)]) if found.name.startswith("cases_")]
    modules = {name: importlib.import_module(f"tests.integration.ddl.{name}") for name in sorted(names)}
    return {name.removeprefix("cases_"): tuple(module.CASES) for name, module in modules.items()}


class Matrix:
    """Two databases, and a replica between them that carries schema changes. Use it in a ``with`` block."""

    def __init__(self, primary: Server, secondary: Server, directory: Path) -> None:
        self._servers = (primary, secondary)
        self._before = [Shared.of(server) for server in self._servers]
        self.primary, self.secondary = (create_database(server, "matrix") for server in self._servers)
        for database in (self.primary, self.secondary):
            database.execute(_ROLES)
            database.execute(_RIGHTS)
        self.primary.execute(_OWNED)
        self.follower = Follower(self.primary, self.secondary, directory, memory=False)
        with self.primary.connect() as one, self.secondary.connect() as two:
            ddl.start_capture(one)
            ddl.hand_over(one, two)
        self._looks = (self.primary.connect(), self.secondary.connect())
        self._first = catalog(self._looks[0]).keys()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.follower.stop()
        finally:
            _forget_subscriptions(self.primary)
            self.primary.drop()
            self.secondary.drop()
            for before, server in zip(self._before, self._servers, strict=True):
                before.restore(server)

    @property
    def broken(self) -> bool:
        """The replica has stopped, a case has left something behind, or the sides differ: of no use to others."""
        left = catalog(self._looks[0]).keys() != self._first
        return (
            left
            or self.follower.error is not None
            or bool(differences(self.primary.conninfo, self.secondary.conninfo))
        )

    def applies(self, case: Case) -> bool:
        versions = [look.info.server_version // 10_000 for look in self._looks]
        return min(versions) >= case.since and max(versions) <= case.until

    def run(self, case: Case) -> None:
        """Each step, and what has become of it."""
        with psycopg.connect(self.primary.conninfo, autocommit=True) as connection:
            for step in case.steps:
                self._do(case, step, connection)
                self.compare()
        left = catalog(self._looks[0]).keys() - self._first
        assert not left, f"the case leaves {left} behind"

    def run_together(self, cases: Sequence[Case]) -> None:
        """First all that is made, then all that is altered, and then it is dropped, as far as each ``applies``."""
        chosen = [case for case in cases if self.applies(case)]
        with psycopg.connect(self.primary.conninfo, autocommit=True) as connection:
            for steps in ([(case, case.create) for case in chosen], [(case, case.alter) for case in chosen],
                          [(case, case.drop) for case in chosen]):  # fmt: skip
                for case, step in steps:
                    self._do(case, step, connection)
                self.compare()
                self.compare_dumps()

    def _do(self, case: Case, step: tuple[str, ...], connection: psycopg.Connection) -> None:
        connection.execute(b"reset session authorization")
        if not case.as_superuser:
            connection.execute(f'set session authorization "{OWNER}"'.encode())
        # A case may make the schema of its user's name, where others would make their tables.
        path = "set search_path = public;"
        if not case.psql:
            for statement in (path, *step, "reset all"):
                _execute(connection, statement)
            return
        role = "" if case.as_superuser else f'set session authorization "{OWNER}";\n'
        subprocess.run(
            [self.primary.program("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", "-", self.primary.conninfo],
            input=role + "\n".join((path, *step)), text=True, check=True, timeout=60,
        )  # fmt: skip

    def compare(self) -> None:
        """Once the replica has caught up, both sides have the same catalog and the same rows."""
        self.follower.catch_up()
        found = differences(self.primary.conninfo, self.secondary.conninfo)
        assert not found, "the sides differ:\n" + "\n".join(found)
        assert_equal(self.primary, self.secondary)

    def compare_dumps(self) -> None:
        """pg_dump writes the same of both; not when they are of different versions, which spell things differently."""
        one, two = (look.info.server_version // 10_000 for look in self._looks)
        if one == two:
            lines = list(difflib.unified_diff(_dump(self.primary), _dump(self.secondary), n=0))
            assert not lines, "the dumps differ:\n" + "\n".join(lines)


def _forget_subscriptions(database: Database) -> None:
    """A case that failed may have left one, and with it the database can't be dropped."""
    of_database = (
        "select subname from pg_subscription where subdbid = (select oid from pg_database where datname = %s)"
    )
    for (name,) in database.execute(of_database, [database.name]):
        for action in ("alter subscription {} disable", "alter subscription {} set (slot_name = none)"):
            database.execute(action.format(name))
        database.execute(f"drop subscription {name}")


def _dump(database: Database) -> list[str]:
    """Each object's part of pg_dump's script, in an order of their own; without logship's."""
    arguments = ["-s", "--no-publications", "--no-subscriptions", "-N", "logship", "-N", "logship_writers"]
    script = subprocess.run(
        [database.program("pg_dump"), *arguments, database.conninfo],
        capture_output=True, text=True, check=True, timeout=120,
    ).stdout  # fmt: skip
    _, *parts = script.partition("-- PostgreSQL database dump complete")[0].split("\n--\n-- Name: ")
    return sorted(part.strip("-\n ") for part in parts if not _EACH_SIDES.search(part.partition("\n")[0]))


def _execute(connection: psycopg.Connection, statement: str) -> None:
    cursor = connection.execute(statement.encode())
    while cursor.nextset():
        pass
