"""Brings the rows of one object into memory, and its columns from their type to text.

In: a `SnapshotSource`, a `MemoryObject` that is LOADING. Out: a table that holds the snapshot, under a
name that readers don't ask for; the caller shows it. Every failure but lack of memory is
`CouldNotLoad`, with a reason that quotes no value; nothing is left behind. Each chunk is its own
DuckDB transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import duckdb
import psycopg
import pyarrow as pa

from logship.errors import LogshipError, SecondaryError
from logship.lsn import Lsn
from logship.replay.load import Snapshot, SnapshotSource
from logship.replay.memory_store import Store, size_of
from logship.replay.memory_table import MemoryColumn, MemoryTable, table_of
from logship.replay.resident import MemoryObject


class CouldNotLoad(SecondaryError):
    """The object stays cold. Not an error of the replica: persistence has it."""


def load(
    store: Store, source: SnapshotSource, known: MemoryObject, least: Lsn, room: Callable[[int], None]
) -> None:
    """Read ``known`` into a hidden table. ``room(bytes)`` makes room, or raises `CouldNotLoad`."""
    hidden = f"logship loading {known.target.name}"
    try:
        store.make_schema(known.target.schema)
        with source.snapshot(known.target) as snapshot:
            _require_position(snapshot, least)
            room(snapshot.size.size_bytes)
            _fill(store, snapshot, known, hidden, room)
    except BaseException as error:
        store.execute(table_of(known.target, frozenset(), hidden).drop())
        _explain(error)
        raise


def convert(store: Store, known: MemoryObject, columns: Iterable[MemoryColumn]) -> None:
    """Turn ``columns`` of the object's table into text, in a transaction of its own.

    Its values stay what they are (`MemoryType.text` is exact), so nothing has to be loaded again.
    """
    table = known.held
    for column in columns:
        store.execute(table.to_text(column))
        known.as_text |= {column.name}
        known.table = table_of(known.target, known.as_text, table.name)


def _require_position(snapshot: Snapshot, least: Lsn) -> None:
    if snapshot.lsn < least:
        raise CouldNotLoad(f"persistence is at {snapshot.lsn}, behind memory at {least}")


def _fill(
    store: Store, snapshot: Snapshot, known: MemoryObject, hidden: str, room: Callable[[int], None]
) -> None:
    table = table_of(known.target, known.as_text, hidden)
    store.execute(table.create())
    rows = size = 0
    for texts in snapshot.tables([column.index for column in table.columns]):
        typed, misses = store.typed(texts, table.columns)
        if misses:
            table = _to_text(store, known, table, misses)
            typed, _ = store.typed(texts, table.columns)
        with store.staged(typed) as view:
            store.execute(table.insert(view))
        rows += typed.num_rows
        size += size_of(typed, table.columns)
        if size > snapshot.size.size_bytes:  # the estimate was too small, or there was none
            room(size)
    known.hold(table, snapshot.lsn, rows, size)


def _to_text(
    store: Store, known: MemoryObject, table: MemoryTable, misses: Sequence[MemoryColumn]
) -> MemoryTable:
    for column in misses:
        store.execute(table.to_text(column))
    known.as_text |= {column.name for column in misses}
    return table_of(known.target, known.as_text, table.name)


def _explain(error: BaseException) -> None:
    """Raise `CouldNotLoad` for what isn't a defect of ours; DuckDB's and Arrow's words may hold values."""
    if isinstance(error, CouldNotLoad | duckdb.OutOfMemoryException):
        return
    if isinstance(error, psycopg.Error):
        reason = error.diag.message_primary or "the connection was lost"
        raise CouldNotLoad(f"the secondary can't be read: {reason}") from error
    if isinstance(error, LogshipError):
        raise CouldNotLoad(error.message, hint=error.hint) from error
    if isinstance(error, pa.ArrowInvalid):
        raise CouldNotLoad("it holds text that isn't UTF-8") from error
    if isinstance(error, duckdb.Error):
        raise CouldNotLoad(f"DuckDB can't hold it ({type(error).__name__})") from error
