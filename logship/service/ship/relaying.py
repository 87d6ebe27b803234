"""The relay's side of `logship ship`: its server, its registry of replicas, and what it keeps of the journal for them.

In: these parts, made. Out: the threads relay, registrar and retention; a replica that lost log is said in the log.
"""

from __future__ import annotations

import logging

from logship.config import Intervals, JournalBounds
from logship.journal.log import Journal
from logship.journal.retention import Retention
from logship.relay.server import RelayServer
from logship.service.crew import Crew
from logship.service.ship.registered import RegisteredReplicas
from logship.service.ship.registrar import Registrar
from logship.service.ship.retain import Keeper

log = logging.getLogger(__name__)


class Relaying:
    """A `Side`."""

    def __init__(
        self,
        relay: RelayServer,
        registrar: Registrar,
        journal: Journal,
        registered: RegisteredReplicas,
        *,
        bounds: JournalBounds,
        intervals: Intervals,
    ) -> None:
        self._relay = relay
        self._registrar = registrar
        self._registered = registered
        self._keeper = Keeper(
            journal, registered.needed, bounds, interval_s=intervals.retention_s, done=self._dropped
        )

    def start(self, crew: Crew) -> None:
        crew.start("relay", self._relay.run)
        crew.start("registrar", self._registrar.run)
        crew.start("retention", self._keeper.run)

    def stop(self) -> None:
        self._relay.stop()
        self._registrar.stop()
        self._keeper.stop()

    def end(self, crew: Crew) -> None:
        self._relay.close()

    def _dropped(self, retention: Retention) -> None:
        for name in self._registered.begins_at(retention.oldest_lsn):
            log.warning(
                'replica "%s" lost log that it needed: the journal reached its limit and begins at %s now',
                name,
                retention.oldest_lsn,
            )
