"""`logship replay`: the replayer by itself, with a journal of its own, fed by a shipper's relay.

In: the shipper's and the secondary's conninfo, the journal's directory, bounds. Out: when it ends, what it
replayed. It waits for a shipper that doesn't listen yet. It ends as `logship run` does.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from logship.capture.stream import System
from logship.catalog.state import Replica
from logship.config import Address, Cold, Intervals, JournalBounds, ReplayBounds
from logship.errors import PrimaryError
from logship.journal.log import Journal
from logship.lsn import INVALID, Lsn
from logship.service.crew import Crew
from logship.service.following import Following, Outcome
from logship.service.foreground import Foreground
from logship.service.positions import Stage
from logship.service.replay.receiving import Receiving, with_database
from logship.service.replay.relay_probe import mark
from logship.service.replay.replayer import MakeMemory
from logship.service.replay.replaying import Replaying, ReplaySettings
from logship.service.replica import Found, find
from logship.service.ship.shipping import open_journal, positions_of, require_whole
from logship.service.watch.health import Health

if TYPE_CHECKING:  # DuckDB and Arrow are imported only when memory is on
    from logship.replay.memory.memory import Memory

log = logging.getLogger(__name__)

_ASK_AGAIN_S: Final = 0.5


@dataclass(slots=True)
class ReceiveSettings:
    """``applied``: what the shipper is told is applied: what persistence has committed, or what readers of
    memory see and the journal has fsynced."""

    shipper: str
    secondary: str
    journal: Path
    name: str | None = None
    stop_at: Lsn | str | None = (
        None  # "current": where the primary's log ends when the shipper is first asked
    )
    applied: Stage = Stage.PERSISTENCE
    cold: Cold = (
        Cold.PERSISTENCE
    )  # what becomes of a query that memory can't answer, unless it says otherwise
    memory: Callable[[str, str], MakeMemory] | None = None  # from secondary and replica; None: off
    journal_bounds: JournalBounds = field(default_factory=JournalBounds)
    replay_bounds: ReplayBounds = field(default_factory=ReplayBounds)
    intervals: Intervals = field(default_factory=Intervals)
    metrics: Address | None = None  # where figures and status page are served; None: nowhere


class Replay:
    """``Replay(settings).run()`` from the main thread; `stop` from anywhere, a signal handler included."""

    def __init__(self, settings: ReceiveSettings) -> None:
        self._settings = settings
        self._foreground = Foreground(settings.metrics)
        self._replaying: Replaying | None = None

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
        """Replicate until the end. Raises what stopped it. To be called once."""
        with self._foreground.running():
            given = self._settings
            found = find(given.secondary, given.name)
            if found.superuser:
                log.warning("the secondary's user is a superuser; replay needs far less: see docs/init.md")
            replica = found.replica
            # An empty journal begins where persistence is: the shipper keeps what a replica has not flushed.
            journal = open_journal(given.journal, source(replica), found.position, given.journal_bounds)
            try:
                require_whole(journal, found.position)
                return self._replicate(found, journal)
            finally:
                journal.close()

    def _replicate(self, found: Found, journal: Journal) -> Outcome:
        given, replica = self._settings, found.replica
        positions = positions_of(journal)
        health = Health(lambda: positions.lsn(Stage.PERSISTENCE) is not None)
        shipper = with_database(given.shipper, replica.database)
        receiving = Receiving(
            shipper=shipper,
            secondary=given.secondary,
            replica=replica,
            journal=journal,
            positions=positions,
            health=health,
            applied=given.applied,
            intervals=given.intervals,
        )
        replaying = self._replaying = Replaying(
            ReplaySettings(
                given.secondary,
                given.memory,
                given.journal_bounds,
                given.replay_bounds,
                given.intervals,
                given.cold,
            ),
            found,
            journal=journal,
            positions=positions,
            health=health,
            upstream=receiving,
        )

        def find_end(crew: Crew) -> Lsn | None:
            if isinstance(given.stop_at, Lsn):
                return given.stop_at

            def wait(error: PrimaryError) -> bool:
                log.debug("%s; asking again", error)
                return not crew.wait(_ASK_AGAIN_S)

            return mark(shipper, replica.name, wait)

        following = Following(self._foreground, receiving, replaying, positions)
        return following.run(
            replica.name, given.intervals.stop_grace_s, None if given.stop_at is None else find_end
        )


def source(replica: Replica) -> System:
    """Whose log the journal is to hold, as the replica was made from it: the shipper may not be there yet."""
    return System(replica.system_identifier, replica.timeline, INVALID, replica.database)
