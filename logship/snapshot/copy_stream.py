"""COPY from one server to the other in large blocks, without looking into a row.

In: two sessions, a COPY … TO STDOUT and a COPY … FROM STDIN of the same format. Out: the rows that
the secondary says it took, which are as many as the primary says it sent. CopyData messages of the
primary are, byte for byte, those that the secondary wants (PostgreSQL documentation, "Message Formats"),
so they are handed from socket to socket; only their lengths are read. libpq never sees the answer of
the primary: that session is of no use afterwards, and is the caller's to close.

Where the link is encrypted the bytes are libpq's, and every row passes through it (`by_libpq`).
"""

from __future__ import annotations

import os
import select
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import psycopg
from psycopg import pq

from logship.connection import Side
from logship.errors import InternalError
from logship.snapshot.failures import of_server

BLOCK_BYTES: Final = 2**18
_HEADER: Final = struct.Struct(">BI")
_COPY_DATA: Final = ord("d")
_POLL_MS: Final = 500
_LAST_WORDS_S: Final = 5.0

Tell = Callable[[int, int], None]  # rows and bytes more
Stopping = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Order:
    """What to copy: both statements, whether to stop, whom to tell, and what it is called in an error."""

    copy_out: bytes
    copy_in: bytes
    stopping: Stopping
    tell: Tell
    doing: str


class Stopped(Exception):
    """The caller asked to stop: nothing of this COPY stays."""


class SinkSpoke(Exception):
    """The secondary has answered before it was asked: the COPY there has failed."""


@dataclass(slots=True)
class Frames:
    """What a server answers to COPY … TO STDOUT, as it arrives in pieces. No I/O."""

    rows: int = 0  # CopyData messages; in the binary format one more than there are rows
    ended: bool = False  # the server is ready for another query
    copied: int | None = None  # rows, as the server's command tag has them
    failed: tuple[str, str] | None = None  # SQLSTATE and message
    _rest: int = 0  # bytes of the present CopyData message that are still to come
    _head: bytes = field(default=b"", repr=False)  # the beginning of a message, too short to act on

    def take(self, data: bytes) -> Iterator[memoryview]:
        """What of it is CopyData messages, or a part of one, to be handed on as they are."""
        if self._head:
            data, self._head = self._head + data, b""
        view, end = memoryview(data), len(data)
        start, position = 0, self._rest
        rows = 0
        unpack = _HEADER.unpack_from
        while position + 5 <= end:
            kind, size = unpack(data, position)
            after = position + 1 + size
            if kind == _COPY_DATA:
                rows += 1
            else:
                if position > start:
                    yield view[start:position]
                start = position
                if after > end:
                    break
                self._control(kind, data[position + 5 : after])
                start = after
            position = after
        self.rows += rows
        self._rest = max(0, position - end)
        if min(position, end) > start:
            yield view[start : min(position, end)]
        self._head = data[position:]

    def _control(self, kind: int, body: bytes) -> None:
        match chr(kind):
            case "C":
                self.copied = int(body.rstrip(b"\0").rpartition(b" ")[2])
            case "E":
                fields = {part[:1]: part[1:].decode("utf-8", "replace") for part in body.split(b"\0")}
                self.failed = (fields.get(b"C", ""), fields.get(b"M", ""))
            case "Z":
                self.ended = True


def is_plain(connection: psycopg.Connection) -> bool:
    """Whether the bytes on the socket are the protocol's own."""
    if connection.pgconn.ssl_in_use:
        return False
    row = connection.execute(
        "select g.encrypted from pg_catalog.pg_stat_gssapi g where g.pid = pg_catalog.pg_backend_pid()"
    ).fetchone()
    return not (row and row[0])


