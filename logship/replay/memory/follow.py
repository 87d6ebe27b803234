"""What a schema change does to an object in memory, where memory can follow it exactly.

In: the statement as it was captured, its text, its facts; the object as memory holds it. Out: `Followed`: what
DuckDB is to do to its tables, and what the object is afterwards; or None: memory can't follow, and the object has to
go. Nothing is guessed: the columns that come out must be those that the facts name, values of a new column are
those that the primary chose, and a type changes only where every value stays what it is. No I/O.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

import postgast

from logship.change import Column, Relation
from logship.replay.batch import SchemaChange
from logship.replay.ddl.message import Object, Statement
from logship.replay.ddl.text import Located
from logship.replay.memory.resident import MemoryObject, Name
from logship.replay.memory.table import (
    MemoryColumn,
    MemoryTable,
    literal,
    quoted,
    table_of,
    why_not,
)
from logship.replay.target import Target, TargetColumn

# These change neither shape nor values of a table that they name.
_HARMLESS_TAGS: Final = frozenset({
    "COMMENT", "GRANT", "REVOKE", "CREATE INDEX", "ALTER INDEX", "DROP INDEX", "CREATE TRIGGER", "ALTER TRIGGER",
    "DROP TRIGGER", "CREATE POLICY", "ALTER POLICY", "DROP POLICY", "CREATE STATISTICS", "CREATE RULE", "DROP RULE",
})  # fmt: skip
_HARMLESS: Final = frozenset({
    "AT_AddConstraint", "AT_DropConstraint", "AT_ValidateConstraint", "AT_AlterConstraint", "AT_ColumnDefault",
    "AT_SetNotNull", "AT_DropNotNull", "AT_SetStatistics", "AT_SetOptions", "AT_ResetOptions", "AT_SetStorage",
    "AT_SetCompression", "AT_ChangeOwner", "AT_ClusterOn", "AT_DropCluster", "AT_SetRelOptions",
    "AT_ResetRelOptions", "AT_EnableTrig", "AT_EnableAlwaysTrig", "AT_EnableReplicaTrig", "AT_DisableTrig",
    "AT_EnableTrigAll", "AT_DisableTrigAll", "AT_EnableTrigUser", "AT_DisableTrigUser", "AT_EnableRowSecurity",
    "AT_DisableRowSecurity", "AT_ForceRowSecurity", "AT_NoForceRowSecurity", "AT_ReplicaIdentity",
    "AT_AddIdentity", "AT_SetIdentity", "AT_DropIdentity",
})  # fmt: skip
_OIDS: Final = {
    "boolean": 16, "bytea": 17, "bigint": 20, "smallint": 21, "integer": 23, "text": 25, "real": 700,
    "double precision": 701, "character varying": 1043, "date": 1082, "time without time zone": 1083,
    "timestamp without time zone": 1114, "timestamp with time zone": 1184, "uuid": 2950, "numeric": 1700,
}  # fmt: skip
_INTEGERS: Final = ("smallint", "integer", "bigint")
_UNKNOWN: Final = 0  # the oid of a type that is text in memory, whatever it is


@dataclass(frozen=True, slots=True)
class Followed:
    """``target`` is provisional: what the next rows name counts. ``changed`` False: the object stays as it is."""

    actions: tuple[tuple[str, str], ...]
    target: Target
    table: MemoryTable
    as_text: frozenset[str]
    changed: bool


def follow(change: SchemaChange, known: MemoryObject) -> Followed | None:
    """What becomes of ``known``, which readers see. None: memory can't follow."""
    statement = change.statement
    table = known.held
    if change.ahead or change.done or statement.lost is not None:
        return None
    if statement.tag in _HARMLESS_TAGS:
        return Followed((), known.target, table, known.as_text, changed=False)
    altered = _altered(statement, known)
    if statement.tag != "ALTER TABLE" or altered is None or not isinstance(change.found, Located):
        return None
    node = postgast.parse(change.found.text).stmts[0].stmt
    state = _State(known.target, table, known.as_text)
    for step in _steps(node, altered, statement):
        if step is None or not step(state):
            return None
    if state.target == known.target:
        return Followed((), known.target, table, known.as_text, changed=False)
    return _checked(state, altered)


def below(change: SchemaChange, known: Iterable[MemoryObject]) -> set[Name]:
    """Objects that may be partitions of a table that the statement alters, and are altered with it. Nothing says
    which are: those that share a column's name with it; too many is safe."""
    parents = [
        {column["name"] for column in one.facts.get("columns") or ()}
        for one in change.statement.objects
        if change.statement.tag == "ALTER TABLE" and one.facts.get("kind") == "p"
    ]
    if not parents or _keeps_shape(change):
        return set()
    return {
        one.name for one in known if any(names & {c.name for c in one.target.columns} for names in parents)
    }


