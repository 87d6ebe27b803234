"""Sends statements to the secondary many at a time, and says which of them failed.

In: a psycopg connection of persistence's own, and `Command`s. Out: the first cell of each command's
result, or a `ServerError` for the first that failed. One call of `Session.run` is one round trip,
whatever the number of commands (libpq's pipeline mode). `send` and `receive` are its two halves: what is sent
before an earlier answer was received is worked on meanwhile. Waiting never holds the interpreter's lock. A
server's message may hold row values, so only those that can't are passed on.

Source: PostgreSQL documentation, "Pipeline Mode"; "Error Message Fields".
"""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import psycopg
from psycopg import pq

from logship.connection import Side, connect
from logship.errors import InternalError, is_users_text
from logship.failpoints import hit

T = TypeVar("T")

TEXT: Final = 25
TEXT_ARRAY: Final = 1009

# What every statement of persistence runs under; RESET ALL comes back to it. Plans walk indexes.
SETTINGS: Final[dict[str, str]] = {
    "session_replication_role": "replica",
    "synchronous_commit": "on",
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "default_transaction_deferrable": "off",
    "idle_session_timeout": "0",
    "client_min_messages": "error",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_nestloop": "on",
    "enable_indexscan": "on",
    "enable_tidscan": "on",
    "jit": "off",
    "work_mem": "32MB",  # the arrays of one statement, as rows, stay in memory
    "array_nulls": "on",
    "transform_null_equals": "off",
}
_LARGE_BYTES: Final = 16 << 20
_GATHERED_BYTES: Final = 64 << 10  # what goes to the socket at once: most transactions are one write
_STOP_GRACE_S: Final = 4.0  # how long a statement under way may go on after the stop
# SQLSTATE classes whose primary message is made of identifiers, never of values.
_SAYABLE: Final = ("08", "23", "25", "28", "2B", "3D", "3F", "40", "42", "53", "54", "55", "57", "58", "LS")


class ServerError(Exception):
    """A command failed (``index``: which), or the link broke (``sqlstate`` None). Never leaves replay."""

    def __init__(
        self, sqlstate: str | None, reason: str, *, index: int = 0, relation: str = "", constraint: str = ""
    ) -> None:
        super().__init__(reason)
        self.sqlstate = sqlstate
        self.reason = reason
        self.index = index
        self.relation = relation
        self.constraint = constraint


@dataclass(frozen=True, slots=True)
class Command:
    """``parameters`` with their ``types``; those of type text[] in binary format."""

    sql: bytes
    parameters: Sequence[bytes | None] = ()
    types: Sequence[int] = ()


