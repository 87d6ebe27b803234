"""The table in memory that stands for an object: its columns and every statement about it.

In: a `Target`, and which of its columns have gone on as text. Out: DuckDB SQL, with all names
quoted and qualified by the database, so that a schema called "temp" or "memory" is only a schema.
Names and columns are PostgreSQL's, in the relation's order. No I/O.

No table has an index. Everything that changes is deleted and inserted, which takes less than DuckDB's
UPDATE (docs/memory.md, "Figures").
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from logship.replay.memory.parts import Parts, Segment
from logship.replay.memory.types import TEXT, MemoryType, memory_type
from logship.replay.target import Target

DATABASE: Final = "memory"

_INTEGERS: Final = {"SMALLINT", "INTEGER", "BIGINT"}
_SPACE: Final = "logship "
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
    """An object in memory: a schema of its own (its *space*) holds the segments of its main part and its delta;
    a view under the relation's name, which is there while readers see the object, puts them together.

    A segment has the relation's columns. The delta has, for each key that changed, the row (``c`` and the
    column's index), ``live``: whether there is a row, ``main``: whether main holds one that it replaces, and
    ``born``: the merge before which the key came there."""

    target: Target
    columns: tuple[MemoryColumn, ...]

    @property
    def qualified(self) -> str:
        """What readers ask for."""
        return f"{DATABASE}.{quoted(self.target.schema)}.{quoted(self.target.name)}"

    @property
    def key(self) -> tuple[MemoryColumn, ...]:
        by_index = {column.index: column for column in self.columns}
        return tuple(by_index[index] for index in self.target.key)

    @property
    def integer_key(self) -> MemoryColumn | None:
        """The key, where it is one column of integers."""
        key = self.key
        return key[0] if len(key) == 1 and key[0].type.duckdb in _INTEGERS else None

    @property
    def space(self) -> str:
        named = f"{quoted(self.target.schema)}.{quoted(self.target.name)}"
        return f"{DATABASE}.{quoted(_SPACE + named)}"

    def segment(self, number: int) -> str:
        return f"{self.space}.s{number}"

    def delta(self, number: int) -> str:
        return f"{self.space}.d{number}"

    # -- making and dropping -------------------------------------------------------------------------

    def create_space(self) -> str:
        return f"create schema {self.space}"

    def drop(self) -> str:
        """All of it, whether it is shown or not, or was never made."""
        return f"drop view if exists {self.qualified}; drop schema if exists {self.space} cascade"

    def create_segment(self, number: int) -> str:
        columns = ", ".join(f"{quoted(column.name)} {column.type.duckdb}" for column in self.columns)
        return f"create table {self.segment(number)} ({columns})"

    def create_delta(self, number: int) -> str:
        columns = ", ".join(f"c{column.index} {column.type.duckdb}" for column in self.columns)
        return f"create table {self.delta(number)} ({columns}, live boolean, main boolean, born integer)"

    def to_text(self, column: MemoryColumn, parts: Parts) -> list[str]:
        """Turn a column into text, keeping every value exactly. The view can't be there meanwhile."""
        tables = [(self.segment(segment.number), quoted(column.name)) for segment in parts.segments]
        tables.append((self.delta(parts.delta), f"c{column.index}"))
        return [
            f"alter table {table} alter column {name} set data type varchar using {column.type.text_of(name)}"
            for table, name in tables
        ]

    # -- reading ---------------------------------------------------------------------------------------

    def show(self, parts: Parts) -> str:
        return f"create or replace view {self.qualified} as {self.current(parts)}"

    def hide(self) -> str:
        return f"drop view if exists {self.qualified}"

    def main(self, parts: Parts) -> str:
        return self._all(parts.segments)

    def _all(self, segments: Iterable[Segment]) -> str:
        return " union all ".join(
            f"select {self._cells()} from {self.segment(segment.number)}" for segment in segments
        )

    def _cells(self) -> str:
        return ", ".join(quoted(column.name) for column in self.columns)

    def current(self, parts: Parts) -> str:
        """Every row. With an empty delta, main alone: nobody pays for what isn't there."""
        if not parts.delta_rows:
            return self.main(parts)
        key = self.integer_key
        found, together = [], parts.segments
        for one in parts.apart:
            if key is not None and one.span.column == key.name:
                near = f"d.c{key.index} between {one.span.low} and {one.span.high} and "
                segments = [segment for segment in together if segment.number in one.numbers]
                found.append(self._unreplaced(segments, parts.delta, near))
                together = tuple(segment for segment in together if segment.number not in one.numbers)
        own = ", ".join(f"c{column.index} as {quoted(column.name)}" for column in self.columns)
        if together:
            found.append(self._unreplaced(together, parts.delta))
        found.append(f"select {own} from {self.delta(parts.delta)} where live")
        return " union all ".join(found)

    def _unreplaced(self, segments: Iterable[Segment], delta: int, entries: str = "") -> str:
        """Rows in place of which the delta has none; ``entries``: which of them may be at their keys. DuckDB takes
        less to plan this than NOT EXISTS."""
        cells = ", ".join(f"m.{quoted(column.name)}" for column in self.columns)
        keys = ", ".join(f"d.c{column.index}" for column in self.key)
        return (
            f"select {cells} from ({self._all(segments)}) m anti join (select {keys} from {self.delta(delta)} d"
            f" where {entries}d.main) d on {self._same('d', 'm')}"
        )

    def span(self, delta: int, born: int) -> str:
        """The least and the greatest key of the rows that `insert_merged` takes; of an integer key."""
        [column] = self.key
        return (
            f"select min(c{column.index}), max(c{column.index}) from {self.delta(delta)}"
            f" where live and born <= {born}"
        )

    def complete(self, view: str, parts: Parts) -> str:
        """The rows of ``view`` (key ``k…``, cells ``c…``, ``moved``, and ``kept``, the UNCHANGED cells as bits of
        one text) with what they keep from the row at their key."""
        main = (
            f"select {self._completed(named=True)} from ({self.main(parts)}) t join {view} k"
            f" on {self._at(named=True)}"
        )
        if not parts.delta_rows:
            return main
        delta = self.delta(parts.delta)
        return (
            f"{main} where not exists (select 1 from {delta} d where {self._same('d', 't')}) union all"
            f" select {self._completed(named=False)} from {delta} t join {view} k on {self._at(named=False)}"
            " where t.live"
        )

    def _completed(self, *, named: bool) -> str:
        cells = []
        for position, column in enumerate(self.columns):
            old = f"t.{quoted(column.name) if named else f'c{column.index}'}"
            kept = f"substr(k.kept, {position + 1}, 1) = '1'"
            cells.append(f"case when {kept} then {old} else {column.staged('k')} end as c{column.index}")
        return f"{', '.join(cells)}, k.moved"

    def _at(self, *, named: bool) -> str:
        return " and ".join(
            f"t.{quoted(column.name) if named else f'c{column.index}'} = {column.staged('k', 'k')}"
            for column in self.key
        )

    def _same(self, delta: str, main: str) -> str:
        return " and ".join(f"{delta}.c{column.index} = {main}.{quoted(column.name)}" for column in self.key)

    # -- changing main ---------------------------------------------------------------------------------

    def insert(self, number: int, view: str) -> str:
        cells = ", ".join(column.staged("n") for column in self.columns)
        return f"insert into {self.segment(number)} select {cells} from {view} n"

    def delete_keys(self, number: int, view: str) -> str:
        """Delete the rows whose keys stand in ``view``; the join passes over blocks that can't hold one."""
        found = " and ".join(f"t.{quoted(column.name)} = {column.staged('k')}" for column in self.key)
        return f"delete from {self.segment(number)} t using {view} k where {found}"

    def delete_keys_listed(self, number: int, keys: str) -> str:
        [column] = self.key
        return f"delete from {self.segment(number)} where {quoted(column.name)} in ({keys})"

    def equal(self, view: str, parts: Parts) -> str:
        """Where ``copies`` rows stand that equal each row of ``view`` in every column, NULLs equal: the place of
        the segment in ``parts`` and the rowid."""
        same = " and ".join(
            f"{column.type.identical_of('t.' + quoted(column.name))}"
            f" is not distinct from {column.type.identical_of(column.staged('k'))}"
            for column in self.columns
        )
        found = " union all ".join(
            f"select {place} as place, t.rowid as r, k.copies, k.number from {self.segment(segment.number)} t"
            f" join {view} k on {same}"
            for place, segment in enumerate(parts.segments)
        )
        return (
            "select place, r from (select place, r, copies, row_number() over (partition by number) as nth"
            f" from ({found})) where nth <= copies"
        )

    def delete_rowids(self, number: int, place: int, view: str) -> str:
        return (
            f"delete from {self.segment(number)} where rowid in (select r from {view} where place = {place})"
        )

    def rewrite(self, old: int, new: int) -> str:
        return f"create table {self.segment(new)} as select * from {self.segment(old)}"

    # -- changing the delta ------------------------------------------------------------------------------

    def in_delta(self, number: int, view: str) -> str:
        """Which rows of ``view`` have an entry (by ``nth``), and whether it says otherwise than they do about
        what was there before."""
        return (
            f"select s.nth, d.main, d.born, d.live is distinct from s.main as wrong"
            f" from {view} s join {self.delta(number)} d on {self._entry('s')}"
        )

    def entries(self, number: int) -> str:
        """What `DeltaKeys` holds of them: a uuid is text in Arrow."""
        texts = [f"c{c.index}::varchar" if c.type.duckdb == "UUID" else f"c{c.index}" for c in self.key]
        return f"select {', '.join(texts)}, live, main, born from {self.delta(number)}"

    def delete_listed(self, number: int, keys: str) -> str:
        """The entries at ``keys``, of a key of one column."""
        [column] = self.key
        return f"delete from {self.delta(number)} where c{column.index} in ({keys})"

    def delete_entries(self, number: int, view: str) -> str:
        return f"delete from {self.delta(number)} d using {view} s where {self._entry('s')}"

    def insert_entries(self, number: int, view: str, names: AbstractSet[str]) -> str:
        """``names``: the columns that ``view`` has; the others are of keys whose rows are gone."""
        cells = ", ".join(
            column.staged("s") if f"c{column.index}" in names else "null" for column in self.columns
        )
        return f"insert into {self.delta(number)} select {cells}, s.live, s.main, s.born from {view} s"

    def _entry(self, staged: str) -> str:
        return " and ".join(f"d.c{column.index} = {column.staged(staged)}" for column in self.key)

    # -- merging -----------------------------------------------------------------------------------------

    def replaced(self, number: int, born: int) -> str:
        keys = ", ".join(f"c{column.index}" for column in self.key)
        return f"select {keys} from {self.delta(number)} where main and born <= {born}"

    def delete_replaced(self, segment: int, delta: int, born: int) -> str:
        found = " and ".join(f"t.{quoted(column.name)} = k.c{column.index}" for column in self.key)
        return f"delete from {self.segment(segment)} t using ({self.replaced(delta, born)}) k where {found}"

    def insert_merged(self, segment: int, delta: int, born: int) -> str:
        cells = ", ".join(f"c{column.index}" for column in self.columns)
        return (
            f"insert into {self.segment(segment)} select {cells} from {self.delta(delta)}"
            f" where live and born <= {born}"
        )

    def insert_left(self, old: int, new: int, born: int) -> str:
        return f"insert into {self.delta(new)} select * from {self.delta(old)} where born > {born}"


def table_of(target: Target, as_text: AbstractSet[str]) -> MemoryTable:
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
    return MemoryTable(target, columns)


def relation_of(table: str) -> str:
    """The relation, as ``schema.name`` without quotes, behind a table's qualified name as DuckDB gives it."""
    plain = table.replace('"', "")
    return plain.removeprefix(_SPACE).rpartition(".")[0] if plain.startswith(_SPACE) else plain


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
