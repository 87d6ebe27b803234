"""The byte layout of a journal segment, and the codec of everything in it.

In: records, headers and indexes as values. Out: bytes; and back. Pure: no I/O, no clock. Malformed
bytes raise `Malformed` (a `JournalError`) and nothing else; callers add file and offset.

All integers are big-endian. A segment file is named by its first LSN (16 hexadecimal digits, then
``.seg``); where one transaction fills several segments, which then begin at the same LSN, the further
ones are numbered (``…_000001.seg``). It holds a header page, then records, then zeros up to its
preallocated size. A sealed segment ends with its INDEX record, and the file with that.

**Header page**, 4096 bytes::

      0  8  magic "LOGSHIPJ"              48  4  salt: seeds the checksum of every record
      8  4  format version (1)            52  4  1: a transaction is open where the segment begins
     12  4  length of this page (4096)    56  4  its xid
     16  8  preallocated size             60  8  its commit LSN
     24  8  system identifier             68  8  creation time, µs since 2000-01-01 UTC
     32  4  timeline                      76  2  length of the database's name
     36  4  part: n-th segment that       78  …  the database's name, UTF-8, then zeros
            begins at this LSN          4092  4  CRC-32C of the bytes before
     40  8  first LSN: the position
            before the first record

**Record**, at multiples of 8: a header of 48 bytes, the body, zeros up to the next multiple of 8::

      0  4  magic A7 "LSR"                16  4  xid
      4  4  CRC-32C, seeded with the      20  4  synced offset / 8
            salt, of all that follows,    24  8  commit LSN
            zeros included                32  8  end LSN
      8  4  length of the body            40  8  commit time, µs since 2000-01-01 UTC
     12  1  kind (`RecordKind`)           48  …  the body
     13  1  1: first, 2: last of its transaction
     14  2  the salt's low 16 bits

The *synced offset* is how far this segment was known to be fsynced when the record was appended. It
is how damage is told from a torn tail: where a record is bad, a later good one that knew of an fsync
beyond that place proves that the bytes were on disk once (`logship.journal.recovery`). The salt, which
no user can know, keeps bytes inside a row from passing for a record.

**Bodies.** CHANGES: a run of pgoutput messages (`logship.kernel.frame`). SCHEMA, which opens each
segment: a run of the Relation and Type messages in force. POSITION, ABANDON: empty. INDEX: number of
relations and of transactions (4 + 4); for each relation its oid (4), lengths of schema and name
(2 + 2) and both; for each transaction its xid (4) and end LSN (8); zeros up to a multiple of 8; then
the **trailer**, the last 64 bytes of the file::

      0  4  magic "LgSE"                  28  4  1: the whole LSN is known
      4  4  CRC-32C, seeded with the      32  4  number of transactions that end here
            salt, of what follows         36  4  0
      8  8  offset of the INDEX record    40  8  first commit time, 0 if there is none
     16  8  last LSN                      48  8  last commit time
     24  4  0                             56  8  whole LSN

The *whole LSN* is the smallest position from which a reader that begins in this segment gets every
transaction whole: the first LSN, or the end of the transaction that was open there.
"""

from __future__ import annotations

import enum
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import google_crc32c

from logship.errors import JournalError
from logship.kernel import Plain, cut
from logship.lsn import Lsn

FORMAT_VERSION: Final = 1
HEADER_BYTES: Final = 4096
RECORD_HEADER_BYTES: Final = 48
TRAILER_BYTES: Final = 64
MAX_BODY_BYTES: Final = 2**32 - 64
_COPIED_BYTES: Final = 4096
RECORD_MAGIC: Final = b"\xa7LSR"
_HEADER_MAGIC: Final = b"LOGSHIPJ"
_TRAILER_MAGIC: Final = b"LgSE"

