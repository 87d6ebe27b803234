"""Carries out a batch's steps on the tables in memory, inside an open DuckDB transaction.

In: a `Batch` and the resident objects. `prepare` makes typed Arrow tables of it and touches nothing;
`carry_out` changes the tables, in the batch's order. Out: how many rows each object gained and lost.
Row counts are held against what the log says: `MemoryDiffers` when they don't agree, since a batch
fits the rows that it follows, and memory replays each batch once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from logship.errors import ReplayError
from logship.lsn import Lsn
from logship.replay.batch import Batch, NetChanges, Rows, Truncation
from logship.replay.memory_rows import RowsGoingAndComing, of_net, of_ordered
from logship.replay.memory_store import Store, size_of
from logship.replay.memory_table import MemoryColumn, MemoryTable, same_shape
from logship.replay.resident import MemoryObject, Name
from logship.replay.target import Target

Table: TypeAlias = Any  # pyarrow.Table; pyarrow has no types


class MemoryDiffers(ReplayError):
    """A change names rows that aren't in memory as the log has them."""

    def __init__(self, target: Target, lsn: Lsn, expected: int, found: int) -> None:
        super().__init__(
            f"{target} in memory differs from the log at {lsn}: {expected} rows to change, {found} found",
            hint="run `logship verify`: the secondary may differ too. If it doesn't, start again: memory is "
            "loaded anew; --memory off goes on without it",
        )
        self.target = target
        self.lsn = lsn
        self.expected = expected
        self.found = found


class Misses(Exception):
    """Never leaves memory: the columns go on as text."""

    def __init__(self) -> None:
        super().__init__("values that their type in memory can't hold")
        self.columns: dict[Name, dict[MemoryColumn, None]] = {}


@dataclass(slots=True)
class Named:
    """The objects that a batch names."""

    targets: dict[Name, Target] = field(default_factory=dict)  # the latest shape of each
    rows: set[Name] = field(default_factory=set)  # with row changes; the others are truncated only
    reshaped: set[Name] = field(default_factory=set)  # named with two shapes


@dataclass(slots=True)
class Change:
    rows: int = 0
    size_bytes: int = 0
    changes: int = 0


@dataclass(slots=True)
class Operation:
    """One table's part of one step; ``part`` None: the table is truncated."""

    known: MemoryObject
    table: MemoryTable
    part: RowsGoingAndComing | None
    change: Change


Prepared: TypeAlias = list[Operation]


@dataclass(frozen=True, slots=True)
class Before:
    known: MemoryObject
    target: Target
    table: MemoryTable
    as_text: frozenset[str]
    provisional: bool


@dataclass(slots=True)
class OpenTransaction:
    """A transaction of the primary's, or several, between its first piece and its commit."""

    begun: bool = False  # in DuckDB
    pieces: int = 0  # carried out
    lost: str = ""  # why what was carried out had to be rolled back
    touched: set[Name] = field(default_factory=set)
    reshaped: set[Name] = field(default_factory=set)  # by schema changes: not to be loaded as they were
    gone: set[Name] = field(default_factory=set)  # dropped
    changes: dict[Name, Change] = field(default_factory=dict)
    # What objects were before a schema change made others of them, the last first; and those that it made go.
    before: list[Before] = field(default_factory=list)
    leaving: dict[Name, MemoryObject] = field(default_factory=dict)

    def add(self, prepared: Prepared) -> None:
        for operation in prepared:
            total = self.changes.setdefault(operation.known.name, Change())
            total.rows += operation.change.rows
            total.size_bytes += operation.change.size_bytes
            total.changes += operation.change.changes


def named(batch: Batch) -> Named:
    found = Named()

    def add(target: Target) -> Name:
        name = (target.schema, target.name)
        if not same_shape(found.targets.setdefault(name, target), target):
            found.targets[name] = target
            found.reshaped.add(name)
        return name

    for step in batch.steps:
        if isinstance(step, Truncation):
            for target in step.targets:
                add(target)
        elif isinstance(step, Rows):
            for changes in step.tables:
                found.rows.add(add(changes.target))
    return found


