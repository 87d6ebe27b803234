"""What `logship run` and `logship replay` have in common: a replica that follows until it is told to stop, or
until persistence has reached an LSN.

In: settings; from whoever extends it, the side that fills the journal. Out: `Outcome`.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeAlias

from logship.config import Address, Cold, Intervals, JournalBounds, ReplayBounds
from logship.journal.log import Journal
from logship.lsn import INVALID, Lsn
from logship.service.crew import Crew
from logship.service.filling import Filling
from logship.service.foreground import Foreground
from logship.service.positions import Positions, Stage
from logship.service.replay.replayer import MakeMemory
from logship.service.replay.replaying import Replaying, ReplaySettings
from logship.service.replica import Found, find
from logship.service.ship.shipping import positions_of
from logship.service.watch.health import Health

if TYPE_CHECKING:  # DuckDB and Arrow are imported only when memory is on
    from logship.replay.memory.memory import Memory

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


@dataclass(slots=True, kw_only=True)
class FollowSettings:
    """``applied``: what whoever ships is told is applied: what persistence has committed, or what readers of
    memory see and the journal has fsynced. ``cold``: what becomes of a query that memory can't answer, unless
    it says otherwise."""

    secondary: str
    journal: Path
    name: str | None = None
    stop_at: Lsn | str | None = None  # "current": where the primary's log ends when that is first asked
    applied: Stage = Stage.PERSISTENCE
    cold: Cold = Cold.PERSISTENCE
    memory: Callable[[str, str], MakeMemory] | None = None  # from secondary and replica; None: off
    journal_bounds: JournalBounds = field(default_factory=JournalBounds)
    replay_bounds: ReplayBounds = field(default_factory=ReplayBounds)
    intervals: Intervals = field(default_factory=Intervals)
    metrics: Address | None = None  # where figures and status page are served; None: nowhere

    def replay(self) -> ReplaySettings:
        return ReplaySettings(
            self.secondary, self.memory, self.journal_bounds, self.replay_bounds, self.intervals, self.cold
        )


@dataclass(frozen=True, slots=True)
class Ledger:
    """What both sides share: whose log it is, the log, how far each stage is, how it is."""

    found: Found
    journal: Journal
    positions: Positions
    health: Health

    @classmethod
    def over(cls, found: Found, journal: Journal) -> Self:
        positions = positions_of(journal)
        # It is ready once persistence is known to be somewhere.
        return cls(found, journal, positions, Health(lambda: positions.lsn(Stage.PERSISTENCE) is not None))


class Following(ABC):
    """`run` from the main thread, once; `stop` from anywhere, a signal handler included."""

    def __init__(self, settings: FollowSettings) -> None:
        self._follows = settings
        self._foreground = Foreground(settings.metrics)
        self._replaying: Replaying | None = None
        self._end: Lsn | None = None

    @property
    def memory(self) -> Memory | None:
        """The memory that answers queries now; None while there is none."""
        return self._replaying.memory if self._replaying else None

    def stop(self) -> None:
        """End cleanly: what was received is fsynced in the journal."""
        self._foreground.stop()

    @property
    def metrics(self) -> Address | None:
        """Where the figures are served, with the port that was taken; None: nowhere, or not yet."""
        return self._foreground.metrics

    def run(self) -> Outcome:
        """Replicate until the end. Raises what stopped it."""
        with self._foreground.running():
            found = find(self._follows.secondary, self._follows.name)
            if found.superuser:
                log.warning("the secondary's user is a superuser; replay needs far less: see docs/init.md")
            return self._run(found)

    @abstractmethod
    def _run(self, found: Found) -> Outcome:
        """Open the journal, make the side that fills it, and `_follow`."""

    def _follow(self, ledger: Ledger, upstream: Filling, find_end: FindEnd | None) -> Outcome:
        """Stand until the end: ``upstream`` fills the journal, and it is replayed."""
        replaying = self._replaying = Replaying(
            self._follows.replay(),
            ledger.found,
            journal=ledger.journal,
            positions=ledger.positions,
            health=ledger.health,
            upstream=upstream,
        )
        if self._foreground.endpoint is not None:
            self._foreground.endpoint.show(replaying.vitals, replaying.lookout)

        def beside(crew: Crew) -> None:
            if find_end is not None:
                crew.start("stop-at", lambda: self._stop_at(find_end, ledger.positions, crew))

        self._foreground.stand([upstream, replaying], self._follows.intervals.stop_grace_s, beside)
        replay_lsn = ledger.positions.lsn(Stage.PERSISTENCE) or INVALID
        reached = find_end is None or (self._end is not None and replay_lsn >= self._end)
        return Outcome(ledger.found.replica.name, replay_lsn, reached)

    def _stop_at(self, find_end: FindEnd, positions: Positions, crew: Crew) -> None:
        lsn = self._end = find_end(crew)
        if lsn is not None and positions.wait(Stage.PERSISTENCE, lsn, None, lambda: crew.stopping):
            log.info("everything up to %s is committed on the secondary", lsn)
            self._foreground.stop()
