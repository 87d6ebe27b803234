"""Lets the replayer stand still for a moment, when `logship verify` or `logship repair` asks for it.

In: requests (`logship.catalog.hold`), over a connection of its own that waits for news of them. Out: `Gate`,
which keeps the log's further transactions out of the batches, and the answer where the replayer stands;
where the command will ask about memory, memory is pinned there (`logship.service.memory.answers`).
The journal goes on meanwhile, so nothing waits on the primary but commits under ``remote_apply``. A request
is a lease: when it expires, or the secondary can't be asked any more, the replayer goes on by itself.

A transaction goes in whole or stays out: that is decided at its first record, by its commit LSN. What
commits before ``up_to`` ends at ``up_to`` or before, since records follow one another without a gap.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import psycopg

from logship.catalog import hold, memory_question, news
from logship.connection import Side, connect, cut
from logship.errors import SecondaryError
from logship.journal.segment import Record, RecordKind, Stretch
from logship.lsn import INVALID, Lsn
from logship.replay.batcher import Batcher, Item
from logship.service.crew import Stopped
from logship.service.memory.answers import MemoryAnswers

if TYPE_CHECKING:  # DuckDB and Arrow are imported only when memory is on
    from logship.replay.memory.memory import Memory

log = logging.getLogger(__name__)

_LOOK_S: Final = 1.0  # news may be lost, and a lease ends without any
_LOOK_SETTLING_S: Final = 0.05
_SETTLE_S: Final = 0.005


class Gate:
    """``limit``: transactions that commit there or later stay out; `INVALID`: all; None: none does."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._limit: Lsn | None = None
        self._standing: Lsn | None = None
        self.on_change: Callable[[], None] = lambda: None  # of the replay that is under way
        self.memory_on = False
        self.memory: Callable[[], Memory | None] = lambda: None  # what the replay that is under way has

    @property
    def limit(self) -> Lsn | None:
        return self._limit

    @property
    def standing(self) -> Lsn | None:
        """Where both stores stand, at the present limit; None: they don't yet."""
        return self._standing

    def set(self, limit: Lsn | None) -> None:
        with self._changed:
            if limit == self._limit:
                return
            self._limit, self._standing = limit, None
            self._changed.notify_all()
        self.on_change()

    def stand(self, limit: Lsn, position: Lsn) -> None:
        with self._changed:
            if self._limit == limit:
                self._standing = position
                self._changed.notify_all()

    def moved_on(self) -> None:
        """A replay begins anew: what was said of the last one isn't true of it yet."""
        with self._changed:
            self._standing = None

    def wait(self, limit: Lsn, timeout_s: float) -> None:
        """Until the limit isn't ``limit`` any more, or the time is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._limit != limit, timeout_s)

    def wait_standing(self, timeout_s: float) -> None:
        """Until both stores stand at the present limit, or the time is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._standing is not None, timeout_s)

    def wake(self) -> None:
        with self._changed:
            self._changed.notify_all()


class Doorkeeper:
    """Stands between journal and batcher, in the replay thread.

    ``settled(position, stored)`` says whether both stores have everything up to there, and, when
    asked for, whether the secondary's position is that one too.
    """

    def __init__(
        self,
        gate: Gate,
        batcher: Batcher,
        hand_over: Callable[[Item], None],
        settled: Callable[[Lsn, bool], bool],
        stopping: Callable[[], bool],
    ) -> None:
        self._gate = gate
        self._batcher = batcher
        self._hand_over = hand_over
        self._settled = settled
        self._stopping = stopping
        self._inside = False  # between a transaction's first record and its last
        gate.moved_on()

    def between(self) -> None:
        """Before the log is read on: stand still here, while nothing more may come in."""
        while (limit := self._gate.limit) is not None and not self._inside:
            if limit != INVALID and self._batcher.position < limit:
                return  # what comes next may belong in front of the limit
            self._stand(limit)

    def admit(self, record: Record) -> None:
        """Returns when ``record`` may be taken in."""
        while (limit := self._gate.limit) is not None and self._stays_out(record, limit):
            self._stand(limit)
        if record.kind is RecordKind.CHANGES:
            self._inside = not record.last
        elif record.kind is RecordKind.ABANDON:
            self._inside = False

    def lets_in(self, stretch: Stretch) -> bool:
        """Whether all of it may be taken in at once; where not, each of its transactions has to be admitted."""
        limit = self._gate.limit
        return limit is None or stretch.commit_lsn < limit

    def _stays_out(self, record: Record, limit: Lsn) -> bool:
        if self._inside:
            return False
        if record.kind is RecordKind.CHANGES:
            return record.commit_lsn >= limit
        return record.kind is RecordKind.POSITION and record.end_lsn > limit

    def _stand(self, limit: Lsn) -> None:
        """Everything in front of ``limit`` is in; let the stores do it, and wait for another limit."""
        if limit != INVALID:
            self._batcher.advance(limit)
        if self._batcher.pending:
            self._hand_over(self._batcher.take())
        position = self._batcher.position
        while self._gate.limit == limit:
            if self._stopping():
                raise Stopped
            if self._gate.standing is None and self._settled(position, limit != INVALID):
                self._gate.stand(limit, position)
            self._gate.wait(limit, _SETTLE_S if self._gate.standing is None else 0.5)