def by_socket(source: psycopg.Connection, sink: psycopg.Connection, order: Order) -> int:
    """Rows copied. ``source`` is useless afterwards."""
    frames = Frames()
    stopping = order.stopping
    with _copy_in_raw(sink, order), _socket(source) as reading, _socket(sink) as writing:
        _ask(source, order)
        buffer = memoryview(bytearray(BLOCK_BYTES))
        while not frames.ended:
            _wait(reading, select.POLLIN, stopping)
            size = _receive(reading, buffer)
            if size == 0:
                raise of_server(Side.PRIMARY, order.doing, None, "")
            before = frames.rows
            for part in frames.take(bytes(buffer[:size])):
                _send(writing, part, stopping)
            order.tell(frames.rows - before, size)
        if frames.failed is not None:
            raise of_server(Side.PRIMARY, order.doing, *frames.failed)
    taken = _finish(sink.pgconn, stopping)
    if frames.copied != taken:
        raise InternalError(f"the primary sent {frames.copied} rows, the secondary took {taken}")
    return taken


def by_libpq(source: psycopg.Connection, sink: psycopg.Connection, order: Order) -> int:
    """The same through libpq, a row at a time. ``source`` may be used again."""
    stopping, tell = order.stopping, order.tell
    with _copy_in(sink, order.copy_in), _copy_out(source, order):
        gathered, rows = bytearray(), 0
        while True:
            size, row = source.pgconn.get_copy_data(1)
            if size == 0:
                _poll(source.pgconn.socket, select.POLLIN, stopping)
                source.pgconn.consume_input()
                continue
            if size > 0:
                gathered += row
                rows += 1
            if gathered and (size < 0 or len(gathered) >= BLOCK_BYTES):
                _put(sink.pgconn, bytes(gathered), stopping)
                tell(rows, len(gathered))
                gathered, rows = bytearray(), 0
            if size < 0:
                break
        _results(source.pgconn, stopping)
    return _finish(sink.pgconn, stopping)


@contextmanager
def _copy_in(sink: psycopg.Connection, statement: bytes) -> Iterator[None]:
    """The secondary takes COPY data inside; it is told that the rest won't come when something fails."""
    sink.pgconn.send_query(statement)
    _results(sink.pgconn, lambda: False, until=pq.ExecStatus.COPY_IN)
    try:
        yield
    except SinkSpoke:
        _finish(sink.pgconn, lambda: False)
        raise InternalError("the secondary ended a COPY without an error") from None
    except BaseException:
        if sink.pgconn.status == pq.ConnStatus.OK:
            _end(sink.pgconn, b"stopped")
            _drain(sink.pgconn)
        raise


@contextmanager
def _copy_in_raw(sink: psycopg.Connection, order: Order) -> Iterator[None]:
    """The same, for who writes to the socket. When something fails a message may stand there half sent, and
    whatever followed would be taken for the rest of it: the link is cut, and the secondary rolls back."""
    sink.pgconn.send_query(order.copy_in)
    _results(sink.pgconn, lambda: False, until=pq.ExecStatus.COPY_IN)
    try:
        yield
    except SinkSpoke:
        failed = _last_words(sink)
        sink.close()
        raise of_server(Side.SECONDARY, order.doing, *failed) from None
    except BaseException:
        sink.close()
        raise


def _last_words(sink: psycopg.Connection) -> tuple[str | None, str]:
    """SQLSTATE and message of the error that waits on the secondary's socket; None: the link broke."""
    frames = Frames()
    with _socket(sink) as reading:
        reading.settimeout(_LAST_WORDS_S)
        try:
            while frames.failed is None and (data := reading.recv(BLOCK_BYTES)):
                for _ in frames.take(data):
                    pass
        except OSError:
            return None, ""
    return frames.failed or (None, "")


@contextmanager
def _copy_out(source: psycopg.Connection, order: Order) -> Iterator[None]:
    try:
        source.pgconn.send_query(order.copy_out)
        _results(source.pgconn, lambda: False, until=pq.ExecStatus.COPY_OUT)
        yield
    except psycopg.Error as error:
        raise of_server(
            Side.PRIMARY, order.doing, error.sqlstate, error.diag.message_primary or ""
        ) from error


