"""The walsender client: streams one logical slot of the primary in pgoutput's protocol version 1.

In: a conninfo, the names of slot and publications, the position to start from. Out: raw pgoutput
messages and keepalives in the order in which they were sent; in return, status updates. Settings are
pinned by `logship.connection`, so values come as UTF-8 text in one spelling whatever the database
says. Assumes one thread that does everything but `wake`.

Never makes or drops a slot, never acknowledges by itself, never looks into a message. After any error
the stream is to be closed; ``error.transient`` says whether a new one may go on from the journal's end.

Source: PostgreSQL documentation, "Streaming Replication Protocol" and "Logical Streaming Replication
Protocol"; libpq, "Functions Associated with the COPY Command".
"""

from __future__ import annotations

import enum
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import psycopg
from psycopg import pq

from logship.capture.copydata import (
    KEEPALIVE,
    NOWHERE,
    PAYLOAD,
    XLOGDATA,
    Item,
    Keepalive,
    Positions,
    check_progress,
    header,
    keepalive,
    microseconds,
    status_update,
)
from logship.capture.link import Link
from logship.capture.slot_state import SlotState, check_slot
from logship.capture.stream_errors import HINTS, stream_error
from logship.connection import Side, connect
from logship.errors import (
    InternalError,
    PrimaryError,
    ProtocolViolation,
    PublicationMissing,
    SlotActive,
    StreamBroken,
)
from logship.lsn import INVALID, Lsn

READ_BYTES: Final = 1024 * 1024
_ANSWER_S: Final = 60.0  # for a server that is alive to answer a command or take a status update


@dataclass(frozen=True, slots=True)
class System:
    """Of which server and database the log is: IDENTIFY_SYSTEM."""

    system_identifier: int
    timeline: int
    xlogpos: Lsn
    database: str


@dataclass(frozen=True, slots=True)
class Received:
    """One `read`. ``items`` in the order sent; ``keepalives`` are those among them. ``wal_end`` and
    ``sent_time_us`` (microseconds since 2000, the server's clock) are of the newest header ever read in
    this session, INVALID and None before the first. ``woken``: `SlotStream.wake` ended the wait."""

    items: list[Item]
    keepalives: tuple[Keepalive, ...]
    bytes: int
    wal_end: Lsn
    sent_time_us: int | None
    woken: bool


class State(enum.Enum):
    IDLE = "idle"
    STREAMING = "streaming"
    ENDED = "ended"


