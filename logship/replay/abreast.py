"""Persistence with several sessions: batches that don't meet are written at the same time, and committed in order.

In: whole batches in the order of the log, and more of them as room comes free. Out: the same rows and
positions as one session leaves, each transaction of the secondary a run of whole transactions of the log, committed
when the one before it has been: readers see a beginning of the log, always. `logship.advance` moves the
position from where the one before left it, or refuses.

Two batches *meet* when they write a row under the same key (`footprint`): then the later one waits, and grows
meanwhile, so that a row which changes often is written once. Batches below the bound (``full_bytes``) are not
worth a session of their own, and wait to grow, too. What isn't plain rows of tables that run nothing of users' is
replayed by itself, when everything before it is committed.

An earlier transaction waits for none that comes later: it shares no key with it, and a value of another unique
index that both write belongs to different rows before and after, so one of these rows would be shared. Where keys
are equal without looking so, or a schema change of somebody else's stands between two sessions, it can; then
those behind the first give way. Whatever fails, and all behind it, is rolled back and goes through
`Persistence.apply`, one after the other, which tries again, climbs, and explains. Nothing is decided here
about errors.

One thread decides everything, that of whoever calls `run`; the lanes' threads only write. Failpoints:
abreast.written (the rows are there, and it waits for its turn), and persistence's own.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, Protocol, TypeVar

from logship.errors import InternalError
from logship.failpoints import hit
from logship.replay.advance import Totals
from logship.replay.batch import Batch
from logship.replay.footprint import Footprint, plain
from logship.replay.ladder import Rung, climb
from logship.replay.lane import Lane
from logship.replay.line import Event, Line, Place, State
from logship.replay.merge import merged
from logship.replay.session import Command, ServerError
from logship.replay.transaction import Transaction

T = TypeVar("T")

log = logging.getLogger(__name__)

_LOOK_S: Final = (
    0.3  # how long the first may write while another has written, before it is asked what it waits for
)
_FEW: Final = 8  # batches with which another is compared in advance
_BATCH_BYTES: Final = 512  # what one takes however small it is
_VIOLATIONS: Final = ("23505", "23P01")
# Whether one session waits, itself or through others, for one of these.
_BLOCKED: Final = b"""
with recursive holder (pid) as (
  select pg_catalog.unnest(pg_catalog.pg_blocking_pids($1))
  union
  select pg_catalog.unnest(pg_catalog.pg_blocking_pids(holder.pid)) from holder)
select exists (select from holder where holder.pid operator(pg_catalog.=) any ($2))
"""
_INT4, _INT4_ARRAY = 23, 1007


class Source(Protocol):
    """Where more batches come from."""

    def more(self, max_bytes: int, timeout_s: float | None) -> Sequence[Batch]:
        """Those whole batches that come next, of at most so many bytes. Waits for the first of them, for `wake`, or for
        the time to be over; nothing when what comes next is anything else."""

    def wake(self) -> None:
        """Let `more` return, or its next call. From any thread."""


class Sessions(Protocol):
    """What is asked of persistence."""

    @property
    def lanes(self) -> Sequence[Lane]: ...

    def begin_beside(self, lane: Lane, batches: Sequence[Batch]) -> Transaction: ...

    def commit_beside(self, lane: Lane, totals: Totals, batches: Sequence[Batch]) -> None:
        """`ServerError`: refused, or nobody knows."""

    def stands_first(self, lane: Lane | None) -> None:
        """Whose transaction everything waits for."""

    def give_up_sessions(self) -> None:
        """A link is lost: all begin anew, and then the position says what has happened."""


@dataclass(slots=True)
class Figures:
    """What has come of it since the start; any thread may read."""

    side_by_side: int = 0  # transactions that were committed so
    met: int = 0  # had to wait for one that writes the same rows
    again: int = 0  # were rolled back, and replayed by themselves


_numbers = itertools.count()


@dataclass
class _Waiting:
    batch: Batch
    number: int = field(default_factory=lambda: next(_numbers))
    met: dict[int, bool] = field(default_factory=dict)  # others, by number

    @cached_property
    def footprint(self) -> Footprint:
        return Footprint.of(self.batch)

    @property
    def size_bytes(self) -> int:
        return self.batch.size_bytes + _BATCH_BYTES

    def meets(self, others: Iterable[_Waiting]) -> bool:
        return any(self._meets(other) for other in others)

    def _meets(self, other: _Waiting) -> bool:
        if other.number not in self.met:
            self.met[other.number] = self.footprint.meets(other.footprint)
        return self.met[other.number]


@dataclass(eq=False)
class _Job(Place):
    batches: list[_Waiting] = field(default_factory=list)
    changing: list[Batch] = field(default_factory=list)  # what is written of them
    lane: Lane | None = None
    transaction: Transaction | None = None
    totals: Totals = field(default_factory=Totals)
    began: float = 0.0
    failure: BaseException | None = None
    finished: bool = False  # the lane's thread is done with it

    @property
    def plain(self) -> list[Batch]:
        return [waiting.batch for waiting in self.batches]

    @property
    def size_bytes(self) -> int:
        return sum(waiting.size_bytes for waiting in self.batches)


class _CalledOff(Exception):
    """Raised inside a lane's work."""


