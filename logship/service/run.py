"""`logship run`: shipper and replayer in one process, over one journal that is written and fsynced once.

In: both conninfos, the journal's directory, bounds. Out: when it ends, what it replayed. It ends when
it is told to (`stop`, from a signal), when persistence has reached the LSN it was asked to stop at, or
with the error that stopped one of its parts; then all of them stop, and what was received is on disk.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from logship.config import Address, Intervals, JournalBounds, ReplayBounds
from logship.errors import rule_of
from logship.journal.log import Journal
from logship.journal.segment import Source
from logship.lsn import INVALID, Lsn
from logship.replay.persistence import Persistence
from logship.service.crew import Crew
from logship.service.health import Health
from logship.service.hold import Gate, Holds
from logship.service.holdup import HoldUp
from logship.service.lookout import Lookout
from logship.service.lookups import Lookups
from logship.service.objects import objects_of
from logship.service.positions import Positions, Stage
from logship.service.probe import Probe, flushed_position
from logship.service.replayer import MakeMemory, Replayer
from logship.service.replica import Found, find
from logship.service.report import ObjectReport, Reporter
from logship.service.retain import Keeper
from logship.service.shipper import Shipper, require_same_server, survey
from logship.service.vitals import Vitals

if TYPE_CHECKING:  # DuckDB and Arrow are imported only when memory is on
    from logship.replay.memory import Memory
    from logship.service.endpoint import Endpoint

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended. ``replay_lsn`` is committed on the secondary; ``reached`` whether that is the LSN
    that it was to stop at (True when there was none)."""

    replica: str
    replay_lsn: Lsn
    reached: bool


@dataclass(slots=True)
class RunSettings:
    primary: str
    secondary: str
    journal: Path
    name: str | None = None
    stop_at: Lsn | str | None = None  # "current": where the primary's log ends when the run starts
    application_name: str = "logship"
    memory: Callable[[str, str], MakeMemory] | None = None  # from secondary and replica; None: off
    journal_bounds: JournalBounds = field(default_factory=JournalBounds)
    replay_bounds: ReplayBounds = field(default_factory=ReplayBounds)
    intervals: Intervals = field(default_factory=Intervals)
    metrics: Address | None = None  # where figures and status page are served; None: nowhere


class Run:
    """``Run(settings).run()`` from the main thread; `stop` from anywhere, a signal handler included."""

    def __init__(self, settings: RunSettings) -> None:
        self._settings = settings
        self._parts: Parts | None = None
        self._endpoint: Endpoint | None = None
        # A pipe, because a signal handler may not take a lock that the thread it interrupts holds.
        self._ended, self._end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(self._ended, True)

    def __del__(self) -> None:
        os.close(self._end)

    @property
    def memory(self) -> Memory | None:
        """The memory that answers queries now; None while there is none."""
        return self._parts.replayer.memory if self._parts else None

    def stop(self) -> None:
        """End cleanly: what was received is fsynced in the journal."""
        with contextlib.suppress(BlockingIOError, BrokenPipeError):  # full, or ended already
            os.write(self._end, b"\0")

    def run(self) -> Outcome:
        """Replicate until the end. Raises what stopped it. To be called once."""
        try:
            if self._settings.metrics is not None:
                from logship.service.endpoint import Endpoint  # prometheus-client, http.server

                self._endpoint = Endpoint(self._settings.metrics)
            return self._run()
        finally:
            if self._endpoint is not None:
                self._endpoint.close()
            os.close(self._ended)

    @property
    def metrics(self) -> Address | None:
        """Where the figures are served, with the port that was taken; None: nowhere, or not yet."""
        return self._endpoint.address if self._endpoint is not None else None

    def _run(self) -> Outcome:
        given = self._settings
        found = find(given.secondary, given.name)
        replica = found.replica
        if found.superuser:
            log.warning("the secondary's user is a superuser; replay needs far less: see docs/init.md")
        system, slot = survey(given.primary, replica.slot)
        require_same_server(system, replica.system_identifier)
        stop_at = flushed_position(given.primary) if given.stop_at == "current" else given.stop_at
        journal = Journal.open(
            given.journal,
            Source(system.system_identifier, system.timeline, system.database),
            start=slot.confirmed_flush_lsn,
            segment_bytes=given.journal_bounds.segment_bytes,
        )
        try:
            return self._replicate(found, journal, stop_at if isinstance(stop_at, Lsn) else None)
        finally:
            journal.close()

    def _replicate(self, found: Found, journal: Journal, stop_at: Lsn | None) -> Outcome:
        parts = self._parts = Parts(self._settings, found, journal)
        if self._endpoint is not None:
            self._endpoint.show(parts.vitals, parts.lookout)

        def stop_all() -> None:
            parts.stop()
            self.stop()

        crew = Crew(stop_all)
        parts.start(crew)
        if stop_at is not None:
            crew.start("stop-at", lambda: self._wait_for(stop_at, parts.positions, crew))
        os.read(self._ended, 1)
        crew.stop()
        parts.end(crew)
        replay_lsn = parts.positions.lsn(Stage.PERSISTENCE) or INVALID
        if crew.error is not None:
            raise crew.error
        return Outcome(found.replica.name, replay_lsn, stop_at is None or replay_lsn >= stop_at)

    def _wait_for(self, lsn: Lsn, positions: Positions, crew: Crew) -> None:
        if positions.wait(Stage.PERSISTENCE, lsn, None, lambda: crew.stopping):
            log.info("everything up to %s is committed on the secondary", lsn)
            self.stop()


