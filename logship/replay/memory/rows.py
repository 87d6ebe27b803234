"""Rows of the log as Arrow tables, and changes as what goes and what comes.

In: `NetChanges` and `OrderedChanges`, cells as PostgreSQL's text. Out: `KeyedPart` and `KeylessPart`: Arrow
tables, columns named ``c`` and the index in the relation (a key: ``k`` and the index). What the kernel
types exactly is typed already, everything else is text. Assumes UTF-8; anything else is `pyarrow.ArrowInvalid`. No I/O.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from logship.change import Cell, Row
from logship.kernel import Rows
from logship.replay.batch import DeleteOne, InsertRun, NetChanges, OrderedChanges, UpdateOne
from logship.replay.memory.cells import column_of
from logship.replay.memory.table import MemoryColumn, MemoryTable

Table: TypeAlias = Any  # pyarrow.Table; pyarrow has no types
Bools: TypeAlias = Any  # an array or chunked array of them


@dataclass(slots=True)
class KeyedPart:
    """One table's part of a step. First all that goes goes, then all that comes comes.

    ``rows``: whole ones; first those that stay at their keys, behind them ``moves`` that come to another, then
    new ones. ``partial`` rows keep cells of the row at their key, to be read before it goes; ``moved`` says
    which come to another key. ``gone``: the keys of rows that are deleted or moved.
    """

    table: MemoryTable
    gone: Table | None
    rows: Table | None
    partial: Table | None
    updates: int
    moves: int
    going: int
    coming: int
    changes: int

    def keys(self) -> Table:
        """Of every row that goes."""
        names = self._key_names()
        found = [] if self.gone is None else [self.gone]
        if self.rows is not None:
            found.append(self.rows.slice(0, self.updates).select(names))
        if self.partial is not None:
            staying = self.partial.filter(pc.invert(self.partial.column("moved")))
            keys = staying.select([f"k{column.index}" for column in self.table.key])
            found.append(keys.rename_columns(names))
        return pa.concat_tables(found)

    def entries(self, completed: Table | None) -> tuple[Table, Table | None]:
        """The delta's entries: the rows at their keys (``live``) and the keys that lose theirs, with ``main``
        where there was a row before; and the rows at keys that were never heard of."""
        made = []
        arriving = []
        new = None
        if self.rows is not None:
            made.append(flagged(self.rows.slice(0, self.updates), live=True, main=True))
            if self.moves:
                arriving.append(self.rows.slice(self.updates, self.moves))
            new = self.rows.slice(self.updates + self.moves)
        if completed is not None:
            moved = completed.column("moved")
            cells = completed.drop_columns(["moved"])
            made.append(flagged(cells.filter(pc.invert(moved)), live=True, main=True))
            arriving.append(cells.filter(moved))
        if self.gone is not None:
            names = self._key_names()
            if new is not None and new.num_rows:
                again = _among(new.select(names), self.gone)
                if pc.any(again).as_py():
                    arriving.append(new.filter(again))
                    new = new.filter(pc.invert(again))
            for rows in arriving:
                taken = _among(rows.select(names), self.gone)
                made.append(flagged(rows.filter(taken), live=True, main=True))
                made.append(flagged(rows.filter(pc.invert(taken)), live=True, main=False))
            left = self.gone
            for rows in arriving:
                left = left.filter(pc.invert(_among(left, rows.select(names))))
            made.append(flagged(left, live=False, main=True))
        entries = pa.concat_tables([one for one in made if one.num_rows], promote_options="default")
        return entries, new if new is not None and new.num_rows else None

    def _key_names(self) -> list[str]:
        return [f"c{column.index}" for column in self.table.key]


@dataclass(slots=True)
class KeylessPart:
    """``equal``: the rows that go, with how many copies of each."""

    equal: Table | None
    rows: Table | None
    going: int
    coming: int
    changes: int


def of_net(changes: NetChanges, table: MemoryTable) -> KeyedPart:
    """A key's net change. Deletes, updates and moves name different rows as they were at the start,
    so all of them may go at once; moves may then exchange keys."""
    key_width, width = len(table.target.key), len(table.target.columns)
    columns = {column.index for column in table.columns}
    whole = [group for group in changes.updates if columns.issubset(group.columns)]
    lacking = [group for group in changes.updates if not columns.issubset(group.columns)]
    moved, moved_partly = _by_wholeness(changes.move_rows, columns)
    moves = changes.move_rows if not moved_partly else changes.move_rows.take(moved)
    rows = Rows.joined(width, [*(group.rows for group in whole), moves, changes.inserts])
    updates = sum(len(group.rows) for group in whole)
    partial = None
    if lacking or moved_partly:
        keys = [*(group.keys for group in lacking), changes.move_keys.take(moved_partly)]
        found = [*(group.rows for group in lacking), changes.move_rows.take(moved_partly)]
        partial = _partial(Rows.joined(key_width, keys), Rows.joined(width, found), len(moved_partly), table)
    gone = Rows.joined(key_width, [changes.deletes, changes.move_keys])
    going = len(gone) + sum(len(group.rows) for group in changes.updates)
    return KeyedPart(
        table,
        gone=_keys(gone, table) if len(gone) else None,
        rows=_cells(rows, table.columns) if len(rows) else None,
        partial=partial,
        updates=updates,
        moves=len(moves),
        going=going,
        coming=len(rows) + (partial.num_rows if partial is not None else 0),
        changes=going + len(changes.inserts),
    )


def of_ordered(changes: OrderedChanges, table: MemoryTable) -> KeylessPart:
    """The net of changes in order, over rows that are told apart by nothing but their cells.

    A row may be taken of those that the same changes put there. So many copies must have been there
    before as the number of copies ever fell below zero; those go, and what is left over comes.
    """
    standing: dict[tuple[Cell, ...], int] = {}
    lowest: dict[tuple[Cell, ...], int] = {}
    count = 0

    def take(row: Row) -> None:
        cells = tuple(row)
        left = standing.get(cells, 0) - 1
        standing[cells] = left
        if left < lowest.get(cells, 0):
            lowest[cells] = left

    def put(row: Row) -> None:
        cells = tuple(row)
        standing[cells] = standing.get(cells, 0) + 1

    for operation in changes.operations:
        match operation:
            case InsertRun(rows):
                for row in rows:
                    put(row)
                count += len(rows)
            case UpdateOne(old, new):
                take(old)
                put(new)
                count += 1
            case DeleteOne(old):
                take(old)
                count += 1
    going = {cells: -low for cells, low in lowest.items()}
    left = [cells for cells, n in standing.items() for _ in range(n + going.get(cells, 0))]
    coming = Rows.of(len(table.target.columns), left)
    equal = None
    if going:
        equal = _cells(Rows.of(len(table.target.columns), going), table.columns)
        equal = equal.append_column("copies", pa.array(going.values(), pa.int64()))
        equal = equal.append_column("number", pa.array(range(len(going)), pa.int64()))
    return KeylessPart(
        equal, _cells(coming, table.columns) if len(coming) else None, sum(going.values()), len(coming), count
    )


def _by_wholeness(rows: Rows, columns: set[int]) -> tuple[list[int], list[int]]:
    """Which ``rows`` carry all of ``columns``, and which don't."""
    masks, groups = rows.masks()
    lacking = [not columns.isdisjoint(mask) for mask in masks]
    whole = [place for place, group in enumerate(groups) if not lacking[group]]
    return whole, [place for place, group in enumerate(groups) if lacking[group]]


