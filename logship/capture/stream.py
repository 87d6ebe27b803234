"""A connection on which a server streams replication: what the walsender's client and the relay's share.

In: a connection of the kind `replication=database`, the bytes that come on it. Out: items in the order in
which they were sent (a subclass says what they are), keepalives among them; in return, status updates.
Assumes one thread that does everything but `wake` and `offer_status`.

Never acknowledges by itself. After any error the stream is to be closed; ``error.transient`` says whether a
new one may go on from the journal's end.

Source: PostgreSQL documentation, "Streaming Replication Protocol"; libpq, "Functions Associated with the
COPY Command".
"""

from __future__ import annotations

import enum
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

import psycopg
from psycopg import pq

from logship.capture.copydata import (
    Keepalive,
    Positions,
    check_progress,
    microseconds,
    status_update,
)
from logship.capture.feedback import Sent
from logship.capture.link import Link
from logship.errors import InternalError, PrimaryError, ProtocolViolation, StreamBroken
from logship.lsn import INVALID, Lsn

T = TypeVar("T")

READ_BYTES: Final = 1024 * 1024
ANSWER_S: Final = 60.0  # for a server that is alive to answer a command or take a status update


@dataclass(frozen=True, slots=True)
class System:
    """Of which server and database the log is: IDENTIFY_SYSTEM."""

    system_identifier: int
    timeline: int
    xlogpos: Lsn
    database: str


@dataclass(frozen=True, slots=True)
class Received(Generic[T]):
    """One `read`. ``items`` in the order sent; ``keepalives`` are those in them. ``wal_end`` and
    ``sent_time_us`` (microseconds since 2000, the server's clock) are of the newest header ever read in
    this session, INVALID and None before the first. ``woken``: `Stream.wake` ended the wait."""

    items: list[T]
    keepalives: tuple[Keepalive, ...]
    bytes: int
    wal_end: Lsn
    sent_time_us: int | None
    woken: bool


class State(enum.Enum):
    IDLE = "idle"
    STREAMING = "streaming"
    ENDED = "ended"