class SlotStream:
    """One connection: `identify`, `start`, then `read` and `send_status` in turn, `stop`, `close`."""

    def __init__(self, conninfo: str, *, application_name: str = "logship") -> None:
        """Connects. ``application_name`` is the name that synchronous_standby_names may list."""
        self._connection = _walsender(conninfo, application_name)
        self._connection.prepare_threshold = None  # a walsender knows no prepared statements
        self._connection.add_notice_handler(self._notice)
        self._pgconn = self._connection.pgconn
        self._link = Link(self._pgconn)
        self._state = State.IDLE
        self._slot = ""
        self._publications: tuple[str, ...] = ()
        self._sent = NOWHERE
        self._wal_end = INVALID
        self._sent_time_us: int | None = None
        self._failure: PrimaryError | None = None  # raised by every read from now on
        self._warned: PrimaryError | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

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

    def check(self, slot: str, publications: Sequence[str]) -> SlotState:
        """The slot, when it can be streamed from: see `logship.capture.slot_state.check_slot`."""
        self._expect(State.IDLE)
        try:
            return check_slot(self._connection, slot, publications)
        except psycopg.Error as error:
            raise self._meaning(error) from error

    def start(self, slot: str, publications: Sequence[str], start_lsn: Lsn) -> SlotState:
        """Check the slot and stream what committed after ``start_lsn``. The server starts at the slot's
        confirmed_flush_lsn if that is later: the caller judges the answer with `slot_state.gap` before it
        appends or acknowledges anything. `SlotActive`: wait and try again on a new stream."""
        state = self.check(slot, publications)
        self._slot, self._publications = slot, tuple(publications)
        command = start_command(slot, publications, start_lsn)
        try:
            self._pgconn.send_query(command.encode())
            self._link.flush(_ANSWER_S)
            result = self._link.result(_ANSWER_S)
        except psycopg.Error as error:
            raise self._broken(error) from error
        if result is None or result.status != pq.ExecStatus.COPY_BOTH:
            self._state = State.ENDED
            raise self._refused(result)
        self._state = State.STREAMING
        return state

    # -- the stream ------------------------------------------------------------------------------

    def read(self, timeout_s: float, max_bytes: int = READ_BYTES) -> Received:
        """What has come, or comes within ``timeout_s``: at least one item, unless the time was over or
        `wake` was called. Stops at the first message that brings it to ``max_bytes``. What ends the stream
        raises a `PrimaryError`, after everything before it was returned."""
        self._expect(State.STREAMING)
        if self._failure is not None:
            raise self._failure
        items: list[Item] = []
        keepalives: list[Keepalive] = []
        end = time.monotonic() + timeout_s
        size, woken = 0, False
        try:
            size = self._gather(items, keepalives, max_bytes)
            while not items and not woken:
                left_s = end - time.monotonic()
                ready = self._link.wait(left_s)
                woken = ready.woken
                if ready.readable:
                    size = self._gather(items, keepalives, max_bytes)
                if left_s <= 0:
                    break  # also in the middle of a message that takes long: the caller has a timer
        except (PrimaryError, psycopg.Error) as error:
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
        check_progress(self._sent, positions)
        clock_us = microseconds(time.time())
        message = status_update(positions, clock_us, reply_requested=reply_requested)
        try:
            while self._pgconn.put_copy_data(message) == 0:
                self._link.flush(_ANSWER_S)
            self._link.flush(_ANSWER_S)
        except psycopg.Error as error:
            raise self._broken(error) from error
        self._sent = positions

    def wake(self) -> None:
        """End the `read` under way, or the next one that would wait. From any thread, at any time."""
        self._link.wake()

    # -- the end ---------------------------------------------------------------------------------

    def stop(self, deadline_s: float = 2.0) -> bool:
        """End the stream and close. What was sent and not read is thrown away: it comes again. True when
        the server agreed in time; it goes on to the end of a transaction that it is sending, and then the
        connection is cut, which loses nothing either."""
        agreed = False
        if self._state is State.STREAMING and self._failure is None:
            try:
                agreed = self._end_copy(time.monotonic() + deadline_s)
            except (StreamBroken, psycopg.Error):
                agreed = False  # the link is gone: what is left to do is the same
        self.close()
        return agreed

    def close(self) -> None:
        """Cut the connection. The walsender notices, and frees the slot a moment later."""
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

    def _gather(self, items: list[Item], keepalives: list[Keepalive], max_bytes: int) -> int:
        """Take what libpq has and what the socket has, up to ``max_bytes``."""
        size = self._take(items, keepalives, max_bytes)
        while size < max_bytes:
            self._pgconn.consume_input()
            taken = self._take(items, keepalives, max_bytes - size)
            if taken == 0:
                break
            size += taken
        return size

    def _take(self, items: list[Item], keepalives: list[Keepalive], max_bytes: int) -> int:
        """Take what libpq has. This loop is run once per message: it parses the last header only."""
        get, append = self._pgconn.get_copy_data, items.append
        size = 0
        newest: memoryview | bytes = b""
        while size < max_bytes:
            length, data = get(1)
            if length <= 0:
                if length < 0:
                    raise self._broken(None)
                break
            size += length
            if data[0] == XLOGDATA and length >= PAYLOAD:
                append(bytes(data[PAYLOAD:]))
                newest = data
            elif data[0] == KEEPALIVE:
                message = keepalive(data)
                append(message)
                keepalives.append(message)
                newest = b""
                self._wal_end, self._sent_time_us = message.wal_end, message.sent_time_us
            else:
                raise ProtocolViolation(f"CopyData of the unknown kind {bytes(data[:1])!r}")
        if newest:
            last = header(newest)
            self._wal_end, self._sent_time_us = last.wal_end, last.sent_time_us
        return size

    def _notice(self, diagnostic: psycopg.errors.Diagnostic) -> None:
        # From 18 on, a publication that is gone is a warning, and its tables silently aren't sent.
        if diagnostic.severity_nonlocalized == "WARNING":
            for publication in self._publications:
                if f'"{publication}"' in (diagnostic.message_primary or ""):
                    self._warned = PublicationMissing(publication, sqlstate=diagnostic.sqlstate or "")

    # -- what went wrong -------------------------------------------------------------------------

    def _expect(self, state: State) -> None:
        if self._state is not state:
            raise InternalError(f"a slot's stream is {self._state.value} where it should be {state.value}")

    def _refused(self, result: pq.abc.PGresult | None) -> PrimaryError:
        """Why START_REPLICATION was refused: the slot's state now says it better than the message."""
        refused = self._of_result(result)
        try:
            while self._link.result(_ANSWER_S) is not None:
                pass
            state = check_slot(self._connection, self._slot, self._publications)
        except (StreamBroken, psycopg.Error):
            return refused
        except PrimaryError as better:
            better.__cause__ = refused
            return better
        return SlotActive(self._slot, state.active_pid) if isinstance(refused, SlotActive) else refused

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
        return stream_error(code, text, self._slot, self._publications)

    def _meaning(self, error: psycopg.Error | None) -> PrimaryError:
        message = ""
        if error is not None:
            message = error.diag.message_primary or str(error).strip().split("\n", 1)[0]
        sqlstate = error.sqlstate if error is not None else None
        return stream_error(sqlstate, message, self._slot, self._publications)


def _walsender(conninfo: str, application_name: str) -> psycopg.Connection:
    try:
        return connect(conninfo, Side.PRIMARY, application_name=application_name, replication=True)
    except PrimaryError as error:
        # "must be … to start walsender" (15), "permission denied to start WAL sender" (16 and later).
        if "walsender" in error.message.lower().replace(" ", ""):
            raise PrimaryError(error.message, hint=HINTS["42501"]) from error
        raise


def start_command(slot: str, publications: Sequence[str], start_lsn: Lsn) -> str:
    """START_REPLICATION as the walsender's grammar has it. The names of publications are a list of
    identifiers inside a string: quoted twice."""
    names = _literal(",".join(_identifier(name) for name in publications))
    return (
        f"START_REPLICATION SLOT {_identifier(slot)} LOGICAL {start_lsn} "
        f"(proto_version '1', publication_names {names}, messages 'true')"
    )


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
