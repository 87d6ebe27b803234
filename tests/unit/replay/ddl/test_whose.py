"""Which tables a schema change is about."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest

from logship.replay.ddl.message import Captured, Dropped, Object, Statement
from logship.replay.ddl.whose import made_without_key, tables

T = ("public", "t")


def thing(of: str, *names: str, tag: str = "", **facts: Any) -> Object:
    catalog = "pg_class" if of in ("table", "index", "sequence", "view") else "pg_other"
    return Object(of, names, (), ".".join(names), names[0], catalog, tag=tag, facts=MappingProxyType(facts))


def dropped(kind: str, *names: str, original: bool = True) -> Dropped:
    return Dropped(kind, names, (), ".".join(names), names[0], original)


def statement(*objects: Object, tag: str = "ALTER TABLE", drops: tuple[Dropped, ...] = ()) -> Statement:
    captured = Captured(1, 1, "shop", 150018, 1, "end", tag, "", "", MappingProxyType({}), objects)
    return Statement(captured, drops)


@pytest.mark.parametrize(
    "named",
    [
        thing("table", *T),
        thing("table column", *T, "v"),
        thing("table constraint", *T, "t_check"),
        thing("policy", *T, "p"),
        thing("trigger", *T, "g", definition="CREATE TRIGGER g BEFORE INSERT ON public.t"),
        thing("index", "public", "t_v_idx", table="public.t"),
        thing("sequence", "public", "t_id_seq", owned_by="public.t.id"),
    ],
    ids=lambda one: one.type,
)
def test_what_belongs_to_a_table(named: Object) -> None:
    assert tables(statement(named)) == {T}
    assert tables(statement(named, thing("table", "public", "u"))) == {T, ("public", "u")}


@pytest.mark.parametrize(
    "named",
    [
        thing("view", "public", "t"),
        thing("schema", "public"),
        thing("sequence", "public", "free"),
        thing("function", "public", "f"),
        thing("trigger", "public", "v", "g", definition="CREATE TRIGGER g INSTEAD OF INSERT ON public.v"),
    ],
    ids=lambda one: one.type,
)
def test_what_does_not_makes_the_statement_nobodys(named: Object) -> None:
    assert tables(statement(named)) is None
    assert tables(statement(thing("table", *T), named)) is None


def test_names_with_quotes_and_dots() -> None:
    index = thing("index", "Odd.one", "i", table='"Odd.one"."a ""b"".c"')
    assert tables(statement(index)) == {("Odd.one", 'a "b".c')}


def test_what_is_dropped_goes_by_what_was_named() -> None:
    one = statement(
        tag="DROP TABLE", drops=(dropped("table", *T), dropped("view", "public", "v", original=False))
    )
    assert tables(one) == {T}
    assert tables(statement(tag="DROP TABLE")) is None


def made(*constraints: str, tag: str = "CREATE TABLE", kind: str = "r", persistence: str = "p") -> Statement:
    facts = {"kind": kind, "persistence": persistence, "constraints": [{"type": one} for one in constraints]}
    return statement(thing("table", *T, tag=tag, **facts), tag=tag)


def test_new_tables_without_key() -> None:
    assert made_without_key(made()) == {T}
    assert made_without_key(made("u", "c", tag="CREATE TABLE AS")) == {T}
    assert not made_without_key(made("c", "p"))
    assert not made_without_key(made(kind="p"))
    assert not made_without_key(made(persistence="u"))
    assert not made_without_key(made(tag="ALTER TABLE"))
