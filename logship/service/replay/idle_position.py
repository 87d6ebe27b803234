"""The position on the secondary while the log has nothing to replay.

In: how far the log was read without a change. Out: `Persistence.advance`, not more often than an interval. For the
thread that persistence belongs to.
"""

from __future__ import annotations

import time

from logship.lsn import Lsn
from logship.replay.persistence import Persistence


class IdlePosition:
    """The position while nothing is replayed: known at once, stored no more often than the interval."""

    def __init__(self, persistence: Persistence, interval_s: float) -> None:
        self._persistence = persistence
        self._interval_s = interval_s
        self._reached = persistence.position
        self._stored_at = 0.0

    @property
    def due_in_s(self) -> float | None:
        if self._reached <= self._persistence.position:
            return None
        return max(0.0, self._stored_at + self._interval_s - time.monotonic())

    def reached(self, lsn: Lsn) -> None:
        self._reached = lsn

    def store_if_due(self) -> None:
        if self.due_in_s == 0.0:
            self.store()

    def store(self) -> None:
        if self._reached > self._persistence.position:
            self._persistence.advance(self._reached)
            self._stored_at = time.monotonic()
