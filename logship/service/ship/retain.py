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
            self._done(self._give_back(needed))

    def _give_back(self, needed: Mapping[str, Lsn]) -> Retention:
        """At the limit what is only young goes first, and what is needed only where it may be lost."""
        journal, bounds = self._journal, self._bounds
        if not bounds.lossless:
            return journal.apply_retention(needed, limit_bytes=bounds.limit_bytes, min_age_s=bounds.min_age_s)
        min_age_s = 0.0 if journal.size_bytes > bounds.limit_bytes else bounds.min_age_s
        return journal.apply_retention(needed, min_age_s=min_age_s)

    def stop(self) -> None:
        self._stopping.set()