def _ask(source: psycopg.Connection, order: Order) -> None:
    try:
        source.pgconn.send_query(order.copy_out)
        while source.pgconn.flush():
            _poll(source.pgconn.socket, select.POLLOUT, order.stopping)
    except psycopg.Error as error:
        raise of_server(Side.PRIMARY, order.doing, error.sqlstate, "") from error


def _put(pgconn: pq.abc.PGconn, data: bytes, stopping: Stopping) -> None:
    try:
        while pgconn.put_copy_data(data) == 0:
            _poll(pgconn.socket, select.POLLOUT, stopping)
        while pgconn.flush():
            _poll(pgconn.socket, select.POLLOUT, stopping)
    except psycopg.Error:
        raise SinkSpoke from None
    if _spoke(pgconn.socket):
        raise SinkSpoke


def _end(pgconn: pq.abc.PGconn, reason: bytes | None = None) -> None:
    while pgconn.put_copy_end(reason) == 0:
        _poll(pgconn.socket, select.POLLOUT, lambda: False)
    while pgconn.flush():
        _poll(pgconn.socket, select.POLLOUT, lambda: False)


def _finish(pgconn: pq.abc.PGconn, stopping: Stopping) -> int:
    """End the COPY on the secondary; the rows it took. Raises its error."""
    _end(pgconn)
    return _results(pgconn, stopping)


def _drain(pgconn: pq.abc.PGconn) -> None:
    while pgconn.get_result() is not None:
        pass


def _results(pgconn: pq.abc.PGconn, stopping: Stopping, until: pq.ExecStatus | None = None) -> int:
    """Read the answer to its end, or to a result of status ``until``, without holding other threads up."""
    rows = 0
    while True:
        while pgconn.is_busy():
            _poll(pgconn.socket, select.POLLIN, stopping)
            pgconn.consume_input()
        result = pgconn.get_result()
        if result is None:
            return rows
        if result.status == until:
            return rows
        if result.status == pq.ExecStatus.FATAL_ERROR:
            error = psycopg.errors.error_from_result(result)
            if pgconn.status == pq.ConnStatus.OK:
                _drain(pgconn)
            raise error
        rows = result.command_tuples or 0


# -- sockets -------------------------------------------------------------------------------------


@contextmanager
def _socket(connection: psycopg.Connection) -> Iterator[socket.socket]:
    """libpq's own socket, which is not blocking, and stays libpq's."""
    shared = socket.socket(fileno=os.dup(connection.pgconn.socket))
    try:
        yield shared
    finally:
        shared.close()


def _receive(reading: socket.socket, buffer: memoryview) -> int:
    try:
        return reading.recv_into(buffer)
    except ConnectionError:
        return 0


def _send(writing: socket.socket, data: memoryview, stopping: Stopping) -> None:
    if _spoke(writing.fileno()):
        raise SinkSpoke
    while data:
        try:
            sent = writing.send(data)
        except BlockingIOError:
            _wait(writing, select.POLLOUT, stopping)
        except ConnectionError:
            raise SinkSpoke from None
        else:
            data = data[sent:]


def _spoke(descriptor: int) -> bool:
    """Whether an error, or the end, waits to be read. Anything else there is libpq's to read later."""
    shared = socket.socket(fileno=os.dup(descriptor))
    try:
        return shared.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) in {b"E", b""}
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
    finally:
        shared.close()


def _wait(one: socket.socket, events: int, stopping: Stopping) -> None:
    _poll(one.fileno(), events, stopping)


def _poll(descriptor: int, events: int, stopping: Stopping) -> None:
    poll = select.poll()
    poll.register(descriptor, events)
    while not poll.poll(_POLL_MS):
        if stopping():
            raise Stopped
    if stopping():
        raise Stopped