class Holds:
    """Looks for requests, and answers them. ``told`` hears when the replayer is held, and when it isn't."""

    def __init__(self, secondary: str, replica: str, gate: Gate, told: Callable[[bool], None]) -> None:
        self._secondary = secondary
        self._replica = replica
        self._gate = gate
        self._told = told
        self._stopping = threading.Event()
        self._connection: psycopg.Connection | None = None
        self._asked: hold.Request | None = None
        self._lease_end = 0.0
        self._answered = False
        self._answers: MemoryAnswers | None = None

    def run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._try()
        finally:
            self._close()
            self._hush()

    def stop(self) -> None:
        self._stopping.set()
        self._gate.wake()
        connection = self._connection
        if connection is not None:
            cut(connection)

    def _try(self) -> None:
        try:
            self._look()
            self._await_news()
        except (psycopg.Error, SecondaryError) as error:
            self._close()
            if self._asked is not None and time.monotonic() >= self._lease_end:
                self._take(None)
            log.debug("can't look for requests to stand still: %s", type(error).__name__)
            self._stopping.wait(_LOOK_S if self._asked is None else _LOOK_SETTLING_S)

    def _await_news(self) -> None:
        if self._asked is not None and not self._answered:
            self._gate.wait_standing(_LOOK_SETTLING_S)
        elif self._connection is not None:
            left_s = _LOOK_S if self._asked is None else self._lease_end - time.monotonic()
            news.wait(self._connection, min(_LOOK_S, left_s))

    def _look(self) -> None:
        if self._connection is None:
            name = f"logship hold {self._replica}"
            self._connection = connect(self._secondary, Side.SECONDARY, application_name=name)
            news.listen_as_replayer(self._connection)
        request = hold.request(self._connection, self._replica)
        self._take(request)
        standing = self._gate.standing
        if request is not None and not self._answered and standing is not None:
            if request.up_to is not None:
                self._pin_memory(self._connection, request)
            hold.answer(self._connection, self._replica, request, standing)
            self._answered = True

    def _pin_memory(self, link: psycopg.Connection, request: hold.Request) -> None:
        """Where the command asked for it: it goes on about memory after the replica was let go."""
        if memory_question.wanted(link, self._replica, request.token):
            self._hush()
            self._answers = MemoryAnswers(
                self._secondary, self._replica, request.token,
                memory=self._gate.memory(), switched_on=self._gate.memory_on,
            )  # fmt: skip
            self._answers.start()

    def _hush(self) -> None:
        if self._answers is not None:
            self._answers.stop()
            self._answers = None

    def _take(self, request: hold.Request | None) -> None:
        before, self._asked = self._asked, request
        if request is None:
            if before is not None:
                log.info("the replica goes on")
                self._told(False)
            self._gate.set(None)
            return
        self._lease_end = time.monotonic() + request.lease_s
        if before is None or before.token != request.token:
            log.info("the replica stands still, as a command on the secondary asks")
            self._told(True)
            self._gate.set(None)  # another request: it is answered by itself
        if before is None or (before.token, before.up_to) != (request.token, request.up_to):
            self._answered = False
        self._gate.set(INVALID if request.up_to is None else request.up_to)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
