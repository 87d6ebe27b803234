"""How far each stage is, and how long it lags behind the primary's commits.

In: what each stage has reached, told by the stage itself; where the primary's log ends and what its
clock says, told by whoever asks the primary. Out: positions and lags. What nobody has measured is
None, never zero. Safe to use from any thread. Positions never move backwards: `reach` refuses.
"""

from __future__ import annotations

import enum
import threading
import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field

from logship.errors import InternalError
from logship.lsn import Lsn

_EPOCH_US = 946_684_800_000_000  # 2000-01-01 UTC after the Unix epoch
_SAMPLE_EVERY_US = 50_000
_MOST_SAMPLES = 8_192


class Stage(enum.Enum):
    """The stages of `logship.replica_lag`, in the order in which a transaction passes them."""

    RECEIVED = "received"
    FLUSHED = "flushed"
    MEMORY = "memory"
    PERSISTENCE = "persistence"


def now_us() -> int:
    """Microseconds since 2000-01-01 UTC, as the log counts them, by this machine's clock."""
    return time.time_ns() // 1_000 - _EPOCH_US


@dataclass(slots=True)
class _Samples:
    """Ends and commit times of received transactions, some of them: enough to date a position."""

    lsns: list[Lsn] = field(default_factory=list)
    times_us: list[int] = field(default_factory=list)

    def add(self, lsn: Lsn, time_us: int) -> None:
        if len(self.lsns) > 1 and time_us - self.times_us[-2] < _SAMPLE_EVERY_US:
            self.lsns.pop()
            self.times_us.pop()
        self.lsns.append(lsn)
        self.times_us.append(time_us)
        if len(self.lsns) > _MOST_SAMPLES:
            del self.lsns[:-1:2], self.times_us[:-1:2]

    def first_after(self, lsn: Lsn) -> int | None:
        """The commit time of the oldest sample that ``lsn`` has not reached."""
        index = bisect_right(self.lsns, lsn)
        return self.times_us[index] if index < len(self.lsns) else None

    def forget(self, lsn: Lsn) -> None:
        index = bisect_right(self.lsns, lsn)
        del self.lsns[:index], self.times_us[:index]


class Positions:
    def __init__(self, clock: Callable[[], int] = now_us) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._reached: dict[Stage, Lsn] = {}
        self._samples = _Samples()
        self._complete_at: dict[Stage, int] = {}  # when a stage was last known to have everything
        self._primary: tuple[Lsn, int] | None = None  # end of its log, and when that was true
        self._listeners: dict[Stage, list[Callable[[], None]]] = {stage: [] for stage in Stage}
        self._clock_offset_us = 0  # the primary's clock minus ours

    def reach(self, stage: Stage, lsn: Lsn) -> None:
        """``stage`` is done with everything up to ``lsn``."""
        with self._changed:
            before = self._reached.get(stage)
            if before is not None and lsn < before:
                raise InternalError(f"the position of {stage.value} would move back from {before} to {lsn}")
            self._reached[stage] = lsn
            if self._primary is not None and lsn >= self._primary[0]:
                self._complete_at[stage] = max(self._primary[1], self._complete_at.get(stage, 0))
            self._changed.notify_all()
        for listener in self._listeners[stage]:
            listener()

    def on_reach(self, stage: Stage, listener: Callable[[], None]) -> None:
        """Call ``listener``, without the lock, from the thread that moves ``stage``. Before the start only."""
        self._listeners[stage].append(listener)

    def restart(self, stage: Stage, lsn: Lsn | None) -> None:
        """``stage`` begins anew at ``lsn``, or is not there (None): the one way back."""
        with self._changed:
            if lsn is None:
                self._reached.pop(stage, None)
            else:
                self._reached[stage] = lsn
            self._changed.notify_all()

    def received(self, end_lsn: Lsn, commit_time_us: int) -> None:
        """A transaction has arrived whole."""
        with self._changed:
            self._samples.add(end_lsn, commit_time_us)

    def heard(self, primary_lsn: Lsn, clock_offset_us: int, *, age_us: int = 0) -> None:
        """The primary's log ended at ``primary_lsn`` just now, or ``age_us`` ago, as somebody else knows."""
        with self._changed:
            known, known_us = self._primary or (primary_lsn, 0)
            true_us = max(known_us, self._clock() - age_us)
            self._primary = (max(known, primary_lsn), true_us)
            self._clock_offset_us = clock_offset_us
            self._complete_at |= {
                stage: true_us for stage, lsn in self._reached.items() if lsn >= self._primary[0]
            }
            self._samples.forget(min(self._reached.values(), default=Lsn(0)))

    def lsn(self, stage: Stage) -> Lsn | None:
        with self._changed:
            return self._reached.get(stage)

    @property
    def primary(self) -> tuple[Lsn, int] | None:
        """Where the primary's log ended, and when (by our clock) that was true; None: never asked."""
        with self._changed:
            return self._primary

    @property
    def clock_offset_us(self) -> int:
        """The primary's clock minus ours, as of the last answer."""
        return self._clock_offset_us

    def lag_us(self, stage: Stage) -> int | None:
        """How long ago the oldest transaction was committed that ``stage`` isn't done with.

        0: it is done with all that the primary had. None: not known. What has not even arrived
        can't be dated: then it is the time since the stage was last known to have everything.
        """
        with self._changed:
            reached = self._reached.get(stage)
            if reached is None or self._primary is None:
                return None
            now_us = self._clock()
            committed_us = self._samples.first_after(reached)
            if committed_us is not None:
                return max(0, now_us + self._clock_offset_us - committed_us)
            if reached >= self._primary[0]:
                return 0
            complete_us = self._complete_at.get(stage)
            return None if complete_us is None else max(0, now_us - complete_us)

    def wait(self, stage: Stage, lsn: Lsn, timeout_s: float | None, stopped: Callable[[], bool]) -> bool:
        """Wait until ``stage`` has reached ``lsn``; False on timeout or when ``stopped`` says so."""

        def there() -> bool:
            reached = self._reached.get(stage)
            return (reached is not None and reached >= lsn) or stopped()

        with self._changed:
            self._changed.wait_for(there, timeout_s)
            reached = self._reached.get(stage)
            return reached is not None and reached >= lsn

    def wake(self) -> None:
        """Let those who wait look again, e.g. because the program stops."""
        with self._changed:
            self._changed.notify_all()
