"""The primary's values in the text of an ALTER TABLE: cut where the grammar says, and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest

from logship.replay.ddl.alterations import Added, Retyped, alterations
from logship.replay.ddl.message import Captured, Object, Statement
from logship.replay.ddl.values import Adapted, adapt, left_over, require_rows
from logship.replay.failures import RowsNotCarried


def _table(columns: list[dict[str, Any]], **more: Any) -> Object:
    return Object(
        "table", ("public", "t"), (), "public.t", "public", "pg_class", facts={"columns": columns}, **more
    )


def _statement(*objects: Object, rewritten: tuple[Object, ...] = ()) -> Statement:
    last = Captured(1, 1, "d", 150000, 1, "end", "ALTER TABLE", "", "", {}, objects)
    return Statement(last, (), rewritten)


def _defaults(text: str) -> list[str | None]:
    source = text.encode()
    return [
        source[slice(*one.default)].decode() if one.default else None
        for one in alterations(text)
        if isinstance(one, Added)
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("alter table t add c timestamptz default now()", ["now()"]),
        ("alter table t add c timestamptz default  now ( )  not null, add d int", ["now ( )", None]),
        ("alter table t add c text default 'a,b' || f(1, 2) collate \"C\" check (c <> ''), add d int default 3",
         ["'a,b' || f(1, 2)", "3"]),
        ("alter table t add c int[] default array[1, 2] constraint x not null", ["array[1, 2]"]),
        ("alter table t add c bool default (a is not distinct from b) unique", ["(a is not distinct from b)"]),
        ("alter table t add c text default 'ünï' || now() -- and, a comment\n, add d int default 1;",
         ["'ünï' || now()", "1"]),
        ("alter table t add \"default\" text default 'x'", ["'x'"]),
        ("alter table t add c numeric(8, 2) default 1.5 references u (a, b) deferrable", ["1.5"]),
    ],
)  # fmt: skip
def test_where_the_default_stands(text: str, expected: list[str | None]) -> None:
    found = _defaults(text)
    assert [one and one.partition(" --")[0] for one in found] == expected


def test_what_a_type_change_uses() -> None:
    text = "alter table t alter a type int using b::int + f(1, 2), alter column c set data type text"
    assert alterations(text) == (Retyped("a", "b::int + f(1, 2)"), Retyped("c", ""))
    assert alterations("create table t (a int default 1)") == ()


def test_the_literal_takes_the_defaults_place() -> None:
    columns = [
        {"name": "a", "type": "integer", "missing": "3", "default": "3"},
        {
            "name": "C d",
            "type": "timestamp with time zone",
            "missing": "2026-01-01 00:00:00+00",
            "default": "now()",
        },
        {"name": "e", "type": "text", "missing": "it's \\", "default": "f()"},
    ]
    text = 'alter table t add a int default 3, add "C d" timestamptz default now() not null, add e text default f()'
    assert adapt(_statement(_table(columns)), text) == Adapted(
        "alter table t add a int default 3, add \"C d\" timestamptz default "
        "'2026-01-01 00:00:00+00'::timestamp with time zone  not null, add e text default E'it''s \\\\'::text ",
        'alter table "public"."t" alter column "e" set default f(); '
        'alter table "public"."t" alter column "C d" set default now()',
    )  # fmt: skip


def test_a_literal_that_is_read_anew_is_replaced_too() -> None:
    columns = [{"name": "a", "type": "date", "missing": "2026-11-22", "default": "'2026-11-22'::date"}]
    adapted = adapt(_statement(_table(columns)), "alter table t add a date default 'today'")
    assert "'2026-11-22'::date" in adapted.text
    assert "today" not in adapted.text


def test_below_a_partitioned_table_the_value_stands_in_its_partitions() -> None:
    table = _table(
        [{"name": "a", "type": "text", "default": "now()"}],
        below=(("public", "p1", "a", "x"), ("public", "p2", "a", "x")),
    )
    text = "alter table t add a text default now()"
    assert "'x'::text" in adapt(_statement(table), text).text
    here = {"p1": {"name": "a", "missing": "x"}, "p2": {"name": "a", "missing": "other"}}
    updates = list(
        left_over(_statement(table), None, text, lambda one: {"facts": {"columns": [here[one.names[1]]]}})
    )
    assert updates == ['update only "public"."p2" set "a" = \'x\'::text']


def test_columns_that_were_there_keep_what_they_have() -> None:
    column = {"name": "a", "type": "text", "missing": "x"}
    before = {"facts": {"columns": [{"name": "a"}]}}
    statement = _statement(_table([column]))
    there = "alter table t add column if not exists a text default now()"
    assert list(left_over(statement, before, there, lambda one: before)) == []
    again = "alter table t drop column a, add column a text default now()"
    assert len(list(left_over(statement, before, again, lambda one: before))) == 1


@pytest.mark.parametrize(
    ("text", "column", "probed"),
    [
        ("alter table t alter a type bigint", {"name": "a", "type": "bigint"}, ['("a")']),
        ("alter table t alter a type text using f(b)", {"name": "a", "type": "text"}, ["(f(b))"]),
        ("alter table t add a float default random()", {"name": "a", "type": "float8"}, ["(random())"]),
        ("alter table t add a int", {"name": "a", "type": "integer"}, []),
        (
            "alter table t add a int generated always as (1) stored",
            {"name": "a", "type": "integer", "generated": "s"},
            [],
        ),
    ],
)
def test_what_is_to_be_proven(text: str, column: dict[str, Any], probed: list[str]) -> None:
    table = _table([column], reason=4, why="too large")
    asked: list[str] = []
    require_rows(
        _statement(_table([column]), rewritten=(table,)), text, "it", lambda probe: not asked.append(probe)
    )
    assert [probe.partition("generated always as ")[2].removesuffix(" stored)") for probe in asked] == probed
    if probed:
        with pytest.raises(RowsNotCarried, match="too large"):
            require_rows(_statement(_table([column]), rewritten=(table,)), text, "it", lambda probe: False)


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("alter table t add a serial", {"name": "a", "type": "integer", "default": "nextval('s')"}),
        (
            "alter table t add a int generated always as identity",
            {"name": "a", "type": "integer", "identity": "a"},
        ),
        (
            "alter table t add a public.stamped",
            {"name": "a", "type": "public.stamped", "type_default": "now()"},
        ),
    ],
)
def test_what_nothing_could_prove(text: str, column: dict[str, Any]) -> None:
    statement = _statement(_table([column]), rewritten=(_table([column], reason=2, why="too large"),))
    with pytest.raises(RowsNotCarried):
        require_rows(statement, text, "it", lambda probe: True)


def test_a_domain_without_a_default_gives_nulls() -> None:
    column = {"name": "a", "type": "public.odd"}
    statement = _statement(_table([column]), rewritten=(_table([column], reason=2, why="too large"),))
    require_rows(statement, "alter table t add a public.odd", "it", lambda probe: False)


def test_rows_that_follow_need_no_proof() -> None:
    table = _table([{"name": "a", "type": "text"}], reason=4, echo="update")
    text = "alter table t alter a type text using random()"
    require_rows(_statement(table, rewritten=(table,)), text, "it", lambda probe: False)
