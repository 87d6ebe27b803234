"""What is received goes into the journal, and the positions follow it: of the shipper and of the receiver alike.

In: records and stretches, in order, from the one thread that receives. Out: the journal's records; the positions
received and flushed, each once it is so; `reached`, what may be said of them to whoever sends. ``moved`` is called,
by the thread that made it durable, when more may be said.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from logship.capture.copydata import Positions as Reported
from logship.journal.flush import Completion
from logship.journal.log import Journal
from logship.journal.segment import Record, Stretch
from logship.lsn import Lsn
from logship.service.dated import dated
from logship.service.positions import Positions, Stage
from logship.service.ship.acknowledge import Acknowledge


class Journaling:
    """``put`` belongs to one thread, `reached` to any."""

    def __init__(
        self, journal: Journal, positions: Positions, acknowledge: Acknowledge, moved: Callable[[], None]
    ) -> None:
        self._journal = journal
        self._positions = positions
        self._acknowledge = acknowledge
        self._moved = moved

    def put(self, given: Sequence[Record | Stretch], *, at_once: bool) -> None:
        """Into the journal's buffer, then to its file and to the readers. The fsync follows by itself; ``at_once``,
        where a commit may wait for it, it is made here, while the readers read."""
        for each in given[:-1]:
            self._append(each)
        self._append(given[-1], self._durable)
        self._positions.received_all(dated(given))
        if at_once:
            self._journal.write_through(self._written)
        else:
            self._journal.write()
            self._written()

    def reached(self) -> Reported:
        """What may be told now."""
        flushed = self._journal.flushed_lsn  # before written, which may move meanwhile
        return self._acknowledge.reached(self._journal.written_lsn, flushed, time.monotonic())

    def _append(self, each: Record | Stretch, completion: Completion | None = None) -> None:
        if isinstance(each, Stretch):
            self._journal.append_stretch(each, completion)
        else:
            self._journal.append(each, completion)

    def _written(self) -> None:
        self._positions.reach(Stage.RECEIVED, self._journal.written_lsn)

    def _durable(self, lsn: Lsn) -> None:
        """Called when an fsync is over, by its thread. A commit may wait to be told; for what is shown nobody does."""
        self._moved()
        self._positions.reach(Stage.FLUSHED, self._journal.flushed_lsn)
