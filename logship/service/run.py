"""`logship run`: shipper and replayer in one process, over one journal that is written and fsynced once.

In: both conninfos, the journal's directory, bounds. Out: when it ends, what it replayed. It ends when
it is told to (`stop`, from a signal), when persistence has reached the LSN it was asked to stop at, or
with the error that stopped one of its parts; then all of them stop, and what was received is on disk.
"""

from __future__ import annotations

from dataclasses import dataclass

from logship.lsn import Lsn
from logship.service.following import Following, FollowSettings, Ledger, Outcome
from logship.service.positions import Stage
from logship.service.replica import Found
from logship.service.ship.acknowledge import OwnReplica
from logship.service.ship.epoch import Epoch
from logship.service.ship.replication_report import OwnRow
from logship.service.ship.shipper import require_log_reaches, survey
from logship.service.ship.shipping import Shipping, require_from
from logship.service.ship.takeover import take_over
from logship.service.watch.probe import flushed_position

__all__ = ["Outcome", "Run", "RunSettings"]


@dataclass(slots=True, kw_only=True)
class RunSettings(FollowSettings):
    primary: str
    application_name: str = "logship"
    new_journal: bool = False  # the slot was read into another journal, which is given up knowingly


class Run(Following):
    """``Run(settings).run()``."""

    def __init__(self, settings: RunSettings) -> None:
        super().__init__(settings)
        self._settings = settings

    def _run(self, found: Found) -> Outcome:
        given = self._settings
        slot = found.replica.slot
        system = survey(given.primary, slot, found.replica.system_identifier)
        require_log_reaches(system, found.position, "the secondary")
        stop_at = flushed_position(given.primary) if given.stop_at == "current" else given.stop_at
        epoch = Epoch(slot, given.application_name, given.new_journal)
        journal = take_over(
            given.primary,
            epoch,
            system,
            given.journal,
            given.journal_bounds,
            stopped=self._foreground.stopped,
            require=lambda oldest: require_from(oldest, found.position),
        )
        try:
            ledger = Ledger.over(found, journal)
            find_end = None if not isinstance(stop_at, Lsn) else lambda _: stop_at
            return self._follow(ledger, self._shipping(ledger, epoch), find_end)
        finally:
            journal.close()

    def _shipping(self, ledger: Ledger, epoch: Epoch) -> Shipping:
        given, replica, positions = self._settings, ledger.found.replica, ledger.positions
        own = OwnReplica(positions, given.applied)
        shipping = Shipping(
            primary=given.primary,
            slot=replica.slot,
            publication=replica.publication,
            system_identifier=replica.system_identifier,
            journal=ledger.journal,
            positions=positions,
            health=ledger.health,
            epoch=epoch,
            acknowledge=own,
            rows=OwnRow(replica.name, positions, own, lambda: shipping.shipper.pace.awaited),
            intervals=given.intervals,
        )
        if given.applied is Stage.MEMORY:
            positions.on_reach(Stage.MEMORY, shipping.shipper.moved)
        return shipping
