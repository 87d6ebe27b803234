"""The messages of the plugin pgoutput, protocol version 1, and logical messages: bytes to events and back.

In: one message, as it stands behind an XLogData header or in a journal record. Out: an event of
`logship.change`; `encode` is the inverse. A message that is cut short, has bytes left over, an
unknown tag, a name that isn't UTF-8 or a cell in binary format raises `ProtocolViolation` with the
offset, and nothing else is ever raised. No I/O, no state: what a relation looks like is for the
caller to remember. The text of cells is not looked at.

pg_catalog stands in the messages as an empty schema name; events carry the name.

Source: PostgreSQL documentation, "Logical Replication Message Formats";
src/backend/replication/logical/proto.c.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from logship.change import (
    UNCHANGED,
    Begin,
    Column,
    Commit,
    Delete,
    Event,
    Insert,
    Message,
    Origin,
    Relation,
    Row,
    Truncate,
    TypeName,
    Update,
)
from logship.errors import InternalError, ProtocolViolation
from logship.kernel import tuple_at
from logship.lsn import Lsn

BEGIN: Final = ord("B")
COMMIT: Final = ord("C")
ORIGIN: Final = ord("O")
RELATION: Final = ord("R")
TYPE: Final = ord("Y")
INSERT: Final = ord("I")
UPDATE: Final = ord("U")
DELETE: Final = ord("D")
TRUNCATE: Final = ord("T")
MESSAGE: Final = ord("M")

_BEGIN: Final = struct.Struct(">cQqI")  # final LSN, commit time, xid
_COMMIT: Final = struct.Struct(">cBQQq")  # flags, commit LSN, end LSN, commit time
_MESSAGE: Final = struct.Struct(">cBQ")  # flags, LSN
_TRUNCATE: Final = struct.Struct(">cIB")  # number of relations, options
_OID: Final = struct.Struct(">cI")
_LSN: Final = struct.Struct(">cQ")
_U32: Final = struct.Struct(">I")
_U16: Final = struct.Struct(">H")
_COLUMN: Final = struct.Struct(">Ii")  # type, typmod

_NEW, _KEY, _OLD = ord("N"), ord("K"), ord("O")
_CASCADE, _RESTART = 1, 2
_IDENTITIES: Final = b"dnfi"
_CATALOG: Final = "pg_catalog"


def decode(message: bytes) -> Event:
    """The event that ``message`` stands for. For an UPDATE or DELETE with a key tuple, the cells of
    columns outside the key are None and mean nothing."""
    decoder = _DECODERS.get(tag(message))
    if decoder is None:
        raise ProtocolViolation(f"a message of the unknown kind {message[:1]!r}")
    return decoder(message)


def tag(message: bytes) -> int:
    """What kind of message it is: `BEGIN`, `INSERT` … or a byte that is none of them."""
    if not message:
        raise ProtocolViolation("an empty message")
    return message[0]


def begin_of(message: bytes) -> Begin:
    """The Begin that ``message`` must be."""
    _expect(message, BEGIN, _BEGIN.size)
    _, commit_lsn, commit_time_us, xid = _BEGIN.unpack(message)
    return Begin(Lsn(commit_lsn), commit_time_us, xid)


def commit_of(message: bytes) -> Commit:
    """The Commit that ``message`` must be."""
    _expect(message, COMMIT, _COMMIT.size)
    _, flags, commit_lsn, end_lsn, commit_time_us = _COMMIT.unpack(message)
    if flags:
        raise ProtocolViolation(f"a commit with the unknown flags {flags:#04x}", offset=1)
    return Commit(Lsn(commit_lsn), Lsn(end_lsn), commit_time_us)


def relation_oid(message: bytes) -> int:
    """The relation of an Insert, Update, Delete or Relation message; the type of a Type message."""
    if len(message) < 5:
        raise ProtocolViolation("a message is cut short", offset=len(message))
    return int.from_bytes(message[1:5], "big")


def is_transactional(message: bytes) -> bool:
    """Whether a logical message belongs to the transaction around it."""
    if len(message) < 2:
        raise ProtocolViolation("a message is cut short", offset=len(message))
    if message[1] > 1:
        raise ProtocolViolation(f"a logical message with the unknown flags {message[1]:#04x}", offset=1)
    return message[1] == 1


def _expect(message: bytes, kind: int, size: int) -> None:
    if tag(message) != kind:
        raise ProtocolViolation(f"a message of kind {message[:1]!r} where {chr(kind)!r} was expected")
    if len(message) < size:
        raise ProtocolViolation("a message is cut short", offset=len(message))
    _at_end(message, size)


# -- decoding ------------------------------------------------------------------------------------


def _insert(message: bytes) -> Insert:
    if len(message) < 6 or message[5] != _NEW:
        raise _no_tuple(message, 5, "N")
    new, offset = _row(message, 6)
    _at_end(message, offset)
    return Insert(_U32.unpack_from(message, 1)[0], new)


def _update(message: bytes) -> Update:
    if len(message) < 6:
        raise _no_tuple(message, 5, "K, O or N")
    kind, offset = message[5], 6
    old: Row | None = None
    if kind in (_KEY, _OLD):
        old, offset = _row(message, 6)
        if len(message) <= offset or message[offset] != _NEW:
            raise _no_tuple(message, offset, "N")
        offset += 1
    elif kind != _NEW:
        raise _no_tuple(message, 5, "K, O or N")
    new, offset = _row(message, offset)
    _at_end(message, offset)
    return Update(_U32.unpack_from(message, 1)[0], old, kind == _KEY, new)


def _delete(message: bytes) -> Delete:
    if len(message) < 6 or message[5] not in (_KEY, _OLD):
        raise _no_tuple(message, 5, "K or O")
    old, offset = _row(message, 6)
    _at_end(message, offset)
    return Delete(_U32.unpack_from(message, 1)[0], old, message[5] == _KEY)


def _truncate(message: bytes) -> Truncate:
    _, count, options = _unpack(_TRUNCATE, message, 0)
    if options > (_CASCADE | _RESTART):
        raise ProtocolViolation(f"a truncate with the unknown options {options:#04x}", offset=5)
    end = _TRUNCATE.size + 4 * count
    if end > len(message):
        raise ProtocolViolation("a list of relations is cut short", offset=len(message))
    _at_end(message, end)
    oids = struct.unpack_from(f">{count}I", message, _TRUNCATE.size)
    return Truncate(oids, bool(options & _CASCADE), bool(options & _RESTART))


def _relation(message: bytes) -> Relation:
    _, oid = _unpack(_OID, message, 0)
    schema, offset = _name(message, _OID.size)
    name, offset = _name(message, offset)
    (identity,) = _unpack(struct.Struct(">B"), message, offset)
    if identity not in _IDENTITIES:
        raise ProtocolViolation(f"the unknown replica identity {identity:#04x}", offset=offset)
    (count,) = _unpack(_U16, message, offset + 1)
    offset += 3
    columns: list[Column] = []
    for _ in range(count):
        column, offset = _column(message, offset)
        columns.append(column)
    _at_end(message, offset)
    return Relation(oid, schema or _CATALOG, name, chr(identity), tuple(columns))


def _column(message: bytes, offset: int) -> tuple[Column, int]:
    if offset >= len(message):
        raise ProtocolViolation("a list of columns is cut short", offset=offset)
    flags = message[offset]
    if flags > 1:
        raise ProtocolViolation(f"a column with the unknown flags {flags:#04x}", offset=offset)
    name, offset = _name(message, offset + 1)
    type_oid, typmod = _unpack(_COLUMN, message, offset)
    return Column(name, type_oid, typmod, flags == 1), offset + _COLUMN.size


def _type(message: bytes) -> TypeName:
    _, oid = _unpack(_OID, message, 0)
    schema, offset = _name(message, _OID.size)
    name, offset = _name(message, offset)
    _at_end(message, offset)
    return TypeName(oid, schema or _CATALOG, name)


def _origin(message: bytes) -> Origin:
    _, lsn = _unpack(_LSN, message, 0)
    name, offset = _name(message, _LSN.size)
    _at_end(message, offset)
    return Origin(Lsn(lsn), name)


def _message(message: bytes) -> Message:
    _, _, lsn = _unpack(_MESSAGE, message, 0)
    transactional = is_transactional(message)
    prefix, offset = _name(message, _MESSAGE.size)
    (length,) = _unpack(_U32, message, offset)
    start = offset + 4
    if start + length > len(message):
        raise ProtocolViolation("a logical message is cut short", offset=len(message))
    _at_end(message, start + length)
    return Message(transactional, Lsn(lsn), prefix, message[start:])


_DECODERS: Final[dict[int, Callable[[bytes], Event]]] = {
    BEGIN: begin_of,
    COMMIT: commit_of,
    ORIGIN: _origin,
    RELATION: _relation,
    TYPE: _type,
    INSERT: _insert,
    UPDATE: _update,
    DELETE: _delete,
    TRUNCATE: _truncate,
    MESSAGE: _message,
}


def _row(message: bytes, offset: int) -> tuple[Row, int]:
    try:
        return tuple_at(message, offset)
    except ValueError:
        raise _tuple_fault(message, offset) from None


def _tuple_fault(message: bytes, offset: int) -> ProtocolViolation:
    """What is wrong with the tuple at ``offset``: walked again, since the kernel only says that it is."""
    end = len(message)
    if offset + 2 > end:
        return ProtocolViolation("a tuple is cut short", offset=end)
    offset += 2
    while offset < end:
        kind = message[offset]
        if kind == ord("b"):
            return ProtocolViolation("a cell in binary format, which was not asked for", offset=offset)
        if kind == ord("t"):
            if offset + 5 > end:
                break
            offset += 5 + _U32.unpack_from(message, offset + 1)[0]
        elif kind in b"nu":
            offset += 1
        else:
            return ProtocolViolation(f"a cell of the unknown kind {kind:#04x}", offset=offset)
    return ProtocolViolation("a tuple is cut short", offset=end)


def _no_tuple(message: bytes, offset: int, wanted: str) -> ProtocolViolation:
    if len(message) <= offset:
        return ProtocolViolation("a message is cut short", offset=len(message))
    return ProtocolViolation(f"{message[offset]:#04x} where a tuple ({wanted}) was expected", offset=offset)


def _unpack(layout: struct.Struct, message: bytes, offset: int) -> tuple[int, ...]:
    if offset + layout.size > len(message):
        raise ProtocolViolation("a message is cut short", offset=len(message))
    return layout.unpack_from(message, offset)


def _name(message: bytes, offset: int) -> tuple[str, int]:
    end = message.find(b"\0", offset)
    if end < 0:
        raise ProtocolViolation("a name is cut short", offset=len(message))
    try:
        return message[offset:end].decode("utf-8"), end + 1
    except UnicodeDecodeError as error:
        raise ProtocolViolation("a name that is not UTF-8", offset=offset + error.start) from None


def _at_end(message: bytes, offset: int) -> None:
    if offset != len(message):
        raise ProtocolViolation(f"{len(message) - offset} bytes after the end of a message", offset=offset)


# -- encoding ------------------------------------------------------------------------------------


def encode(event: Event) -> bytes:
    """The message that decodes to ``event``. An event that the format can't hold is a defect of the
    caller: `InternalError`."""
    try:
        return _encoded(event)
    except (struct.error, UnicodeEncodeError) as error:
        raise InternalError(f"a {type(event).__name__} that pgoutput can't express: {error}") from error


def _encoded(event: Event) -> bytes:  # noqa: PLR0911  one return for each kind of message
    match event:
        case Begin():
            return _BEGIN.pack(b"B", event.commit_lsn, event.commit_time_us, event.xid)
        case Commit():
            return _COMMIT.pack(b"C", 0, event.commit_lsn, event.end_lsn, event.commit_time_us)
        case Insert():
            return _OID.pack(b"I", event.relation_oid) + b"N" + _tuple(event.new)
        case Update():
            return _OID.pack(b"U", event.relation_oid) + _old_tuple(event) + b"N" + _tuple(event.new)
        case Delete():
            return _OID.pack(b"D", event.relation_oid) + _old_tuple(event)
        case Truncate():
            options = _CASCADE * event.cascade + _RESTART * event.restart_identity
            oids = event.relation_oids
            return _TRUNCATE.pack(b"T", len(oids), options) + struct.pack(f">{len(oids)}I", *oids)
        case Message():
            head = _MESSAGE.pack(b"M", event.transactional, event.lsn) + _string(event.prefix)
            return head + _U32.pack(len(event.content)) + event.content
        case Origin():
            return _LSN.pack(b"O", event.lsn) + _string(event.name)
        case TypeName():
            return _OID.pack(b"Y", event.oid) + _schema(event.schema) + _string(event.name)
        case Relation():
            return _relation_message(event)


def _relation_message(relation: Relation) -> bytes:
    parts = [
        _OID.pack(b"R", relation.oid),
        _schema(relation.schema),
        _string(relation.name),
        relation.replica_identity.encode("ascii"),
        _U16.pack(len(relation.columns)),
    ]
    for column in relation.columns:
        parts.append(b"\1" if column.is_key else b"\0")
        parts.append(_string(column.name))
        parts.append(_COLUMN.pack(column.type_oid, column.typmod))
    return b"".join(parts)


def _old_tuple(event: Update | Delete) -> bytes:
    if event.old is None:
        return b""
    return (b"K" if event.old_is_key else b"O") + _tuple(event.old)


def _tuple(row: Row) -> bytes:
    parts = [_U16.pack(len(row))]
    for cell in row:
        if cell is None:
            parts.append(b"n")
        elif cell is UNCHANGED:
            parts.append(b"u")
        else:
            parts.append(b"t" + _U32.pack(len(cell)))
            parts.append(cell)
    return b"".join(parts)


def _schema(name: str) -> bytes:
    return _string("" if name == _CATALOG else name)


def _string(name: str) -> bytes:
    encoded = name.encode("utf-8")
    if b"\0" in encoded:
        raise InternalError("a name with a NUL byte, which pgoutput can't express")
    return encoded + b"\0"