_PREFIX: Final = struct.Struct(">8sII")
_HEADER: Final = struct.Struct(">8sIIQQIIQIIIQqH")
_CRC: Final = struct.Struct(">I")
_RECORD: Final = struct.Struct(">4sIIBBHIIQQq")
_RECORD_REST: Final = struct.Struct(">IBBHIIQQq")
_RECORD_START: Final = struct.Struct(">4sI")
_COUNTS: Final = struct.Struct(">II")
_RELATION: Final = struct.Struct(">IHH")
_TRANSACTION: Final = struct.Struct(">IQ")
TRANSACTION_BYTES: Final = _TRANSACTION.size
_TRAILER: Final = struct.Struct(">4sIQQIIIIqqQ")
_PADDING: Final = tuple(bytes(size) for size in range(8))
_NAME: Final = re.compile(r"\A([0-9A-F]{16})(?:_([0-9]{6}))?\.seg\Z")

_extend = google_crc32c.extend
_make_lsn = int.__new__  # an Lsn from eight bytes of ours needs no check of its range


class Malformed(JournalError):
    """Bytes that are not what this module writes; the caller says where they stand."""


class Short(Malformed):
    """More bytes are needed to decode a record: ``size`` of them, from its first."""

    def __init__(self, size: int) -> None:
        super().__init__("the record is cut short")
        self.size = size


class RecordKind(enum.Enum):
    CHANGES = 1
    SCHEMA = 2
    POSITION = 3
    ABANDON = 4
    INDEX = 5


_KINDS: Final = {kind.value: kind for kind in RecordKind}


@dataclass(frozen=True, slots=True)
class Record:
    """A piece of a transaction, or what the writer says between transactions.

    ``end_lsn`` is the position reached: on a ``last`` record and on POSITION, else ``Lsn(0)``.
    ``commit_time_us`` counts from 2000-01-01 UTC. ``run`` is as `logship.kernel.frame` makes it.
    """

    kind: RecordKind
    first: bool
    last: bool
    xid: int
    commit_lsn: Lsn
    end_lsn: Lsn
    commit_time_us: int
    run: bytes


