"""`logship replay`: the replayer by itself, with a journal of its own, fed by a shipper's relay.

In: the shipper's and the secondary's conninfo, the journal's directory, bounds. Out: when it ends, what it
replayed. It waits for a shipper that doesn't listen yet. It ends as `logship run` does.
"""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from typing import Final

from logship.capture.stream import System
from logship.catalog.state import Replica
from logship.errors import PrimaryError
from logship.lsn import INVALID, Lsn
from logship.service.crew import Crew
from logship.service.following import FindEnd, Following, FollowSettings, Ledger, Outcome
from logship.service.replay.receiving import Receiving, with_database
from logship.service.replay.relay_probe import mark
from logship.service.replica import Found
from logship.service.ship.shipping import open_journal, require_whole

log = logging.getLogger(__name__)

_ASK_AGAIN_S: Final = 0.5


@dataclass(slots=True, kw_only=True)
class ReceiveSettings(FollowSettings):
    shipper: str

    def __post_init__(self) -> None:
        # What this replica has flushed the shipper doesn't keep: it stays here until the secondary has it.
        self.journal_bounds = dataclasses.replace(self.journal_bounds, lossless=True)


class Replay(Following):
    """``Replay(settings).run()``."""

    def __init__(self, settings: ReceiveSettings) -> None:
        super().__init__(settings)
        self._settings = settings

    def _run(self, found: Found) -> Outcome:
        given, replica = self._settings, found.replica
        shipper = with_database(given.shipper, replica.database)
        # An empty journal begins where persistence is: the shipper keeps what a replica has not flushed.
        journal = open_journal(given.journal, source(replica), found.position, given.journal_bounds)
        try:
            require_whole(journal, found.position)
            ledger = Ledger.over(found, journal)
            return self._follow(ledger, self._receiving(ledger, shipper), self._find_end(shipper, replica))
        finally:
            journal.close()

    def _receiving(self, ledger: Ledger, shipper: str) -> Receiving:
        given = self._settings
        return Receiving(
            shipper=shipper,
            secondary=given.secondary,
            replica=ledger.found.replica,
            journal=ledger.journal,
            positions=ledger.positions,
            health=ledger.health,
            applied=given.applied,
            bounds=given.journal_bounds,
            intervals=given.intervals,
        )

    def _find_end(self, shipper: str, replica: Replica) -> FindEnd | None:
        stop_at = self._settings.stop_at
        if stop_at is None:
            return None

        def find_end(crew: Crew) -> Lsn | None:
            if isinstance(stop_at, Lsn):
                return stop_at

            def wait(error: PrimaryError) -> bool:
                log.debug("%s; asking again", error)
                return not crew.wait(_ASK_AGAIN_S)

            return mark(shipper, replica.name, wait)

        return find_end


def source(replica: Replica) -> System:
    """Whose log the journal is to hold, as the replica was made from it: the shipper may not be there yet."""
    return System(replica.system_identifier, replica.timeline, INVALID, replica.database)
