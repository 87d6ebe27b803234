"""What a schema change does to an object in memory: exactly that, or the object goes."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest

from logship.lsn import Lsn
from logship.replay.batch import SchemaChange
from logship.replay.ddl.message import Captured, Object, Statement
from logship.replay.ddl.text import Located
from logship.replay.memory.follow import Followed, agrees, below, follow
from logship.replay.memory.resident import MemoryObject, Residence
from logship.replay.memory.table import table_of
from tests.unit.replay.memory_model import INT4, INT8, MONEY, NUMERIC, TEXT, target

T = target("t", ("id", INT4), ("v", TEXT), ("n", INT4), ("m", NUMERIC, MONEY), oid=20_001)
AFTER = [("id", "integer"), ("v", "text"), ("n", "integer"), ("m", "numeric(12,2)")]


def known() -> MemoryObject:
    columns = tuple(
        column.__class__(
            column.name, type_sql, column.type_oid, column.typmod, column.not_null, column.identity,
            column.generated, column.has_equality,
        )
        for column, (_, type_sql) in zip(T.columns, AFTER, strict=True)
    )  # fmt: skip
    shaped = T.__class__(T.relation, T.oid, T.kind, T.owner_oid, T.owner, columns, T.key)
    return MemoryObject(shaped, Residence.RESIDENT, table=table_of(shaped, frozenset()))


def change(
    text: str,
    columns: list[tuple[Any, ...]],
    *,
    tag: str = "ALTER TABLE",
    names: tuple[str, str] = ("public", "t"),
    rewritten: str | None = "",
) -> SchemaChange:
    """``columns``: name, type and more facts. ``rewritten``: how rows follow; '': it isn't."""
    facts = {"columns": [{"name": c[0], "type": c[1], **(c[2] if len(c) > 2 else {})} for c in columns]}
    table = Object(
        "table", names, (), ".".join(names), names[0], "pg_class", T.oid, facts=MappingProxyType(facts)
    )
    event = Captured(1, 1, "d", 150000, 0, "end", tag, text, "", MappingProxyType({}), (table,))
    again = (
        ()
        if rewritten == ""
        else (
            Object(
                "table",
                names,
                (),
                "",
                names[0],
                "pg_class",
                T.oid,
                echo=rewritten,
                why=None if rewritten else "large",
            ),
        )
    )
    return SchemaChange(Statement(event, rewritten=again), Located(text, tag, False), Lsn(1))


