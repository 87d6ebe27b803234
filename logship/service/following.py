"""What `logship run` and `logship replay` have in common: a replica that follows until it is told to stop, or
until persistence has reached an LSN.

In: the side that fills the journal, the side that replays it. Out: `Outcome`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from logship.lsn import INVALID, Lsn
from logship.service.crew import Crew
from logship.service.foreground import Foreground, Side
from logship.service.positions import Positions, Stage
from logship.service.replay.replaying import Replaying

log = logging.getLogger(__name__)

# Asked in a thread of its own, with what says that the program ends meanwhile; None: it ended first.
FindEnd: TypeAlias = Callable[[Crew], Lsn | None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it ended. ``replay_lsn`` is committed on the secondary; ``reached`` whether that is the LSN
    that it was to stop at (True when there was none)."""

    replica: str
    replay_lsn: Lsn
    reached: bool


class Following:
    """``positions`` are those that both sides share."""

    def __init__(
        self, foreground: Foreground, upstream: Side, replaying: Replaying, positions: Positions
    ) -> None:
        self._foreground = foreground
        self._upstream = upstream
        self._replaying = replaying
        self._positions = positions
        self._end: Lsn | None = None

    def run(self, replica: str, grace_s: float, find_end: FindEnd | None) -> Outcome:
        """Replicate until the end. Raises what stopped it."""
        if self._foreground.endpoint is not None:
            self._foreground.endpoint.show(self._replaying.vitals, self._replaying.lookout)

        def beside(crew: Crew) -> None:
            if find_end is not None:
                crew.start("stop-at", lambda: self._stop_at(find_end, crew))

        self._foreground.stand([self._upstream, self._replaying], grace_s, beside)
        replay_lsn = self._positions.lsn(Stage.PERSISTENCE) or INVALID
        reached = find_end is None or (self._end is not None and replay_lsn >= self._end)
        return Outcome(replica, replay_lsn, reached)

    def _stop_at(self, find_end: FindEnd, crew: Crew) -> None:
        lsn = self._end = find_end(crew)
        if lsn is not None and self._positions.wait(Stage.PERSISTENCE, lsn, None, lambda: crew.stopping):
            log.info("everything up to %s is committed on the secondary", lsn)
            self._foreground.stop()
