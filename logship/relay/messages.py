"""PostgreSQL's wire protocol 3.0 as a server speaks it: bytes to messages, and messages to bytes.

In: the bytes that a client sends, in any chunks; values to be told to it. Out: messages cut from them
(`Inbox`), and encoded answers. What a client sends is judged by length before it is waited for, so that
nobody's memory is the peer's to fill. What can't be a message raises `Refused`, and nothing else is ever
raised for a peer's bytes. No I/O, no clock.

Source: PostgreSQL documentation, "Message Formats", "Streaming Replication Protocol".
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from logship.lsn import Lsn
from logship.relay.events import Status
from logship.relay.refusal import PROTOCOL_VIOLATION, Refusal, Refused, violation

PROTOCOL: Final = 3 << 16  # 3.0
CANCEL_REQUEST: Final = 1234 << 16 | 5678
SSL_REQUEST: Final = 1234 << 16 | 5679
GSSENC_REQUEST: Final = 1234 << 16 | 5680

TEXT: Final = 25
NAME: Final = 19
INT4: Final = 23
INT8: Final = 20
NAME_ARRAY: Final = 1003
_SIZES: Final = {TEXT: -1, NAME: 64, INT4: 4, INT8: 8, NAME_ARRAY: -1}

_U32: Final = struct.Struct(">I")
_I32: Final = struct.Struct(">i")
_HEAD: Final = struct.Struct(">cI")
_FIELD: Final = struct.Struct(">IhIhih")  # relation, column, type, its size, typmod, format
_KEEPALIVE: Final = struct.Struct(">cQqB")
_STATUS: Final = struct.Struct(">cQQQqB")
_FEEDBACK: Final = struct.Struct(">cqIIII")
_CANCEL: Final = struct.Struct(">II")

Row: TypeAlias = Sequence[str | None]


@dataclass(frozen=True, slots=True)
class Column:
    """Of a result. Values always travel as text."""

    name: str
    type_oid: int = TEXT


# -- what comes in -------------------------------------------------------------------------------


class Inbox:
    """The peer's bytes until they are messages. Holds at most one message that is not whole, and what was
    fed behind it."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._at = 0

    def __len__(self) -> int:
        return len(self._data) - self._at

    def feed(self, data: bytes) -> None:
        if self._at:
            del self._data[: self._at]
            self._at = 0
        self._data += data

    def clear(self) -> None:
        self._data.clear()
        self._at = 0

    def startup(self, limit: int) -> tuple[int, bytes] | None:
        """The code and the body of the next packet without a tag; None until it is whole."""
        if len(self) < 4:
            return None
        (length,) = _U32.unpack_from(self._data, self._at)
        if not 8 <= length <= limit:
            raise violation("invalid length of startup packet")
        if len(self) < length:
            return None
        (code,) = _U32.unpack_from(self._data, self._at + 4)
        body = bytes(self._data[self._at + 8 : self._at + length])
        self._at += length
        return code, body

    def message(self, limit: int) -> tuple[bytes, bytes] | None:
        """The tag and the body of the next message; None until it is whole."""
        if len(self) < 5:
            return None
        tag, length = _HEAD.unpack_from(self._data, self._at)
        if not 4 <= length <= limit:
            raise violation(f"invalid message length {length}")
        end = self._at + 1 + length
        if len(self._data) < end:
            return None
        body = bytes(self._data[self._at + 5 : end])
        self._at = end
        return tag, body

    def tag(self) -> bytes:
        """The first byte of the next message, empty when there is none."""
        return bytes(self._data[self._at : self._at + 1])


def string(body: bytes) -> str:
    """The one NUL-terminated string that ``body`` must be (Query)."""
    if not body.endswith(b"\0") or b"\0" in body[:-1]:
        raise Refused(Refusal(PROTOCOL_VIOLATION, "invalid message format"))
    return text(body[:-1])


def text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused(Refusal("22021", 'invalid byte sequence for encoding "UTF8"')) from None


def cancel_key(body: bytes) -> tuple[int, int]:
    """Pid and key of a CancelRequest."""
    if len(body) != _CANCEL.size:
        raise violation("invalid length of cancel request")
    pid, key = _CANCEL.unpack(body)
    return pid, key


