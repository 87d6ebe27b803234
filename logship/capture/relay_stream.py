"""The relay's own client: streams what a shipper sends to one replica, record by record.

In: a conninfo of the shipper, the replica's name, the position to start from, and how a record is decoded.
Out: records and keepalives in the order in which they were sent; in return, status updates. The protocol
is the walsender's (`logship.capture.stream`); there is no slot to look at and no SQL to ask.

`ShipperUnreachable`, `ReplicaServed`, `ReplicaUnknown`: wait and try again on a new stream. `LogGone` stays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeVar

import psycopg

from logship.capture.copydata import KEEPALIVE, Keepalive, keepalive
from logship.capture.stream import State, Stream, identifier
from logship.config import RECEIVER_TIMEOUT_S
from logship.connection import Side, connect
from logship.errors import (
    LogGone,
    PrimaryError,
    ProtocolViolation,
    ReplicaServed,
    ReplicaUnknown,
    ShipperBroken,
    ShipperUnreachable,
    UsageError,
    is_transient,
)
from logship.lsn import Lsn

T = TypeVar("T")

RECORD: Final = ord("L")
_ALL_BYTES: Final = 4096  # libpq has room for twice as much: with less at once the socket is empty
# Whoever listens there said no, and will say it again: anything else may be a shipper that is only starting.
_FINAL: Final = ("authentication", "password", "no encryption", "must use", "certificate", "does not exist")


class RelayStream(Stream[T | Keepalive], Generic[T]):
    """One connection: `identify`, `show`, `start`, then `read` and `send_status` in turn, `stop`, `close`."""

    def __init__(
        self,
        conninfo: str,
        replica: str,
        decode: Callable[[memoryview | bytes], T],
        *,
        receiver_timeout_s: float = RECEIVER_TIMEOUT_S,
    ) -> None:
        """Connects. ``decode`` gets the payload of each CopyData of ours; it raises `ProtocolViolation`."""
        super().__init__(connected(conninfo, replica), receiver_timeout_s)
        self._replica = replica
        self._decode = decode

    def show(self, name: str) -> tuple[str | None, ...]:
        """The answer to SHOW: one row of texts."""
        self._expect(State.IDLE)
        try:
            return shown(self._connection, name)
        except psycopg.errors.UndefinedObject as error:
            raise UsageError(
                f"what --shipper names speaks PostgreSQL's protocol, and is no shipper: it knows no {name}",
                hint="give the address that `logship ship --listen` has; for a primary's own walsender, --primary",
            ) from error
        except psycopg.Error as error:
            raise self._meaning(error) from error

    def start(self, publication: str, start_lsn: Lsn) -> None:
        """Stream what ended after ``start_lsn``, of all that the shipper ships."""
        command = (
            f"START_REPLICATION SLOT {identifier(self._replica)} LOGICAL {start_lsn} "
            f"(proto_version '1', publication_names {_names(publication)}, messages 'true', logship '1')"
        )
        refused = self._begin(command)
        if refused is not None:
            raise self._of_result(refused)

    def _gather(self, items: list[T | Keepalive], keepalives: list[Keepalive], max_bytes: int) -> int:
        size, drained = self._take(items, keepalives, max_bytes), False
        while size < max_bytes and not drained:
            self._pgconn.consume_input()
            taken = self._take(items, keepalives, max_bytes - size)
            size += taken
            # What TLS has decrypted isn't seen by a wait for the socket: it is asked until it has no more.
            drained = taken == 0 or (taken < _ALL_BYTES and not self._tls)
        self._drained = drained and size < max_bytes and not self._tls
        return size

    def _take(self, items: list[T | Keepalive], keepalives: list[Keepalive], max_bytes: int) -> int:
        """Take what libpq has, up to about ``max_bytes``. Its size."""
        get, append, decode = self._pgconn.get_copy_data, items.append, self._decode
        size = 0
        while size < max_bytes:
            length, data = get(1)
            if length <= 0:
                if length < 0:
                    raise self._broken(None)
                break
            size += length
            if data[0] == RECORD:
                append(decode(data))
            elif data[0] == KEEPALIVE:
                message = keepalive(data)
                items.append(message)
                self._told(message, keepalives)
            else:
                raise ProtocolViolation(f"CopyData of the unknown kind {bytes(data[:1])!r}")
        return size

    def _explain(self, sqlstate: str | None, message: str) -> PrimaryError:
        return relay_error(sqlstate, message, self._replica)


def relay_error(sqlstate: str | None, message: str, replica: str) -> PrimaryError:
    """The error to raise for what a shipper said, or for a link that broke (``sqlstate`` None)."""
    match sqlstate:
        case "55006":
            return ReplicaServed(replica)
        case "42704":
            return ReplicaUnknown(replica, message)
        case "58P01":
            return LogGone(replica, message)
    return ShipperBroken(message, sqlstate=sqlstate, transient=is_transient(sqlstate))


def connected(conninfo: str, application_name: str) -> psycopg.Connection:
    """A replication connection to a shipper. `ShipperUnreachable` says whether trying again can help."""
    try:
        connection = connect(conninfo, Side.SHIPPER, application_name=application_name, replication=True)
    except PrimaryError as error:
        text = error.message.lower()
        final = any(word in text for word in _FINAL)
        raise ShipperUnreachable(error.message, hint=error.hint, transient=not final) from error
    connection.prepare_threshold = None  # who asks the same often would begin to prepare it
    return connection


def shown(connection: psycopg.Connection, name: str) -> tuple[str | None, ...]:
    """What the shipper answers to SHOW ``name``."""
    row = connection.execute(f"SHOW {identifier(name)}".encode()).fetchone()
    if row is None:
        raise ProtocolViolation(f"an answer to SHOW {name} without a row")
    return tuple(row)


def _names(publication: str) -> str:
    """A list of identifiers inside a string."""
    return "'" + identifier(publication).replace("'", "''") + "'"
