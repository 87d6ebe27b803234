"""What a replayer has done since its start, for the reports.

In: batches that persistence has committed, and the schema changes among them. Out: counts, in all and by object.
Written by the replayer's threads, read by any.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from logship.lsn import Lsn
from logship.metrics import APPLY_BOUNDS_S, Durations
from logship.replay.abreast import Figures
from logship.replay.batch import Batch

if TYPE_CHECKING:  # DuckDB and Arrow are imported only when memory is on
    from logship.replay.memory.resident import ObjectState


@dataclass(frozen=True, slots=True)
class InMemory:
    """What was done with an object in memory."""

    loads: int = 0
    evictions: int = 0
    dml: int = 0
    hits: int = 0
    merges: int = 0
    merge_s: float = 0.0

    def and_(self, told: ObjectState | None) -> InMemory:
        if told is None:
            return self
        return InMemory(
            self.loads + told.loads,
            self.evictions + told.evictions,
            self.dml + told.dml_memory,
            self.hits + told.hits,
            self.merges + told.merges,
            self.merge_s + told.merge_s,
        )


@dataclass(slots=True)
class Replayed:
    """What was replayed since the start, in all and by object, for the reports."""

    transactions: int = 0
    passed_over: int = 0  # transactions that an operator named
    changes: int = 0
    coalesced: int = 0
    size_bytes: int = 0
    rows: Counter[tuple[str, str]] = field(default_factory=Counter)
    last_change: dict[tuple[str, str], Lsn] = field(default_factory=dict)
    schema_changes: Counter[str] = field(default_factory=Counter)  # carried, by where
    ddl: Counter[tuple[str, str]] = field(default_factory=Counter)  # those of each table
    ddl_memory: Counter[tuple[str, str]] = field(default_factory=Counter)  # in memory, too
    schema_change_durations: Durations = field(default_factory=lambda: Durations(APPLY_BOUNDS_S))
    abreast: Figures = field(default_factory=Figures)  # of several sessions
    refused: Counter[str] = field(default_factory=Counter)  # messages that claim to be ours, by what is wrong
    in_memory: dict[tuple[str, str], InMemory] = field(default_factory=dict)  # in memories that are no more

    def memory_is_over(self, objects: Iterable[ObjectState]) -> None:
        """Memory ends, or is made anew, and counts from 0 then."""
        for told in objects:
            name = (told.schemaname, told.relname)
            self.in_memory[name] = self.in_memory.get(name, InMemory()).and_(told)

    def add(self, batch: Batch) -> None:
        self.transactions += batch.transactions
        self.passed_over += len(batch.passed_over)
        self.changes += batch.changes
        self.coalesced += batch.changes - batch.net
        self.size_bytes += batch.size_bytes
        for target, rows in batch.changed():
            name = (target.schema, target.name)
            self.rows[name] += rows
            self.last_change[name] = batch.end_lsn
