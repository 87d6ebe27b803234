"""Persistence, as memory sees it: how far it is, and waiting for it.

In: the positions, and whether the replay is ending. Out: an answer at once, or the end of a wait; `Stopped` when
the replay ends meanwhile. Never asks the secondary.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from logship.lsn import Lsn
from logship.service.crew import Stopped
from logship.service.positions import Positions, Stage
from logship.service.replay.work import Work

_STORED_S: Final = 0.01
_LOOK_S: Final = 0.2  # how late a load that was given up is noticed


class Behind:
    """``stored``: the position that the secondary has written down; that of an idle primary is known earlier."""

    def __init__(
        self, positions: Positions, stopping: Callable[[], bool], work: Work, stored: Callable[[], Lsn]
    ) -> None:
        self._stored = stored
        self._positions = positions
        self._stopping = stopping
        self._work = work

    def reached(self, lsn: Lsn) -> bool:
        position = self._positions.lsn(Stage.PERSISTENCE)
        return position is not None and position >= lsn

    def wait(self, lsn: Lsn) -> None:
        """For memory's writer: it is known to wait for the other store meanwhile."""
        with self._work.waiting():
            there = self._positions.wait(Stage.PERSISTENCE, lsn, None, self._stopping)
        if not there:
            raise Stopped

    def wait_beside(self, lsn: Lsn, given_up: Callable[[], bool]) -> None:
        """For a thread that loads. Returns early when ``given_up`` says so."""

        def over() -> bool:
            return self._stopping() or given_up()

        while not over():
            there = self._positions.wait(Stage.PERSISTENCE, lsn, _LOOK_S, over)
            if there and self._stored() >= lsn:
                return
            if there:  # idle: it is stored in a moment
                time.sleep(_STORED_S)
        if self._stopping():
            raise Stopped
