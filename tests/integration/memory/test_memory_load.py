"""Memory beside a real secondary: every built-in type comes back as PostgreSQL writes it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import psycopg
import pytest

from logship.change import Column, Relation, Row, TypeName
from logship.connection import Side, connect
from logship.lsn import Lsn
from logship.replay.batch import Batch
from logship.replay.memory.memory import Memory
from logship.replay.memory.reading import ReaderThreads
from logship.replay.memory.resident import Residence
from logship.replay.memory.source import Loader
from logship.replay.target import Target
from logship.replay.targets import Targets
from tests.servers import Database, eventually
from tests.unit.replay.memory_model import batch, coalesced, contents, delete, insert, ordered, truncate

# Type, values. Then what its column is in memory once it has held all of them.
HARD: list[tuple[str, list[str], str]] = [
    ("boolean", ["t", "f"], "BOOLEAN"),
    ("smallint", ["-32768", "32767"], "SMALLINT"),
    ("integer", ["-2147483648", "2147483647", "0"], "INTEGER"),
    ("bigint", ["-9223372036854775808", "9223372036854775807"], "BIGINT"),
    (
        "real",
        ["NaN", "Infinity", "-Infinity", "-0", "1e-45", "3.4028235e38", "1e6", "999999", "0.0001", "0.00001",
         "33289.938", "16777216", "4.4149242e8", "1234567.5", "0.1", "1.17549435e-38"],
        "FLOAT",
    ),
    (
        "double precision",
        ["NaN", "Infinity", "-Infinity", "-0", "5e-324", "1.7976931348623157e308", "1e15", "1e14", "1e16",
         "999999999999999", "1801514316094494.2", "-20034855448587448", "-587563471363608100", "9007199254740993",
         "1e22", "1e23", "0.0001", "0.00001", "123456.789", "2.2250738585072014e-308"],
        "DOUBLE",
    ),
    ("numeric(12,2)", ["0", "-0.01", "9999999999.99", "1.5"], "DECIMAL(12,2)"),
    ("numeric(2,2)", ["0.05", "-0.99"], "DECIMAL(3,2)"),
    ("numeric(38,10)", ["-0.0000000001", "9999999999999999999999999999.9999999999"], "DECIMAL(38,10)"),
    ("numeric(3,5)", ["0.00123", "-0.00999"], "DECIMAL(6,5)"),
    ("numeric(8,2)", ["1", "NaN"], "VARCHAR"),
    ("numeric(5,-2)", ["500", "-9999900"], "VARCHAR"),
    ("numeric(50,20)", ["1." + "1" * 20], "VARCHAR"),
    ("numeric", ["1.10", "1e-200", "Infinity", "NaN", "9" * 60], "VARCHAR"),
    ("text", ["", " ", 'quote " comma , and\nnew\r\nline', "\\.", "\\N", "NULL", "ä€😀", "x" * 100_000], "VARCHAR"),
    ("varchar(10)", ["", "abc  "], "VARCHAR"),
    ("char(5)", ["a", ""], "VARCHAR"),
    ("name", ["a name"], "VARCHAR"),
    ("bytea", ["", "\\x00ff", "\\xdeadbeef"], "BLOB"),
    ("date", ["0001-01-01", "9999-12-31", "10000-01-01", "5874897-12-31", "infinity", "-infinity"], "DATE"),
    ("date", ["2020-01-01", "0044-03-15 BC"], "VARCHAR"),
    ("time", ["00:00:00", "24:00:00", "23:59:59.999999", "12:00:00.1"], "TIME"),
    (
        "timestamp",
        ["0001-01-01 00:00:00.1", "1969-12-31 23:59:59.999999", "294247-01-10 04:00:54.775806", "infinity",
         "-infinity"],
        "TIMESTAMP",
    ),
    ("timestamp", ["294247-01-10 04:00:54.775807"], "VARCHAR"),
    ("timestamp", ["2020-01-01", "0044-03-15 00:00:00 BC"], "VARCHAR"),
    ("timestamp(3)", ["2020-01-01 00:00:00.1239"], "TIMESTAMP"),
    ("timestamptz", ["2020-01-01 00:00:00+05:30", "infinity", "-infinity", "12000-01-01 00:00:00+00"],
     "TIMESTAMP WITH TIME ZONE"),
    ("timestamptz", ["294276-12-31 23:59:59.999999+00", "4714-11-24 00:00:00+00 BC"], "VARCHAR"),
    ("uuid", ["A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "ffffffff-ffff-ffff-ffff-ffffffffffff"], "UUID"),
    ("timetz", ["24:00:00-15:59"], "VARCHAR"),
    ("interval", ["-1 days +02:03:00", "178000000 years"], "VARCHAR"),
    ("json", ['{"b" : 1, "a":2}'], "VARCHAR"),
    ("jsonb", ['{"b" : 1e400, "a":2}'], "VARCHAR"),
    ("integer[]", ["{{1,NULL},{3,4}}", "[0:1]={1,2}", "{}", "{NULL}", "{{{1},{2}}}"], "VARCHAR"),
    ("numeric(6,2)[]", ["{1.50,NaN,-0.05}"], "VARCHAR"),
    ("timestamptz[]", ['{infinity,"0044-03-15 00:00:00+00 BC"}'], "VARCHAR"),
    ("public.mood[]", ['{"so so",NULL}', "{}"], "VARCHAR"),
    ("public.pair", ['(1,"a, \\"b\\"")', "(,)"], "VARCHAR"),
    ("public.pair[]", ['{"(1,\\"x y\\")",NULL}'], "VARCHAR"),
    ("text[]", ['{"a,b",NULL,"NULL","\\""}'], "VARCHAR"),
    ("int4range", ["[1,5)", "empty"], "VARCHAR"),
    ("datemultirange", ["{[2020-01-01,2020-02-01)}"], "VARCHAR"),
    ("inet", ["::1/128", "10.0.0.0/8"], "VARCHAR"),
    ("macaddr", ["08:00:2b:01:02:03"], "VARCHAR"),
    ("bit(3)", ["101"], "VARCHAR"),
    ("varbit", ["", "1"], "VARCHAR"),
    ("money", ["-92233720368547758.08"], "VARCHAR"),
    ("xml", ["<a>&lt;</a>"], "VARCHAR"),
    ("tsvector", ["'a':1 'b''c':2A"], "VARCHAR"),
    ("point", ["(1,-0)"], "VARCHAR"),
    ("pg_lsn", ["16/B374D848"], "VARCHAR"),
    ("oid", ["4294967295"], "VARCHAR"),
    ("public.mood", ["so so"], "VARCHAR"),
    ("public.positive", ["5"], "VARCHAR"),
]  # fmt: skip


@pytest.fixture
def secondary(upgraded_secondary: Database) -> Database:
    return upgraded_secondary


@pytest.fixture
def session(secondary: Database) -> Iterator[psycopg.Connection]:
    with connect(secondary.conninfo, Side.SECONDARY) as connection:
        connection.execute(
            "insert into logship.replica (name, system_identifier, timeline, database, slot, publication, origin,"
            " keyless, created_at) values ('r', 1, 1, 'd', 's', 'p', 'o', 'full', now())"
        )
        connection.execute("insert into logship.position (replica, replay_lsn) values ('r', '0/1')")
        yield connection


@pytest.fixture
def memory(secondary: Database, session: psycopg.Connection) -> Iterator[Memory]:
    readers = ReaderThreads(
        lambda: Loader(secondary.conninfo, "r", chunk_bytes=1000), 100, wait=lambda _, given_up: None
    )
    made = Memory(readers, start_lsn=Lsn(1), budget_bytes=256 << 20, behind=Level())
    yield made
    made.close()


class Level:
    """Persistence has everything that memory has."""

    def reached(self, lsn: Lsn) -> bool:
        return True

    def wait(self, lsn: Lsn) -> None:
        pass


def apply(memory: Memory, change: Batch) -> None:
    """Replay, and let what was to be loaded be loaded."""
    memory.apply(change)

    def settled() -> bool:
        more = memory.serve()
        return not more and not any(one.residence is Residence.LOADING for one in memory.objects())

    eventually(settled, what="loads end")


def target_of(session: psycopg.Connection, table: str) -> Target:
    rows = session.execute(
        "select attrelid::bigint, attname, atttypid::bigint, atttypmod from pg_catalog.pg_attribute"
        " where attrelid = %s::regclass and attnum > 0 and not attisdropped order by attnum",
        [f"public.{table}"],
    ).fetchall()
    columns = tuple(Column(name, oid, typmod, name == "id") for _, name, oid, typmod in rows)
    types = {  # for a domain, pgoutput names its base type
        oid: TypeName(oid, schema, name)
        for oid, schema, name in session.execute(
            "select t.oid::bigint, n.nspname, b.typname from pg_catalog.pg_type t join pg_catalog.pg_type b"
            " on b.oid = coalesce(nullif(t.typbasetype, 0), t.oid) join pg_catalog.pg_namespace n"
            " on n.oid = b.typnamespace where t.oid >= 16384"
        ).fetchall()
    }
    return Targets(session).resolve(Relation(rows[0][0], "public", table, "d", columns), types)


def rows_of(session: psycopg.Connection, table: str) -> list[Row]:
    """What PostgreSQL's output functions write: what the log would carry."""
    result = session.execute(f"select * from only public.{table}".encode()).pgresult
    assert result is not None
    return ordered(
        [[result.get_value(row, column) for column in range(result.nfields)] for row in range(result.ntuples)]
    )