class Session:
    """``stop``: when set, a statement that still runs after some seconds is cancelled."""

    def __init__(self, connection: psycopg.Connection, stop: threading.Event) -> None:
        self._connection = connection
        self._pgconn = connection.pgconn
        self._stop = stop
        self._cancel_at: float | None = None
        self._flights = 0  # sent, and their answers not received
        self._pgconn.nonblocking = 1

    @property
    def server_version(self) -> int:
        return self._pgconn.server_version

    @property
    def backend_pid(self) -> int:
        return self._pgconn.backend_pid

    @property
    def usable(self) -> bool:
        return self._pgconn.status == pq.ConnStatus.OK

    def run(self, commands: Sequence[Command]) -> list[bytes | None]:
        """The first cell of the first row of each; the commands behind one that fails don't run. Everything that
        was sent before must have been received."""
        if not commands:
            return []
        self.send(commands)
        return self.receive()

    def send(
        self, commands: Sequence[Command], and_then: Callable[[], Sequence[Command]] | None = None
    ) -> None:
        """Let the server begin. Inside a transaction block only, unless the answers to all that was sent before
        have come: what was sent behind a command that fails is refused then. ``and_then`` is called when
        ``commands`` have left, and gives the last ones, which don't run either when one of those fails."""
        if not self._flights:
            self._cancel_at = None
        self._guarded(lambda: self._send_all(commands, and_then))
        self._flights += 1

    def receive(self) -> list[bytes | None]:
        """The answers to the oldest `send`. After a `ServerError` nothing is left to be received."""
        if not self._flights:
            raise InternalError("no answer is due")
        self._flights -= 1
        cells, failure = self._guarded(self._receive)
        if failure is not None or not self._flights:
            self.discard()
        if failure is not None:
            raise failure
        return cells

    def copy_in(self, statement: bytes, pieces: Iterable[bytes]) -> int:
        """COPY … FROM STDIN; the rows that the server took. Every answer must have been received. The next piece is
        made while the server works on the one before."""
        if self._flights:
            raise InternalError("COPY must not stand behind answers that are due")
        self._cancel_at = None
        rows, failure = self._guarded(lambda: self._copy_in(statement, pieces))
        if failure is not None:
            raise failure
        return rows

    def _copy_in(self, statement: bytes, pieces: Iterable[bytes]) -> tuple[int, ServerError | None]:
        self._pgconn.send_query(statement)
        self._flush()
        rows, failure = self._copied()
        if failure is not None:
            return rows, failure
        try:
            for piece in pieces:
                self._flush()  # what is left of the one before
                while not self._pgconn.put_copy_data(piece):
                    self._flush()
                self._pgconn.flush()
                hit("persistence.copying")
        except BaseException:
            if self.usable:
                self._end_copy(b"stopped")
                self._copied()
            raise
        self._end_copy(None)
        return self._copied()

    def _end_copy(self, reason: bytes | None) -> None:
        self._flush()
        while not self._pgconn.put_copy_end(reason):
            self._flush()
        self._flush()

    def _copied(self) -> tuple[int, ServerError | None]:
        """The answer, up to where the server takes rows, or to its end."""
        rows, failure = 0, None
        while (result := self._result()) is not None:
            if result.status == pq.ExecStatus.COPY_IN:
                break
            if result.status == pq.ExecStatus.FATAL_ERROR:
                failure = _failure(result, 0)
            rows = result.command_tuples or 0
        return rows, failure

    def discard(self) -> None:
        """Take the answers that are due, whatever they say: their transaction is to be rolled back."""
        while self._flights:
            self._flights -= 1
            self._guarded(self._receive)
        if self.usable and self._pgconn.pipeline_status != pq.PipelineStatus.OFF:
            self._pgconn.exit_pipeline_mode()

    def close(self) -> None:
        self._flights = 0
        self._connection.close()

    def _guarded(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except psycopg.Error as error:
            self._flights = 0
            self.close()
            raise ServerError(error.sqlstate, "the connection to the secondary is lost") from None

    def _send_all(
        self, commands: Sequence[Command], and_then: Callable[[], Sequence[Command]] | None
    ) -> None:
        self._pgconn.enter_pipeline_mode()
        gathered = 0
        for command in commands:
            gathered += self._send(command)
            if gathered > _GATHERED_BYTES:
                self._flush()
                gathered = 0
        if and_then is not None:
            self._flush()
            for command in and_then():
                self._send(command)
        self._pgconn.pipeline_sync()
        self._flush()

    def _receive(self) -> tuple[list[bytes | None], ServerError | None]:
        cells: list[bytes | None] = []
        failure: ServerError | None = None
        index = 0
        while True:
            result = self._result()
            if result is None:
                index += 1
            elif result.status == pq.ExecStatus.PIPELINE_SYNC:
                return cells, failure
            elif result.status == pq.ExecStatus.FATAL_ERROR:
                failure = failure or _failure(result, index)
            elif result.status in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK):
                cells.append(result.get_value(0, 0) if result.ntuples else None)

    def _send(self, command: Command) -> int:
        """How many bytes that were. After each partial write libpq moves what is left to its buffer's front, unless
        it may block: a value of 200 MB would be moved a thousand times. It blocks without the interpreter's lock, and
        reads meanwhile."""
        formats = [pq.Format.BINARY if oid == TEXT_ARRAY else pq.Format.TEXT for oid in command.types]
        size_bytes = sum(len(parameter or b"") for parameter in command.parameters)
        large = size_bytes > _LARGE_BYTES
        if large:
            self._flush()
            self._pgconn.nonblocking = 0
        try:
            self._pgconn.send_query_params(command.sql, command.parameters, command.types, formats)
        finally:
            if large and self._pgconn.status == pq.ConnStatus.OK:
                self._pgconn.nonblocking = 1
        return size_bytes

    def _flush(self) -> None:
        # Read meanwhile: a server that can't get rid of what it has to say doesn't listen.
        self._pump(lambda: not self._pgconn.flush(), select.POLLIN | select.POLLOUT)

    def _result(self) -> pq.abc.PGresult | None:
        self._pump(lambda: not self._pgconn.is_busy(), select.POLLIN)
        result = self._pgconn.get_result()
        if result is None and self._pgconn.status != pq.ConnStatus.OK:
            raise psycopg.OperationalError("the connection is lost")
        return result

    def _pump(self, done: Callable[[], bool], events: int) -> None:
        if done():
            return
        poll = select.poll()
        poll.register(self._pgconn.socket, events)
        while not done():
            for _, ready in poll.poll(500):
                if ready & ~select.POLLOUT:
                    self._pgconn.consume_input()
            if self._stop.is_set():
                self._cancel_in_time()

    def _cancel_in_time(self) -> None:
        now = time.monotonic()
        if self._cancel_at is None:
            self._cancel_at = now + _STOP_GRACE_S
        elif now >= self._cancel_at:
            self._cancel_at = now + _STOP_GRACE_S
            self._pgconn.get_cancel().cancel()


