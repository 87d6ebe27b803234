"""Schema changes of objects in memory, in the transaction of the rows that they stand among.

In: a schema change, the transaction that is open, the objects. Out: tables that are altered, or taken out,
as soon as that transaction commits; if it doesn't, everything is what it was. What a statement does to an object
is found out elsewhere (`follow`), and done to its tables elsewhere (`reshape`).
"""

from __future__ import annotations

from collections.abc import Mapping

from logship.replay.batch import SchemaChange
from logship.replay.memory.follow import Followed, below, follow
from logship.replay.memory.replay import Before, Change, OpenTransaction
from logship.replay.memory.reshape import reshape, take_out
from logship.replay.memory.residency import Residency
from logship.replay.memory.resident import Happening, MemoryObject, Name, Residence
from logship.replay.memory.schema import concerned, gone
from logship.replay.memory.store import Store
from logship.replay.memory.table import table_of
from logship.replay.target import Target


class SchemaChanges:
    """For memory's writer."""

    def __init__(self, store: Store, residency: Residency) -> None:
        self._store = store
        self._residency = residency

    def carry(self, change: SchemaChange, opened: OpenTransaction) -> bool:
        """Whether the change was carried out on anything that readers see."""
        objects = self._residency.objects
        concerns = concerned(change.statement, objects.values()) | below(change, objects.values())
        dropped = gone(change.statement, objects.values())
        opened.touched |= concerns
        opened.gone |= dropped
        held = [objects[name] for name in concerns if _shown(objects, name, opened)]
        opened.reshaped |= {name for name in concerns if not _shown(objects, name, opened)}
        if opened.lost or not held:
            return False
        if not opened.begun:
            self._store.begin()
            opened.begun = True
        opened.pieces += 1
        carried = False
        for known in held:
            followed = None if known.name in dropped else follow(change, known)
            if followed is None:
                self._take_out(known, opened)
                carried |= known.name in dropped
            elif followed.changed:
                self._alter(known, followed, opened)
                carried = True
        return carried

    def _take_out(self, known: MemoryObject, opened: OpenTransaction) -> None:
        """Readers lose it when the transaction commits; persistence has what was before it then."""
        opened.leaving[known.name] = known
        opened.reshaped.add(known.name)
        if known.residence is not Residence.EVICTING:
            known.on(Happening.LOSE)
        change = opened.changes.get(known.name)
        take_out(self._store, known.held, (change and change.parts) or known.parts)

    def _alter(self, known: MemoryObject, followed: Followed, opened: OpenTransaction) -> None:
        opened.before.append(_before(known))
        old = known.name
        change = opened.changes.pop(old, None) or Change()
        change.parts = reshape(
            self._store, known.held, change.parts or known.parts, followed, self._residency.lsn
        )
        known.target, known.table, known.as_text = followed.target, followed.table, followed.as_text
        known.provisional = True
        known.schema_changes += 1
        opened.touched.add(known.name)
        if known.name != old:
            self._residency.renamed(known, old)
        opened.changes[known.name] = change

    def restore(self, opened: OpenTransaction) -> None:
        """What the transaction made of objects is void."""
        for before in reversed(opened.before):
            known, name = before.known, before.known.name
            known.target, known.table = before.target, before.table
            known.as_text, known.provisional = before.as_text, before.provisional
            if known.name != name:
                self._residency.renamed(known, name)
        opened.before.clear()
        for known in opened.leaving.values():
            known.keep()
        opened.leaving.clear()

    def adopt(self, known: MemoryObject, target: Target, opened: OpenTransaction | None) -> None:
        """The shape that memory made by itself is the one that rows have."""
        if opened is not None:
            opened.before.append(_before(known))
        known.target, known.provisional = target, False
        known.table = table_of(target, known.as_text)

    def committed(self, opened: OpenTransaction) -> None:
        """What the transaction made of objects holds."""
        opened.before.clear()
        for known in opened.leaving.values():
            known.dropped("its schema changed", self._residency.batches)
            known.not_before = 0
        opened.leaving.clear()


def _shown(objects: Mapping[Name, MemoryObject], name: Name, opened: OpenTransaction) -> bool:
    return name in objects and objects[name].shown and name not in opened.leaving


def _before(known: MemoryObject) -> Before:
    return Before(known, known.target, known.held, known.as_text, known.provisional)
