"""Which tables COPY may fill with init's own rights."""

from __future__ import annotations

import pytest

from logship.connection import Side, connect
from logship.snapshot.guard import destination
from logship.snapshot.relations import Source, TableName
from tests.servers import Database

HARMLESS = [
    "(a int, b text)",
    "(a int primary key, b text unique, check (length(b) < 100 and a > 0))",
    "(a int, b text, check (b in ('x', 'y') or b ~ '^z' or b is distinct from 'q'))",
    "(a int, b text, g int generated always as (a * 2) stored, h text generated always as (upper(b)) stored)",
    "(a int, b text, e int default 5, i int generated always as identity)",
    "(a int, b text default now()::text)",
    "(a int, b text, check (case when a > 1 then true else coalesce(b, '') <> '' end))",
]
RISKY = {
    "(a int, b text, check (hers.f(a)))": "a check",
    "(a int, b text, check (set_config('x.y', b, false) = b))": "a check",
    "(a int, b text, check (lo_export(1, 'x') = 1))": "a check",
    "(a int, b text, check (table_to_xml('hers.v', true, true, '') is not null))": "a check",
    "(a int, b text, check (a operator(hers.===) 1))": "a check",
    "(a int, b text, e timestamptz default now())": "a default or generated column",
    "(a int, b text, e boolean default hers.f(1))": "a default or generated column",
    "(a int, b hers.d)": "a type",
    "(a int, b hers.d[])": "a type",
    "(a int, b hers.c)": "a type",
    "(a int, b hers.r)": "a type",
}


@pytest.fixture
def hers(secondary: Database) -> Database:
    secondary.execute(
        "create role mallory; grant create on schema public to mallory; create schema hers authorization mallory;"
        "set role mallory;"
        "create function hers.f(int) returns boolean language sql immutable as 'select $1 > 0';"
        "create function hers.g(int, int) returns boolean language sql immutable as 'select true';"
        "create operator hers.=== (leftarg = int, rightarg = int, function = hers.g);"
        "create domain hers.d as text check (hers.f(length(value))); create type hers.c as (x int, y hers.d);"
        "create type hers.r as range (subtype = int); create view hers.v as select hers.f(1)"
    )
    return secondary


def risk(database: Database) -> str:
    with connect(database.conninfo, Side.SECONDARY) as link:
        return destination(link, Source(0, TableName("public", "t"), "r", 0, ("a", "b"))).risk


@pytest.mark.parametrize("table", HARMLESS)
def test_harmless(hers: Database, table: str) -> None:
    hers.execute(f"set role mallory; create table public.t {table}")
    assert risk(hers) == ""


@pytest.mark.parametrize("table", RISKY)
def test_risky_unless_the_owner_has_the_rights_anyway(hers: Database, table: str) -> None:
    if "to_xml" in table and not hers.value(
        "select count(*) from pg_config where setting like '%--with-libxml%'"
    ):
        pytest.skip("the server has no libxml")
    hers.execute(f"set role mallory; create table public.t {table}")
    assert risk(hers) == RISKY[table]
    hers.execute("alter table public.t owner to postgres")
    assert risk(hers) == ""


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("create index on public.t (hers.f(a))", "an index expression"),
        ("create index on public.t (a) where hers.f(a)", "an index expression"),
        ("create index on public.t (lower(b)) where a > 5", ""),
        ("alter table public.t enable always trigger tg", "a trigger"),
        ("alter table public.t enable replica trigger tg", "a trigger"),
    ],
)
def test_what_stands_on_a_table(hers: Database, statement: str, expected: str) -> None:
    hers.execute(
        "set role mallory; create table public.t (a int, b text);"
        "create function hers.t() returns trigger language plpgsql as 'begin return new; end';"
        "create trigger tg before insert on public.t for each row execute function hers.t()"
    )
    assert risk(hers) == ""
    hers.execute(f"set role mallory; {statement}")
    assert risk(hers) == expected


def test_a_partition_key_and_what_stands_on_a_partition(hers: Database) -> None:
    hers.execute(
        "set role mallory; create table public.p (a int, b text) partition by list (hers.f(a));"
        "create table public.t partition of public.p for values in (true)"
    )
    assert risk(hers) == "a partition key"
