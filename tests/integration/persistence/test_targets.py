"""Relations of the log against the tables that the secondary has."""

from __future__ import annotations

import pytest

from logship.change import Column, Relation, TypeName
from logship.replay.failures import RelationMissing, ShapeDiffers
from logship.replay.shape import Input
from tests.integration.persistence.replica import Replica

INT, VARCHAR = 23, 1043


def relation(*columns: Column, identity: str = "d", name: str = "t") -> Relation:
    return Relation(1, "public", name, identity, columns)


ID, A = Column("id", INT, -1, True), Column("a", VARCHAR, 14, False)


def test_what_is_missing_or_no_table_is_said(replica: Replica) -> None:
    with pytest.raises(RelationMissing, match=r"public\.t does not exist") as missing:
        replica.resolve(relation(ID), {})
    assert "partition" in missing.value.hint
    replica.create("create view t as select 1 as id")
    with pytest.raises(RelationMissing, match="is a view"):
        replica.resolve(relation(ID), {})


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ("id int primary key", 'column "a" is missing'),
        ("id bigint primary key, a varchar(10)", 'column "id" has another type'),
        ("id int primary key, a varchar(11)", 'column "a" has another type'),
        ("id int primary key, a text", 'column "a" has another type'),
        ("id int primary key, a varchar(10), b int not null", 'column "b" is NOT NULL without a default'),
    ],
)
def test_another_shape_is_refused_with_both(replica: Replica, table: str, reason: str) -> None:
    replica.create(f"create table t ({table})")
    with pytest.raises(ShapeDiffers) as failure:
        replica.resolve(relation(ID, A), {})
    assert reason in str(failure.value)
    assert "a type 1043 (typmod 14)" in str(failure.value)
    assert "alter table" in failure.value.hint


@pytest.mark.parametrize(
    "extra",
    [
        "b int",
        "b int not null default 1",
        "b int generated always as identity",
        "b int not null generated always as (id) stored",
    ],
)
def test_more_columns_are_fine_when_they_fill_themselves(replica: Replica, extra: str) -> None:
    replica.create(f"create table t ({extra}, a varchar(10), id int primary key)")
    target = replica.resolve(relation(ID, A), {})
    assert [column.name for column in target.columns] == ["id", "a"]
    assert target.extra == (() if "stored" in extra else ("b",))


def test_types_that_are_not_built_in_go_by_name(replica: Replica) -> None:
    replica.database.execute("create extension citext")
    replica.create(
        "create type mood as enum ('x'); create domain ci as citext; create domain small as int; "
        "create table t (id small primary key, m mood, c ci, ms mood[])"
    )
    columns = [Column("id", 90001, -1, True), Column("m", 90002, -1, False), Column("c", 90003, -1, False),
               Column("ms", 90004, -1, False)]  # fmt: skip
    types = {
        oid: TypeName(oid, "public", name)
        for oid, name in ((90002, "mood"), (90003, "citext"), (90004, "_mood"))
    }
    target = replica.resolve(relation(*columns), types)
    assert [column.type_sql for column in target.columns] == [
        "public.small",
        "public.mood",
        "public.ci",
        "public.mood[]",
    ]
    assert [column.equals for column in target.columns][2] == 'operator("public".=)'
    types[90002] = TypeName(90002, "public", "other")
    with pytest.raises(ShapeDiffers, match='"m" has another type'):
        replica.resolve(relation(*columns), types)


def test_how_rows_are_found(replica: Replica) -> None:
    replica.create(
        "create table t (id int not null, a varchar(10) not null, unique (id, a), unique (a) deferrable)"
    )
    assert replica.resolve(relation(ID, A, identity="f"), {}).key == (0, 1)
    assert replica.resolve(relation(ID, A), {}).key == (0,)
    assert replica.resolve(relation(ID, A), {}).key_indexed
    assert replica.resolve(relation(ID, A, identity="n"), {}).key == ()
    replica.create("alter table t add primary key (id)")
    assert replica.resolve(relation(ID, A, identity="f"), {}).key == (0,)
    replica.create("alter table t alter id set default 7")
    only_a = Column("a", VARCHAR, 14, True)
    assert replica.resolve(relation(only_a, identity="f"), {}).key == ()


def test_types_without_equality(replica: Replica) -> None:
    kinds = [
        "json",
        "jsonb",
        "xml",
        "point",
        "json[]",
        "int[]",
        "varchar(10)",
        "cidr",
        "int4range",
        "regclass",
    ]
    replica.create("create table t (" + ", ".join(f"c{n} {kind}" for n, kind in enumerate(kinds)) + ")")
    target = replica.target("t", "n")
    assert [column.has_equality for column in target.columns] == [
        False, True, False, False, False, True, True, True, True, True,
    ]  # fmt: skip
    assert target.columns[-1].input is Input.ELEMENT
