"""The table in memory that stands for an object: its columns and every statement about it.

In: a `Target`, and which of its columns have gone on as text. Out: DuckDB SQL, with all names
quoted and qualified by the database, so that a schema called "temp" or "memory" is only a schema.
Names and columns are PostgreSQL's, in the relation's order. No I/O.

A table has no index: a batch finds its rows by one join over the key. Everything a batch changes is
deleted and inserted, which takes less than DuckDB's UPDATE (docs/memory.md, "Figures").
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Final

from logship.replay.target import Target
from logship.replay.types import TEXT, MemoryType, memory_type

DATABASE: Final = "memory"
POSITION: Final = f"{DATABASE}.logship.memory_position"

_BUILT_IN: Final = 16384  # FirstNormalObjectId: OIDs below are the same on every server


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


@dataclass(frozen=True, slots=True)
class MemoryColumn:
    name: str
    index: int  # in the relation, and so in a row of the log
    type: MemoryType

    def staged(self, alias: str, prefix: str = "c") -> str:
        """The cell of a staged Arrow table: Arrow carries a uuid as its text."""
        return f"{alias}.{prefix}{self.index}::{self.type.duckdb}"


@dataclass(frozen=True, slots=True)
class MemoryTable:
    target: Target
    columns: tuple[MemoryColumn, ...]
    name: str  # the table's name: the relation's, or another one while it isn't shown to readers

    @property
    def qualified(self) -> str:
        return f"{DATABASE}.{quoted(self.target.schema)}.{quoted(self.name)}"

    @property
    def key(self) -> tuple[MemoryColumn, ...]:
        by_index = {column.index: column for column in self.columns}
        return tuple(by_index[index] for index in self.target.key)

    def create(self) -> str:
        columns = ", ".join(f"{quoted(column.name)} {column.type.duckdb}" for column in self.columns)
        return f"create table {self.qualified} ({columns})"

    def drop(self) -> str:
        return f"drop table if exists {self.qualified}"

    def rename(self, name: str) -> str:
        return f"alter table {self.qualified} rename to {quoted(name)}"

    def shown(self) -> MemoryTable:
        """The same table under the relation's own name."""
        return replace(self, name=self.target.name)

    def to_text(self, column: MemoryColumn) -> str:
        """Turn a column into text, keeping every value exactly."""
        return (
            f"alter table {self.qualified} alter column {quoted(column.name)}"
            f" set data type varchar using {column.type.text_of(quoted(column.name))}"
        )

    def insert(self, view: str) -> str:
        cells = ", ".join(column.staged("n") for column in self.columns)
        return f"insert into {self.qualified} select {cells} from {view} n"

    def delete_all(self) -> str:
        return f"delete from {self.qualified}"

    def delete_keys(self, view: str) -> str:
        """Delete the rows whose keys stand in ``view``; the join passes over blocks that can't hold one."""
        found = " and ".join(f"t.{quoted(column.name)} = {column.staged('k')}" for column in self.key)
        return f"delete from {self.qualified} t using {view} k where {found}"

    def complete(self, view: str) -> str:
        """The rows of ``view`` (key ``k…``, cells ``c…``, and ``kept``, the UNCHANGED cells as bits of
        one text) with what they keep from the row at their key."""
        cells = []
        for position, column in enumerate(self.columns):
            old = f"t.{quoted(column.name)}"
            kept = f"substr(k.kept, {position + 1}, 1) = '1'"
            cells.append(f"case when {kept} then {old} else {column.staged('k')} end as c{column.index}")
        found = " and ".join(f"t.{quoted(column.name)} = {column.staged('k', 'k')}" for column in self.key)
        return f"select {', '.join(cells)} from {self.qualified} t join {view} k on {found}"

    def delete_equal(self, view: str) -> str:
        """Delete ``copies`` of the rows that equal each row of ``view`` in every column, NULLs equal."""
        same = " and ".join(
            f"{column.type.identical_of('t.' + quoted(column.name))}"
            f" is not distinct from {column.type.identical_of(column.staged('k'))}"
            for column in self.columns
        )
        return (
            f"delete from {self.qualified} where rowid in (select r from (select t.rowid as r, k.copies,"
            f" row_number() over (partition by k.number) as nth from {self.qualified} t"
            f" join {view} k on {same}) where nth <= copies)"
        )

    def texts(self, order_by_all: bool = False) -> str:
        """Every row as PostgreSQL's text, column by column: what verification compares."""
        cells = ", ".join(
            f"{column.type.text_of(quoted(column.name))} as {quoted(column.name)}" for column in self.columns
        )
        return f"select {cells} from {self.qualified}" + (" order by all" if order_by_all else "")


def table_of(target: Target, as_text: AbstractSet[str], name: str = "") -> MemoryTable:
    """The table for ``target``; the columns in ``as_text`` hold text. Virtual columns aren't stored."""
    columns = tuple(
        MemoryColumn(
            column.name,
            index,
            TEXT if column.name in as_text else memory_type(column.type_oid, column.typmod),
        )
        for index, column in enumerate(target.columns)
        if column.generated != "v"
    )
    return MemoryTable(target, columns, name or target.name)


def same_shape(one: Target, other: Target) -> bool:
    """Whether what memory holds for ``one`` stands for ``other`` too. A table made anew has another OID."""

    def shape(target: Target) -> object:
        columns = [
            (column.name, column.type_oid, column.typmod, column.generated) for column in target.columns
        ]
        return target.relation.oid, target.oid, target.kind, target.key, columns

    return shape(one) == shape(other)


def why_not(target: Target) -> str:
    """Why ``target`` can't be held at all; empty when it can."""
    names = [column.name.lower() for column in target.columns if column.generated != "v"]
    if not names:
        return "it has no columns"
    if len(set(names)) < len(names):
        return "its column names differ in upper and lower case only"
    if any(target.columns[index].generated == "v" for index in target.key):
        return "a virtual generated column is part of its key"
    for ours, theirs in zip(target.columns, target.relation.columns, strict=True):
        built_in = ours.type_oid < _BUILT_IN and theirs.type_oid < _BUILT_IN
        if built_in and (ours.type_oid, ours.typmod) != (theirs.type_oid, theirs.typmod):
            return f"column {ours.name} has another type on the primary"
    return ""