@dataclass(frozen=True, slots=True)
class Stretch:
    """Records of whole transactions that follow one another, taken together because each is plain
    (`logship.kernel.plain`): nothing but rows in it. What isn't said of all is said of the last."""

    transactions: int
    first_commit_lsn: Lsn
    xid: int
    commit_lsn: Lsn
    end_lsn: Lsn
    commit_time_us: int
    run: bytes

    @staticmethod
    def of(run: bytes, plain: Plain) -> Stretch:
        return Stretch(
            plain.transactions, Lsn(plain.first_commit_lsn), plain.xid, Lsn(plain.commit_lsn), Lsn(plain.end_lsn),
            plain.commit_time_us, run,
        )  # fmt: skip

    def records(self) -> list[Record]:
        """One for each transaction."""
        return [
            Record(
                RecordKind.CHANGES, True, True, one.xid, Lsn(one.commit_lsn), Lsn(one.end_lsn), one.commit_time_us,
                one.run,
            )
            for one in cut(self.run)
        ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Source:
    """Whose log a journal holds."""

    system_identifier: int
    timeline: int
    database: str

    def __str__(self) -> str:
        return f"system {self.system_identifier}, timeline {self.timeline}, database {self.database!r}"


@dataclass(frozen=True, slots=True)
class OpenTransaction:
    xid: int
    commit_lsn: Lsn


@dataclass(frozen=True, slots=True)
class Header:
    source: Source
    first_lsn: Lsn
    part: int
    segment_bytes: int
    salt: int
    open: OpenTransaction | None
    created_us: int

    @property
    def name(self) -> str:
        return segment_name(self.first_lsn, self.part)


@dataclass(frozen=True, slots=True)
class Trailer:
    index_offset: int
    last_lsn: Lsn
    whole_lsn: Lsn | None
    transactions: int
    first_commit_time_us: int
    last_commit_time_us: int


@dataclass(frozen=True, slots=True)
class TouchedRelation:
    oid: int
    schema: str
    name: str


@dataclass(frozen=True, slots=True)
class Index:
    relations: tuple[TouchedRelation, ...]
    transactions: tuple[tuple[int, Lsn], ...]  # xid, end LSN
    trailer: Trailer


def segment_name(first_lsn: Lsn, part: int) -> str:
    suffix = f"_{part:06d}" if part else ""
    return f"{int(first_lsn):016X}{suffix}.seg"


def parse_name(name: str) -> tuple[int, int] | None:
    """First LSN and part of a segment's name; None when it isn't one."""
    match = _NAME.match(name)
    return (int(match[1], 16), int(match[2] or 0)) if match else None


def encode_header(header: Header) -> bytes:
    database = header.source.database.encode()
    page = _HEADER.pack(
        _HEADER_MAGIC, FORMAT_VERSION, HEADER_BYTES, header.segment_bytes,
        header.source.system_identifier, header.source.timeline, header.part, header.first_lsn,
        header.salt, header.open is not None, header.open.xid if header.open else 0,
        header.open.commit_lsn if header.open else 0, header.created_us, len(database),
    ) + database  # fmt: skip
    page = page.ljust(HEADER_BYTES - 4, b"\0")
    return page + _CRC.pack(google_crc32c.value(page))


def decode_header(page: bytes) -> Header:
    """The header page; version and checksum are judged before anything else is believed."""
    if len(page) < HEADER_BYTES:
        raise Malformed("the header page is cut short")
    magic, version, _length = _PREFIX.unpack_from(page)
    if magic != _HEADER_MAGIC:
        raise Malformed("it does not begin as a journal segment does")
    page = page[:HEADER_BYTES]
    if google_crc32c.value(page[:-4]) != _CRC.unpack_from(page, HEADER_BYTES - 4)[0]:
        raise Malformed("the checksum of the header page is wrong")
    if version != FORMAT_VERSION:
        raise Malformed(f"format version {version} is not known to this logship")
    (
        _,
        _,
        _,
        segment_bytes,
        system,
        timeline,
        part,
        first_lsn,
        salt,
        is_open,
        xid,
        commit_lsn,
        created,
        size,
    ) = _HEADER.unpack_from(page)
    try:
        database = page[_HEADER.size : _HEADER.size + size].decode()
    except UnicodeDecodeError:
        raise Malformed("the database's name is not UTF-8") from None
    return Header(
        source=Source(system, timeline, database),
        first_lsn=Lsn(first_lsn),
        part=part,
        segment_bytes=segment_bytes,
        salt=salt,
        open=OpenTransaction(xid, Lsn(commit_lsn)) if is_open else None,
        created_us=created,
    )


def record_size(body_bytes: int) -> int:
    """Bytes that a record with such a body takes in the file."""
    return (RECORD_HEADER_BYTES + body_bytes + 7) & ~7


def encode_record(record: Record, salt: int, synced_offset: int) -> tuple[bytes, ...]:
    """What is to be written, in parts. A large body is one of them and is not copied."""
    run = record.run
    size = len(run)
    rest = _RECORD_REST.pack(
        size, record.kind._value_, record.first | record.last << 1, salt & 0xFFFF, record.xid, synced_offset >> 3,
        record.commit_lsn, record.end_lsn, record.commit_time_us,
    )  # fmt: skip
    padding = _PADDING[-size & 7]
    if size <= _COPIED_BYTES:  # a copy is cheaper than two more calls
        rest = rest + run + padding
        return _RECORD_START.pack(RECORD_MAGIC, _extend(salt, rest)), rest
    crc = _extend(_extend(_extend(salt, rest), run), padding)
    return _RECORD_START.pack(RECORD_MAGIC, crc) + rest, run, padding


def peek_record(head: bytes, salt: int) -> tuple[RecordKind, bool, int]:
    """Kind, whether it ends its transaction, and size in the file of the record that ``head``, the bytes of
    its header, begins. The checksum is not looked at."""
    if len(head) < RECORD_HEADER_BYTES:
        raise Short(RECORD_HEADER_BYTES)
    magic, _, length, kind, flags, salted, *_ = _RECORD.unpack_from(head)
    if magic != RECORD_MAGIC or salted != salt & 0xFFFF or kind not in _KINDS:
        raise Malformed("there is no record")
    return _KINDS[kind], bool(flags & 2), record_size(length)


def decode_record(data: bytes, at: int, salt: int) -> tuple[Record, int, int]:
    """The record at ``at``, its synced offset, and where the next one stands.

    `Short` says how many bytes are needed when ``data`` ends inside it.
    """
    if at + RECORD_HEADER_BYTES > len(data):
        raise Short(RECORD_HEADER_BYTES)
    magic, crc, length, kind, flags, salted, xid, synced, commit_lsn, end_lsn, time = _RECORD.unpack_from(
        data, at
    )
    if magic != RECORD_MAGIC or salted != salt & 0xFFFF:
        raise Malformed("there is no record")
    body = at + RECORD_HEADER_BYTES
    end = body + length
    following = end + (-length & 7)
    if following > len(data):
        raise Short(following - at)
    if _extend(salt, data[at + 8 : following]) != crc:
        raise Malformed("the checksum of a record is wrong")
    known = _KINDS.get(kind)
    if known is None or flags > 3:
        raise Malformed(f"a record of kind {kind} (flags {flags:#x}) is not known to this logship")
    record = Record(
        known, flags & 1 == 1, flags & 2 == 2, xid,
        _make_lsn(Lsn, commit_lsn), _make_lsn(Lsn, end_lsn), time, data[body:end],
    )  # fmt: skip
    return record, synced << 3, following


def encode_index(
    relations: Iterable[TouchedRelation], transactions: bytes, trailer: Trailer, salt: int
) -> bytes:
    """The body of an INDEX record. ``transactions`` are joined `transaction_entry`s."""
    entries: list[bytes] = []
    for relation in relations:
        schema, name = relation.schema.encode(), relation.name.encode()
        entries.append(_RELATION.pack(relation.oid, len(schema), len(name)) + schema + name)
    head = _COUNTS.pack(len(entries), len(transactions) // _TRANSACTION.size)
    listing = b"".join((head, *entries, transactions))
    known = trailer.whole_lsn is not None
    values = (
        trailer.index_offset, trailer.last_lsn, 0, known, trailer.transactions, 0,
        trailer.first_commit_time_us, trailer.last_commit_time_us, trailer.whole_lsn or 0,
    )  # fmt: skip
    rest = _TRAILER.pack(_TRAILER_MAGIC, 0, *values)[8:]
    end = _RECORD_START.pack(_TRAILER_MAGIC, _extend(salt, rest)) + rest
    return listing + _PADDING[-len(listing) & 7] + end


transaction_entry = _TRANSACTION.pack  # (xid, end LSN), of an index


def decode_trailer(data: bytes, salt: int) -> Trailer:
    """The last `TRAILER_BYTES` of a sealed segment."""
    if len(data) != TRAILER_BYTES:
        raise Malformed("the trailer is cut short")
    magic, crc, offset, last_lsn, _, known, transactions, _, first_time, last_time, whole = _TRAILER.unpack(
        data
    )
    if magic != _TRAILER_MAGIC or _extend(salt, data[8:]) != crc:
        raise Malformed("it does not end with the index of a sealed segment")
    whole_lsn = Lsn(whole) if known else None
    return Trailer(offset, Lsn(last_lsn), whole_lsn, transactions, first_time, last_time)


def decode_index(body: bytes, salt: int) -> Index:
    """The body of an INDEX record."""
    trailer = decode_trailer(body[-TRAILER_BYTES:], salt)
    relations: list[TouchedRelation] = []
    try:
        count, transactions = _COUNTS.unpack_from(body)
        at = _COUNTS.size
        for _ in range(count):
            oid, schema, name = _RELATION.unpack_from(body, at)
            at += _RELATION.size
            names = body[at : at + schema].decode(), body[at + schema : at + schema + name].decode()
            relations.append(TouchedRelation(oid, *names))
            at += schema + name
        end = at + transactions * _TRANSACTION.size
        if end > len(body) - TRAILER_BYTES:
            raise Malformed("the index is cut short")
        entries = tuple((xid, Lsn(lsn)) for xid, lsn in _TRANSACTION.iter_unpack(body[at:end]))
    except (struct.error, UnicodeDecodeError):
        raise Malformed("the index can't be read") from None
    return Index(tuple(relations), entries, trailer)
