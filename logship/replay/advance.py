"""The step that moves the position, with what it adds to the counters.

In: the batches of one transaction of the secondary. Out: the call of `logship.advance` that goes out in front of
its COMMIT. No I/O.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from logship.failpoints import hit
from logship.lsn import Lsn
from logship.replay.batch import Batch
from logship.replay.session import TEXT, Command

_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_ADVANCE: Final = b"select logship.advance($1, $2, $3, $4, $5, $6, $7, $8, $9)"
_TYPES: Final = (TEXT, 3220, 3220, 1184, 20, 20, 20, 20, 20)


@dataclass(slots=True)
class Totals:
    transactions: int = 0
    changes: int = 0
    batches: int = 0
    coalesced: int = 0
    size_bytes: int = 0
    commit_time_us: int = 0

    def add(self, batch: Batch) -> None:
        self.transactions += batch.transactions
        self.changes += batch.changes
        self.batches += 1
        self.coalesced += batch.changes - batch.net
        self.size_bytes += batch.size_bytes
        self.commit_time_us = batch.commit_time_us or self.commit_time_us

    def advance(self, replica: str, expected: Lsn, reached: Lsn, *, counted: bool = True) -> Command:
        """``counted`` False: it isn't a batch, only the position moves."""
        at = _EPOCH + timedelta(microseconds=self.commit_time_us) if self.commit_time_us else None
        numbers = (
            self.transactions, self.changes, self.batches if counted else 0, self.coalesced, self.size_bytes,
        )  # fmt: skip
        parameters = [
            replica.encode(), str(expected).encode(), str(reached).encode(),
            at.isoformat().encode() if at else None, *(b"%d" % number for number in numbers),
        ]  # fmt: skip
        return Command(_ADVANCE, parameters, _TYPES)


def commit() -> Sequence[Command]:
    """What is left when everything else is on its way."""
    hit("persistence.before_commit")
    return [Command(b"commit")]
