"""What the relay sends inside CopyData: XLogData for standard clients, records for our own.

In: a run of pgoutput messages (`logship.kernel.frame`) or a record of the journal, field by field. Out:
bytes of whole CopyData messages; `decode_record` is the inverse for our own client. Pure.

A standard client gets each message in an XLogData of its own. Its positions can't be those of the
changes, which nobody recorded: all of a transaction bear the start of its commit record, where it isn't
yet reached, and its Commit the end.

Our own client asked for ``logship '1'`` and gets a CopyData per record::

      0  1  "L"                            14  8  end LSN (0: not reached)
      1  1  kind (`RelayedKind`)           22  8  commit time, µs since 2000-01-01 UTC
      2  1  1: first, 2: last of its       30  8  where the primary's log ended when it was last
            transaction                           asked, 0: unknown
      3  4  xid                            38  8  how long ago that was, in µs, -1: unknown
      7  8  commit LSN … (offsets below)   46  …  the run

A stretch of plain transactions (`logship.kernel.plain`) is one such CopyData: xid, LSNs and commit time are those
of its last one.

Source: PostgreSQL documentation, "Streaming Replication Protocol".
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from logship.errors import ProtocolViolation
from logship.kernel import xlogdata
from logship.lsn import INVALID, Lsn

OPTION: Final = "logship"  # of START_REPLICATION: asks for records
OPTION_VALUE: Final = "1"
RECORD: Final = ord("L")

_COPY: Final = struct.Struct(">cI")
_XLOGDATA: Final = struct.Struct(">cQQq")
_RECORD: Final = struct.Struct(">cBBIQQqQq")


class RelayedKind(enum.Enum):
    """As `logship.journal.segment.RecordKind`, less what stays inside a journal. STRETCH: records of whole
    transactions, taken together."""

    CHANGES = 1
    SCHEMA = 2
    POSITION = 3
    ABANDON = 4
    STRETCH = 16


_KINDS: Final = {kind.value: kind for kind in RelayedKind}


@dataclass(frozen=True, slots=True)
class RelayedRecord:
    """A record of the shipper's journal. ``age_us`` None: nobody knows when ``primary_wal_end`` was true."""

    kind: RelayedKind
    first: bool
    last: bool
    xid: int
    commit_lsn: Lsn
    end_lsn: Lsn
    commit_time_us: int
    primary_wal_end: Lsn
    age_us: int | None
    run: bytes


def encode_record(
    kind: int,
    *,
    first: bool,
    last: bool,
    xid: int,
    commit_lsn: Lsn,
    end_lsn: Lsn,
    commit_time_us: int,
    run: bytes,
    primary_wal_end: Lsn = INVALID,
    age_us: int | None = None,
) -> bytes:
    """The whole CopyData message. ``kind`` is the value of a `RelayedKind`."""
    age = -1 if age_us is None else age_us
    head = _RECORD.pack(
        b"L", kind, first | last << 1, xid, commit_lsn, end_lsn, commit_time_us, primary_wal_end, age
    )
    return _COPY.pack(b"d", 4 + len(head) + len(run)) + head + run


def decode_record(payload: bytes | memoryview) -> RelayedRecord:
    """The record in the payload of a CopyData; `ProtocolViolation` when it isn't one."""
    if len(payload) < _RECORD.size:
        raise ProtocolViolation("a relayed record is cut short", offset=len(payload))
    tag, kind, flags, xid, commit_lsn, end_lsn, time_us, wal_end, age_us = _RECORD.unpack_from(payload)
    if tag != b"L":
        raise ProtocolViolation(f"CopyData of the unknown kind {tag!r}")
    known = _KINDS.get(kind)
    if known is None:
        raise ProtocolViolation(f"a relayed record of the unknown kind {kind}", offset=1)
    if flags > 3:
        raise ProtocolViolation(f"a relayed record with the unknown flags {flags:#04x}", offset=2)
    return RelayedRecord(
        known, flags & 1 == 1, flags & 2 == 2, xid, Lsn(commit_lsn), Lsn(end_lsn), time_us, Lsn(wal_end),
        None if age_us < 0 else age_us, bytes(payload[_RECORD.size :]),
    )  # fmt: skip


def encode_messages(messages: Sequence[bytes], *, commit_lsn: Lsn, end_lsn: Lsn, sent_time_us: int) -> bytes:
    """CopyData messages, one for each of ``messages`` in XLogData. ``end_lsn``: INVALID, or the last message
    is the Commit of the transaction and this is where it ends."""
    head = _XLOGDATA.pack(b"w", commit_lsn, commit_lsn, sent_time_us)
    if not end_lsn:
        return xlogdata(messages, head)
    last = _XLOGDATA.pack(b"w", end_lsn, end_lsn, sent_time_us)
    return xlogdata(messages[:-1], head) + xlogdata(messages[-1:], last)
