"""The replayer's side of a program: from the journal into memory and persistence, and what it shows of itself.

In: a replica as `init` left it, a journal that somebody fills (`Upstream`). Out: rows, positions, reports.
`logship run` and `logship replay` have one. Nothing is acknowledged here: positions say how far each
stage is, and whoever fills the journal reports them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from logship.config import Cold, Intervals, JournalBounds, ReplayBounds
from logship.errors import rule_of
from logship.journal.log import Journal
from logship.lsn import INVALID, Lsn
from logship.replay.ddl.message import Verifier
from logship.replay.persistence import Persistence
from logship.service.crew import Crew
from logship.service.memory.readers import MemoryReaders
from logship.service.positions import Positions, Stage
from logship.service.replay.hold import Gate, Holds
from logship.service.replay.lookups import Lookups
from logship.service.replay.objects import objects_of
from logship.service.replay.replayer import MakeMemory, Replayer
from logship.service.replay.report import ObjectReport, Reporter
from logship.service.replica import Found, Unreplicated
from logship.service.ship.retain import Keeper
from logship.service.watch.health import Health
from logship.service.watch.holdup import HoldUp
from logship.service.watch.lookout import Lookout
from logship.service.watch.vitals import Upstream, Vitals

if TYPE_CHECKING:  # DuckDB and Arrow are imported only when memory is on
    from logship.replay.memory.memory import Memory
    from logship.service.memory.reader import MemoryReader


@dataclass(frozen=True, slots=True)
class ReplaySettings:
    """What the replayer's side is given, whoever fills its journal."""

    secondary: str
    memory: Callable[[str, str], MakeMemory] | None  # from secondary and replica; None: off
    journal_bounds: JournalBounds
    replay_bounds: ReplayBounds
    intervals: Intervals
    cold: Cold = Cold.PERSISTENCE  # unless a query says otherwise


class Replaying:
    """A `Side`: the threads replayer, holds, memory-readers, retention, reporter, hold-up and lookout."""

    def __init__(
        self,
        given: ReplaySettings,
        found: Found,
        *,
        journal: Journal,
        positions: Positions,
        health: Health,
        upstream: Upstream,
    ) -> None:
        self._replica = replica = found.replica.name
        self._given = given
        self._positions = positions
        self._health = health
        self._reporter = Reporter(
            given.secondary, replica, positions, self._objects, health, interval_s=given.intervals.report_s,
            history=given.replay_bounds.history,
        )  # fmt: skip
        self._stopping = threading.Event()
        self._persistence = Persistence(
            given.secondary, replica, lock_timeout_s=given.replay_bounds.lock_timeout_s,
            refresh_views=given.replay_bounds.refresh_views, sessions=given.replay_bounds.apply_sessions,
            on_retry=self._retried, stop=self._stopping,
            on_mended=lambda: health.over("replayer"),
        )  # fmt: skip
        self._lookups = Lookups(given.secondary, trouble=self._lookup_trouble)
        gate = Gate()
        unreplicated = Unreplicated(found.left_out)
        self._holds = Holds(given.secondary, replica, gate, health.held)
        self._readers = MemoryReaders(given.secondary, replica, self._make_reader)
        self.replayer = Replayer(
            journal=journal,
            persistence=self._persistence,
            resolve=self._lookups.resolve,
            verifier=lambda: Verifier(self._lookups.ddl_keys, found.replica.database),
            renamed=lambda: self._lookups.renamed(replica),
            make_memory=given.memory and given.memory(given.secondary, replica),
            left_out=unreplicated,
            leave_out=unreplicated.since.add if found.replica.keyless == "leave-out" else None,
            gate=gate,
            positions=positions,
            bounds=given.replay_bounds,
            intervals=given.intervals,
        )
        positions.on_reach(Stage.PERSISTENCE, lambda: health.over("replayer"))
        self._hold_up = HoldUp(given.secondary, self._replaying_session)
        self.vitals = Vitals(
            replica=replica,
            memory_on=given.memory is not None,
            positions=positions,
            health=health,
            journal=journal,
            journal_bounds=given.journal_bounds,
            replay_bounds=given.replay_bounds,
            replayer=self.replayer,
            upstream=upstream,
            hold_up=self._hold_up,
            gate=gate,
        )
        self.lookout = Lookout(
            positions, self.vitals, health, stall_s=given.intervals.stall_s, probe_s=given.intervals.report_s
        )
        self._keeper = Keeper(
            journal, self.needed, given.journal_bounds, interval_s=given.intervals.retention_s
        )

    @property
    def memory(self) -> Memory | None:
        """The memory that answers queries now; None while there is none."""
        return self.replayer.memory

    def _make_reader(self) -> MemoryReader:
        from logship.service.memory.reader import MemoryReader

        return MemoryReader(
            self._replica,
            memory=lambda: self.replayer.memory,
            wake=self.replayer.wake_memory,
            switched_on=self._given.memory is not None,
            positions=self._positions,
            cold=self._given.cold,
        )

    def start(self, crew: Crew) -> None:
        crew.start("replayer", self.replayer.run)
        crew.start("holds", self._holds.run)
        crew.start("memory-readers", self._readers.run)
        crew.start("retention", self._keeper.run)
        crew.start("reporter", self._reporter.run)
        crew.start("hold-up", self._hold_up.run)
        crew.start("lookout", self.lookout.run)

    def stop(self) -> None:
        self._stopping.set()
        self._holds.stop()
        self._readers.stop()
        for part in (self.replayer, self._lookups, self._keeper, self._reporter):
            part.stop()
        self._hold_up.stop()
        self.lookout.stop()
        self._positions.wake()

    def end(self, crew: Crew) -> None:
        """Persistence cancels by itself what the secondary doesn't finish soon."""
        self._health.ended(crew.error)
        if "reporter" not in crew.alive:  # else it waits for a secondary that doesn't answer
            self._reporter.report()
            self._reporter.close()
        self._lookups.close()
        self._persistence.close()

    def needed(self) -> Mapping[str, Lsn] | None:
        """From where this replica needs the journal: from what the secondary has committed, where it begins again.
        The stage may be further, when nothing was to be written and the position couldn't be stored yet."""
        stored = self._persistence.position
        return None if stored == INVALID else {self._replica: stored}

    def _retried(self, sqlstate: str | None, tries: int, why_not: str) -> None:
        """``why_not``: no connection could be made."""
        rule, state = rule_of(sqlstate), "" if sqlstate is None else f" (SQLSTATE {sqlstate})"
        message = f"replay on the secondary is tried again (try {tries}): {why_not or rule.what + state}"
        self._health.tried_again("replayer", rule.reason, message, away=sqlstate is None or bool(why_not))

    def _lookup_trouble(self, error: Exception | None) -> None:
        if error is None:
            self._health.over("lookup")
        else:
            self._health.trouble("lookup", error)

    def _replaying_session(self) -> int | None:
        """The session to ask about; None while nothing is being written there."""
        return self._persistence.backend_pid if self.replayer.work[Stage.PERSISTENCE].at else None

    def _objects(self) -> list[ObjectReport]:
        return objects_of(self.replayer)
