"""Rows of the log as Arrow tables, and changes as what goes and what comes.

In: `NetChanges` and `OrderedChanges`, cells as PostgreSQL's text. Out: `RowsGoingAndComing`: Arrow
tables of texts, columns named ``c`` and the index in the relation (a key: ``k`` and the index).
Assumes UTF-8; anything else is `pyarrow.ArrowInvalid`. No I/O.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import pyarrow as pa

from logship.change import Cell, Row
from logship.kernel import Rows
from logship.replay.batch import DeleteOne, InsertRun, NetChanges, OrderedChanges, UpdateOne
from logship.replay.memory_table import MemoryColumn, MemoryTable

Table: TypeAlias = Any  # pyarrow.Table; pyarrow has no types


@dataclass(slots=True)
class RowsGoingAndComing:
    """One table's part of a step. First all that goes goes, then all that comes comes.

    ``partial``: rows that keep cells of the row at their key, to be read before it goes.
    ``equal``: for a table without key, the rows that go, with how many copies of each.
    """

    keys: Table | None
    equal: Table | None
    partial: Table | None
    rows: Table | None
    going: int
    coming: int
    changes: int


def of_net(changes: NetChanges, table: MemoryTable) -> RowsGoingAndComing:
    """A key's net change. Deletes, updates and moves name different rows as they were at the start,
    so all of them may go at once; moves may then exchange keys."""
    key_width, width = len(table.target.key), len(table.target.columns)
    changed = [(group.keys, group.rows) for group in changes.updates]
    changed.append((changes.move_keys, changes.move_rows))
    keys = Rows.joined(key_width, [changes.deletes, *(named for named, _ in changed)])
    parts = [(named, rows, *_by_wholeness(rows, table)) for named, rows in changed]
    whole = Rows.joined(width, [*(rows.take(w) for _, rows, w, _ in parts), changes.inserts])
    partial_keys = Rows.joined(key_width, [named.take(p) for named, _, _, p in parts])
    partial = Rows.joined(width, [rows.take(p) for _, rows, _, p in parts])
    return RowsGoingAndComing(
        keys=_keys(keys, table) if len(keys) else None,
        equal=None,
        partial=_partial(partial_keys, partial, table) if len(partial) else None,
        rows=_cells(whole, table.columns) if len(whole) else None,
        going=len(keys),
        coming=len(whole) + len(partial),
        changes=len(keys) + len(changes.inserts),
    )


def of_ordered(changes: OrderedChanges, table: MemoryTable) -> RowsGoingAndComing:
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
    return RowsGoingAndComing(
        None, equal, None, _cells(coming, table.columns) if len(coming) else None,
        sum(going.values()), len(coming), count,
    )  # fmt: skip


def _by_wholeness(rows: Rows, table: MemoryTable) -> tuple[list[int], list[int]]:
    """Which ``rows`` carry every column that memory has, and which don't."""
    masks, groups = rows.masks()
    columns = {column.index for column in table.columns}
    lacking = [not columns.isdisjoint(mask) for mask in masks]
    whole = [place for place, group in enumerate(groups) if not lacking[group]]
    return whole, [place for place, group in enumerate(groups) if lacking[group]]


def _cells(rows: Rows, columns: Sequence[MemoryColumn]) -> Table:
    return pa.table({f"c{column.index}": _texts(rows.column(column.index)) for column in columns})


def _keys(keys: Rows, table: MemoryTable) -> Table:
    return pa.table({f"c{column.index}": _texts(keys.column(nth)) for nth, column in enumerate(table.key)})


def _partial(keys: Rows, rows: Rows, table: MemoryTable) -> Table:
    staged = _cells(rows.unchanged_as_null(), table.columns)
    for nth, column in enumerate(table.key):
        staged = staged.append_column(f"k{column.index}", _texts(keys.column(nth)))
    masks, groups = rows.masks()
    texts = ["".join("01"[column.index in mask] for column in table.columns) for mask in masks]
    return staged.append_column("kept", pa.array([texts[group] for group in groups], pa.string()))


def _texts(cells: Sequence[Cell]) -> Any:
    return pa.array(cells, pa.binary()).cast(pa.string())
