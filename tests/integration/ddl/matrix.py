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
from typing import Any, Final, Self

import psycopg

from logship.catalog import ddl
from logship.replay.ddl.facts import compare
from logship.service.servers import Server
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
_ROW_OF: Final = {
    "pg_class": "x.relkind not in ('t', 'c') and x.relpersistence <> 't'",
    "pg_type": "x.typelem = 0 and x.typtype <> 'p' and (x.typrelid = 0 or exists "
    "(select from pg_class c where c.oid = x.typrelid and c.relkind = 'c'))",
    "pg_trigger": "not x.tgisinternal",
    "pg_rewrite": "x.rulename <> '_RETURN'",
}
_CLASSES: Final = (
    "pg_class", "pg_type", "pg_proc", "pg_trigger", "pg_rewrite", "pg_policy", "pg_namespace", "pg_operator",
    "pg_opclass", "pg_opfamily", "pg_cast", "pg_collation", "pg_conversion", "pg_ts_config", "pg_ts_dict",
    "pg_ts_parser",
    "pg_ts_template", "pg_statistic_ext", "pg_extension", "pg_language", "pg_foreign_data_wrapper", "pg_foreign_server",
    "pg_user_mapping", "pg_default_acl", "pg_transform", "pg_am",
)  # fmt: skip
# Parts of a dump: event triggers, also as what a comment is on, and what init grants to the replica's roles.
_EACH_SIDES: Final = re.compile("EVENT TRIGGER|; Type: ACL; Schema: pg_catalog;")
_OURS: Final = ("logship", "logship_writers", "pg_toast", "pg_temp", "pg_toast_temp")


@dataclass(frozen=True, slots=True)
class Case:
    """Each step is a tuple of strings, sent one by one as they stand; a string may hold several statements.

    ``name`` is for people, and stands on the page: what the commands of the case are about. ``as_superuser``:
    else they run as `OWNER`. ``psql``: each step is a script for it. ``alone``: it touches what belongs to other
    cases. ``since``, ``until``: major versions of both servers that have it.
    """

    name: str
    create: tuple[str, ...]
    alter: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    as_superuser: bool = False
    psql: bool = False
    alone: bool = False
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


def catalog(database: psycopg.Connection) -> dict[tuple[Any, ...], dict[str, Any]]:
    """What `logship.ddl_object` says of everything that users made, by its address."""
    rows = " union all ".join(
        f"select '{name}'::regclass::oid, x.oid from {name} x where (x.oid >= 16384 "
        f"{'or true' if name == 'pg_namespace' else ''}) and {_ROW_OF.get(name, 'true')}"
        for name in _CLASSES
    )
    query = (
        f"select logship.ddl_object(o.class, o.oid, 0) from ({rows}) o (class, oid) where not exists "
        "(select from pg_depend d where d.classid = o.class and d.objid = o.oid and d.deptype = 'e')"
    )
    found = database.execute(query.encode()).fetchall()
    objects = [one for (one,) in found if one is not None and not _ours(one)]
    return {(one["type"], *one["names"], *(one["args"] or ())): one["facts"] for one in objects}


def differences(primary: psycopg.Connection, secondary: psycopg.Connection) -> list[str]:
    """What differs between the two catalogs, a line for each."""
    one, two = catalog(primary), catalog(secondary)
    same = primary.info.server_version // 10_000 == secondary.info.server_version // 10_000
    lines = [f"{key}: only on the primary" for key in one.keys() - two.keys()]
    lines += [f"{key}: only on the secondary" for key in two.keys() - one.keys()]
    for key in one.keys() & two.keys():
        lines += [f"{key}: {line}" for line in compare(one[key], two[key], same_version=same)]
    return sorted(lines)


def _ours(one: dict[str, Any]) -> bool:
    names = one["names"] or [""]
    return (
        one["schema"] in _OURS
        or names[0] in _OURS
        or (one["type"] == "schema" and names[0].startswith(("pg_", "information_schema")))
        or one["schema"] == "information_schema"
    )


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
        return left or self.follower.error is not None or bool(differences(*self._looks))

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
        found = differences(*self._looks)
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
