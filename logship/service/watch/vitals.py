"""What a run shows of itself, gathered from its parts when somebody asks: for the lookout, the figures and
the status page.

In: the parts of a run. Out: plain values, as of now. What nobody knows is None. Reads counters and
positions that exist anyway; nothing is counted here, and nothing here waits for a server.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import logship
from logship.config import JournalBounds, ReplayBounds
from logship.journal.log import Journal
from logship.lsn import INVALID, Lsn
from logship.service.positions import Positions, Stage
from logship.service.replay.hold import Gate
from logship.service.replay.objects import objects_of
from logship.service.replay.replayer import Replayer
from logship.service.replay.report import ObjectReport
from logship.service.replay.work import Work
from logship.service.watch.health import Health, State
from logship.service.watch.holdup import HoldUp, Seen
from logship.service.watch.lookout import Lookout
from logship.service.watch.probe import Answer
from logship.service.watch.watch import Condition, Verdict

if TYPE_CHECKING:  # asyncio and the relay are imported only where there is one
    from logship.relay.server import RelayServer
    from logship.service.ship.replicas import Replicas

STARTED: Final = time.time()
_MOST_OBJECTS: Final = 500


@dataclass(frozen=True, slots=True)
class StageFigures:
    """One stage as of now. ``lsn`` None: not known, or there is no such stage in this run."""

    stage: Stage
    lsn: Lsn | None
    lag_bytes: int | None
    lag_s: float | None
    verdict: Verdict


class Upstream(Protocol):
    """Who fills the journal: a shipper in this process, or the receiver of another's."""

    @property
    def received_bytes(self) -> int:
        """Of the stream, since the start."""

    @property
    def answer(self) -> Answer | None:
        """What the primary last said of its log and of the slot; None: nothing yet."""


@dataclass(slots=True)
class ShipperVitals:
    """Of `logship ship`, which replays nothing. Its figures are labelled with the slot, where a replayer's are
    with the replica; those of its replicas are what `logship.stat_replication` on the primary shows, too."""

    slot: str
    positions: Positions
    health: Health
    journal: Journal
    journal_bounds: JournalBounds
    upstream: Upstream
    relay: RelayServer
    replicas: Replicas

    @property
    def replica(self) -> str:
        return self.slot

    @property
    def received_bytes(self) -> int:
        return self.upstream.received_bytes

    @property
    def answer(self) -> Answer | None:
        return self.upstream.answer

    def primary_age_s(self) -> float | None:
        """How long ago the primary last said where its log ends."""
        return None if self.answer is None else max(0.0, time.monotonic() - self.answer.at_s)


