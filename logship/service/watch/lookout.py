"""Watches the stages while they run: looks once a second, and keeps what it saw for some minutes.

In: positions, the probe's and the hold-up's answers, what the stores are at. Out: verdicts, told to `Health`
and to the log when a stage begins to stand and when all move again; a bounded history of each stage's lag,
which the status page draws. Only reads; whatever it sees, it stops nothing.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from logship.lsn import Lsn
from logship.service.positions import Positions, Stage
from logship.service.replay.work import Work
from logship.service.watch.health import Health
from logship.service.watch.holdup import Seen
from logship.service.watch.probe import Answer
from logship.service.watch.watch import Condition, Sighting, Verdict, Watch

log = logging.getLogger(__name__)

_HELD: Final = "standing still, as a command on the secondary asks"
HISTORY: Final = 600  # ten minutes of looks, one a second


@dataclass(frozen=True, slots=True)
class Look:
    """The lag of each stage in seconds, in the order of `Stage`; None: not known. ``number`` only grows.
    ``done``: transactions, row changes and bytes of log that persistence had replayed by then."""

    number: int
    at_s: float  # Unix time
    lag_s: tuple[float | None, ...]
    done: tuple[int, int, int]


class Signs(Protocol):
    """What a run shows of itself. All of it is as of now, from any thread."""

    @property
    def work(self) -> Mapping[Stage, Work]: ...
    @property
    def restarts(self) -> int: ...
    @property
    def received_bytes(self) -> int: ...
    @property
    def answer(self) -> Answer | None: ...
    @property
    def seen(self) -> Seen | None: ...
    @property
    def held(self) -> bool: ...
    @property
    def loading(self) -> Sequence[str]: ...
    @property
    def done(self) -> tuple[int, int, int]: ...


class Lookout:
    def __init__(
        self,
        positions: Positions,
        signs: Signs,
        health: Health,
        *,
        stall_s: float,
        probe_s: float,
        interval_s: float = 1.0,
    ) -> None:
        """``probe_s``: how often the primary is asked, so that an answer of that age is as good as a new one."""
        self._positions = positions
        self._signs = signs
        self._health = health
        self._probe_s = probe_s
        self._interval_s = interval_s
        self._watch = Watch(stall_s)
        self._silent_s = min(5.0, stall_s / 2)
        self._began_s = time.monotonic()
        self._stopping = threading.Event()
        self._numbers = itertools.count(1)
        self._looks: deque[Look] = deque(maxlen=HISTORY)

    def run(self) -> None:
        while not self._stopping.wait(self._interval_s):
            self.look()

    def stop(self) -> None:
        self._stopping.set()

    def looks(self, after: int = 0) -> list[Look]:
        """The history since the look with this number."""
        return [look for look in self._looks.copy() if look.number > after]

    def rates(self) -> tuple[float, float, float] | None:
        """Transactions, changes and bytes a second over the last ten looks; None: there were too few."""
        looks = list(self._looks)[-11:]
        if len(looks) < 2 or looks[-1].at_s <= looks[0].at_s:
            return None
        seconds = looks[-1].at_s - looks[0].at_s
        done, before = looks[-1].done, looks[0].done
        transactions, changes, size = ((now - then) / seconds for now, then in zip(done, before, strict=True))
        return transactions, changes, size

    def look(self) -> None:
        now_s = time.monotonic()
        verdicts = self._watch.look(now_s, self._sightings(now_s))
        _follow(verdicts)
        began, over = self._health.watched(verdicts)
        for stall in began:
            log.warning("no progress: %s", stall)
        if over:
            log.info("all stages make progress again")
        lags = [self._positions.lag_us(stage) for stage in Stage]
        seconds = tuple(None if lag is None else lag / 1e6 for lag in lags)
        self._looks.append(Look(next(self._numbers), time.time(), seconds, self._signs.done))

    def _sightings(self, now_s: float) -> dict[Stage, Sighting]:
        lsns = {stage: self._positions.lsn(stage) for stage in Stage}
        received, flushed = lsns[Stage.RECEIVED], lsns[Stage.FLUSHED]
        sightings = {
            Stage.RECEIVED: self._received(now_s, received),
            Stage.FLUSHED: Sighting(flushed, received),
            Stage.PERSISTENCE: self._persistence(lsns[Stage.PERSISTENCE], received),
        }
        if lsns[Stage.MEMORY] is not None:
            sightings[Stage.MEMORY] = self._memory(lsns[Stage.MEMORY], received)
        return sightings

    def _received(self, now_s: float, lsn: Lsn | None) -> Sighting:
        """The primary that doesn't say how far it is, for long, is as good as a stage that stands."""
        answer = self._signs.answer
        age_s = now_s - self._probe_s - (answer.at_s if answer is not None else self._began_s)
        return Sighting(
            lsn,
            answer.flush_lsn if answer is not None else lsn,
            source_age_s=age_s,
            work=self._signs.received_bytes,
            task="receiving a large transaction",
            held_by="the primary doesn't answer" if age_s >= self._silent_s else "",
        )

    def _persistence(self, lsn: Lsn | None, source: Lsn | None) -> Sighting:
        work, seen = self._signs.work[Stage.PERSISTENCE], self._signs.seen
        at = work.at if seen is not None and seen.working else ""
        return Sighting(
            lsn,
            source,
            work=work.finished,
            task="replaying a large transaction",
            doing=_HELD if self._signs.held else at,
            held_by=seen.held_by if seen is not None else "",
            tries=self._signs.restarts,
        )

    def _memory(self, lsn: Lsn | None, source: Lsn | None) -> Sighting:
        """DuckDB waits for nobody: a batch under way is work, unless it waits for persistence."""
        work = self._signs.work[Stage.MEMORY]
        loading = ", ".join(self._signs.loading)
        at = f"loading {loading} into memory" if loading else _HELD if self._signs.held else work.at
        return Sighting(
            lsn,
            source,
            work=work.finished,
            task="replaying a large transaction",
            doing="" if work.waits else at,
            held_by="it waits for persistence" if work.waits else "",
        )


def _follow(verdicts: dict[Stage, Verdict]) -> None:
    """Memory that waits for a persistence that is busy doesn't stand."""
    memory, persistence = verdicts.get(Stage.MEMORY), verdicts[Stage.PERSISTENCE]
    if (
        memory is not None
        and memory.condition is Condition.STALLED
        and memory.reason == "it waits for persistence"
        and persistence.condition is not Condition.STALLED
    ):
        verdicts[Stage.MEMORY] = Verdict(
            Condition.BUSY, memory.standing_s, "waiting for persistence", memory.lsn
        )