def _keeps_shape(change: SchemaChange) -> bool:
    if not isinstance(change.found, Located):
        return False
    node = postgast.parse(change.found.text).stmts[0].stmt
    kind = node.WhichOneof("node")
    if kind == "rename_stmt":
        return _name_of(node.rename_stmt, "rename_type") in ("OBJECT_TABLE", "OBJECT_TABCONSTRAINT")
    if kind != "alter_table_stmt":
        return str(kind) == "alter_object_schema_stmt"
    harmless = _HARMLESS | {"AT_AttachPartition", "AT_DetachPartition"}
    return all(_name_of(each.alter_table_cmd, "subtype") in harmless for each in node.alter_table_stmt.cmds)


def agrees(known: MemoryObject, target: Target) -> bool:
    """Whether what memory made of ``known`` by `follow` is what rows of ``target`` fit."""
    now, wanted = known.held, table_of(target, known.as_text)
    return (
        known.target.relation.oid == target.relation.oid
        and known.target.oid == target.oid
        and known.target.kind == target.kind
        and now.columns == wanted.columns
        and now.key == wanted.key
        and not why_not(target)
    )


def _checked(state: _State, altered: Object) -> Followed | None:
    """Only if the columns are those that the facts name, all or those that aren't generated."""
    columns = altered.facts.get("columns") or ()
    every = [column["name"] for column in columns]
    plain = [column["name"] for column in columns if not column.get("generated")]
    if [column.name for column in state.target.columns] not in (every, plain) or why_not(state.target):
        return None
    return Followed(tuple(state.actions), state.target, state.table, state.as_text, changed=True)


def _altered(statement: Statement, known: MemoryObject) -> Object | None:
    for one in statement.objects:
        is_table = one.catalog == "pg_class" and one.type in ("table", "table column")
        same = one.oid == known.target.relation.oid or (not one.oid and one.names[:2] == known.name)
        if is_table and same:
            return one
    return None


@dataclass(slots=True)
class _State:
    """The object in the middle of a statement; each step below changes it, or says that it can't."""

    target: Target
    table: MemoryTable
    as_text: frozenset[str]
    actions: list[tuple[str, str]] = field(default_factory=list)

    def column(self, name: str) -> int | None:
        found = [index for index, column in enumerate(self.target.columns) if column.name == name]
        return found[0] if found else None

    def alter(self, action: str) -> None:
        """To be done to each table that holds rows."""
        self.actions.append(("alter table", action))

    def become(self, target: Target) -> None:
        self.target = target
        self.table = table_of(target, self.as_text)


_Step = Callable[[_State], bool]


def _steps(node: Any, altered: Object, statement: Statement) -> Iterator[_Step | None]:
    kind = node.WhichOneof("node")
    if kind == "rename_stmt":
        yield _renaming(node.rename_stmt)
    elif kind == "alter_object_schema_stmt":
        yield _to_schema(altered)
    elif kind == "alter_table_stmt":
        for each in node.alter_table_stmt.cmds:
            yield _command(each.alter_table_cmd, altered, statement)
    else:
        yield None


def _renaming(node: Any) -> _Step | None:
    what = _name_of(node, "rename_type")
    if what == "OBJECT_TABCONSTRAINT":
        return lambda state: True
    if what == "OBJECT_COLUMN":
        return lambda state: _rename_column(state, node.subname, node.newname)
    if what == "OBJECT_TABLE":
        return lambda state: _rename(state, node.newname)
    return None


def _command(command: Any, altered: Object, statement: Statement) -> _Step | None:
    subtype = _name_of(command, "subtype")
    if subtype in _HARMLESS:
        return lambda state: True
    if subtype == "AT_AddColumn":
        column = getattr(command, "def").column_def.colname
        return lambda state: _add(state, column, bool(command.missing_ok), altered, statement)
    if subtype == "AT_DropColumn":
        return lambda state: _drop(state, command.name, bool(command.missing_ok))
    if subtype == "AT_AlterColumnType":
        using = getattr(command, "def").column_def.HasField("raw_default")
        return None if using else lambda state: _retype(state, command.name, altered)
    return None


def _name_of(node: Any, field: str) -> str:
    kinds = node.DESCRIPTOR.fields_by_name[field].enum_type.values_by_number
    return str(kinds[getattr(node, field)].name)


# -- one by one ------------------------------------------------------------------------------------


def _rename_column(state: _State, old: str, new: str) -> bool:
    index = state.column(old)
    if index is None or state.column(new) is not None or state.target.columns[index].generated:
        return False
    state.alter(f"rename column {quoted(old)} to {quoted(new)}")
    if old in state.as_text:
        state.as_text = state.as_text - {old} | {new}
    columns = list(state.target.columns)
    columns[index] = replace(columns[index], name=new)
    described = list(state.target.relation.columns)
    described[index] = replace(described[index], name=new)
    state.become(_with(state.target, columns, described))
    return True


def _rename(state: _State, new: str) -> bool:
    state.become(replace(state.target, relation=replace(state.target.relation, name=new)))
    return True


def _to_schema(altered: Object) -> _Step:
    def move(state: _State) -> bool:
        relation = replace(state.target.relation, schema=altered.names[0])
        state.become(replace(state.target, relation=relation))
        return True

    return move