def advance(session: psycopg.Connection, lsn: int) -> None:
    session.execute("update logship.position set replay_lsn = %s", [str(Lsn(lsn))])


def test_every_type_comes_back_as_postgresql_writes_it(session: psycopg.Connection, memory: Memory) -> None:
    session.execute("create type public.mood as enum ('so so')")
    session.execute("create domain public.positive as integer check (value > 0)")
    session.execute("create type public.pair as (n int, t text)")
    for number, (kind, values, _) in enumerate(HARD):
        session.execute(f"create table public.t{number} (id integer primary key, v {kind})".encode())
        for row_id, value in enumerate([None, *values]):
            session.execute(
                f"insert into public.t{number} values (%s, %s::text::{kind})".encode()
                if kind != "char(5)"
                else f"insert into public.t{number} values (%s, %s)".encode(),
                [row_id, value],
            )
    tables = [target_of(session, f"t{number}") for number in range(len(HARD))]
    # All rows through the load; then half of them once more, through the log.
    apply(memory, batch(2, coalesced(*[insert(table, b"1000", None) for table in tables])))
    for table in tables:
        expected = ordered([*rows_of(session, table.name), [b"1000", None]])
        assert contents(memory, table.name)[0] == expected, table.columns[1].type_sql
    again = []
    for table in tables:
        rows = rows_of(session, table.name)
        again += [delete(table, row[0], None) for row in rows] + [insert(table, *row) for row in rows]
    apply(memory, batch(3, coalesced(*again, *[delete(table, b"1000", None) for table in tables])))
    for table, (kind, _, in_memory) in zip(tables, HARD, strict=True):
        assert contents(memory, table.name)[0] == rows_of(session, table.name), kind
        typed = memory.query(f"select typeof(v) as t from {table.name} limit 1")[0].to_pylist()[0]["t"]
        assert typed == in_memory, kind


