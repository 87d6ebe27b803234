"""Gives the journal's old segments back, when every replica is past them or the limit is reached."""

from __future__ import annotations

import threading

from logship.config import JournalBounds
from logship.journal.log import Journal
from logship.service.positions import Positions, Stage


class Keeper:
    def __init__(
        self,
        journal: Journal,
        replica: str,
        positions: Positions,
        bounds: JournalBounds,
        *,
        interval_s: float,
    ) -> None:
        self._journal = journal
        self._replica = replica
        self._positions = positions
        self._bounds = bounds
        self._interval_s = interval_s
        self._stopping = threading.Event()

    def run(self) -> None:
        while not self._stopping.wait(self._interval_s):
            replayed = self._positions.lsn(Stage.PERSISTENCE)
            if replayed is not None:
                self._journal.apply_retention(
                    {self._replica: replayed},
                    limit_bytes=self._bounds.limit_bytes,
                    min_age_s=self._bounds.min_age_s,
                )

    def stop(self) -> None:
        self._stopping.set()
