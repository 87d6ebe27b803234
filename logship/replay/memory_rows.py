"""Rows of the log as Arrow tables, and changes as what goes and what comes.

In: `NetChanges` and `OrderedChanges`, cells as PostgreSQL's text. Out: `RowsGoingAndComing`: Arrow
tables of texts, columns named ``c`` and the index in the relation (a key: ``k`` and the index).
Assumes UTF-8; anything else is `pyarrow.ArrowInvalid`. No I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import pyarrow as pa

from logship.change import UNCHANGED, Cell, Row
from logship.replay.batch import DeleteOne, InsertRun, Key, NetChanges, OrderedChanges, UpdateOne
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
    keys: list[Key] = list(changes.deletes)
    whole: list[Row] = []
    partial: list[tuple[Key, Row]] = []
    for key, row in _changed(changes):
        keys.append(key)
        if any(row[column.index] is UNCHANGED for column in table.columns):
            partial.append((key, row))
        else:
            whole.append(row)
    whole.extend(changes.inserts)
    return RowsGoingAndComing(
        keys=_keys(keys, table) if keys else None,
        equal=None,
        partial=_partial(partial, table) if partial else None,
        rows=_cells(whole, table.columns) if whole else None,
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
    coming = [list(cells) for cells, n in standing.items() for _ in range(n + going.get(cells, 0))]
    equal = None
    if going:
        equal = _cells([list(cells) for cells in going], table.columns)
        equal = equal.append_column("copies", pa.array(going.values(), pa.int64()))
        equal = equal.append_column("number", pa.array(range(len(going)), pa.int64()))
    return RowsGoingAndComing(
        None, equal, None, _cells(coming, table.columns) if coming else None,
        sum(going.values()), len(coming), count,
    )  # fmt: skip


def _changed(changes: NetChanges) -> Iterable[tuple[Key, Row]]:
    for updates in changes.updates:
        yield from zip(updates.keys, updates.rows, strict=True)
    yield from changes.moves


def _cells(rows: Sequence[Row], columns: Sequence[MemoryColumn]) -> Table:
    return pa.table({f"c{column.index}": _texts([row[column.index] for row in rows]) for column in columns})


def _keys(keys: Sequence[Key], table: MemoryTable) -> Table:
    return pa.table(
        {f"c{column.index}": _texts([key[nth] for key in keys]) for nth, column in enumerate(table.key)}
    )


def _partial(partial: Sequence[tuple[Key, Row]], table: MemoryTable) -> Table:
    rows: list[Row] = [[None if cell is UNCHANGED else cell for cell in row] for _, row in partial]
    staged = _cells(rows, table.columns)
    for nth, column in enumerate(table.key):
        staged = staged.append_column(f"k{column.index}", _texts([key[nth] for key, _ in partial]))
    kept = ["".join("01"[row[column.index] is UNCHANGED] for column in table.columns) for _, row in partial]
    return staged.append_column("kept", pa.array(kept, pa.string()))


def _texts(cells: Sequence[Cell]) -> Any:
    return pa.array(cells, pa.binary()).cast(pa.string())
