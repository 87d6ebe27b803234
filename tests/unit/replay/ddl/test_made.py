"""Statements made from facts, and texts as they can run in a transaction: what PostgreSQL's grammar makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import postgast
import pytest

from logship.replay.ddl import altered
from logship.replay.ddl.code import in_a_transaction, sets_a_role
from logship.replay.ddl.made import make
from logship.replay.ddl.message import Captured, Dropped, Object, Statement

_ID = {"name": "id", "type": "integer", "not_null": True}


def _table(*columns: Mapping[str, Any], names: tuple[str, str] = ("public", "t"), **facts: Any) -> Object:
    facts = {"kind": "r", "persistence": "p", "replica_identity": "d", "columns": list(columns), **facts}
    return Object("table", names, (), ".".join(names), names[0], "pg_class", tag="CREATE TABLE", facts=facts)


def _statement(tag: str, *objects: Object, dropped: tuple[Dropped, ...] = (), **said: Any) -> Statement:
    last = Captured(1, 1, "d", 150000, 1, "end", tag, "", "", {}, objects)
    return Statement(last, dropped, **said)


def _dropped(kind: str, identity: str, *, original: bool = True) -> Dropped:
    return Dropped(kind, tuple(identity.split(".")), (), identity, "public", original)


def _made(statement: Statement, there: Object | None = None) -> str | None:
    found = None if there is None else {"facts": there.facts}
    text = make(statement, lambda named: found)
    if text:
        postgast.parse(text)
    return text


def test_a_table_with_a_serial_and_an_identity_column() -> None:
    limits = {"type": "integer", "increment": 1, "min": 1, "max": 9, "start": 1, "cache": 1, "cycle": False}
    table = _table(
        {**_ID, "default": "nextval('public.t_id_seq'::regclass)"},
        {"name": "No", "type": "integer", "identity": "a", "not_null": True},
        {
            "name": "up",
            "type": "text",
            "generated": "s",
            "default": "upper(v)",
            "collation": 'pg_catalog."C"',
        },
        constraints=[
            {"name": "a_f", "type": "f", "definition": "FOREIGN KEY (id) REFERENCES public.t(id)"},
            {"name": "t_pkey", "type": "p", "definition": "PRIMARY KEY (id)"},
        ],
        options=["fillfactor=70"],
    )
    serial = {"kind": "S", "owned_by": "public.t.id", **limits}
    identity = {"kind": "S", "owned_by": 'public.t."No"', **limits}
    a, b = (
        Object(
            "sequence",
            ("public", name),
            (),
            f"public.{name}",
            "public",
            "pg_class",
            tag="CREATE SEQUENCE",
            facts=facts,
        )
        for name, facts in (("t_id_seq", serial), ("t_No_seq", identity))
    )
    definition = "CREATE UNIQUE INDEX t_pkey ON public.t USING btree (id)"
    index = Object(
        "index", ("public", "t_pkey"), (), "public.t_pkey", "public", "pg_class", tag="CREATE INDEX",
        facts={"kind": "i", "definition": definition},
    )  # fmt: skip
    given = Object(
        "sequence", a.names, (), a.identity, "public", "pg_class", tag="ALTER SEQUENCE", facts=serial
    )
    text = _made(_statement("CREATE TABLE", a, b, table, index, given))
    assert text is not None
    made = text.split("; ")
    assert [each.split(" (")[0][:34] for each in made] == [
        'create sequence "public"."t_id_seq', 'create table "public"."t"', 'alter sequence "public"."t_id_seq"',
    ]  # fmt: skip
    assert 'sequence name "public"."t_No_seq"' in made[1]
    assert 'collate pg_catalog."C" generated always as (upper(v)) stored' in made[1]
    assert made[1].index("PRIMARY KEY") < made[1].index("FOREIGN KEY")
    assert made[1].endswith("with (fillfactor = '70')")


def test_a_partition() -> None:
    table = _table(
        _ID, inherits=['public."P"'], partition_bound="FOR VALUES IN (1)", partition_key="RANGE (id)"
    )
    assert _made(_statement("CREATE TABLE", table)) == (
        'create table "public"."t" partition of public."P" FOR VALUES IN (1) partition by RANGE (id)'
    )


@pytest.mark.parametrize(
    ("here", "there", "expected"),
    [
        ([_ID], [_ID], ""),
        ([_ID, {"name": "v", "type": "text"}], [_ID], 'add column "v" text'),
        ([_ID], [_ID, {"name": "gone", "type": "text"}], 'drop column "gone"'),
        ([{**_ID, "default": "7"}], [_ID], 'alter column "id" set default 7'),
        ([_ID], [{**_ID, "default": "7"}], 'alter column "id" drop default'),
        ([{"name": "id", "type": "integer"}], [_ID], 'alter column "id" drop not null'),
        ([{**_ID, "type": "bigint"}], [_ID], 'alter column "id" type bigint'),
        # Rows that are there have what the primary's have, not what the default gives today.
        ([_ID, {"name": "at", "type": "date", "default": "now()", "missing": "2026-01-02"}], [_ID],
         'add column "at" date default \'2026-01-02\'::date, alter column "at" set default now()'),
    ],
)  # fmt: skip
def test_a_column_that_differs(here: list[Any], there: list[Any], expected: str) -> None:
    dropped = (_dropped("table column", "public.t.gone"),)
    text = _made(_statement("ALTER TABLE", _table(*here), dropped=dropped), _table(*there))
    assert text == (f'alter table "public"."t" {expected}' if expected else "")


def test_what_differs_beside_columns() -> None:
    check = {"name": "c", "type": "c", "definition": "CHECK ((id > 0))", "validated": True}
    here = _table(_ID, constraints=[check], row_security=True, replica_identity="index i", options=["a=1"])
    there = _table(
        _ID, constraints=[{**check, "definition": "CHECK ((id > 0)) NOT VALID", "validated": False},
                          {**check, "name": "d"}], options=["b=1"],
    )  # fmt: skip
    assert altered.table(here, {"facts": there.facts}, ()) == (
        'alter table "public"."t" drop constraint "d", validate constraint "c", enable row level security, '
        "replica identity using index \"i\", reset (b), set (a = '1')"
    )


def test_what_facts_do_not_say_is_not_made() -> None:
    renamed = _table({"name": "new", "type": "text"})
    assert _made(_statement("ALTER TABLE", renamed), _table({"name": "old", "type": "text"})) is None
    assert _made(_statement("ALTER TABLE", renamed), None) is None
    assert _made(_statement("ALTER TABLE", renamed, rewritten=(renamed,)), renamed) is None
    assert _made(_statement("GRANT", _table(_ID)), None) is None
    assert _made(_statement("CREATE TABLE", _table(_ID, of_type="public.x")), None) is None


def test_what_is_dropped_and_what_goes_with_it() -> None:
    tables = (_dropped("table", "public.a"), _dropped("table", 'public."B"'))
    assert _made(_statement("DROP TABLE", dropped=tables)) == 'drop table public.a, public."B"'
    sequence = _dropped("sequence", "public.s", original=False)
    assert _made(_statement("DROP TABLE", dropped=(tables[0], sequence))) == "drop table public.a cascade"
    trigger = Dropped("trigger", ("public", "t", "x"), (), "x on public.t", "public", True)
    assert _made(_statement("DROP TRIGGER", dropped=(trigger,))) == "drop trigger x on public.t"


def test_a_comment_of_a_column_and_of_none() -> None:
    table = _table({**_ID, "comment": "it's"}, comment=None)
    on_column = Object(
        "table column", ("public", "t", "id"), (), "public.t.id", "public", "pg_class", facts=table.facts
    )
    assert _made(_statement("COMMENT", on_column)) == "comment on column public.t.id is 'it''s'"
    assert _made(_statement("COMMENT", table)) == "comment on table public.t is null"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("create index concurrently i on t (a)", "create index i on t (a)"),
        ('create index CONCURRENTLY "concurrently" on t (a)', 'create index "concurrently" on t (a)'),
        ("drop index concurrently if exists concurrently_made", "drop index if exists concurrently_made"),
        ("refresh materialized view concurrently v", "refresh materialized view v"),
    ],
)
def test_concurrently_is_taken_out(text: str, expected: str) -> None:
    assert in_a_transaction(text) == expected


@pytest.mark.parametrize("how", ["concurrently", "finalize"])
def test_a_partition_is_detached_and_keeps_its_bounds(how: str) -> None:
    text = in_a_transaction(f'alter table p detach partition "O\'dd $detach$" {how}')
    assert how not in text
    assert text.startswith("do $detach_$") and text.endswith("$detach_$")
    assert "'\"O''dd $detach$\"'::pg_catalog.regclass" in text
    postgast.parse(text)
    assert in_a_transaction("alter table p detach partition c") == "alter table p detach partition c"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("create function f() returns int language sql set role = x as 'select 1'", True),
        (
            "create or replace procedure p() language sql set work_mem = 1 set session_authorization = x as ''",
            True,
        ),
        ("alter routine f() strict reset role", True),
        ("create function f() returns int language sql set search_path = 'role' as 'set role x'", False),
        ("alter function f() owner to role", False),
        ("alter function f() reset all", False),
        ("create table role (role int)", False),
    ],
)
def test_functions_that_set_a_role(text: str, expected: bool) -> None:
    assert sets_a_role(text) == expected
