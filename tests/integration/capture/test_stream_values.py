"""Values and names arrive as UTF-8 in one spelling, whatever the database, the role or the server says."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from logship.change import Insert, Message, Relation, Row
from logship.errors import StreamBroken
from tests.integration.capture.pump import make_slot, open_pump, publish
from tests.servers import Database

HOSTILE = {
    "datestyle": "German, DMY",
    "intervalstyle": "sql_standard",
    "bytea_output": "escape",
    "extra_float_digits": "-3",
    "timezone": "Asia/Kathmandu",
    "search_path": "nowhere",
    "client_encoding": "latin1",
    "row_security": "on",
    "statement_timeout": "1ms",
    "standard_conforming_strings": "off",
}


def first_row(database: Database, slot: str, *publications: str) -> Row:
    pump = open_pump(database, slot, *publications)
    try:
        return next(event for event in pump.catch_up(database) if isinstance(event, Insert)).new
    finally:
        pump.stream.close()


@pytest.mark.parametrize("level", ["database", "role"])
def test_settings_of_database_and_role_reach_no_value(primary: Database, level: str) -> None:
    slot = publish(primary)
    primary.execute(
        "create table t (ts timestamptz, d date, i interval, b bytea, f float8, m money, a date[])"
    )
    target = (
        sql.SQL(level) + sql.SQL(" ") + sql.Identifier(primary.name if level == "database" else "postgres")
    )
    with primary.connect() as session:
        session.execute(
            "insert into t values ('2024-02-29 12:00+00', '2024-12-31', '-1 year 2 days 03:04', "
            "'\\x00ff', 0.1::float8 + 0.2, 1234.5, '{2024-12-31}')"
        )
        for name, value in HOSTILE.items():
            session.execute(sql.SQL("alter {} set {} = {}").format(target, sql.Identifier(name), value))
        try:
            row = first_row(primary, slot)
        finally:
            session.execute(sql.SQL("alter {} reset all").format(target))
    assert row == [
        b"2024-02-29 12:00:00+00", b"2024-12-31", b"-1 years +2 days 03:04:00", b"\\x00ff",
        b"0.30000000000000004", b"$1,234.50", b"{2024-12-31}",
    ]  # fmt: skip


@pytest.fixture
def encoded(primary: Database, request: pytest.FixtureRequest) -> Iterator[Database]:
    """A second database on the primary's server in the encoding that the test names."""
    database = Database(primary.server, f"{primary.name}_encoded")
    primary.execute(
        f"create database {database.name} template template0 encoding '{request.param}' locale 'C'"
    )
    yield database
    database.drop()


@pytest.mark.parametrize("encoded", ["LATIN1"], indirect=True)
def test_a_latin1_database_arrives_in_utf8(encoded: Database) -> None:
    slot = make_slot(encoded)
    with encoded.connect() as session:
        session.execute('create publication "veröffentlicht" for all tables')
        session.execute('create table "größe" ("maß" text)')
        session.execute("insert into \"größe\" values ('é')")
        session.execute("select pg_logical_emit_message(true, 'é', 'é')")
    pump = open_pump(encoded, slot, "veröffentlicht")
    events = pump.catch_up(encoded)
    pump.stream.close()
    relation = next(event for event in events if isinstance(event, Relation))
    assert (relation.name, relation.columns[0].name) == ("größe", "maß")
    assert next(event for event in events if isinstance(event, Insert)).new == ["é".encode()]
    # The content of a message is bytes to PostgreSQL: in the server's encoding.
    message = next(event for event in events if isinstance(event, Message))
    assert (message.prefix, message.content) == ("é", "é".encode("latin1"))


@pytest.mark.parametrize("encoded", ["SQL_ASCII"], indirect=True)
def test_an_sql_ascii_database_arrives_when_it_holds_utf8(encoded: Database) -> None:
    slot = publish(encoded)
    encoded.execute("create table t (v text); insert into t values ('é')")
    assert first_row(encoded, slot) == ["é".encode()]


@pytest.mark.parametrize("encoded", ["SQL_ASCII"], indirect=True)
def test_an_sql_ascii_database_with_other_bytes_is_refused_without_showing_them(encoded: Database) -> None:
    slot = publish(encoded)
    encoded.execute("create table t (v text); insert into t values (E'secret\\xe9')")
    with pytest.raises(StreamBroken, match="not valid in its encoding") as caught:
        first_row(encoded, slot)
    assert caught.value.sqlstate == "22021"
    assert not caught.value.transient
    assert "SQL_ASCII" in caught.value.hint
    assert "secret" not in str(caught.value)


NAMES = [
    'with "quotes"',
    "with.dot",
    "with\nnewline",
    "it's",
    "back\\slash",
    "a, b",
    "é" * 31 + "x",
    "%s {} $1",
]


@pytest.mark.parametrize("name", NAMES)
def test_identifiers_of_every_kind(primary: Database, name: str) -> None:
    assert len(name.encode()) <= 63
    identifier = sql.Identifier(name)
    slot = make_slot(primary)
    with primary.connect() as session:
        for statement in (
            "create publication {0} for all tables",
            "create schema {0}",
            "create type public.{0} as enum ('v')",
            "create table {0}.{0} ({0} public.{0})",
            "insert into {0}.{0} values ('v')",
        ):
            session.execute(sql.SQL(statement).format(identifier))
    pump = open_pump(primary, slot, name)
    events = pump.catch_up(primary)
    pump.stream.close()
    relation = next(event for event in events if isinstance(event, Relation))
    assert (relation.schema, relation.name, relation.columns[0].name) == (name, name, name)
    assert next(event for event in events if isinstance(event, Insert)).new == [b"v"]


def test_several_publications_and_their_union(primary: Database) -> None:
    primary.execute("create table a (id int); create table b (id int); create table c (id int)")
    primary.execute('create publication "p,1" for table a; create publication "p""2" for table b')
    slot = make_slot(primary)
    primary.execute("insert into a values (1); insert into b values (2); insert into c values (3)")
    pump = open_pump(primary, slot, "p,1", 'p"2')
    rows = [event.new for event in pump.catch_up(primary) if isinstance(event, Insert)]
    pump.stream.close()
    assert rows == [[b"1"], [b"2"]]


def test_a_database_whose_name_needs_quotes(primary: Database) -> None:
    database = Database(primary.server, f'{primary.name} "it\'s"')
    with psycopg.connect(primary.conninfo, autocommit=True) as session:
        session.execute(
            sql.SQL("create database {} template template0").format(sql.Identifier(database.name))
        )
    try:
        database.execute("create publication everything for all tables; create table t (v int)")
        slot = f"{primary.name}_quoted"
        database.execute("select pg_create_logical_replication_slot(%s, 'pgoutput')", [slot])
        database.execute("insert into t values (1)")
        assert first_row(database, slot, "everything") == [b"1"]
    finally:
        database.drop()
