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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from logship.errors import InternalError
from logship.lsn import Lsn

_EPOCH_US = 946_684_800_000_000  # 2000-01-01 UTC after the Unix epoch
_SAMPLE_EVERY_US = 50_000
_MOST_SAMPLES = 8_192
_FRESH_US = 3_000_000  # what the primary said is true of now for so long: it is asked once a second


class Stage(enum.Enum):
    """The stages of `logship.replica_lag`, in the order in which a transaction passes them."""

    RECEIVED = "received"
    FLUSHED = "flushed"
    MEMORY = "memory"
    PERSISTENCE = "persistence"

    __hash__ = object.__hash__  # not that of the name, in Python: looked up several times for each commit


def now_us() -> int:
    """Microseconds since 2000-01-01 UTC, as the log counts them, by this machine's clock."""
    return time.time_ns() // 1_000 - _EPOCH_US


@dataclass(slots=True)
class _Samples:
    """Ends and commit times of received transactions, some of them: enough to date a position."""

    lsns: list[Lsn] = field(default_factory=list)
    times_us: list[int] = field(default_factory=list)

    def add(self, lsn: Lsn, time_us: int) -> None:
        if len(self.lsns) > 1 and abs(time_us - self.times_us[-2]) < _SAMPLE_EVERY_US:
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
        self._sampled_from: Lsn | None = (
            None  # what was received before it has no sample: it is of an earlier run
        )
        self._newest: tuple[Lsn, int] | None = None  # the last transaction received, and its commit time
        self._dated: dict[Stage, int] = {}  # commit time of the last transaction a stage is done with
        self._complete_at: dict[Stage, int] = {}  # when a stage was last known to have everything
        self._primary: tuple[Lsn, int] | None = None  # end of its log, and when that was true
        self._listeners: dict[Stage, list[Callable[[], None]]] = {stage: [] for stage in Stage}
        self._clock_offset_us = 0  # the primary's clock minus ours

    def reach(self, stage: Stage, lsn: Lsn, *, commit_time_us: int = 0) -> None:
        """``stage`` is done with everything up to ``lsn``; the last transaction in that was committed at
        ``commit_time_us``, if there was one since the last call (0: there wasn't, or it isn't known)."""
        with self._changed:
            before = self._reached.get(stage)
            if before is not None and lsn < before:
                raise InternalError(f"the position of {stage.value} would move back from {before} to {lsn}")
            self._reached[stage] = lsn
            if commit_time_us:
                self._dated[stage] = commit_time_us
            if self._primary is not None and lsn >= self._primary[0]:
                self._complete_at[stage] = self._primary[1]
            self._changed.notify_all()
        for listener in self._listeners[stage]:
            listener()

    def on_reach(self, stage: Stage, listener: Callable[[], None]) -> None:
        """Call ``listener``, without the lock, from the thread that moves ``stage``. Before the start only."""
        self._listeners[stage].append(listener)

    def is_awaited(self, stage: Stage) -> bool:
        """Whether somebody is to hear at once that ``stage`` has moved."""
        return bool(self._listeners[stage])

    def restart(self, stage: Stage, lsn: Lsn | None) -> None:
        """``stage`` begins anew at ``lsn``, or is not there (None): the one way back."""
        with self._changed:
            self._dated.pop(stage, None)
            self._complete_at.pop(stage, None)
            if lsn is None:
                self._reached.pop(stage, None)
            else:
                self._reached[stage] = lsn
            self._changed.notify_all()

    def received(self, end_lsn: Lsn, commit_time_us: int) -> None:
        """A transaction has arrived whole."""
        self.received_all([(end_lsn, commit_time_us)])

    def received_all(self, ends: Sequence[tuple[Lsn, int]]) -> None:
        """Transactions have arrived whole: end and commit time of each, in order. One that is left out counts as
        committed when the next one was."""
        if not ends:
            return
        with self._changed:
            if self._sampled_from is None:
                self._sampled_from = self._reached.get(Stage.RECEIVED, Lsn(0))
            for end_lsn, commit_time_us in ends:
                self._samples.add(end_lsn, commit_time_us)
            self._newest = ends[-1]

    def heard(self, primary_lsn: Lsn, clock_offset_us: int, *, age_us: int = 0) -> None:
        """The primary's log ended at ``primary_lsn`` just now, or ``age_us`` ago, as somebody else knows."""
        with self._changed:
            known, known_us = self._primary or (primary_lsn, 0)
            now_us = self._clock()
            # An answer from the future was dated by a clock that was put back since.
            true_us = max(min(known_us, now_us), now_us - age_us)
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

        0: it is done with all that the primary had a moment ago. None: not known. Where the commit time of
        what it lacks isn't known (it hasn't arrived, or an earlier run received it), and where the primary
        hasn't been heard of lately: the time since the stage was last known to have everything, or since the
        commit of the last transaction that it is done with, whichever is shorter. Never too small.
        """
        with self._changed:
            reached = self._reached.get(stage)
            if reached is None:
                return None
            now_us = self._clock()
            committed_us = self._samples.first_after(reached) if self._is_sampled(reached) else None
            if committed_us is not None:
                return max(0, now_us + self._clock_offset_us - committed_us)
            if self._primary and reached >= self._primary[0] and abs(now_us - self._primary[1]) <= _FRESH_US:
                return 0
            known = [self._complete_at.get(stage), self._done_until(stage, reached)]
            # What lies in the future was dated by a clock that was put back since: it says nothing.
            said = [each for each in known if each is not None and each <= now_us + _FRESH_US]
            return max(0, now_us - max(said)) if said else None

    def _is_sampled(self, reached: Lsn) -> bool:
        """Whether all that comes after ``reached``, as far as it has arrived, has samples."""
        start = self._reached.get(Stage.RECEIVED) if self._sampled_from is None else self._sampled_from
        return start is None or reached >= start

    def _done_until(self, stage: Stage, reached: Lsn) -> int | None:
        """By our clock: all that the primary committed before this, ``stage`` has."""
        times = [self._dated.get(stage)]
        if self._newest is not None and reached >= self._newest[0]:
            times.append(self._newest[1])
        found = max((each for each in times if each is not None), default=None)
        return None if found is None else found - self._clock_offset_us

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
