"""What travels inside CopyData between walsender and standby: XLogData, keepalives, status updates.

In: bytes of one CopyData message, or positions. Out: the fields of its header, or the bytes of a
Standby Status Update. The payload of XLogData isn't looked at. No I/O, no clock: times are
microseconds since 2000-01-01 00:00 UTC and arrive as arguments.

Source: PostgreSQL documentation, "Streaming Replication Protocol".
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from logship.errors import InternalError, ProtocolViolation
from logship.lsn import INVALID, Lsn

XLOGDATA: Final = ord("w")
KEEPALIVE: Final = ord("k")
PAYLOAD: Final = 25  # where the payload of XLogData starts

_XLOGDATA: Final = struct.Struct(">cQQq")  # start of the data, end of the WAL, send time
_KEEPALIVE: Final = struct.Struct(">cQqB")  # end of the WAL, send time, reply requested
_STATUS: Final = struct.Struct(">cQQQqB")  # write, flush, replay, clock, reply requested
_EPOCH_US: Final = 946_684_800_000_000  # 2000-01-01 in microseconds since 1970-01-01


@dataclass(frozen=True, slots=True)
class Keepalive:
    """Everything that ended before ``wal_end`` has been sent before this; nothing is said of what follows."""

    wal_end: Lsn
    sent_time_us: int
    reply_requested: bool


@dataclass(frozen=True, slots=True)
class Stretch:
    """What came of a walsender's stream, in order: pgoutput messages, framed one after the other
    (`logship.kernel.frame`), and keepalives between them.

    ``marks``: where in ``run`` the frames stand that are no plain changes, ascending (`logship.kernel.Drain`).
    ``keepalives``: each with the offset in ``run`` before which it came, ascending.
    """

    run: bytes
    marks: Sequence[int]
    keepalives: Sequence[tuple[int, Keepalive]]


@dataclass(frozen=True, slots=True)
class Header:
    """Of XLogData. A logical walsender writes the position of the change into ``wal_end``, not how far its
    WAL reaches: only keepalives and queries tell that."""

    wal_end: Lsn
    sent_time_us: int


@dataclass(frozen=True, slots=True)
class Positions:
    """What a standby reports: handed to its log, durable there, and visible. INVALID: not known yet."""

    write: Lsn
    flush: Lsn
    replay: Lsn


NOWHERE: Final = Positions(INVALID, INVALID, INVALID)


def keepalive(data: bytes | memoryview) -> Keepalive:
    """The primary keepalive message that ``data`` is."""
    if len(data) != _KEEPALIVE.size:
        raise ProtocolViolation(f"a keepalive of {len(data)} bytes", offset=min(len(data), _KEEPALIVE.size))
    _, wal_end, sent_time_us, reply_requested = _KEEPALIVE.unpack(data)
    return Keepalive(Lsn(wal_end), sent_time_us, reply_requested != 0)


def header(data: bytes | memoryview) -> Header:
    """The header of the XLogData message ``data``."""
    if len(data) < PAYLOAD:
        raise ProtocolViolation("an XLogData header is cut short", offset=len(data))
    _, _, wal_end, sent_time_us = _XLOGDATA.unpack_from(data)
    return Header(Lsn(wal_end), sent_time_us)


def status_update(positions: Positions, clock_us: int, *, reply_requested: bool = False) -> bytes:
    """A Standby Status Update. Whether the positions may be reported is `check_progress`'s to say."""
    return _STATUS.pack(
        b"r", positions.write, positions.flush, positions.replay, clock_us, int(reply_requested)
    )


def check_progress(last: Positions, following: Positions) -> None:
    """`InternalError` unless ``following`` may be reported after ``last``: no position moves backwards, and
    what is not written is neither flushed nor replayed. (It may be replayed before it is flushed.)"""
    write, flush, replay = following.write, following.flush, following.replay
    if write < last.write or flush < last.flush or replay < last.replay:
        raise InternalError(f"a status update would move backwards: {_shown(last)} to {_shown(following)}")
    if flush > write or replay > write:
        raise InternalError(f"a status update would promise what is not written: {_shown(following)}")


def microseconds(unix_s: float) -> int:
    """A time since 1970 in seconds as PostgreSQL's microseconds since 2000."""
    return int(unix_s * 1_000_000) - _EPOCH_US


def _shown(positions: Positions) -> str:
    return f"write {positions.write}, flush {positions.flush}, replay {positions.replay}"