@dataclass(slots=True)
class Vitals:
    replica: str
    memory_on: bool
    positions: Positions
    health: Health
    journal: Journal
    journal_bounds: JournalBounds
    replay_bounds: ReplayBounds
    replayer: Replayer
    upstream: Upstream
    hold_up: HoldUp
    gate: Gate

    # -- for the lookout -----------------------------------------------------------------------------

    @property
    def work(self) -> Mapping[Stage, Work]:
        return self.replayer.work

    @property
    def restarts(self) -> int:
        return self.replayer.restarts

    @property
    def received_bytes(self) -> int:
        return self.upstream.received_bytes

    @property
    def answer(self) -> Answer | None:
        return self.upstream.answer

    @property
    def seen(self) -> Seen | None:
        return self.hold_up.seen

    @property
    def held(self) -> bool:
        return self.gate.limit is not None

    @property
    def loading(self) -> Sequence[str]:
        memory = self.replayer.memory
        states = memory.objects() if memory else []
        return [f"{o.schemaname}.{o.relname}" for o in states if o.residence.value == "loading"]

    @property
    def done(self) -> tuple[int, int, int]:
        replayed = self.replayer.replayed
        return replayed.transactions, replayed.changes, replayed.size_bytes

    # -- for the figures -----------------------------------------------------------------------------

    def stages(self) -> list[StageFigures]:
        primary, verdicts = self.positions.primary, self.health.verdicts
        received = (
            self.positions.lsn(Stage.RECEIVED) or INVALID
        )  # is in the primary's log, whatever it said last
        found = []
        for stage in Stage:
            lsn, lag_us = self.positions.lsn(stage), self.positions.lag_us(stage)
            behind = None if lsn is None or primary is None else max(0, primary[0] - lsn, received - lsn)
            seconds = None if lag_us is None else lag_us / 1e6
            verdict = verdicts.get(stage, Verdict(Condition.UNKNOWN))
            found.append(StageFigures(stage, lsn, behind, seconds, verdict))
        return found

    def primary_age_s(self) -> float | None:
        """How long ago the primary last said where its log ends."""
        return None if self.answer is None else max(0.0, time.monotonic() - self.answer.at_s)

    def objects(self) -> list[ObjectReport]:
        return objects_of(self.replayer)

    # -- for the page --------------------------------------------------------------------------------

    def status(self, lookout: Lookout, after: int = 0) -> dict[str, Any]:
        """Everything that the page shows, in JSON's types. ``after``: the number of the last look it has."""
        health, objects = self.health, self.objects()
        state = health.state
        error = health.last_error
        return {
            "replica": self.replica,
            "state": state.value,
            "ready": health.ready,
            "reason": health.reason,
            "now": time.time(),
            "started": STARTED,
            "version": logship.__version__,
            "primary": self._primary(),
            "stages": [self._stage(figures, state) for figures in self.stages()],
            "history": _history(lookout, after),
            "replayed": self._replayed(),
            "rates": _rates(lookout),
            "queues": {stage.value: size for stage, size in self.replayer.queued_bytes.items()},
            "queue_limit": self.replay_bounds.queue_bytes,
            "journal": self._journal(),
            "slot": self._slot(),
            "objects": [_object(o) for o in sorted(objects, key=_by_change, reverse=True)[:_MOST_OBJECTS]],
            "objects_total": len(objects),
            "last_error": None if error is None else {"message": error[0], "at": error[1].timestamp()},
            "errors": health.errors,
            "retries": [
                {"stage": who, "reason": reason, "count": count}
                for (who, reason), count in sorted(health.retries.items())
            ],
            "resident_memory": resident_memory(),
        }

    def _primary(self) -> dict[str, Any]:
        primary = self.positions.primary
        return {"lsn": None if primary is None else str(primary[0]), "age": self.primary_age_s()}

    def _stage(self, figures: StageFigures, state: State) -> dict[str, Any]:
        verdict = figures.verdict
        absent = figures.stage is Stage.MEMORY and not self.memory_on
        return {
            "stage": figures.stage.value,
            "condition": "off" if absent else verdict.condition.value,
            "lsn": None if figures.lsn is None else str(figures.lsn),
            "lag_bytes": figures.lag_bytes,
            "lag": figures.lag_s,
            "standing": verdict.standing_s,
            "reason": verdict.reason,
        }

    def _replayed(self) -> dict[str, Any]:
        replayed = self.replayer.replayed
        return {
            "transactions": replayed.transactions,
            "changes": replayed.changes,
            "coalesced": replayed.coalesced,
            "bytes": replayed.size_bytes,
            "batches": {stage.value: work.finished for stage, work in self.work.items()},
        }

    def _journal(self) -> dict[str, Any]:
        segments = self.journal.segments()
        fsyncs = self.journal.fsyncs
        return {
            "bytes": sum(segment.bytes for segment in segments),
            "limit": self.journal_bounds.limit_bytes,
            "segments": len(segments),
            "oldest_lsn": str(segments[0].first_lsn) if segments else None,
            "newest_lsn": str(self.journal.written_lsn),
            "fsyncs": fsyncs.count,
            "fsync_mean": fsyncs.sum_s / fsyncs.count if fsyncs.count else None,
        }

    def _slot(self) -> dict[str, Any] | None:
        answer = self.answer
        if answer is None:
            return None
        slot = answer.slot
        return {
            "exists": slot.exists,
            "active": slot.active,
            "wal_status": slot.wal_status,
            "retained": slot.retained_bytes,
            "safe_wal_size": slot.safe_wal_size,
            "age": self.primary_age_s(),
        }


def _history(lookout: Lookout, after: int) -> dict[str, Any]:
    looks = lookout.looks(after)
    return {
        "last": looks[-1].number if looks else after,
        "at": [round(look.at_s, 1) for look in looks],
        "lag": {
            stage.value: [None if (lag := look.lag_s[i]) is None else round(lag, 4) for look in looks]
            for i, stage in enumerate(Stage)
        },
    }


def _rates(lookout: Lookout) -> dict[str, float | None]:
    rates = lookout.rates() or (None, None, None)
    return dict(zip(("transactions", "changes", "bytes"), rates, strict=True))


def _by_change(report: ObjectReport) -> tuple[int, str, str]:
    return (int(report.last_change_lsn or 0), report.schemaname, report.relname)


def _object(report: ObjectReport) -> dict[str, Any]:
    return {
        "schemaname": report.schemaname,
        "relname": report.relname,
        "residence": report.residence,
        "rows": report.rows,
        "bytes": report.bytes,
        "loads": report.loads,
        "evictions": report.evictions,
        "dml_memory": report.dml_memory,
        "dml_persistence": report.dml_persistence,
        "last_change_lsn": None if report.last_change_lsn is None else str(report.last_change_lsn),
    }


def resident_memory() -> int | None:
    """Bytes of the machine's memory that this process takes (proc(5), statm); None where there is no /proc."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return None
    import resource

    return pages * resource.getpagesize()


def build() -> dict[str, str]:
    return {"version": logship.__version__, "python": platform.python_version()}