def open_session(
    conninfo: str, application_name: str, lock_timeout_s: float, stop: threading.Event
) -> Session:
    """Raises `SecondaryError` when the server can't be reached or refuses."""
    settings = SETTINGS | {"lock_timeout": f"{round(lock_timeout_s * 1000)}ms"}
    connection = connect(conninfo, Side.SECONDARY, application_name=application_name, settings=settings)
    if connection.info.server_version >= 170000 and _has_transaction_timeout(connection):
        connection.close()  # RESET ALL would come back to it: it must be the session's own from the start
        settings["transaction_timeout"] = "0"
        connection = connect(conninfo, Side.SECONDARY, application_name=application_name, settings=settings)
    return Session(connection, stop)


def _has_transaction_timeout(connection: psycopg.Connection) -> bool:
    row = connection.execute("show transaction_timeout").fetchone()
    return row is not None and row[0] != "0"


def _failure(result: pq.abc.PGresult, index: int) -> ServerError:
    def field(which: pq.DiagnosticField) -> str:
        return (result.error_field(which) or b"").decode("utf-8", "replace")

    sqlstate = field(pq.DiagnosticField.SQLSTATE) or None
    if sqlstate is None:
        return ServerError(None, "the connection to the secondary is lost", index=index)
    ours = sqlstate.startswith("LS")
    sayable = sqlstate.startswith(_SAYABLE) and (
        ours or not is_users_text(field(pq.DiagnosticField.SOURCE_FILE))
    )
    reason = field(pq.DiagnosticField.MESSAGE_PRIMARY) if sayable else _condition(sqlstate)
    schema, table = field(pq.DiagnosticField.SCHEMA_NAME), field(pq.DiagnosticField.TABLE_NAME)
    return ServerError(
        sqlstate, reason, index=index,
        relation=f"{schema}.{table}" if table else "",
        constraint=field(pq.DiagnosticField.CONSTRAINT_NAME),
    )  # fmt: skip


def _condition(sqlstate: str) -> str:
    """The condition's name where the message may hold a value: InvalidTextRepresentation."""
    try:
        return psycopg.errors.lookup(sqlstate).__name__
    except KeyError:
        return "an error that user-written code raised"
