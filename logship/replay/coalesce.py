"""Reduces changes to their net effect per key.

In: row changes in log order, each with the `Target` that it changes. Out: steps that have the same
effect (`logship.replay.batch`). Rows are followed by their key, in `logship.kernel`: an entry remembers the key
that its row had when the step began (none: it didn't exist) and what its cells have become. Tables without
a key keep the log's order. No I/O.

The rule it is tested by: carrying out the steps equals carrying out the changes one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from logship import kernel
from logship.change import Row
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
    Updates,
)
from logship.replay.target import Target

# What `logship.kernel.feed` takes rows into, by the relation's oid; None: they are left out.
Fed: TypeAlias = dict[int, kernel.Keyed | kernel.Keyless | None]


@dataclass(frozen=True, slots=True)
class Keyed:
    """The net change of one table with a key. `insert`, `update` and `delete` say False, and do
    nothing, when the change needs a new step: two rows would stand under one key."""

    target: Target
    changes: kernel.Keyed

    def insert(self, new: Row) -> bool:
        return self.changes.insert(new)

    def update(self, old: Row | None, old_is_key: bool, new: Row) -> bool:
        return self.changes.update(old, old_is_key, new)

    def delete(self, old: Row) -> bool:
        return self.changes.delete(old)

    def absorb(self, later: NetChanges | OrderedChanges) -> None:
        """Take in the net change of a step that follows."""
        assert isinstance(later, NetChanges)
        updates = [(group.columns, group.keys, group.rows) for group in later.updates]
        self.changes.absorb(
            kernel.Net(later.deletes, updates, later.move_keys, later.move_rows, later.inserts)
        )

    def net(self) -> NetChanges:
        """What has come; nothing is left in here."""
        net = self.changes.take()
        updates = [Updates(columns, keys, rows) for columns, keys, rows in net.updates]
        return NetChanges(self.target, net.deletes, updates, net.move_keys, net.move_rows, net.inserts)

    def __len__(self) -> int:
        return len(self.changes)


@dataclass(frozen=True, slots=True)
class Keyless:
    """The changes of one table without a key, in order; runs of inserts stay together."""

    target: Target
    changes: kernel.Keyless

    def insert(self, new: Row) -> bool:
        return self.changes.insert(new)

    def update(self, old: Row | None, old_is_key: bool, new: Row) -> bool:
        if old is None or old_is_key:
            raise self._cannot_find("UPDATE")
        return self.changes.update(old, old_is_key, new)

    def delete(self, old: Row) -> bool:
        return self.changes.delete(old)

    def absorb(self, later: NetChanges | OrderedChanges) -> None:
        """Take in the changes of a step that follows."""
        assert isinstance(later, OrderedChanges)
        self.changes.absorb(map(_told, later.operations))

    def net(self) -> OrderedChanges:
        """What has come; nothing is left in here."""
        return OrderedChanges(self.target, [_operation(told) for told in self.changes.take()])

    def __len__(self) -> int:
        return len(self.changes)

    def _cannot_find(self, what: str) -> ReplayError:
        return ReplayError(
            f"an {what} of {self.target} carries no whole old row, and the table has no key on the secondary",
            hint=f"on the primary: alter table {self.target} replica identity full",
        )


def _told(operation: InsertRun | UpdateOne | DeleteOne) -> kernel.Operation:
    match operation:
        case InsertRun(rows):
            return rows
        case UpdateOne(old, new):
            return old, new
        case DeleteOne(old):
            return old, None


def _operation(told: kernel.Operation) -> InsertRun | UpdateOne | DeleteOne:
    if not isinstance(told, tuple):
        return InsertRun(told)
    old, new = told
    return DeleteOne(old) if new is None else UpdateOne(old, new)


@dataclass(slots=True)
class Coalescer:
    """One batch in the making. Tables are told apart by name: a table made anew has another oid."""

    _steps: list[Step] = field(default_factory=list)
    _tables: dict[str, Keyed | Keyless] = field(default_factory=dict)
    net: int = 0  # row changes in the steps that are closed
    # Of the current step, the tables whose rows may be taken in without asking `table` again.
    fed: Fed = field(default_factory=dict)

    def feed_by(self, oid: int, target: Target | None) -> None:
        """From here on rows of the relation ``oid`` are for ``target``, until `ask_again` or another step."""
        self.fed[oid] = None if target is None else self.table(target).changes

    def ask_again(self) -> None:
        """What the relations are on the secondary may not hold any more."""
        self.fed.clear()

    def table(self, target: Target) -> Keyed | Keyless:
        """The changes of ``target`` in the current step. Another shape of the same table begins a new one."""
        name = f"{target.schema}\0{target.name}"
        table = self._tables.get(name)
        if table is not None:
            if table.target is target:
                return table
            self.close_step()
        width = len(target.columns)
        key = target.key
        made = Keyed(target, kernel.Keyed(width, key)) if key else Keyless(target, kernel.Keyless(width))
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
        self.fed.clear()

    def take(self) -> tuple[Step, ...]:
        """All steps; the coalescer is empty and new afterwards, but for `net`."""
        self.close_step()
        steps, self._steps = tuple(self._steps), []
        return steps
