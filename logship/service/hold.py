"""Lets the replayer stand still for a moment, when `logship verify` or `logship repair` asks for it.

In: requests (`logship.catalog.hold`), polled over a connection of its own. Out: `Gate`, which keeps
the log's further transactions out of the batches, and the answer where the replayer stands. The
journal goes on meanwhile, so nothing waits on the primary but commits under ``remote_apply``. A request
is a lease: when it expires, or the secondary can't be asked any more, the replayer goes on by itself.

A transaction goes in whole or stays out: that is decided at its first record, by its commit LSN. What
commits before ``up_to`` ends at ``up_to`` or before, since records follow one another without a gap.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

import psycopg

from logship.catalog import hold
from logship.connection import Side, connect
from logship.errors import SecondaryError
from logship.journal.segment import Record, RecordKind
from logship.lsn import INVALID, Lsn
from logship.replay.batcher import Batcher, Item
from logship.service.crew import Stopped

log = logging.getLogger(__name__)

_POLL_S: Final = 0.1
_POLL_HELD_S: Final = 0.01
_SETTLE_S: Final = 0.005


class Gate:
    """``limit``: transactions that commit there or later stay out; `INVALID`: all; None: none does."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._limit: Lsn | None = None
        self._standing: Lsn | None = None
        self.on_change: Callable[[], None] = lambda: None  # of the replay that is under way

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

    def moved_on(self) -> None:
        """A replay begins anew: what was said of the last one isn't true of it yet."""
        with self._changed:
            self._standing = None

    def wait(self, limit: Lsn, timeout_s: float) -> None:
        """Until the limit isn't ``limit`` any more, or the time is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._limit != limit, timeout_s)

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

    def run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._try()
                self._stopping.wait(_POLL_S if self._asked is None else _POLL_HELD_S)
        finally:
            self._close()

    def stop(self) -> None:
        self._stopping.set()
        self._gate.wake()

    def _try(self) -> None:
        try:
            self._look()
        except (psycopg.Error, SecondaryError) as error:
            self._close()
            if self._asked is None:
                log.debug("can't look for requests to stand still: %s", type(error).__name__)
                self._stopping.wait(1.0)
            elif time.monotonic() >= self._lease_end:
                self._take(None)

    def _look(self) -> None:
        if self._connection is None:
            name = f"logship hold {self._replica}"
            self._connection = connect(self._secondary, Side.SECONDARY, application_name=name)
        request = hold.request(self._connection, self._replica)
        self._take(request)
        if request is not None and not self._answered and self._gate.standing is not None:
            hold.answer(self._connection, self._replica, request, self._gate.standing)
            self._answered = True

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
