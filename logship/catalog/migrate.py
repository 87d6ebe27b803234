"""Brings logship's own schema to the revision this program stands on, by Alembic.

In: a conninfo and which side it is. Out: the schema ``logship`` with ``logship.alembic_version``.
One transaction, under an advisory lock: it happens whole or not at all, and two programs that try
at once take turns. Never touches a schema ``logship`` that is not ours, or one that a newer
logship made.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.resources import as_file, files
from typing import Final

import psycopg
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from logship import __version__
from logship.catalog.tables import SCHEMA, metadata
from logship.connection import Side, connect
from logship.errors import LogshipError, PrimaryError, RefusedAsUnsafe, SecondaryError

_LOCK: Final = 0x6C6F67736869  # "logshi": the advisory lock that schema changes of ours take


def upgrade(conninfo: str, side: Side, revision: str = "head") -> str:
    """Make or upgrade the schema; the revision it is at afterwards. Nothing to do is fine."""
    with _session(conninfo, side) as (connection, config):
        before = _revision(connection)
        if before is None:
            _refuse_foreign_schema(connection, side)
            connection.execute(sa.text(f"create schema if not exists {SCHEMA}"))
        else:
            _require_known(before, side, config)
        command.upgrade(config, revision)
        return _revision(connection) or ""


def downgrade(conninfo: str, side: Side, revision: str = "base") -> None:
    """Go back to ``revision``; ``base`` leaves nothing of logship in the database."""
    with _session(conninfo, side) as (connection, config):
        before = _revision(connection)
        if before is None:
            return
        _require_known(before, side, config)
        command.downgrade(config, revision)
        if _revision(connection) is None:
            connection.execute(sa.text(f"drop table {SCHEMA}.alembic_version"))
            connection.execute(sa.text(f"drop schema {SCHEMA}"))


def current(conninfo: str, side: Side) -> str | None:
    """The revision the database is at; None: logship's schema isn't there."""
    with _session(conninfo, side) as (connection, _):
        return _revision(connection)


def head(side: Side) -> str:
    """The revision this program stands on."""
    with _config(side) as config:
        return ScriptDirectory.from_config(config).get_current_head() or ""


def known(side: Side) -> frozenset[str]:
    """Every revision that this program can come from."""
    with _config(side) as config:
        return _revisions(config)


@contextmanager
def _session(conninfo: str, side: Side) -> Iterator[tuple[sa.Connection, Config]]:
    """One transaction that holds the lock; errors of the server become ours."""

    def creator() -> psycopg.Connection:
        link = connect(conninfo, side, application_name="logship migrate")
        link.autocommit = False  # SQLAlchemy counts on the driver to begin transactions
        return link

    engine = sa.create_engine(
        "postgresql+psycopg://", creator=creator, poolclass=sa.NullPool, use_native_hstore=False
    )
    with ExitStack() as stack:
        config = stack.enter_context(_config(side))
        try:
            connection = stack.enter_context(engine.begin())
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
            config.attributes["connection"] = connection
            yield connection, config
        except sa.exc.DBAPIError as error:
            raise _refused(error, side) from error


@contextmanager
def _config(side: Side) -> Iterator[Config]:
    with as_file(files("logship.migrations").joinpath(side.value)) as scripts:
        config = Config()
        # "%" would be read as an interpolation
        config.set_main_option("script_location", str(scripts).replace("%", "%%"))
        config.attributes["metadata"] = metadata(side)
        yield config


def _revision(connection: sa.Connection) -> str | None:
    if connection.scalar(sa.text(f"select to_regclass('{SCHEMA}.alembic_version')")) is None:
        return None
    found = connection.scalar(sa.text(f"select version_num from {SCHEMA}.alembic_version"))
    return None if found is None else str(found)


def _require_known(revision: str, side: Side, config: Config) -> None:
    if revision in _revisions(config):
        return
    if not revision.startswith(f"{side.value}_"):
        raise RefusedAsUnsafe(
            f"the {side.value} holds logship's schema of the other side (revision {revision})",
            hint="a database is the primary or the secondary, not both: check --primary and --secondary",
        )
    kind = PrimaryError if side is Side.PRIMARY else SecondaryError
    raise kind(
        f"schema {SCHEMA} on the {side.value} is at revision {revision}, "
        f"which logship {__version__} does not know: a newer logship made it",
        hint="use that version of logship, or a later one",
    )


def _revisions(config: Config) -> frozenset[str]:
    return frozenset(script.revision for script in ScriptDirectory.from_config(config).walk_revisions())


def _refuse_foreign_schema(connection: sa.Connection, side: Side) -> None:
    """A schema of our name with something in it, but not our version table, is somebody else's."""
    for schema in (SCHEMA, "logship_writers"):
        found = connection.scalar(
            sa.text(
                "select c.relname from pg_catalog.pg_class c "
                "join pg_catalog.pg_namespace n on n.oid = c.relnamespace where n.nspname = :schema "
                "union all select p.proname from pg_catalog.pg_proc p "
                "join pg_catalog.pg_namespace n on n.oid = p.pronamespace where n.nspname = :schema limit 1"
            ),
            {"schema": schema},
        )
        if found is not None:
            raise RefusedAsUnsafe(
                f'the {side.value} has a schema "{schema}" that logship did not make (it holds "{found}")',
                hint=f"logship keeps its own tables in the schema {SCHEMA}: rename yours",
            )


def _refused(error: sa.exc.DBAPIError, side: Side) -> LogshipError:
    kind = PrimaryError if side is Side.PRIMARY else SecondaryError
    text = str(error.orig).splitlines()[0] if error.orig else "unknown error"
    hint = "nothing was changed; what PostgreSQL says stands in the way must be mended first"
    match error.orig:
        case psycopg.errors.InsufficientPrivilege():
            hint = "as a superuser: grant create on database <database> to <user>; or come as the user that ran init"
        case psycopg.errors.DependentObjectsStillExist() as orig:
            hint = f"drop what depends on it first: {orig.diag.message_detail or 'see the message'}"
        case psycopg.errors.LockNotAvailable() | psycopg.errors.QueryCanceled():
            hint = "another session holds the schema: end it, and try again"
    return kind(f"can't change logship's schema on the {side.value}: {text}", hint=hint)