def sasl_initial(body: bytes) -> tuple[str, bytes | None]:
    """The mechanism and the first message of a SASLInitialResponse."""
    name, found, rest = body.partition(b"\0")
    if not found or len(rest) < 4:
        raise violation("malformed SASL initial response")
    (length,) = _I32.unpack_from(rest)
    data = rest[4:]
    if len(data) != max(length, 0) or length < -1:
        raise violation("malformed SASL initial response")
    return name.decode("ascii", "replace"), None if length < 0 else data


def standby_message(body: bytes) -> Status | None:
    """What a standby says inside CopyData; None for hot standby feedback, which a logical stream has no
    use for."""
    kind = body[:1]
    if kind == b"r" and len(body) == _STATUS.size:
        _, write, flush, replay, time_us, asked = _STATUS.unpack(body)
        return Status(Lsn(write), Lsn(flush), Lsn(replay), time_us, asked != 0)
    if kind == b"h" and len(body) == _FEEDBACK.size:
        return None
    if kind in (b"r", b"h"):
        raise violation(f"a standby message of kind {kind.decode()} has {len(body)} bytes")
    raise violation(f"unexpected standby message type {kind!r}")


# -- what goes out -------------------------------------------------------------------------------


def message(tag: bytes, body: bytes = b"") -> bytes:
    return _HEAD.pack(tag, len(body) + 4) + body


def cstring(value: str) -> bytes:
    return value.encode("utf-8", "replace").replace(b"\0", b"?") + b"\0"


def authentication(code: int, body: bytes = b"") -> bytes:
    return message(b"R", _U32.pack(code) + body)


AUTHENTICATION_OK: Final = authentication(0)
READY_FOR_QUERY: Final = message(b"Z", b"I")
EMPTY_QUERY: Final = message(b"I")
COPY_DONE: Final = message(b"c")
COPY_BOTH: Final = message(b"W", b"\0\0\0")  # text, no columns


def authentication_sasl(mechanisms: Sequence[str]) -> bytes:
    return authentication(10, b"".join(map(cstring, mechanisms)) + b"\0")


def authentication_sasl_continue(data: bytes) -> bytes:
    return authentication(11, data)


def authentication_sasl_final(data: bytes) -> bytes:
    return authentication(12, data)


def negotiate_protocol(unknown: Sequence[str]) -> bytes:
    """3.0 is spoken, and none of the ``unknown`` options of the protocol."""
    return message(b"v", _U32.pack(PROTOCOL) + _U32.pack(len(unknown)) + b"".join(map(cstring, unknown)))


def parameter_status(parameters: Mapping[str, str]) -> bytes:
    return b"".join(message(b"S", cstring(name) + cstring(value)) for name, value in parameters.items())


def backend_key_data(pid: int, key: int) -> bytes:
    return message(b"K", _CANCEL.pack(pid, key))


def row_description(columns: Sequence[Column]) -> bytes:
    parts = [struct.pack(">h", len(columns))]
    for column in columns:
        size = _SIZES.get(column.type_oid, -1)
        parts.append(cstring(column.name) + _FIELD.pack(0, 0, column.type_oid, size, -1, 0))
    return message(b"T", b"".join(parts))


def data_row(row: Row) -> bytes:
    parts = [struct.pack(">h", len(row))]
    for value in row:
        if value is None:
            parts.append(_I32.pack(-1))
        else:
            encoded = value.encode("utf-8", "replace")
            parts.append(_I32.pack(len(encoded)) + encoded)
    return message(b"D", b"".join(parts))


def command_complete(tag: str) -> bytes:
    return message(b"C", cstring(tag))


def error_response(refusal: Refusal) -> bytes:
    severity = "FATAL" if refusal.fatal else "ERROR"
    fields = (
        ("S", severity), ("V", severity), ("C", refusal.sqlstate), ("M", refusal.message),
        ("D", refusal.detail), ("H", refusal.hint),
    )  # fmt: skip
    body = b"".join(code.encode() + cstring(value) for code, value in fields if value)
    return message(b"E", body + b"\0")


def keepalive(wal_end: Lsn, sent_time_us: int, *, reply_requested: bool) -> bytes:
    """A primary keepalive inside CopyData."""
    return message(b"d", _KEEPALIVE.pack(b"k", wal_end, sent_time_us, reply_requested))
