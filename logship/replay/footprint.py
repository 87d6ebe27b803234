"""Which rows a batch writes, and whether two batches may be written at the same time.

In: batches. Out: an answer. Keys are compared as the log has them, byte by byte. Two texts of one value (1.0 and
1.00) look like two rows then: they meet on the secondary, in a lock or in a count that is wrong, and
`logship.replay.abreast` has both replayed one after the other. So an answer costs time when it is wrong, and
nothing else. No I/O.

What is not here needs to be known of a batch in advance: values of further unique indexes. Where one passes from a
row to another, the later batch waits for the earlier one or violates the index, and is replayed behind it.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from logship import kernel
from logship.replay.batch import Batch, NetChanges, Rows
from logship.replay.ladder import secondary

Keys: TypeAlias = set[object]  # cells, or tuples of them


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

    tables: dict[int, Keys]

    @staticmethod
    def of(batch: Batch) -> Footprint:
        tables: dict[int, Keys] = {}
        for step in batch.steps:
            assert isinstance(step, Rows)
            for changes in step.tables:
                assert isinstance(changes, NetChanges)
                keys = tables.setdefault(secondary(changes.target).oid, set())
                for some in _keys(changes):
                    keys.update(some)
        return Footprint(tables)

    def meets(self, other: Footprint) -> bool:
        common = self.tables.keys() & other.tables.keys()
        return any(not self.tables[oid].isdisjoint(other.tables[oid]) for oid in common)


def _keys(changes: NetChanges) -> Iterator[Iterable[object]]:
    every = range(len(changes.target.key))
    yield _cells(changes.deletes, every)
    for group in changes.updates:
        yield _cells(group.keys, every)
    yield _cells(changes.move_keys, every)
    yield _cells(changes.move_rows, changes.target.key)
    yield _cells(changes.inserts, changes.target.key)


def _cells(rows: kernel.Rows, columns: Sequence[int]) -> Iterable[object]:
    if not len(rows):
        return ()
    if len(columns) == 1:
        return rows.column(columns[0])
    return zip(*(rows.column(column) for column in columns), strict=True)