class Abreast:
    """``serially`` replays batches in one session and reports them; ``committed`` hears of those that were committed
    here: as they came, as they were written, and how long that took."""

    def __init__(
        self,
        sessions: Sessions,
        source: Source,
        *,
        full_bytes: int,
        held_bytes: int,
        serially: Callable[[Sequence[Batch]], None],
        committed: Callable[[Sequence[Batch], Sequence[Batch], float], None],
        figures: Figures | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sessions = sessions
        self._source = source
        self._full_bytes = full_bytes
        self._held_bytes = held_bytes
        self._serially = serially
        self._committed = committed
        self.figures = figures or Figures()
        self._clock = clock
        self._waiting: list[_Waiting] = []
        self._line: Line[_Job] = Line()
        self._lost = False  # a link
        self._looked = 0.0
        self._noted: Batch | None = None  # as one that had to wait
        # Tables, by oid, in which values passed between rows of two transactions: these are replayed by themselves.
        self._alone: set[int] = set()

    def pays(self, batches: Sequence[Batch]) -> bool:
        """Whether `run` is worth while: some are large, and there are sessions."""
        return len(self._sessions.lanes) > 1 and self._is_full(batches)

    def run(self, batches: Sequence[Batch]) -> None:
        """Until these and all that came meanwhile are committed. Raises what ``serially`` raises; nothing is open
        then."""
        self._waiting = list(map(_Waiting, batches))
        self._looked = self._clock()
        for lane in self._sessions.lanes:  # their owners' functions may have been made anew since
            lane.writers.clear()
            lane.not_copied.clear()
        try:
            while True:
                self._settle()
                self._start()
                if not self._line and not self._waiting:
                    return
                if self._line:
                    self._wait()
        finally:
            self._clear()

    # -- what comes next ------------------------------------------------------------------------------

    def _start(self) -> None:
        while self._waiting and not self._line.leaving:
            job = self._pack()
            fits = self._is_full(job.plain) and all(plain(batch, self._alone) for batch in job.plain)
            fits = fits and any(batch.steps for batch in job.plain)
            if not fits or len(self._sessions.lanes) < 2:
                if self._line:
                    return
                del self._waiting[: len(job.batches)]
                self._serially(job.plain)
            elif self._may_begin(job):
                del self._waiting[: len(job.batches)]
                self._begin(job)
            else:
                return

    def _pack(self) -> _Job:
        """The next batches, up to the bound; and those behind it that would have to wait for it, too."""
        job = _Job()
        size, usable = 0, True
        for waiting in self._waiting:
            size += waiting.batch.size_bytes
            usable = usable and plain(waiting.batch, self._alone)
            fits = size <= self._full_bytes or not job.batches
            if not fits and not (usable and size <= self._held_bytes and waiting.meets(job.batches)):
                break
            job.batches.append(waiting)
        return job

    def _is_full(self, batches: Sequence[Batch]) -> bool:
        """As large as batches become, but for the transaction that didn't fit in any more."""
        return sum(batch.size_bytes for batch in batches) * 4 >= self._full_bytes

    def _may_begin(self, job: _Job) -> bool:
        if len(self._line) == len(self._sessions.lanes):
            return False
        if any(waiting.meets(other.batches) for other in self._line for waiting in job.batches):
            if self._noted is not job.batches[0].batch:
                self._noted = job.batches[0].batch
                self.figures.met += 1
            return False
        return True

    def _begin(self, job: _Job) -> None:
        busy = {other.lane for other in self._line}
        lane = job.lane = next(lane for lane in self._sessions.lanes if lane not in busy)
        batches = job.changing = [batch for batch in merged(job.plain) if batch.steps]
        for batch in batches:
            job.totals.add(batch)
        job.transaction = self._sessions.begin_beside(lane, batches)
        job.began = self._clock()
        self._line.join(job)
        lane.begin(lambda: self._write(job, batches))

    # -- in the lane's thread -------------------------------------------------------------------------

    def _write(self, job: _Job, batches: Sequence[Batch]) -> None:
        try:
            assert job.transaction is not None
            for batch in batches:
                job.transaction.write(_unless_called_off(job, climb(batch, Rung.NET)))
            job.transaction.flush()
        except BaseException as error:  # noqa: BLE001 - kept: what it is, the serial replay finds out
            job.failure = error
        finally:
            job.finished = True
            self._source.wake()

    # -- what has become of them ----------------------------------------------------------------------

    def _settle(self) -> None:
        for job in list(self._line):
            if job.finished and job.state is State.WRITING:
                if job.failure is None:
                    job.happens(Event.WROTE)
                    hit("abreast.written")
                else:
                    self._note(job)
                    self._line.fail(job)
        while (job_ := self._line.turn()) is not None:
            self._commit(job_)
        for job in self._line:
            if job.finished and job.state is State.LEAVING:
                self._roll_back(job)
                job.happens(Event.ROLLED_BACK)
        out = self._line.take_out()
        if out:
            self._again(out)

    def _commit(self, job: _Job) -> None:
        assert job.lane is not None
        try:
            self._sessions.commit_beside(job.lane, job.totals, job.changing)
        except BaseException as error:
            job.failure = error
            self._note(job)
            self._roll_back(job)
            self._line.lost()
            if isinstance(error, ServerError):
                return
            raise
        self._line.committed()
        self.figures.side_by_side += 1
        self._committed(job.plain, job.changing, self._clock() - job.began)

    def _note(self, job: _Job) -> None:
        """Say it; and remember tables in which one waits for another's values."""
        error, failed = job.failure, job.transaction.failed if job.transaction else None
        if isinstance(error, ServerError):
            if error.sqlstate in _VIOLATIONS and failed is not None and job is not next(iter(self._line)):
                self._alone.add(failed.target.oid)
            why = f"{error.reason} (SQLSTATE {error.sqlstate})"
        else:
            why = type(error).__name__
        log.info("the transaction up to %s, written beside others, is replayed by itself: %s", _end(job), why)

    def _roll_back(self, job: _Job) -> None:
        assert job.lane is not None
        try:
            job.lane.session.discard()
            job.lane.session.run([Command(b"rollback"), Command(b"reset all")])
        except ServerError:
            self._lost = True

    def _again(self, jobs: Sequence[_Job]) -> None:
        """In order, in one session; where a link was lost, with a look at the position first."""
        if self._lost:
            self._lost = False
            self._sessions.give_up_sessions()
        for job in jobs:
            self.figures.again += 1
            self._serially(job.plain)

    # -- waiting --------------------------------------------------------------------------------------

    def _wait(self) -> None:
        held = sum(job.size_bytes for job in self._line) + sum(
            waiting.size_bytes for waiting in self._waiting
        )
        first, *others = self._line
        self._sessions.stands_first(first.lane)
        written = [job for job in others if job.state is State.WRITTEN]
        look_s = None
        if first.state is State.WRITING and written:
            look_s = max(0.0, self._looked + _LOOK_S - self._clock())
            if look_s == 0.0:
                self._looked = self._clock()
                self._look(first, written[0])
                look_s = _LOOK_S
        else:
            self._looked = self._clock()
        room = max(0, self._held_bytes - held)
        for batch in self._source.more(room, look_s):
            self._stand_by(_Waiting(batch))

    def _stand_by(self, waiting: _Waiting) -> None:
        """What has to be known before a large one may begin is found out while the sessions write."""
        before = [*(other for job in self._line for other in job.batches), *self._waiting]
        if len(before) <= _FEW and all(plain(each.batch, self._alone) for each in (waiting, *before)):
            waiting.meets(before)
        self._waiting.append(waiting)

    def _look(self, first: _Job, other: _Job) -> None:
        """Whether the first waits for a lock that one behind it has, or waits for. If so, all of those leave."""
        pids = [each.lane.session.backend_pid for each in self._line if each.lane is not None]
        parameters = [b"%d" % pids[0], b"{%b}" % b",".join(b"%d" % pid for pid in pids[1:])]
        assert other.lane is not None
        try:
            ask = Command(_BLOCKED, parameters, [_INT4, _INT4_ARRAY])
            blocked = other.lane.session.run([ask])[0] == b"t"
        except ServerError as error:
            other.failure = error
            self._note(other)
            self._line.fail(other)
            return
        if blocked:
            log.info("the transaction up to %s waits for one behind it: those give way", _end(first))
            self._line.give_way()

    def _clear(self) -> None:
        """Nothing is left open, whatever was raised."""
        self._sessions.stands_first(None)
        if not self._line:
            return
        self._line.fail(next(iter(self._line)))
        while not self._line.take_out():
            for job in self._line:
                if job.state is State.LEAVING and job.finished:
                    self._roll_back(job)
                    job.happens(Event.ROLLED_BACK)
            if any(not job.finished for job in self._line):
                self._source.more(0, None)
        if self._lost:
            self._lost = False
            self._sessions.give_up_sessions()


def _unless_called_off(job: _Job, items: Iterator[T]) -> Iterator[T]:
    for item in items:
        if job.state is State.LEAVING:
            raise _CalledOff
        yield item


def _end(job: _Job) -> str:
    if not job.batches:
        raise InternalError("a transaction of nothing")
    return str(job.batches[-1].batch.end_lsn)
