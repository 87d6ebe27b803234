"""Which rows a batch writes, and whether two batches may be written at the same time.

In: batches. Out: an answer. Keys are compared as the log has them, byte by byte. Two texts of one value (1.0 and
1.00) look like two rows then: they meet on the secondary, in a lock or in a count that is wrong, and
`logship.replay.abreast` has both replayed one after the other. So an answer costs time when it is wrong, and
nothing else. No I/O.

What is not here needs to be known of a batch in advance: values of further unique indexes. Where one passes from a
row to another, the later batch waits for the earlier one or violates the index, and is replayed behind it.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass

from logship import kernel
from logship.kernel import KeySet
from logship.replay.batch import Batch, NetChanges, Rows
from logship.replay.ladder import secondary


def plain(batch: Batch, alone: Container[int] = ()) -> bool:
    """Whether it is nothing but rows, each found by its key through an index, of tables that run nothing of users'
    and of which none is in ``alone`` (by its oid on the secondary)."""
    return (
        batch.complete
        and not batch.sequences
        and not batch.passed_over
        and not batch.alone
        and all(isinstance(step, Rows) and _plain(step, alone) for step in batch.steps)
    )


def _plain(step: Rows, alone: Container[int]) -> bool:
    for table in step.tables:
        target = secondary(table.target)
        known = isinstance(table, NetChanges) and target.runs_nothing and target.key_indexed
        if not known or target.oid in alone:
            return False
    return True


@dataclass(frozen=True, slots=True)
class Footprint:
    """The keys that a plain batch finds rows by, and leaves rows under; by the table's oid on the secondary."""

    tables: dict[int, KeySet]

    @staticmethod
    def of(batch: Batch) -> Footprint:
        parts: dict[int, list[tuple[kernel.Rows, Sequence[int]]]] = {}
        for step in batch.steps:
            assert isinstance(step, Rows)
            for changes in step.tables:
                assert isinstance(changes, NetChanges)
                parts.setdefault(secondary(changes.target).oid, []).extend(_keys(changes))
        return Footprint({oid: KeySet(some) for oid, some in parts.items()})

    def meets(self, other: Footprint) -> bool:
        common = self.tables.keys() & other.tables.keys()
        return any(self.tables[oid].meets(other.tables[oid]) for oid in common)


def _keys(changes: NetChanges) -> Iterator[tuple[kernel.Rows, Sequence[int]]]:
    every = range(len(changes.target.key))
    yield changes.deletes, every
    for group in changes.updates:
        yield group.keys, every
    yield changes.move_keys, every
    yield changes.move_rows, changes.target.key
    yield changes.inserts, changes.target.key
