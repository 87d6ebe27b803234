"""Reduces changes to their net effect per key.

In: row changes in log order, each with the `Target` that it changes. Out: steps that have the same
effect (`logship.replay.batch`). Rows are followed by their key: an entry remembers the key that its
row had when the step began (none: it didn't exist) and what its cells have become. Tables without
a key keep the log's order. No I/O.

The rule it is tested by: carrying out the steps equals carrying out the changes one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from logship import kernel
from logship.change import UNCHANGED, Cell, Row
from logship.errors import InternalError, ReplayError
from logship.replay.batch import (
    DeleteOne,
    InsertRun,
    NetChanges,
    OrderedChanges,
    Rows,
    Step,
    Truncation,
    UpdateOne,
)
from logship.replay.target import Target

Key: TypeAlias = tuple[Cell, ...]


@dataclass(slots=True)
class _Entry:
    origin: Key | None  # the row's key when the step began; None: it was inserted since
    row: Row


@dataclass(slots=True)
class Keyed:
    """The net change of one table with a key. `insert`, `update` and `delete` say False, and do
    nothing, when the change needs a new step: two rows would stand under one key."""

    target: Target
    _live: dict[Key, _Entry] = field(default_factory=dict)
    _gone: dict[Key, None] = field(default_factory=dict)

    def insert(self, new: Row) -> bool:
        key = self.target.key_of(new)
        if key in self._live:
            return False
        self._live[key] = _Entry(None, new)
        return True

    def update(self, old: Row | None, old_is_key: bool, new: Row) -> bool:
        if old is None:
            key = self.target.key_of(new)
            entry = self._live.get(key)
            if entry is None:
                self._live[key] = _Entry(key, new)
            else:
                entry.row = _merged(entry.row, new)
            return True
        new = _with_old(new, old, self.target.key if old_is_key else range(len(old)))
        before, after = self.target.key_of(old), self.target.key_of(new)
        if before != after and after in self._live:
            return False
        entry = self._live.pop(before, None) or _Entry(before, new)
        entry.row = _merged(entry.row, new)
        self._live[after] = entry
        return True

    def delete(self, old: Row) -> bool:
        self._delete(self.target.key_of(old))
        return True

    def _delete(self, key: Key) -> None:
        entry = self._live.pop(key, None)
        origin = key if entry is None else entry.origin
        if origin is not None:
            self._gone[origin] = None

    def absorb(self, later: NetChanges | OrderedChanges) -> None:
        """Take in the net change of a step that follows."""
        assert isinstance(later, NetChanges)
        for gone in later.deletes:
            self._delete(tuple(gone))
        for group in later.updates:
            for row in group.rows:
                self.update(None, False, row)
        # All leave their old keys before any takes its new one: they may exchange them.
        moves = [(tuple(old), row) for old, row in zip(later.move_keys, later.move_rows, strict=True)]
        moved = [(key, self._live.pop(key, None), row) for key, row in moves]
        for key, known, row in moved:
            entry = known or _Entry(key, row)
            entry.row = _merged(entry.row, row)
            self._live[self.target.key_of(entry.row)] = entry
        for row in later.inserts:
            self._live[self.target.key_of(row)] = _Entry(None, row)

    def net(self) -> NetChanges:
        inserts: list[Row] = []
        moves: list[tuple[Key, Row]] = []
        groups: dict[tuple[int, ...], tuple[list[Key], list[Row]]] = {}
        for key, entry in self._live.items():
            if entry.origin is None:
                inserts.append(entry.row)
            elif entry.origin != key:
                moves.append((entry.origin, entry.row))
            else:
                keys, rows = groups.setdefault(_carried(entry.row), ([], []))
                keys.append(key)
                rows.append(entry.row)
        updates = [(columns, keys, rows) for columns, (keys, rows) in groups.items()]
        gone = list(self._gone)
        return NetChanges.of(self.target, deletes=gone, updates=updates, moves=moves, inserts=inserts)

    def __len__(self) -> int:
        return len(self._live) + len(self._gone)


@dataclass(slots=True)
class Keyless:
    """The changes of one table without a key, in order; runs of inserts stay together."""

    changes: OrderedChanges
    count: int = 0
    _inserted: list[Row] = field(default_factory=list)  # behind the operations

    def insert(self, new: Row) -> bool:
        self._inserted.append(new)
        self.count += 1
        return True

    def _add(self, operation: UpdateOne | DeleteOne) -> None:
        self._end_inserts()
        self.changes.operations.append(operation)
        self.count += 1

    def _end_inserts(self) -> None:
        inserted, self._inserted = self._inserted, []
        if inserted:
            rows = kernel.Rows.of(len(self.changes.target.columns), inserted)
            self.changes.operations.append(InsertRun(rows))

    def update(self, old: Row | None, old_is_key: bool, new: Row) -> bool:
        if old is None or old_is_key:
            raise self._cannot_find("UPDATE")
        self._add(UpdateOne(old, _with_old(new, old, range(len(old)))))
        return True

    def delete(self, old: Row) -> bool:
        self._add(DeleteOne(old))
        return True

    def absorb(self, later: NetChanges | OrderedChanges) -> None:
        """Take in the changes of a step that follows."""
        assert isinstance(later, OrderedChanges)
        for operation in later.operations:
            if isinstance(operation, InsertRun):
                for row in operation.rows:
                    self.insert(row)
            else:
                self._add(operation)

    def net(self) -> OrderedChanges:
        self._end_inserts()
        return self.changes

    def __len__(self) -> int:
        return self.count

    def _cannot_find(self, what: str) -> ReplayError:
        table = self.changes.target
        return ReplayError(
            f"an {what} of {table} carries no whole old row, and the table has no key on the secondary",
            hint=f"on the primary: alter table {table} replica identity full",
        )


@dataclass(slots=True)
class Coalescer:
    """One batch in the making. Tables are told apart by name: a table made anew has another oid."""

    _steps: list[Step] = field(default_factory=list)
    _tables: dict[str, Keyed | Keyless] = field(default_factory=dict)
    net: int = 0  # row changes in the steps that are closed

    def table(self, target: Target) -> Keyed | Keyless:
        """The changes of ``target`` in the current step. Another shape of the same table begins a new one."""
        name = f"{target.schema}\0{target.name}"
        table = self._tables.get(name)
        if table is not None:
            known = table.target if isinstance(table, Keyed) else table.changes.target
            if known is target:
                return table
            self.close_step()
        made = Keyed(target) if target.key else Keyless(OrderedChanges(target))
        self._tables[name] = made
        return made

    def absorb(self, steps: Sequence[Step]) -> None:
        """Take in steps that follow what has come so far."""
        for step in steps:
            if isinstance(step, Truncation):
                self.truncate(step.targets, step.restart_identity)
            elif isinstance(step, Rows):
                for later in step.tables:
                    self.table(later.target).absorb(later)
            else:
                raise InternalError("a schema change can't be merged with other batches")

    def truncate(self, targets: Sequence[Target], restart_identity: bool) -> None:
        self.close_step()
        self._steps.append(Truncation(tuple(targets), restart_identity))
        self.net += len(targets)

    def close_step(self) -> None:
        """What follows is carried out after all that came so far."""
        changed = [table for table in self._tables.values() if len(table)]
        if changed:
            self.net += sum(map(len, changed))
            self._steps.append(Rows([table.net() for table in changed]))
        self._tables = {}

    def take(self) -> tuple[Step, ...]:
        """All steps; the coalescer is empty and new afterwards, but for `net`."""
        self.close_step()
        steps, self._steps = tuple(self._steps), []
        return steps


_WHOLE: Final[dict[int, tuple[int, ...]]] = {}


def _carried(row: Row) -> tuple[int, ...]:
    if UNCHANGED in row:
        return tuple([index for index, cell in enumerate(row) if cell is not UNCHANGED])
    width = len(row)
    return _WHOLE.get(width) or _WHOLE.setdefault(width, tuple(range(width)))


def _merged(known: Row, new: Row) -> Row:
    if UNCHANGED not in new:
        return new
    return [old if cell is UNCHANGED else cell for old, cell in zip(known, new, strict=True)]


def _with_old(new: Row, old: Row, columns: Sequence[int]) -> Row:
    """``new`` with those unchanged cells that the old tuple carries: a TOASTed key comes only there."""
    if UNCHANGED not in new:
        return new
    filled = list(new)
    for index in columns:
        if filled[index] is UNCHANGED:
            filled[index] = old[index]
    return filled
