"""The receiving side of `logship replay`: from a shipper's relay into the replayer's own journal.

In: a shipper's conninfo, a replica as `init` left it, the replayer's journal. Out: records in the journal, the
positions received and flushed, and where the primary's log ends, as the shipper knows it.
"""

from __future__ import annotations

import logging

import psycopg
from psycopg import conninfo as libpq

from logship.catalog.state import Replica, note_epoch
from logship.config import Intervals, JournalBounds
from logship.connection import Side, connect
from logship.errors import SecondaryError, ShipperOld
from logship.journal.log import Journal
from logship.service.filling import Filling, trouble
from logship.service.positions import Positions, Stage
from logship.service.replay.receiver import Receiver
from logship.service.replay.relay_probe import RelayProbe
from logship.service.ship.acknowledge import OwnReplica
from logship.service.watch.health import Health

log = logging.getLogger(__name__)


def with_database(shipper: str, database: str) -> str:
    """The shipper's conninfo, with the primary's database where it names none."""
    try:
        given = libpq.conninfo_to_dict(shipper)
        if given.get("dbname") or given.get("service"):
            return shipper
        return libpq.make_conninfo(shipper, dbname=database)
    except psycopg.ProgrammingError:
        return shipper  # whoever connects says what is wrong with it


class Receiving(Filling):
    """A `Side`: the threads receiver and probe."""

    def __init__(
        self,
        *,
        shipper: str,
        secondary: str,
        replica: Replica,
        journal: Journal,
        positions: Positions,
        health: Health,
        applied: Stage,
        bounds: JournalBounds,
        intervals: Intervals,
    ) -> None:
        self._epochs = SeenEpochs(secondary, replica)
        self.receiver = Receiver(
            shipper=shipper,
            replica=replica,
            journal=journal,
            positions=positions,
            acknowledge=OwnReplica(positions, applied),
            check_epoch=self._epochs.check,
            feedback_s=intervals.feedback_s,
            receiver_timeout_s=intervals.receiver_timeout_s,
            trouble=trouble(health),
            bounds=bounds,
        )
        self.probe = RelayProbe(shipper, replica.name, positions, interval_s=intervals.report_s)
        positions.on_reach(Stage.PERSISTENCE, self.receiver.moved)
        if applied is Stage.MEMORY:
            positions.on_reach(Stage.MEMORY, self.receiver.moved)
        super().__init__("receiver", self.receiver, self.probe)


class SeenEpochs:
    """The highest epoch of a shipper that this replica has followed: an older one has been succeeded.

    It is kept on the secondary. While that is away it is known to this process only, which does no harm: the
    shipper that was succeeded can't acknowledge anything to the primary any more, nor get anything new from it.
    """

    def __init__(self, secondary: str, replica: Replica) -> None:
        self._secondary = secondary
        self._replica = replica.name
        self._seen = self._stored = replica.shipper_epoch or 0

    def check(self, epoch: int) -> None:
        """`ShipperOld` when ``epoch`` is older than one that was seen before; else it is kept."""
        if epoch < self._seen:
            raise ShipperOld(epoch, self._seen)
        self._seen = epoch
        if self._stored < self._seen:
            self._store()

    def _store(self) -> None:
        try:
            with connect(self._secondary, Side.SECONDARY, application_name="logship epoch") as connection:
                note_epoch(connection, self._replica, self._seen)
        except (psycopg.Error, SecondaryError) as error:
            log.warning("the shipper's epoch isn't stored on the secondary: %s", type(error).__name__)
        else:
            self._stored = self._seen
