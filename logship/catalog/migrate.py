"""Brings logship's own schema to the revision this program stands on, by Alembic.

In: a conninfo and which side it is. Out: the schema ``logship`` with ``logship.alembic_version``. Where it is at
the newest revision already, which a look at one row tells, nothing of SQLAlchemy and Alembic is imported.
One transaction, under an advisory lock: it happens whole or not at all, and two programs that try
at once take turns. Never touches a schema ``logship`` that is not ours, or one that a newer
logship made.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.resources import as_file, files
from typing import TYPE_CHECKING, Final

import psycopg

from logship import __version__
from logship.connection import Side, connect
from logship.errors import LogshipError, PrimaryError, RefusedAsUnsafe, SecondaryError

if TYPE_CHECKING:
    import sqlalchemy as sa
    from alembic.config import Config

_VERSION_TABLE: Final = "logship.alembic_version"
_LOCK: Final = 0x6C6F67736869  # "logshi": the advisory lock that schema changes of ours take


def upgrade(conninfo: str, side: Side, revision: str = "head") -> str:
    """Make or upgrade the schema; the revision it is at afterwards. Nothing to do is fine."""
    newest = head(side)
    if revision == "head" and current(conninfo, side) == newest:
        return newest
    import sqlalchemy as sa
    from alembic import command

    with _session(conninfo, side) as (connection, config):
        before = _revision(connection)
        if before is None:
            _refuse_foreign_schema(connection, side)
            connection.execute(sa.text("create schema if not exists logship"))
        else:
            _require_known(before, side)
        command.upgrade(config, revision)
        return _revision(connection) or ""


def downgrade(conninfo: str, side: Side, revision: str = "base") -> None:
    """Go back to ``revision``; ``base`` leaves nothing of logship in the database."""
    import sqlalchemy as sa
    from alembic import command

    with _session(conninfo, side) as (connection, config):
        before = _revision(connection)
        if before is None:
            return
        _require_known(before, side)
        command.downgrade(config, revision)
        if _revision(connection) is None:
            connection.execute(sa.text(f"drop table {_VERSION_TABLE}"))
            connection.execute(sa.text("drop schema logship"))


def current(conninfo: str, side: Side) -> str | None:
    """The revision the database is at; None: logship's schema isn't there."""
    with connect(conninfo, side, application_name="logship migrate") as link:
        try:
            if link.execute("select pg_catalog.to_regclass(%s)", [_VERSION_TABLE]).fetchone() == (None,):
                return None
            found = link.execute(f"select version_num from {_VERSION_TABLE}".encode()).fetchone()
        except psycopg.Error as error:
            raise _refused(error, side) from error
    return None if found is None else str(found[0])


def head(side: Side) -> str:
    """The revision this program stands on."""
    return max(known(side))


def known(side: Side) -> frozenset[str]:
    """Every revision that this program can come from: a revision's file bears its name, and they count up."""
    versions = files("logship.migrations").joinpath(side.value, "versions").iterdir()
    return frozenset(file.name.removesuffix(".py") for file in versions if file.name.endswith(".py"))


@contextmanager
def _session(conninfo: str, side: Side) -> Iterator[tuple[sa.Connection, Config]]:
    """One transaction that holds the lock; errors of the server become ours."""
    import sqlalchemy as sa

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
            raise _refused(error.orig, side) from error


@contextmanager
def _config(side: Side) -> Iterator[Config]:
    from alembic.config import Config

    from logship.catalog.tables import metadata

    # All of them: both sides read from migrations/both.
    with as_file(files("logship.migrations")) as migrations:
        scripts = migrations / side.value
        config = Config()
        # "%" would be read as an interpolation
        config.set_main_option("script_location", str(scripts).replace("%", "%%"))
        config.attributes["metadata"] = metadata(side)
        yield config


def _revision(connection: sa.Connection) -> str | None:
    import sqlalchemy as sa

    if connection.scalar(sa.text(f"select to_regclass('{_VERSION_TABLE}')")) is None:
        return None
    found = connection.scalar(sa.text(f"select version_num from {_VERSION_TABLE}"))
    return None if found is None else str(found)


def _require_known(revision: str, side: Side) -> None:
    if revision in known(side):
        return
    if not revision.startswith(f"{side.value}_"):
        raise RefusedAsUnsafe(
            f"the {side.value} holds logship's schema of the other side (revision {revision})",
            hint="a database is the primary or the secondary, not both: check --primary and --secondary",
        )
    kind = PrimaryError if side is Side.PRIMARY else SecondaryError
    raise kind(
        f"schema logship on the {side.value} is at revision {revision}, "
        f"which logship {__version__} does not know: a newer logship made it",
        hint="use that version of logship, or a later one",
    )


def _refuse_foreign_schema(connection: sa.Connection, side: Side) -> None:
    """A schema of our name with something in it, but not our version table, is somebody else's."""
    import sqlalchemy as sa

    for schema in ("logship", "logship_writers"):
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
                hint="logship keeps its own tables in the schema logship: rename yours",
            )


def _refused(error: BaseException | None, side: Side) -> LogshipError:
    kind = PrimaryError if side is Side.PRIMARY else SecondaryError
    text = str(error).splitlines()[0] if error else "unknown error"
    hint = "nothing was changed; what PostgreSQL says stands in the way must be mended first"
    match error:
        case psycopg.errors.InsufficientPrivilege():
            hint = "as a superuser: grant create on database <database> to <user>; or come as the user that ran init"
        case psycopg.errors.DependentObjectsStillExist() as orig:
            hint = f"drop what depends on it first: {orig.diag.message_detail or 'see the message'}"
        case psycopg.errors.LockNotAvailable() | psycopg.errors.QueryCanceled():
            hint = "another session holds the schema: end it, and try again"
    return kind(f"can't change logship's schema on the {side.value}: {text}", hint=hint)
