"""What the shipper may tell the primary now: the port it asks, and the answer of a process with one replica.

In: how far this shipper's journal is, and the time. Out: the positions of the next status update. Whoever
implements `Acknowledge` names nothing that is not on the disks that its promise speaks of: write is never
past what is written here, flush and replay never past what is fsynced here.
"""

from __future__ import annotations

import threading
from typing import Protocol

from logship.capture.copydata import Positions as Reported
from logship.lsn import INVALID, Lsn
from logship.service.positions import Positions, Stage


class Acknowledge(Protocol):
    """Quick, and safe to call from any thread. What `reached` answers never moves back within a program."""

    def began(self, confirmed_flush_lsn: Lsn) -> None:
        """A walsender session begins; the primary knows from earlier ones that this much is flushed."""
        ...

    def reached(self, written: Lsn, flushed: Lsn, now_s: float) -> Reported:
        """The positions to report now, by the journal's own; ``now_s`` is monotonic."""
        ...

    def due_s(self, now_s: float) -> float | None:
        """In how many seconds `reached` may answer more although nothing happened; None: never."""
        ...


class OwnReplica:
    """Of `logship run`: the one replica is this process. Its record is in the same journal, so write and
    flush are the journal's; replay is what ``applied`` has, and is in the journal by then.

    ``applied`` is persistence, or memory: then a commit counts as applied once its record is fsynced and
    readers of memory see it.
    """

    def __init__(self, positions: Positions, applied: Stage = Stage.PERSISTENCE) -> None:
        self._positions = positions
        self._applied = applied
        self._lock = threading.Lock()
        self._replayed = INVALID

    def began(self, confirmed_flush_lsn: Lsn) -> None:
        """Nothing to learn: the journal is checked against it."""

    def reached(self, written: Lsn, flushed: Lsn, now_s: float) -> Reported:
        # A replay that begins again starts at the position that is stored, which may be older than what was
        # said: from there to here the log held nothing for this replica, so what was said is still true.
        with self._lock:
            self._replayed = max(self._replayed, min(self._now(), flushed))
            # The journal may be younger than the replica's position: it is never acknowledged past its end.
            return Reported(written, flushed, min(self._replayed, flushed))

    def due_s(self, now_s: float) -> float | None:
        return None

    def replayed(self) -> Lsn:
        """What a status update says now of replay; INVALID: nothing."""
        flushed = self._positions.lsn(Stage.FLUSHED) or INVALID
        with self._lock:
            return max(self._replayed, min(self._now(), flushed))

    @property
    def replaying(self) -> Stage:
        """The stage that replay is the position of: the one of memory and persistence that is ahead, where memory
        counts."""
        memory = self._positions.lsn(Stage.MEMORY)
        ahead = memory is not None and memory >= (self._positions.lsn(Stage.PERSISTENCE) or INVALID)
        return Stage.MEMORY if self._applied is Stage.MEMORY and ahead else Stage.PERSISTENCE

    def _now(self) -> Lsn:
        persisted = self._positions.lsn(Stage.PERSISTENCE) or INVALID
        if self._applied is Stage.PERSISTENCE:
            return persisted
        # Memory that isn't there, or begins again, shows nothing: what persistence has still counts.
        return max(persisted, self._positions.lsn(self._applied) or INVALID)