class Parts:
    """The threads of a run, and what they share."""

    def __init__(self, given: RunSettings, found: Found, journal: Journal) -> None:
        replica = found.replica
        self._grace_s = given.intervals.stop_grace_s
        self.positions = positions = Positions()
        positions.reach(Stage.RECEIVED, journal.written_lsn)
        positions.reach(Stage.FLUSHED, journal.flushed_lsn)
        self.health = health = Health(lambda: positions.lsn(Stage.PERSISTENCE) is not None)
        self.reporter = Reporter(
            given.secondary,
            replica.name,
            positions,
            self._objects,
            health,
            interval_s=given.intervals.report_s,
        )
        self._stopping = threading.Event()
        self.persistence = Persistence(
            given.secondary, replica.name, on_retry=self._retried, stop=self._stopping
        )
        self.lookups = Lookups(given.secondary, trouble=self._lookup_trouble)
        gate = Gate()
        self.holds = Holds(given.secondary, replica.name, gate, health.held)
        self.replayer = Replayer(
            journal=journal,
            persistence=self.persistence,
            resolve=self.lookups.resolve,
            make_memory=given.memory and given.memory(given.secondary, replica.name),
            left_out=found.left_out,
            gate=gate,
            positions=positions,
            bounds=given.replay_bounds,
            intervals=given.intervals,
        )
        self.shipper = Shipper(
            primary=given.primary,
            slot=replica.slot,
            publications=[replica.publication],
            system_identifier=replica.system_identifier,
            journal=journal,
            positions=positions,
            application_name=given.application_name,
            feedback_s=given.intervals.feedback_s,
            trouble=self._shipper_trouble,
        )
        positions.on_reach(Stage.PERSISTENCE, self.shipper.wake)
        positions.on_reach(Stage.PERSISTENCE, lambda: health.over("replayer"))
        self.probe = Probe(given.primary, replica.slot, positions, interval_s=given.intervals.report_s)
        self.hold_up = HoldUp(given.secondary, self._replaying_session)
        self.vitals = Vitals(
            replica=replica.name,
            memory_on=given.memory is not None,
            positions=positions,
            health=health,
            journal=journal,
            journal_bounds=given.journal_bounds,
            replay_bounds=given.replay_bounds,
            replayer=self.replayer,
            shipper=self.shipper,
            probe=self.probe,
            hold_up=self.hold_up,
            gate=gate,
        )
        self.lookout = Lookout(
            positions, self.vitals, health, stall_s=given.intervals.stall_s, probe_s=given.intervals.report_s
        )
        self.keeper = Keeper(
            journal, replica.name, positions, given.journal_bounds, interval_s=given.intervals.retention_s
        )

    def start(self, crew: Crew) -> None:
        crew.start("shipper", self.shipper.run)
        crew.start("replayer", self.replayer.run)
        crew.start("probe", self.probe.run)
        crew.start("holds", self.holds.run)
        crew.start("retention", self.keeper.run)
        crew.start("reporter", self.reporter.run)
        crew.start("hold-up", self.hold_up.run)
        crew.start("lookout", self.lookout.run)

    def stop(self) -> None:
        self._stopping.set()
        self.holds.stop()
        for part in (self.shipper, self.replayer, self.lookups, self.probe, self.keeper, self.reporter):
            part.stop()
        self.hold_up.stop()
        self.lookout.stop()
        self.positions.wake()

    def end(self, crew: Crew) -> None:
        """Let every thread end. Persistence cancels by itself what the secondary doesn't finish soon."""
        if not crew.join(self._grace_s):
            log.warning("gave up waiting for %s", ", ".join(crew.alive))
        self.health.ended(crew.error)
        if "reporter" not in crew.alive:  # else it waits for a secondary that doesn't answer
            self.reporter.report()
            self.reporter.close()
        self.lookups.close()
        self.persistence.close()

    def _retried(self, sqlstate: str | None, tries: int) -> None:
        rule, state = rule_of(sqlstate), "" if sqlstate is None else f" (SQLSTATE {sqlstate})"
        message = f"replay on the secondary is tried again (try {tries}): {rule.what}{state}"
        self.health.tried_again("replayer", rule.reason, message, away=sqlstate is None)

    def _shipper_trouble(self, error: Exception | None) -> None:
        if error is None:
            self.health.streams()
        else:
            self.health.trouble("shipper", error)

    def _lookup_trouble(self, error: Exception | None) -> None:
        if error is None:
            self.health.over("lookup")
        else:
            self.health.trouble("lookup", error)

    def _replaying_session(self) -> int | None:
        """The session to ask about; None while nothing is being written there."""
        return self.persistence.backend_pid if self.replayer.work[Stage.PERSISTENCE].at else None

    def _objects(self) -> list[ObjectReport]:
        return objects_of(self.replayer)