def test_the_same_values_arrive_first_through_the_log(session: psycopg.Connection, memory: Memory) -> None:
    builtin = [
        (kind, values, held) for kind, values, held in HARD if "public." not in kind and kind != "char(5)"
    ]
    for number, (kind, values, _) in enumerate(builtin):
        session.execute(f"create table public.t{number} (id integer primary key, v {kind})".encode())
        for row_id, value in enumerate(values):
            session.execute(
                f"insert into public.t{number} values (%s, %s::text::{kind})".encode(), [row_id, value]
            )
    tables = [target_of(session, f"t{number}") for number in range(len(builtin))]
    expected = {table.name: rows_of(session, table.name) for table in tables}
    session.execute(b"truncate " + ", ".join(f"public.{table.name}" for table in tables).encode())
    apply(
        memory,
        batch(2, coalesced(*[insert(table, *row) for table in tables for row in expected[table.name]])),
    )
    for table in tables:
        assert contents(memory, table.name)[0] == expected[table.name], table.columns[1].type_sql


def test_partitions_inheritance_and_one_null_column(session: psycopg.Connection, memory: Memory) -> None:
    for statement in (
        "create table public.parts (id integer primary key, v text) partition by range (id)",
        "create table public.low partition of public.parts for values from (0) to (10)",
        "create table public.high (v text, gone integer, id integer not null)",
        "alter table public.high drop column gone",
        "alter table public.parts attach partition public.high for values from (10) to (20)",
        "insert into public.parts values (1, 'low'), (11, 'high')",
        "create table public.parent (id integer primary key)",
        "create table public.child (more text) inherits (public.parent)",
        "insert into public.parent values (1)",
        "insert into public.child values (2, 'x')",
        "create table public.single (v text)",
        "insert into public.single values (null), (''), ('\\.'), (null)",
        "analyze",
    ):
        session.execute(statement.encode())
    parts, parent, single = (target_of(session, name) for name in ("parts", "parent", "single"))
    apply(memory, batch(2, coalesced(insert(parts, b"2", None), insert(parent, b"3"), insert(single, b"x"))))
    assert contents(memory, "parts")[0] == ordered([[b"1", b"low"], [b"11", b"high"], [b"2", None]])
    assert contents(memory, "parent")[0] == [[b"1"], [b"3"]]
    assert contents(memory, "single")[0] == [[None], [None], [b""], [b"\\."], [b"x"]]
    apply(memory, batch(3, coalesced(truncate(parts), delete(single, None))))
    assert contents(memory, "single")[0] == [[None], [b""], [b"\\."], [b"x"]]
    assert contents(memory, "parts") == ([], Lsn(3))