class Stream(ABC, Generic[T]):
    """One connection: `identify`, a subclass's start, then `read` and `send_status` in turn, `stop`, `close`."""

    def __init__(self, connection: psycopg.Connection, receiver_timeout_s: float) -> None:
        """``receiver_timeout_s`` of silence end it, as PostgreSQL's wal_receiver_timeout does: after half of it the
        server is asked for a sign of life. 0: nothing does."""
        self._connection = connection
        self._connection.prepare_threshold = None  # a walsender knows no prepared statements
        self._connection.add_notice_handler(self._notice)
        self._pgconn = self._connection.pgconn
        self._link = Link(self._pgconn)
        self._tls = bool(self._pgconn.ssl_in_use)
        self._state = State.IDLE
        self.sent = Sent()  # the last status update of this session
        self._wal_end = INVALID
        self._sent_time_us: int | None = None
        self._failure: PrimaryError | None = None  # raised by every read from now on
        self._warned: PrimaryError | None = None
        # Held while libpq is used, and not while its socket is waited for. Who decides by `sent` what to send holds it.
        self.using = threading.RLock()
        self._unsent = False  # libpq has bytes of an `offer_status` that the socket didn't take
        self._silence_s = receiver_timeout_s
        self._heard_s = time.monotonic()
        self._asked_s: float | None = None  # for an answer that hasn't come: since when
        # After the last `_gather` neither libpq nor the socket had more: there is nothing to look for before a wait.
        self._drained = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- what a subclass knows -------------------------------------------------------------------

    @abstractmethod
    def _gather(self, items: list[T], keepalives: list[Keepalive], max_bytes: int) -> int:
        """Take what libpq has and what the socket has, up to about ``max_bytes``. Its size. Sets `_drained`."""

    @abstractmethod
    def _explain(self, sqlstate: str | None, message: str) -> PrimaryError:
        """What an error of the server means; ``sqlstate`` None: the link broke."""

    def _notice(self, diagnostic: psycopg.errors.Diagnostic) -> None:
        """The server said something beside an answer."""

    # -- before the stream -----------------------------------------------------------------------

    def identify(self) -> System:
        self._expect(State.IDLE)
        try:
            row = self._connection.execute("IDENTIFY_SYSTEM").fetchone()
        except psycopg.Error as error:
            raise self._meaning(error) from error
        if row is None or row[3] is None:
            raise ProtocolViolation("an IDENTIFY_SYSTEM without a database")
        return System(int(row[0]), int(row[1]), Lsn.parse(row[2]), row[3])

    def _begin(self, command: str) -> pq.abc.PGresult | None:
        """Send ``command``. None: the stream has begun; else what the server answered instead."""
        self._expect(State.IDLE)
        try:
            self._pgconn.send_query(command.encode())
            self._link.flush(ANSWER_S)
            result = self._link.result(ANSWER_S)
        except psycopg.Error as error:
            raise self._broken(error) from error
        if result is None:
            raise self._meaning(None)
        if result.status != pq.ExecStatus.COPY_BOTH:
            self._state = State.ENDED
            return result
        self._state = State.STREAMING
        self._heard_s = time.monotonic()
        return None

    # -- the stream ------------------------------------------------------------------------------

    def read(self, timeout_s: float, max_bytes: int = READ_BYTES) -> Received[T]:
        """What has come, or comes within ``timeout_s``: at least one item, unless the time was over or
        `wake` was called. Stops at the first message that brings it to ``max_bytes``. What ends the stream
        raises a `PrimaryError`, after everything before it was returned; so does a server that doesn't answer when
        status updates ask it to, or whose answers don't come through."""
        self._expect(State.STREAMING)
        if self._failure is not None:
            raise self._failure
        items: list[T] = []
        keepalives: list[Keepalive] = []
        end = time.monotonic() + timeout_s
        size, woken, heard = 0, False, False
        try:
            with self.using:
                if self._unsent:
                    self._link.flush(ANSWER_S)
                    self._unsent, self._link.has_read = False, True
                if self._link.has_read or not self._drained:
                    self._link.has_read = False
                    size = self._gather(items, keepalives, max_bytes)
            while not items and not woken:
                left_s = end - time.monotonic()
                ready = self._link.wait(left_s)
                woken = ready.woken
                if ready.readable:
                    heard = True  # be it a part of a message
                    with self.using:
                        size = self._gather(items, keepalives, max_bytes)
                if left_s <= 0:
                    break  # also in the middle of a message that takes long: the caller has a timer
            self._listen(heard=heard or size > 0)
        except (PrimaryError, psycopg.Error) as error:
            with self.using:  # libpq is asked for the server's last words
                self._failure = error if isinstance(error, PrimaryError) else self._broken(error)
            if not items:
                raise self._failure from error
        if self._warned is not None:
            # What followed the warning lacks changes: it must not be captured, and comes again.
            self._failure = self._warned
            raise self._warned
        return Received(items, tuple(keepalives), size, self._wal_end, self._sent_time_us, woken)

    def send_status(self, positions: Positions, *, reply_requested: bool = False) -> None:
        """Report ``positions``. `InternalError` when one moves backwards or claims what isn't written; what
        ended the stream, when it has ended."""
        self._expect(State.STREAMING)
        if self._failure is not None:
            raise self._failure
        with self.using:
            try:
                while not self._put_status(positions, reply_requested=reply_requested):
                    self._link.has_read = True
                    self._link.flush(ANSWER_S)
                self._link.flush(ANSWER_S)
            except psycopg.Error as error:
                raise self._broken(error) from error

    def offer_status(self, positions: Callable[[], Positions]) -> bool:
        """From any thread: report ``positions``, asked for where no other report can come between, unless they were
        told before. False: the thread that streams is to do it, as it uses the connection now, or has ended."""
        if not self.using.acquire(blocking=False):
            return False
        try:
            if self._state is not State.STREAMING or self._failure is not None or self._unsent:
                return False
            said = positions()
            if said == self.sent.positions:
                return True
            if not self._put_status(said, reply_requested=False):
                return False
            self._unsent = self._pgconn.flush() != 0
        except psycopg.Error:
            return False  # who streams finds the same, and says why
        finally:
            self.using.release()
        return not self._unsent

    def _put_status(self, positions: Positions, *, reply_requested: bool) -> bool:
        """Into libpq's buffer; False: it has no room."""
        check_progress(self.sent.positions, positions)
        clock_us, now_s = microseconds(time.time()), time.monotonic()
        asks = reply_requested or 0 < self._silence_s / 2 < now_s - self._heard_s
        message = status_update(positions, clock_us, reply_requested=asks)
        if self._pgconn.put_copy_data(message) == 0:
            return False
        if asks and self._asked_s is None:
            self._asked_s = now_s
        self.sent = Sent(positions, now_s)
        return True

    def _listen(self, *, heard: bool) -> None:
        """Whether a read heard anything; if not, the socket has nothing."""
        now_s = time.monotonic()
        if heard:
            self._heard_s, self._asked_s = now_s, None
            return
        asked = self._asked_s is not None and now_s - self._asked_s >= self._silence_s / 2
        if asked and self._silence_s and now_s - self._heard_s >= self._silence_s:
            raise self._explain(
                None, f"nothing was heard for {self._silence_s:g} s, though an answer was asked for"
            )

    @property
    def backend_pid(self) -> int:
        """Of the server's process that streams to us."""
        return self._pgconn.backend_pid

    def wake(self) -> None:
        """End the `read` under way, or the next one that would wait. From any thread, at any time."""
        self._link.wake()

    # -- the end ---------------------------------------------------------------------------------

    def stop(self, deadline_s: float = 2.0) -> bool:
        """End the stream and close. What was sent and not read is thrown away: it comes again. True when
        the server agreed in time; it goes on to the end of a transaction that it is sending, and then the
        connection is cut, which loses nothing either."""
        agreed = False
        with self.using:
            streaming, self._state = self._state is State.STREAMING and self._failure is None, State.ENDED
            if streaming:
                try:
                    agreed = self._end_copy(time.monotonic() + deadline_s)
                except (StreamBroken, psycopg.Error):
                    agreed = False  # the link is gone: what is left to do is the same
        self.close()
        return agreed

    def close(self) -> None:
        """Cut the connection. The walsender notices, and frees the slot a moment later."""
        with self.using:
            self._state = State.ENDED
            self._link.close()
            self._connection.close()

    def _end_copy(self, end: float) -> bool:
        self._pgconn.put_copy_end()
        self._link.flush(max(0.0, end - time.monotonic()))
        while True:
            length, _ = self._pgconn.get_copy_data(1)
            if length < 0:
                break
            if length == 0:
                if time.monotonic() >= end:
                    return False
                if self._link.wait(end - time.monotonic()).readable:
                    self._pgconn.consume_input()
        while (result := self._link.result(max(0.0, end - time.monotonic()))) is not None:
            if result.status not in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.COPY_IN):
                return False
        return True

    # -- reading ---------------------------------------------------------------------------------

    def _told(self, message: Keepalive, keepalives: list[Keepalive]) -> None:
        """One of ``keepalives`` more."""
        keepalives.append(message)
        self._wal_end, self._sent_time_us = message.wal_end, message.sent_time_us

    # -- what went wrong -------------------------------------------------------------------------

    def _expect(self, state: State) -> None:
        if self._state is not state:
            raise InternalError(f"a stream is {self._state.value} where it should be {state.value}")

    def _broken(self, error: psycopg.Error | None) -> PrimaryError:
        """Why the stream ended: the server's last words when there are any, else libpq's."""
        result = None
        try:
            while (following := self._link.result(1.0)) is not None:
                result = following
                if result.status == pq.ExecStatus.FATAL_ERROR:
                    break
                if result.status in (pq.ExecStatus.COPY_BOTH, pq.ExecStatus.COPY_IN):
                    break  # libpq would answer the same for ever
        except (StreamBroken, psycopg.Error) as silent:
            error = error or (silent if isinstance(silent, psycopg.Error) else None)
        if result is not None and result.status == pq.ExecStatus.FATAL_ERROR:
            return self._of_result(result)
        return self._meaning(error)

    def _of_result(self, result: pq.abc.PGresult | None) -> PrimaryError:
        if result is None:
            return self._meaning(None)
        sqlstate = result.error_field(pq.DiagnosticField.SQLSTATE)
        message = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b""
        text = message.decode("utf-8", "replace") or result.error_message.decode("utf-8", "replace").strip()
        code = sqlstate.decode("ascii") if sqlstate else None
        return self._explain(code, text)

    def _meaning(self, error: psycopg.Error | None) -> PrimaryError:
        message = ""
        if error is not None:
            # What libpq itself says of a link that broke has advice in further lines.
            message = (error.diag.message_primary or str(error)).strip().partition("\n")[0]
        sqlstate = error.sqlstate if error is not None else None
        return self._explain(sqlstate, message)


def identifier(name: str) -> str:
    """A name as the grammar of replication commands has it."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