def _drop(state: _State, name: str, missing_ok: bool) -> bool:
    index = state.column(name)
    if index is None:
        return missing_ok
    if index in state.target.key:
        return False
    if state.target.columns[index].generated != "v":
        state.alter(f"drop column {quoted(name)}")
    state.as_text -= {name}
    columns = [column for nth, column in enumerate(state.target.columns) if nth != index]
    described = [column for nth, column in enumerate(state.target.relation.columns) if nth != index]
    moved = replace(
        _with(state.target, columns, described),
        key=tuple(key - (key > index) for key in state.target.key),
    )
    state.become(moved)
    return bool(state.table.columns)


def _add(state: _State, name: str, missing_ok: bool, altered: Object, statement: Statement) -> bool:
    if state.column(name) is not None:
        return missing_ok
    facts = _facts(altered, name)
    if facts is None or facts.get("generated") or facts.get("identity"):
        return False
    rewritten = [one for one in statement.rewritten if one.oid == state.target.relation.oid]
    if rewritten and any(one.echo is None for one in rewritten):
        return False  # each row has a value of its own
    value = facts.get("missing")
    if value is None and not rewritten and facts.get("type_default") is not None:
        return False
    oid, typmod = _type(facts["type"])
    columns = [*state.target.columns, TargetColumn(name, facts["type"], oid, typmod, False, "", "", False)]
    described = [*state.target.relation.columns, Column(name, oid, typmod, False)]
    state.become(_with(state.target, columns, described))
    column = state.table.columns[-1]
    state.alter(f"add column {quoted(name)} {column.type.duckdb}")
    if value is not None:
        # Not as a default, which DuckDB would keep.
        text = column.type.cast_of(f"{literal(value)}::varchar")
        state.actions.append(
            ("update", f"set {quoted(name)} = case when {text} is null then error('a miss') else {text} end")
        )
    return True


def _retype(state: _State, name: str, altered: Object) -> bool:
    index, facts = state.column(name), _facts(altered, name)
    if index is None or facts is None or facts.get("generated"):
        return False
    old = state.target.columns[index]
    if not _lossless(old.type_sql, facts["type"]) or (name in state.as_text and old.type_oid == 1700):
        return False
    oid, typmod = _type(facts["type"])
    columns, described = list(state.target.columns), list(state.target.relation.columns)
    columns[index] = replace(old, type_sql=facts["type"], type_oid=oid, typmod=typmod)
    described[index] = replace(described[index], type_oid=oid, typmod=typmod)
    before = _held(state.table, name)
    state.become(_with(state.target, columns, described))
    after = _held(state.table, name)
    if before.type.duckdb != after.type.duckdb:
        using = before.type.text_of(quoted(name)) if after.type.is_text else quoted(name)
        kind = after.type.duckdb
        state.alter(f"alter column {quoted(name)} set data type {kind} using {using}::{kind}")
    return True


def _lossless(old: str, new: str) -> bool:
    """Whether every value of ``old`` is the same value of ``new``, whatever the session's settings were."""
    if old in _INTEGERS and new in _INTEGERS:
        return _INTEGERS.index(old) <= _INTEGERS.index(new)
    base, bounds = _parts(old)
    other, limits = _parts(new)
    if base == other == "numeric":
        # A scale of more figures writes more figures, as DECIMAL does.
        if len(bounds) != 2 or len(limits) != 2:
            return False
        return limits[1] >= bounds[1] and limits[0] - limits[1] >= bounds[0] - bounds[1]
    if base in ("character varying", "text"):
        wider = other == "character varying" and (not limits or (bool(bounds) and limits[0] >= bounds[0]))
        return other == "text" or wider
    return (old in _INTEGERS or old == "uuid" or (base == "numeric" and len(bounds) == 2)) and new in (
        "text", "character varying",
    )  # fmt: skip


# -- types and columns -------------------------------------------------------------------------------


def _facts(altered: Object, name: str) -> dict[str, Any] | None:
    return next((dict(one) for one in altered.facts.get("columns") or () if one["name"] == name), None)


def _held(table: MemoryTable, name: str) -> MemoryColumn:
    return next(column for column in table.columns if column.name == name)


def _with(target: Target, columns: list[TargetColumn], described: list[Column]) -> Target:
    relation: Relation = replace(target.relation, columns=tuple(described))
    return replace(target, relation=relation, columns=tuple(columns))


def _parts(type_sql: str) -> tuple[str, tuple[int, ...]]:
    """numeric(12,2): its name, and the numbers."""
    name, opening, rest = type_sql.partition("(")
    numbers, _, behind = rest.partition(")")
    figures = re.fullmatch(r"-?[0-9]+(,-?[0-9]+)*", numbers) if opening else None
    found = tuple(int(each) for each in numbers.split(",")) if figures else ()
    return (name + behind).strip(), found


def _type(type_sql: str) -> tuple[int, int]:
    """Oid and type modifier, as far as they decide about the type in memory."""
    name, numbers = _parts(type_sql)
    oid = _OIDS.get(name, _UNKNOWN)
    if oid == 1700 and len(numbers) == 2:
        return oid, (numbers[0] << 16 | numbers[1] & 0x7FF) + 4
    return oid, -1
