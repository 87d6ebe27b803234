"""logship's own schema: up, down, up again; equal to the declared tables; nobody else's is touched."""

from __future__ import annotations

import threading
from importlib.resources import as_file, files

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from logship.catalog import migrate
from logship.catalog.tables import metadata
from logship.connection import Side, connect
from logship.errors import LogshipError, RefusedAsUnsafe, SecondaryError
from tests.conftest import Pair
from tests.servers import Database

DATABASES = (Side.PRIMARY, Side.SECONDARY)
_LEFT = """
select n.nspname from pg_namespace n where n.nspname like 'logship%'
union all select c.relname from pg_class c where c.relname like '%logship%'
union all select p.proname from pg_proc p where p.proname in ('wait_for', 'advance')
"""


def of(pair: Pair, side: Side) -> Database:
    return pair.primary if side is Side.PRIMARY else pair.secondary


@pytest.mark.parametrize("side", DATABASES)
def test_revisions_are_known_by_their_files(side: Side) -> None:
    with as_file(files("logship.migrations").joinpath(side.value)) as scripts:
        directory = ScriptDirectory(str(scripts))
        assert migrate.known(side) == {script.revision for script in directory.walk_revisions()}
        assert migrate.head(side) == directory.get_current_head()


@pytest.mark.parametrize("side", DATABASES)
def test_up_down_and_up_again(pair: Pair, side: Side) -> None:
    database = of(pair, side)
    assert migrate.current(database.conninfo, side) is None
    for _ in range(2):
        assert migrate.upgrade(database.conninfo, side) == migrate.head(side)
        assert migrate.current(database.conninfo, side) == migrate.head(side)
        migrate.downgrade(database.conninfo, side)
        assert migrate.current(database.conninfo, side) is None
        assert database.execute(_LEFT) == []


@pytest.mark.parametrize("side", DATABASES)
def test_the_upgraded_database_is_what_tables_declare(pair: Pair, side: Side) -> None:
    database = of(pair, side)
    migrate.upgrade(database.conninfo, side)
    engine = sa.create_engine(
        "postgresql+psycopg://", creator=lambda: connect(database.conninfo, side), poolclass=sa.NullPool
    )
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "include_schemas": True,
                "version_table_schema": "logship",
                "compare_type": True,
                "compare_server_default": True,
            },
        )
        assert compare_metadata(context, metadata(side)) == []
        unlogged = database.execute(
            "select c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace "
            "where n.nspname = 'logship' and c.relkind = 'r' and c.relpersistence = 'u' order by 1"
        )
    expected = (
        [("ddl_echo",), ("replication_report",)]
        if side is Side.PRIMARY
        else [
            (name,)
            for name in (
                "hold",
                "memory_question",
                "memory_reply",
                "memory_request",
                "object_report",
                "replay_report",
            )
        ]
    )
    assert unlogged == expected


def test_a_newer_schema_is_refused(secondary: Database) -> None:
    migrate.upgrade(secondary.conninfo, Side.SECONDARY)
    secondary.execute("update logship.alembic_version set version_num = 'secondary_9999'")
    with pytest.raises(SecondaryError, match=r"secondary_9999.*newer logship") as caught:
        migrate.upgrade(secondary.conninfo, Side.SECONDARY)
    assert "use that version" in caught.value.hint
    with pytest.raises(SecondaryError):
        migrate.downgrade(secondary.conninfo, Side.SECONDARY)
    assert secondary.value("select version_num from logship.alembic_version") == "secondary_9999"


def test_the_schema_of_the_other_side_is_refused(primary: Database) -> None:
    migrate.upgrade(primary.conninfo, Side.PRIMARY)
    with pytest.raises(RefusedAsUnsafe, match="other side"):
        migrate.upgrade(primary.conninfo, Side.SECONDARY)


def test_a_schema_of_that_name_which_is_not_ours_is_refused(secondary: Database) -> None:
    secondary.execute("create schema logship; create table logship.notes (a int)")
    with pytest.raises(RefusedAsUnsafe, match=r"did not make.*notes"):
        migrate.upgrade(secondary.conninfo, Side.SECONDARY)
    assert secondary.value("select count(*) from logship.notes") == 0


def test_without_the_right_to_create_it_says_so(secondary: Database) -> None:
    secondary.execute("create role plain login")
    with pytest.raises(SecondaryError, match="permission denied") as caught:
        migrate.upgrade(secondary.conninfo_as("plain"), Side.SECONDARY)
    assert "grant create on database" in caught.value.hint


def test_two_at_once_take_turns(secondary: Database) -> None:
    errors: list[LogshipError] = []

    def upgrade() -> None:
        try:
            migrate.upgrade(secondary.conninfo, Side.SECONDARY)
        except LogshipError as error:
            errors.append(error)

    threads = [threading.Thread(target=upgrade) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert secondary.value("select count(*) from logship.alembic_version") == 1
