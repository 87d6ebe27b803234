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

import pyarrow as pa

from logship.lsn import Lsn
from logship.replay.batch import Batch, NetChanges, OrderedChanges, Rows, Truncation
from logship.replay.memory.main import MemoryDiffers, Writing
from logship.replay.memory.parts import Parts
from logship.replay.memory.resident import MemoryObject, Name
from logship.replay.memory.rows import KeyedPart, KeylessPart, of_net, of_ordered
from logship.replay.memory.store import Store
from logship.replay.memory.table import MemoryColumn, MemoryTable, same_shape
from logship.replay.target import Target

__all__ = [
    "MemoryDiffers",
    "Misses",
    "Named",
    "OpenTransaction",
    "Operation",
    "Prepared",
    "Unholdable",
    "carry_out",
    "named",
    "prepare",
]  # fmt: skip

Table: TypeAlias = Any  # pyarrow.Table; pyarrow has no types


class Misses(Exception):
    """Never leaves memory: the columns go on as text."""

    def __init__(self) -> None:
        super().__init__("values that their type in memory can't hold")
        self.columns: dict[Name, dict[MemoryColumn, None]] = {}


class Unholdable(Exception):
    """Never leaves memory: the object does."""

    def __init__(self, name: Name) -> None:
        super().__init__("it holds text that isn't UTF-8")
        self.name = name
        self.reason = str(self)


@dataclass(slots=True)
class Named:
    """The objects that a batch names."""

    targets: dict[Name, Target] = field(default_factory=dict)  # the latest shape of each
    rows: set[Name] = field(default_factory=set)  # with row changes; the others are truncated only
    reshaped: set[Name] = field(default_factory=set)  # named with two shapes


@dataclass(slots=True)
class Change:
    rows: int = 0
    changes: int = 0
    parts: Parts | None = None  # of the object, as of the latest operation


@dataclass(slots=True)
class Operation:
    """One table's part of one step; ``part`` None: the table is truncated."""

    known: MemoryObject
    table: MemoryTable
    part: KeyedPart | KeylessPart | None
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
            total.changes += operation.change.changes
            total.parts = operation.change.parts


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
    """The batch as operations on the resident objects; `Misses` when values don't fit their types, `Unholdable`
    when no type has them."""
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
                try:
                    part = _part(changes, table)
                except pa.ArrowInvalid as error:
                    raise Unholdable(known.name) from error
                missed = _cast(part, table, store)
                misses.columns.setdefault(known.name, {}).update(dict.fromkeys(missed))
                prepared.append(Operation(known, table, part, Change(changes=part.changes)))
    misses.columns = {name: columns for name, columns in misses.columns.items() if columns}
    if misses.columns:
        raise misses
    return prepared


def _part(changes: NetChanges | OrderedChanges, table: MemoryTable) -> KeyedPart | KeylessPart:
    return of_net(changes, table) if isinstance(changes, NetChanges) else of_ordered(changes, table)


def _cast(part: KeyedPart | KeylessPart, table: MemoryTable, store: Store) -> list[MemoryColumn]:
    missed: list[MemoryColumn] = []

    def cast(texts: Table | None, columns: Sequence[MemoryColumn], prefix: str = "c") -> Table | None:
        if texts is None:
            return None
        typed, misses = store.typed(texts, columns, prefix)
        missed.extend(misses)
        return typed

    if isinstance(part, KeyedPart):
        part.gone = cast(part.gone, table.key)
        part.partial = cast(cast(part.partial, table.columns), table.key, "k")
    else:
        part.equal = cast(part.equal, table.columns)
    part.rows = cast(part.rows, table.columns)
    return missed


def carry_out(prepared: Prepared, opened: OpenTransaction, store: Store, lsn: Lsn) -> None:
    """``lsn`` is for the error. After any exception the transaction has to be rolled back."""
    standing: dict[Name, tuple[int, Writing]] = {}  # rows as of the operation before
    for operation in prepared:
        known = operation.known
        if known.name not in standing:
            earlier = opened.changes.get(known.name) or Change()
            parts = earlier.parts or known.parts
            standing[known.name] = known.rows + earlier.rows, Writing(store, operation.table, parts, lsn)
        rows, writing = standing[known.name]
        if operation.part is None:
            writing.truncate()
            operation.change.rows = -rows
        else:
            writing.change(operation.part)
            operation.change.rows = operation.part.coming - operation.part.going
        standing[known.name] = rows + operation.change.rows, writing
        operation.change.parts = writing.parts
    for _, writing in standing.values():
        writing.settle()