def prepare(batch: Batch, store: Store, resident: Callable[[Name], MemoryObject | None]) -> Prepared:
    """The batch as operations on the resident objects; `Misses` when values don't fit their types."""
    prepared: Prepared = []
    misses = Misses()
    for step in batch.steps:
        if isinstance(step, Truncation):
            for target in step.targets:
                known = resident((target.schema, target.name))
                if known is not None:
                    prepared.append(Operation(known, known.held, None, Change()))
            continue
        for changes in step.tables if isinstance(step, Rows) else ():
            known = resident((changes.target.schema, changes.target.name))
            if known is not None:
                table = known.held
                part = (
                    of_net(changes, table) if isinstance(changes, NetChanges) else of_ordered(changes, table)
                )
                missed = _cast(part, table, store)
                misses.columns.setdefault(known.name, {}).update(dict.fromkeys(missed))
                prepared.append(Operation(known, table, part, Change(changes=part.changes)))
    misses.columns = {name: columns for name, columns in misses.columns.items() if columns}
    if misses.columns:
        raise misses
    return prepared


def _cast(part: RowsGoingAndComing, table: MemoryTable, store: Store) -> list[MemoryColumn]:
    missed: list[MemoryColumn] = []

    def cast(texts: Table | None, columns: Sequence[MemoryColumn], prefix: str = "c") -> Table | None:
        if texts is None:
            return None
        typed, misses = store.typed(texts, columns, prefix)
        missed.extend(misses)
        return typed

    part.keys = cast(part.keys, table.key)
    part.equal = cast(part.equal, table.columns)
    part.partial = cast(cast(part.partial, table.columns), table.key, "k")
    part.rows = cast(part.rows, table.columns)
    return missed


def carry_out(prepared: Prepared, opened: OpenTransaction, store: Store, lsn: Lsn) -> None:
    """``lsn`` is for the error. After any exception the transaction has to be rolled back."""
    standing: dict[Name, tuple[int, int]] = {}  # rows and bytes as of the operation before
    for name, earlier in opened.changes.items():
        known = next((one.known for one in prepared if one.known.name == name), None)
        if known is not None:
            standing[name] = (known.rows + earlier.rows, known.size_bytes + earlier.size_bytes)
    for operation in prepared:
        name = operation.known.name
        rows, size = standing.get(name, (operation.known.rows, operation.known.size_bytes))
        if operation.part is None:
            store.execute(operation.table.delete_all())
            change = Change(-rows, -size, 0)
        else:
            change = _change(operation.table, operation.part, store, lsn)
            # Nobody counts the bytes of rows that go: they are taken for rows of average size.
            if rows:
                change.size_bytes -= size * min(operation.part.going, rows) // rows
        operation.change.rows, operation.change.size_bytes = change.rows, change.size_bytes
        standing[name] = (rows + change.rows, size + change.size_bytes)


def _change(table: MemoryTable, part: RowsGoingAndComing, store: Store, lsn: Lsn) -> Change:
    completed = None
    if part.partial is not None:
        with store.staged(part.partial) as view:
            completed = store.table(table.complete(view))
        if completed.num_rows != part.partial.num_rows:
            raise MemoryDiffers(table.target, lsn, part.partial.num_rows, completed.num_rows)
    gone = 0
    if part.keys is not None:
        with store.staged(part.keys) as view:
            gone = store.count(table.delete_keys(view))
    if part.equal is not None:
        with store.staged(part.equal) as view:
            gone = store.count(table.delete_equal(view))
    if gone != part.going:
        raise MemoryDiffers(table.target, lsn, part.going, gone)
    size = 0
    for rows in (part.rows, completed):
        if rows is not None:
            size += size_of(rows, table.columns)
            with store.staged(rows) as view:
                store.execute(table.insert(view))
    return Change(part.coming - part.going, size, 0)
