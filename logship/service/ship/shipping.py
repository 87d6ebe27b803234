"""The shipper's side of a program: from the primary's walsender into the journal, and what is said back to it.

In: a replica's slot on the primary, a journal of its own source. Out: records in the journal, the positions
received and flushed, and where the primary's log ends. `logship run` and `logship ship` have one, and
`logship replay --primary`, whose journal is the replayer's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from logship.capture.slot import System
from logship.config import Intervals, JournalBounds
from logship.errors import JournalTooOld
from logship.journal.log import Journal
from logship.journal.segment import Source
from logship.lsn import Lsn
from logship.service.filling import Filling, trouble
from logship.service.positions import Positions, Stage
from logship.service.ship.acknowledge import Acknowledge
from logship.service.ship.epoch import Epoch
from logship.service.ship.heartbeat import Heartbeat
from logship.service.ship.replicas import ReplicaRow
from logship.service.ship.replication_report import ReplicationReport
from logship.service.ship.sequences import Sequences
from logship.service.ship.shipper import Shipper
from logship.service.watch.health import Health
from logship.service.watch.probe import Probe


def open_journal(
    directory: Path, system: System, start: Lsn | Callable[[], Lsn], bounds: JournalBounds
) -> Journal:
    """The journal of that server's database; an empty directory's begins at ``start``. See `Journal.open`."""
    source = Source(system.system_identifier, system.timeline, system.database)
    return Journal.open(directory, source, start=start, segment_bytes=bounds.segment_bytes)


def require_whole(journal: Journal, position: Lsn) -> None:
    """`JournalTooOld` when ``journal`` lacks what follows ``position``. To be asked before the first byte is
    received: what a wrong journal acknowledges, the right one never gets."""
    require_from(journal.oldest_lsn, position)


def require_from(oldest: Lsn, position: Lsn) -> None:
    """`JournalTooOld` when a journal that begins at ``oldest`` lacks what follows ``position``."""
    if oldest > position:
        raise JournalTooOld(position, oldest)


def positions_of(journal: Journal) -> Positions:
    """What is known of the stages before anything runs: the journal's own end."""
    positions = Positions()
    positions.reach(Stage.RECEIVED, journal.written_lsn)
    positions.reach(Stage.FLUSHED, journal.flushed_lsn)
    return positions


class Shipping(Filling):
    """A `Side`: the threads shipper and probe."""

    def __init__(
        self,
        *,
        primary: str,
        slot: str,
        publication: str,
        system_identifier: int,
        journal: Journal,
        positions: Positions,
        health: Health,
        epoch: Epoch,
        acknowledge: Acknowledge,
        rows: Callable[[], Sequence[ReplicaRow]],
        intervals: Intervals,
    ) -> None:
        """``epoch``: see `Shipper`. ``rows``: what the primary's view is told of the replicas."""
        self.shipper = Shipper(
            primary=primary,
            slot=slot,
            publications=[publication],
            system_identifier=system_identifier,
            journal=journal,
            positions=positions,
            application_name=epoch.application_name,
            feedback_s=intervals.feedback_s,
            receiver_timeout_s=intervals.receiver_timeout_s,
            trouble=trouble(health),
            acknowledge=acknowledge,
            epoch=epoch,
        )
        heartbeat = Heartbeat(lambda: self.shipper.transactions, intervals.heartbeat_s)
        report = ReplicationReport(slot, rows)
        self.probe = Probe(
            primary,
            slot,
            positions,
            interval_s=min(intervals.report_s, 1.0),  # a shipper that was succeeded has to notice soon
            looks=(
                self.shipper.epoch.check,
                self.shipper.pace.look,
                heartbeat.look,
                report.look,
                Sequences().look,
            ),
        )
        positions.on_reach(Stage.PERSISTENCE, self.shipper.moved)
        super().__init__("shipper", self.shipper, self.probe)
