"""What types are called after ALTER … RENAME and SET SCHEMA, from what the log called them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Final

import pytest

from logship import pgoutput
from logship.change import Column, Relation, TypeName
from logship.lsn import Lsn
from logship.replay.batch import SchemaChange
from logship.replay.classify import Classifier
from logship.replay.ddl.message import Object, Statement
from logship.replay.ddl.renames import Renamed, decode, encode, now, renamed
from logship.replay.ddl.text import Found, Located, Unlocated, Why
from tests.unit.replay.ddl.test_whose import statement, thing
from tests.unit.replay.transactions import resolve

TYPES: Final = {
    oid: TypeName(oid, *name)
    for oid, name in {
        20001: ("s", "mood"),
        20002: ("s", "_mood"),
        20003: ("o", "mood"),
        20004: ("s", "t"),
    }.items()
}
RELATIONS: Final = {30001: Relation(30001, "s", "t", "d", (Column("id", 23, -1, is_key=True),))}


def text(sql: str) -> Found:
    return Located(sql, "", nested=False)


def typ(name: str) -> Object:
    return replace(thing("type", name), catalog="pg_type", oid=20001)


def table(*names: str, oid: int = 30001, kind: str = "table") -> Object:
    return replace(thing(kind, *names), catalog="pg_class", oid=oid)


def found(one: Object | None, tag: str, sql: str) -> dict[int, tuple[str, str]]:
    objects = () if one is None else (one,)
    changes = renamed(statement(*objects, tag=tag), text(sql), TYPES, RELATIONS)
    assert all((each.before) == (TYPES[each.oid].schema, TYPES[each.oid].name) for each in changes)
    return {each.oid: each.after for each in changes}


@pytest.mark.parametrize(
    ("one", "tag", "sql", "expected"),
    [
        (typ("s.feeling"), "ALTER TYPE", "alter type mood rename to feeling",
         {20001: ("s", "feeling"), 20002: ("s", "_feeling")}),
        (typ('"O.o".mood'), "ALTER TYPE", 'alter type mood set schema "O.o"',
         {20001: ("O.o", "mood"), 20002: ("O.o", "_mood")}),
        (typ("s.mood"), "ALTER TYPE", "alter type mood add value 'x'", {}),
        (replace(typ("s.b"), oid=20009), "ALTER TYPE", "alter type a rename to b", {}),
        # The log calls a domain as its base type: 20001 may be one over s.mood.
        (typ("s.short"), "ALTER DOMAIN", "alter domain d rename to short", {}),
        (typ("s.short"), "ALTER TYPE", "alter type d rename to short", {}),
        (typ("s.d"), "ALTER TYPE", "alter type d owner to somebody", {}),
        (typ("s.d"), "ALTER DOMAIN", "alter domain o.d set schema s", {}),
        (typ("s.feeling"), "COMMENT", "comment on type mood is ''", {}),
        (None, "ALTER SCHEMA", 'alter schema s rename to "S"',
         {20001: ("S", "mood"), 20002: ("S", "_mood"), 20004: ("S", "t")}),
        (None, "ALTER SCHEMA", "alter schema s owner to somebody", {}),
        (None, "ALTER SCHEMA", "alter schema s rename", {}),
        (table("s", "u"), "ALTER TABLE", "alter table t rename to u", {20004: ("s", "u")}),
        (table("s", "u", oid=1), "ALTER TABLE", "alter table t rename to u", {20004: ("s", "u")}),
        (table("x", "t"), "ALTER TABLE", "alter table t set schema x", {20004: ("x", "t")}),
        (table("x", "t", oid=1), "ALTER TABLE", "alter table s.t set schema x", {20004: ("x", "t")}),
        (table("x", "t", oid=1), "ALTER TABLE", "alter table t set schema x", {}),  # whose schema isn't known
        (table("s", "t"), "ALTER TABLE", "alter table t rename column a to b", {}),
        (table("s", "u", kind="index"), "ALTER INDEX", "alter index t rename to u", {}),
        (table("s", "couple", oid=1, kind="composite type"), "ALTER TYPE", "alter type mood rename to couple",
         {20001: ("s", "couple"), 20002: ("s", "_couple")}),
    ],
)  # fmt: skip
def test_what_is_renamed(
    one: Object | None, tag: str, sql: str, expected: dict[int, tuple[str, str]]
) -> None:
    assert found(one, tag, sql) == expected


def test_a_text_that_is_not_known_says_nothing_and_an_oid_does() -> None:
    unknown = Unlocated(Why.AMBIGUOUS)
    assert renamed(statement(tag="ALTER SCHEMA"), unknown, TYPES, RELATIONS) == ()
    feeling = statement(typ("s.feeling"), tag="ALTER TYPE")
    assert [each.oid for each in renamed(feeling, unknown, TYPES, RELATIONS)] == [20001, 20002]


def test_an_array_of_a_long_name_is_cut_as_postgresql_cuts_it() -> None:
    types = {
        1: TypeName(1, "s", "é" * 31),
        2: TypeName(2, "s", "_" + "é" * 31),
        3: TypeName(3, "s", "b" * 63),
    }
    types[4] = TypeName(4, "s", "_" + "b" * 62)
    schema_change = statement(
        replace(thing("type", "s." + "c" * 63), catalog="pg_type", oid=3), tag="ALTER TYPE"
    )
    after = {
        each.oid: each.after[1]
        for each in renamed(schema_change, text(f"alter type {'b' * 63} rename to {'c' * 63}"), types, {})
    }
    assert after == {3: "c" * 63, 4: "_" + "c" * 62}
    schema_change = statement(replace(thing("type", "s.d"), catalog="pg_type", oid=1), tag="ALTER TYPE")
    assert {
        each.oid: each.after[1]
        for each in renamed(schema_change, text(f"alter type {'é' * 31} rename to d"), types, {})
    } == {1: "d", 2: "_d"}


A, B, C = ("s", "a"), ("s", "b"), ("s", "c")


def test_names_of_now() -> None:
    since = (Renamed(1, A, B), Renamed(2, A, C), Renamed(1, B, C))
    assert decode(json.loads(encode(since))) == since
    assert now(1, A, since) == C
    assert now(1, B, since) == C  # it was announced between them
    assert now(1, C, since) == C  # and behind both
    assert now(2, A, since) == C
    assert now(3, A, since) == A
    assert now(1, A, (Renamed(1, A, B), Renamed(1, B, A))) == A


def test_what_was_described_before_the_position_is_called_as_it_is_since() -> None:
    classifier = Classifier(resolve, renamed=(Renamed(20001, ("s", "mood"), ("s", "feeling")),))
    announced = pgoutput.encode(TYPES[20001])
    classifier.in_force(announced)
    assert classifier.types[20001] == TypeName(20001, "s", "feeling")
    change = SchemaChange(_alter("s.felt"), text("alter type feeling rename to felt"), Lsn(5))
    assert classifier.renames(change).renamed == (Renamed(20001, ("s", "feeling"), ("s", "felt")),)
    assert classifier.types[20001] == TypeName(20001, "s", "felt")
    classifier.schema(announced)  # again, behind the position: it is called so now
    assert classifier.types[20001] == TYPES[20001]
    classifier.in_force(pgoutput.encode(TYPES[20003]))
    assert classifier.types[20003] == TYPES[20003]


def test_a_table_that_goes_twice_before_its_next_row() -> None:
    classifier = Classifier(resolve)
    classifier.in_force(pgoutput.encode(RELATIONS[30001]))
    classifier.in_force(pgoutput.encode(TYPES[20004]))
    for schema in ("x", "y"):
        moved = statement(table(schema, "t"), tag="ALTER TABLE")
        classifier.renames(SchemaChange(moved, text(f"alter table t set schema {schema}"), Lsn(5)))
        assert classifier.types[20004] == TypeName(20004, schema, "t")
    renames = statement(table("y", "u"), tag="ALTER TABLE")
    classifier.renames(SchemaChange(renames, text("alter table t rename to u"), Lsn(5)))
    assert classifier.types[20004] == TypeName(20004, "y", "u")


def _alter(name: str) -> Statement:
    return statement(typ(name), tag="ALTER TYPE")