def test_rows_and_position_are_of_one_snapshot(
    session: psycopg.Connection, memory: Memory, secondary: Database
) -> None:
    """A writer adds a row and moves the position in one transaction, again and again, while memory loads."""
    session.execute("create table public.t (id integer primary key)")
    table = target_of(session, "t")
    done = threading.Event()

    def write() -> None:
        with connect(secondary.conninfo, Side.SECONDARY) as connection:
            lsn = 10
            while not done.is_set():
                with connection.transaction():
                    connection.execute("insert into public.t values (%s)", [lsn])
                    connection.execute("update logship.position set replay_lsn = %s", [str(Lsn(lsn))])
                lsn += 1

    writer = threading.Thread(target=write)
    writer.start()
    loader = Loader(secondary.conninfo, "r", chunk_bytes=10)
    try:
        for _ in range(20):
            with loader.snapshot(table) as snapshot:
                ids = [int(cell) for rows in snapshot.tables([0]) for cell in rows.column("c0").to_pylist()]
            assert ids == list(range(10, int(snapshot.lsn) + 1 if snapshot.lsn > 1 else 10))
    finally:
        done.set()
        writer.join(20)
        loader.close()


@pytest.mark.parametrize(
    "empties", ["truncate public.t", "alter table public.t alter v type text using v::text"]
)
def test_what_is_not_of_a_snapshot_is_not_read_by_one(
    session: psycopg.Connection, memory: Memory, secondary: Database, empties: str
) -> None:
    """To a snapshot that is older than a TRUNCATE, or a rewrite, the table is empty and always was."""
    session.execute("create table public.t (id integer primary key, v integer)")
    session.execute("insert into public.t values (1, 1), (2, 2)")
    table = target_of(session, "t")
    loader = Loader(secondary.conninfo, "r")
    found: list[tuple[Lsn, int]] = []

    def load() -> None:
        with loader.snapshot(table) as snapshot:
            found.append((snapshot.lsn, sum(rows.num_rows for rows in snapshot.tables([0, 1]))))

    waits = "select count(*) > 0 from pg_locks where not granted and relation = 'public.t'::regclass"
    reader = threading.Thread(target=load)
    with connect(secondary.conninfo, Side.SECONDARY) as persistence, persistence.transaction():
        persistence.execute(empties.encode())
        persistence.execute("update logship.position set replay_lsn = '0/9'")
        reader.start()
        eventually(lambda: secondary.value(waits), what="the reader waits for the table")
    reader.join(20)
    loader.close()
    assert found == [(Lsn(9), 0 if empties.startswith("truncate") else 2)]


def test_a_table_that_stays_locked_stays_out_of_memory(session: psycopg.Connection, memory: Memory) -> None:
    """Persistence may hold it in a transaction whose end waits, by way of a full queue, for memory."""
    session.execute("create table public.t (id integer primary key)")
    table = target_of(session, "t")
    with session.transaction():
        session.execute("lock table public.t in access exclusive mode")
        apply(memory, batch(2, coalesced(insert(table, b"1"))))
    (known,) = memory.objects()
    assert known.residence is Residence.COLD
    assert "lock" in known.reason


def test_a_secondary_that_cannot_be_read_leaves_the_object_cold(
    session: psycopg.Connection, memory: Memory
) -> None:
    session.execute("create table public.t (id integer primary key)")
    table = target_of(session, "t")
    session.execute("alter table public.t rename to elsewhere")
    apply(memory, batch(2, coalesced(insert(table, b"1"))))
    (known,) = memory.objects()
    assert known.residence is Residence.COLD
    assert 'relation "public.t" does not exist' in known.reason
    session.execute("alter table public.elsewhere rename to t")
    session.execute("insert into public.t values (1)")
    advance(session, 3)
    apply(memory, batch(3))
    apply(memory, batch(4, coalesced(insert(table, b"6"))))
    assert contents(memory, "t") == ([[b"1"], [b"6"]], Lsn(4))


def test_a_broken_connection_is_made_anew(session: psycopg.Connection, memory: Memory) -> None:
    session.execute("create table public.t (id integer primary key)")
    session.execute("create table public.u (id integer primary key)")
    first, second = target_of(session, "t"), target_of(session, "u")
    apply(memory, batch(2, coalesced(insert(first, b"1"))))
    session.execute(
        "select pg_catalog.pg_terminate_backend(pid, 5000) from pg_catalog.pg_stat_activity"
        " where application_name = 'logship load' and datname = pg_catalog.current_database()"
    )
    advance(session, 2)
    for lsn in range(3, 7):
        apply(memory, batch(lsn, coalesced(insert(second, b"%d" % lsn))))
        session.execute("insert into public.u values (%s)", [lsn])
        advance(session, lsn)
    known = next(one for one in memory.objects() if one.relname == "u")
    assert known.residence is Residence.RESIDENT
    assert contents(memory, "u")[0] == rows_of(session, "u")