def with_added(*added: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    return [*AFTER, *added]


def named(**changed: str) -> list[tuple[Any, ...]]:
    return [(changed.get(name, name), kind) for name, kind in AFTER]


def typed(**changed: str) -> list[tuple[Any, ...]]:
    return [(name, changed.get(name, kind)) for name, kind in AFTER]


FOLLOWED: list[tuple[str, list[tuple[Any, ...]], int]] = [
    ("alter table t add column w int", with_added(("w", "integer")), 1),
    (
        "alter table t add column w int default 7",
        with_added(("w", "integer", {"missing": "7", "default": "7"})),
        2,
    ),
    ("alter table t rename column v to vv", named(v="vv"), 1),
    ("alter table t drop column v", [one for one in AFTER if one[0] != "v"], 1),
    ("alter table t drop column if exists nothing, add column w int", with_added(("w", "integer")), 1),
    ("alter table t alter column n type bigint", typed(n="bigint"), 1),
    ("alter table t alter column n type text", typed(n="text"), 1),
    ("alter table t alter column v type varchar", typed(v="character varying"), 0),
    ("alter table t alter column m type numeric(14,3)", typed(m="numeric(14,3)"), 1),
]
LEFT_ALONE = [
    ("alter table t add check (n > 1), alter n set default 3, alter v set not null", "ALTER TABLE"),
    ("alter table t rename constraint a to b", "ALTER TABLE"),
    ("comment on table t is 'x'", "COMMENT"),
    ("grant select on t to public", "GRANT"),
]
NOT_FOLLOWED = [
    ("alter table t alter column n type bigint using n + 1", typed(n="bigint")),
    ("alter table t alter column n type smallint", typed(n="smallint")),
    ("alter table t alter column v type varchar(3)", typed(v="character varying(3)")),
    ("alter table t alter column m type numeric(12,1)", typed(m="numeric(12,1)")),
    ("alter table t alter column m type double precision", typed(m="double precision")),
    ("alter table t drop column id", AFTER[1:]),
    ("alter table t add column w int generated always as (n + 1) stored",
     with_added(("w", "integer", {"generated": "s"}))),
    ("alter table t add column w int", with_added(("w", "integer"), ("x", "integer"))),  # another column came
    ("alter table t inherit other", AFTER),
    ("alter table t attach partition p default", AFTER),
]  # fmt: skip


@pytest.mark.parametrize(("text", "columns", "actions"), FOLLOWED)
def test_it_is_followed(text: str, columns: list[tuple[Any, ...]], actions: int) -> None:
    followed = follow(change(text, columns), known())
    assert isinstance(followed, Followed)
    assert followed.changed
    assert len(followed.actions) == actions
    assert [column.name for column in followed.target.columns] == [column[0] for column in columns]
    assert followed.table == table_of(followed.target, frozenset())


@pytest.mark.parametrize(("text", "tag"), LEFT_ALONE)
def test_it_is_left_alone(text: str, tag: str) -> None:
    followed = follow(change(text, list(AFTER), tag=tag), known())
    assert followed is not None
    assert (followed.changed, followed.actions, followed.target) == (False, (), known().target)


@pytest.mark.parametrize(("text", "columns"), NOT_FOLLOWED)
def test_it_is_not_followed(text: str, columns: list[tuple[Any, ...]]) -> None:
    assert follow(change(text, columns), known()) is None


@pytest.mark.parametrize(
    ("text", "concerns"),
    [
        ("alter table p add column w int", True),
        ("alter table p rename column v to vv", True),
        ("alter table p attach partition q default", False),
        ("alter table p add check (n > 1)", False),
        ("alter table p rename to r", False),
    ],
)
def test_partitions_change_with_their_table(text: str, concerns: bool) -> None:
    altered = change(text, list(AFTER), names=("public", "p"))
    parent = Object("table", ("public", "p"), (), "public.p", "public", "pg_class", 1,
                    facts=MappingProxyType({**altered.statement.objects[0].facts, "kind": "p"}))  # fmt: skip
    captured = altered.statement.last
    event = Captured(1, 1, "d", 150000, 0, "end", captured.tag, text, "", MappingProxyType({}), (parent,))
    found = below(SchemaChange(Statement(event), altered.found, Lsn(1)), [known()])
    assert found == ({("public", "t")} if concerns else set())


def test_names_change_with_it() -> None:
    renamed = follow(change("alter table t rename to u", list(AFTER), names=("public", "u")), known())
    moved = follow(change("alter table t set schema s", list(AFTER), names=("s", "t")), known())
    assert renamed is not None
    assert moved is not None
    assert [(one.target.schema, one.target.name) for one in (renamed, moved)] == [("public", "u"), ("s", "t")]


@pytest.mark.parametrize(("echo", "is_followed"), [("update", True), (None, False)])
def test_values_that_each_row_has_of_its_own_follow_in_the_log(echo: str | None, is_followed: bool) -> None:
    columns = with_added(("w", "double precision", {"default": "random()"}))
    text = "alter table t add column w float8 default random()"
    followed = follow(change(text, columns, rewritten=echo), known())
    assert (followed is not None) is is_followed
    assert followed is None or [verb for verb, _ in followed.actions] == ["alter table"]


def test_the_shape_of_the_next_rows_has_to_be_the_one_that_memory_made() -> None:
    followed = follow(change("alter table t add column w int8", with_added(("w", "bigint"))), known())
    assert followed is not None
    made = MemoryObject(followed.target, Residence.RESIDENT, table=followed.table)
    shapes = [("id", INT4), ("v", TEXT), ("n", INT4), ("m", NUMERIC, MONEY)]
    assert agrees(made, target("t", *shapes, ("w", INT8), oid=T.oid))
    assert not agrees(made, target("t", *shapes, ("w", INT4), oid=T.oid))
    assert not agrees(made, target("t", *shapes, ("x", INT8), oid=T.oid))
    assert not agrees(made, target("t", *shapes, ("w", INT8), oid=T.oid + 1))
