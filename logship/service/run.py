"""`logship run`: shipper and replayer in one process, over one journal that is written and fsynced once.

In: both conninfos, the journal's directory, bounds. Out: when it ends, what it replayed. It ends when
it is told to (`stop`, from a signal), when persistence has reached the LSN it was asked to stop at, or
with the error that stopped one of its parts; then all of them stop, and what was received is on disk.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from logship.config import Address, Cold, Intervals, JournalBounds, ReplayBounds
from logship.journal.log import Journal
from logship.lsn import Lsn
from logship.service.following import Following, Outcome
from logship.service.foreground import Foreground
from logship.service.positions import Stage
from logship.service.replay.replayer import MakeMemory
from logship.service.replay.replaying import Replaying, ReplaySettings
from logship.service.replica import Found, find
from logship.service.ship.acknowledge import OwnReplica
from logship.service.ship.epoch import Epoch
from logship.service.ship.replication_report import OwnRow
from logship.service.ship.shipper import require_log_reaches, survey
from logship.service.ship.shipping import Shipping, positions_of, require_from
from logship.service.ship.takeover import take_over
from logship.service.watch.health import Health
from logship.service.watch.probe import flushed_position

if TYPE_CHECKING:  # DuckDB and Arrow are imported only when memory is on
    from logship.replay.memory.memory import Memory

__all__ = ["Outcome", "Run", "RunSettings"]

log = logging.getLogger(__name__)


@dataclass(slots=True)
class RunSettings:
    primary: str
    secondary: str
    journal: Path
    name: str | None = None
    stop_at: Lsn | str | None = None  # "current": where the primary's log ends when the run starts
    application_name: str = "logship"
    new_journal: bool = False  # the slot was read into another journal, which is given up knowingly
    cold: Cold = (
        Cold.PERSISTENCE
    )  # what becomes of a query that memory can't answer, unless it says otherwise
    applied: Stage = Stage.PERSISTENCE  # or memory: what the primary is told is applied
    memory: Callable[[str, str], MakeMemory] | None = None  # from secondary and replica; None: off
    journal_bounds: JournalBounds = field(default_factory=JournalBounds)
    replay_bounds: ReplayBounds = field(default_factory=ReplayBounds)
    intervals: Intervals = field(default_factory=Intervals)
    metrics: Address | None = None  # where figures and status page are served; None: nowhere


class Run:
    """``Run(settings).run()`` from the main thread; `stop` from anywhere, a signal handler included."""

    def __init__(self, settings: RunSettings) -> None:
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
            return self._run()

    def _run(self) -> Outcome:
        given = self._settings
        found = find(given.secondary, given.name)
        if found.superuser:
            log.warning("the secondary's user is a superuser; replay needs far less: see docs/init.md")
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
            return self._replicate(found, journal, epoch, stop_at if isinstance(stop_at, Lsn) else None)
        finally:
            journal.close()

    def _replicate(self, found: Found, journal: Journal, epoch: Epoch, stop_at: Lsn | None) -> Outcome:
        given, replica = self._settings, found.replica
        positions = positions_of(journal)
        health = Health(lambda: positions.lsn(Stage.PERSISTENCE) is not None)
        shipping = Shipping(
            primary=given.primary,
            slot=replica.slot,
            publication=replica.publication,
            system_identifier=replica.system_identifier,
            journal=journal,
            positions=positions,
            health=health,
            epoch=epoch,
            acknowledge=OwnReplica(positions, given.applied),
            rows=OwnRow(replica.name, positions),
            intervals=given.intervals,
        )
        if given.applied is Stage.MEMORY:
            positions.on_reach(Stage.MEMORY, shipping.shipper.moved)
        settings = ReplaySettings(
            given.secondary,
            given.memory,
            given.journal_bounds,
            given.replay_bounds,
            given.intervals,
            given.cold,
        )
        replaying = self._replaying = Replaying(
            settings, found, journal=journal, positions=positions, health=health, upstream=shipping
        )
        following = Following(self._foreground, shipping, replaying, positions)
        return following.run(
            replica.name, given.intervals.stop_grace_s, None if stop_at is None else lambda _: stop_at
        )
