"""A shipper of its own in a thread of the test: a journal, its walsender, its probe."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from logship.capture.slot import SlotStream
from logship.config import MIB, Intervals, JournalBounds
from logship.lsn import Lsn
from logship.service.crew import Crew
from logship.service.ship.acknowledge import OwnReplica
from logship.service.ship.epoch import Epoch
from logship.service.ship.replicas import Replicas
from logship.service.ship.replication_report import OwnRow
from logship.service.ship.shipping import Shipping, open_journal, positions_of
from logship.service.watch.health import Health
from tests.servers import Database, eventually

PUBLICATION = "everything"


class Ship:
    """Ships ``slot`` into ``directory`` until the ``with`` block ends. ``error``: what stopped it."""

    def __init__(
        self,
        primary: Database,
        slot: str,
        directory: Path,
        *,
        user: str | None = None,
        replicas: Replicas | None = None,
        heartbeat_s: float = 0.0,
        application_name: str = "logship",
    ) -> None:
        conninfo = primary.conninfo if user is None else primary.conninfo_as(user)
        with SlotStream(conninfo, application_name="test") as stream:
            system = stream.identify()
        start = primary.value(
            "select confirmed_flush_lsn::text from pg_replication_slots where slot_name = %s", [slot]
        )
        self.journal = open_journal(directory, system, Lsn.parse(start), JournalBounds(segment_bytes=4 * MIB))
        self.positions = positions_of(self.journal)
        self.health = Health()
        own = OwnReplica(self.positions)
        self.shipping = Shipping(
            primary=conninfo,
            slot=slot,
            publication=PUBLICATION,
            system_identifier=system.system_identifier,
            journal=self.journal,
            positions=self.positions,
            health=self.health,
            epoch=Epoch(slot, application_name),
            acknowledge=replicas or own,
            rows=replicas.rows if replicas else OwnRow("own", self.positions, own, self._awaited),
            intervals=Intervals(report_s=0.05, feedback_s=0.2, heartbeat_s=heartbeat_s),
        )
        self._crew = Crew(self.shipping.stop)
        self.shipping.start(self._crew)

    def _awaited(self) -> bool:
        return self.shipping.shipper.pace.awaited

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._crew.stop()
        assert self._crew.join(30)
        self.journal.close()

    @property
    def error(self) -> BaseException | None:
        return self._crew.error

    @property
    def epoch(self) -> int | None:
        return self.shipping.shipper.epoch.number

    def streaming(self) -> Self:
        def there() -> bool:
            assert self.error is None, self.error
            return self.health.ready

        eventually(there, what="it streams")
        return self
