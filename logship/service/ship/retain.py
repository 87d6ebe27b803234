"""Gives the journal's old segments back, when every replica is past them or the limit is reached."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from logship.config import JournalBounds
from logship.journal.log import Journal
from logship.journal.retention import Retention
from logship.lsn import Lsn


class Keeper:
    """``needed``: from where each replica needs the journal, by name; None: not known yet, so nothing goes.
    ``done`` hears what became of it each time, the replicas that lost something included."""

    def __init__(
        self,
        journal: Journal,
        needed: Callable[[], Mapping[str, Lsn] | None],
        bounds: JournalBounds,
        *,
        interval_s: float,
        done: Callable[[Retention], None] = lambda _: None,
    ) -> None:
        self._journal = journal
        self._needed = needed
        self._bounds = bounds
        self._interval_s = interval_s
        self._done = done
        self._stopping = threading.Event()

    def run(self) -> None:
        while not self._stopping.wait(self._interval_s):
            needed = self._needed()
            if needed is None:
                continue
            retention = self._journal.apply_retention(
                needed, limit_bytes=self._bounds.limit_bytes, min_age_s=self._bounds.min_age_s
            )
            self._done(retention)

    def stop(self) -> None:
        self._stopping.set()
