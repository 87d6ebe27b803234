"""What a replayer has done since its start, for the reports.

In: batches that persistence has committed, and the schema changes among them. Out: counts, in all and by object.
Written by the replayer's threads, read by any.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from logship.lsn import Lsn
from logship.metrics import APPLY_BOUNDS_S, Durations
from logship.replay.batch import Batch


@dataclass(slots=True)
class Replayed:
    """What persistence has replayed since the start, in all and by object, for the reports."""

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
    refused: Counter[str] = field(default_factory=Counter)  # messages that claim to be ours, by what is wrong

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