def _cells(rows: Rows, columns: Sequence[MemoryColumn]) -> Table:
    return pa.table(
        {f"c{column.index}": column_of(rows, column.index, column.type.duckdb) for column in columns}
    )


def _keys(keys: Rows, table: MemoryTable) -> Table:
    return pa.table(
        {f"c{column.index}": column_of(keys, nth, column.type.duckdb) for nth, column in enumerate(table.key)}
    )


def _partial(keys: Rows, rows: Rows, moved: int, table: MemoryTable) -> Table:
    """The last ``moved`` of them come to another key."""
    staged = _cells(rows.unchanged_as_null(), table.columns)
    for nth, column in enumerate(table.key):
        staged = staged.append_column(f"k{column.index}", column_of(keys, nth, column.type.duckdb))
    masks, groups = rows.masks()
    texts = ["".join("01"[column.index in mask] for column in table.columns) for mask in masks]
    staged = staged.append_column("kept", pa.array([texts[group] for group in groups], pa.string()))
    flags = [False] * (len(rows) - moved) + [True] * moved
    return staged.append_column("moved", pa.array(flags, pa.bool_()))


def flagged(rows: Table, *, live: bool, main: bool) -> Table:
    """``rows`` as entries of the delta."""
    count = rows.num_rows
    return rows.append_column("live", pa.array([live] * count, pa.bool_())).append_column(
        "main", pa.array([main] * count, pa.bool_())
    )


def _among(keys: Table, others: Table) -> Bools:
    """Which ``keys`` are among ``others``."""
    if keys.num_columns == 1:
        return pc.is_in(keys.column(0), value_set=others.column(0).combine_chunks())
    known = set(zip(*(column.to_pylist() for column in others.columns), strict=True))
    mine = zip(*(column.to_pylist() for column in keys.columns), strict=True)
    return pa.array([key in known for key in mine], pa.bool_())
