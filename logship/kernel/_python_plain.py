"""Plain transactions, many at once, in plain Python: the reference that every other implementation must equal.

A transaction is *plain* when there is nothing in it but its Begin, rows, origins and its Commit, and Begin and Commit
agree. A *stretch* is the run of one or more of them, each of which begins where the one before it has ended, or later.
All that a journal's record or a relayed one says of a plain transaction stands in its Begin and Commit, so a
stretch passes from the journal to the batches in a few steps, and not in a few for each transaction.
Whatever is not plain is for the careful way, one record after the other.

In: bytes of a journal's segment, or a stretch. Out: stretches, what is to be known of them, and records of a segment.
The layout of those is `logship.journal.segment`'s; `gather` gives nothing that `decode_record` there would not.
"""

from __future__ import annotations

import struct
from collections.abc import Container, Iterator
from typing import Final, NamedTuple

import google_crc32c

_LENGTH: Final = struct.Struct(">I")
_BEGIN: Final = struct.Struct(">cQqI")  # commit LSN, commit time, xid
_COMMIT: Final = struct.Struct(">cBQQq")  # flags, commit LSN, end LSN, commit time
_RECORD: Final = struct.Struct(">4sIIBBHIIQQq")
_RECORD_REST: Final = struct.Struct(">IBBHIIQQq")
_RECORD_START: Final = struct.Struct(">4sI")
_ENTRY: Final = struct.Struct(">IQ")
_RECORD_MAGIC: Final = b"\xa7LSR"
_CHANGES: Final = 1
_WHOLE: Final = 3  # first and last
_ROWS: Final = frozenset(b"IUD")
_ORIGIN: Final = ord("O")
_COMMIT_TAG: Final = ord("C")
_BEGIN_TAG: Final = ord("B")


class Transaction(NamedTuple):
    """A plain one; ``run`` are its messages, framed."""

    run: bytes
    xid: int
    commit_lsn: int
    end_lsn: int
    commit_time_us: int


class Plain(NamedTuple):
    """What a stretch says of itself; what isn't said of the first is said of the last."""

    transactions: int
    first_commit_lsn: int
    xid: int
    commit_lsn: int
    end_lsn: int
    commit_time_us: int


class Gathered(NamedTuple):
    """A stretch out of a segment: where its last record stands, and where the one behind that; how far the segment
    was known to be fsynced when the last was appended."""

    run: bytes
    plain: Plain
    last_at: int
    following: int
    synced: int


class Encoded(NamedTuple):
    """The records of a stretch: their bytes in the segment, entries of the index for them, the relations whose rows
    they change, the first commit time that isn't 0 and the latest, 0 when there is none."""

    data: bytes
    entries: bytes
    relations: set[int]
    first_time_us: int
    latest_time_us: int


def _transaction_at(run: bytes, offset: int, end: int) -> tuple[Transaction, int] | None:
    """The plain transaction that begins there, and where it ends; None: there is none."""
    begin, at = _message(run, offset, end)
    if len(begin) != _BEGIN.size or begin[0] != _BEGIN_TAG:
        return None
    _, commit_lsn, time_us, xid = _BEGIN.unpack(begin)
    while at < end:
        message, at = _message(run, at, end)
        tag = message[0] if message else 0
        if tag == _COMMIT_TAG:
            if len(message) != _COMMIT.size:
                return None
            _, flags, again, end_lsn, time_again_us = _COMMIT.unpack(message)
            if (flags, again, time_again_us) != (0, commit_lsn, time_us) or end_lsn <= commit_lsn:
                return None
            return Transaction(run[offset:at], xid, commit_lsn, end_lsn, time_us), at
        if tag != _ORIGIN and (tag not in _ROWS or len(message) < 5):
            return None
    return None


def _message(run: bytes, offset: int, end: int) -> tuple[bytes, int]:
    """Empty when it isn't whole."""
    if offset + 4 > end:
        return b"", end
    following = offset + 4 + _LENGTH.unpack_from(run, offset)[0]
    return (b"", end) if following > end else (run[offset + 4 : following], following)


def cut(run: bytes) -> list[Transaction]:
    """The transactions of a stretch; `ValueError` when it isn't one."""
    transactions: list[Transaction] = []
    offset = reached = 0
    while offset < len(run):
        found = _transaction_at(run, offset, len(run))
        if found is None or found[0].commit_lsn < reached:
            raise ValueError(f"no plain transaction stands at byte {offset}")
        transactions.append(found[0])
        reached, offset = found[0].end_lsn, found[1]
    if not transactions:
        raise ValueError("no transaction")
    return transactions


def plain(run: bytes) -> Plain | None:
    """What the stretch says of itself; None when ``run`` isn't one."""
    try:
        return _told(cut(run))
    except ValueError:
        return None


def plain_at(run: bytes, offset: int, end: int, after: int, most: int) -> tuple[Plain, int] | None:
    """What the stretch says of itself that stands from ``offset`` on, and where it ends: before ``end``, before the
    first transaction that isn't plain, comes to more than ``most`` bytes, or was committed before ``after`` or before
    the end of the one before it. None: that is the first."""
    if not 0 <= offset <= end <= len(run):
        raise ValueError(f"bytes {offset} to {end} are outside of the run")
    transactions: list[Transaction] = []
    while offset < end:
        found = _transaction_at(run, offset, min(end, offset + most))
        if found is None or found[0].commit_lsn < after:
            break
        transactions.append(found[0])
        after, offset = found[0].end_lsn, found[1]
    return (_told(transactions), offset) if transactions else None


def _told(transactions: list[Transaction]) -> Plain:
    return Plain(len(transactions), transactions[0].commit_lsn, *transactions[-1][1:])


def commit_times(run: bytes, moment_us: int) -> list[tuple[int, int]]:
    """Ends and commit times, ascending by the end, the last among them: where transactions follow one another that were
    committed within ``moment_us`` of the first of them, of the last of them. `ValueError`: ``run`` is no stretch."""
    times: list[tuple[int, int]] = []
    since_us: int | None = None
    for one in cut(run):
        if since_us is not None and abs(one.commit_time_us - since_us) <= moment_us:
            times.pop()
        else:
            since_us = one.commit_time_us
        times.append((one.end_lsn, one.commit_time_us))
    return times


def changing(run: bytes, left_out: Container[int]) -> int:
    """How many transactions of a stretch change a row of a relation that isn't left out."""
    return sum(any(oid not in left_out for oid in _relations(one.run)) for one in cut(run))


def _relations(run: bytes) -> Iterator[int]:
    at = 0
    while at < len(run):
        message, at = _message(run, at, len(run))
        if message[0] in _ROWS:
            yield int.from_bytes(message[1:5], "big")


def gather(data: bytes, at: int, salt: int, max_bytes: int) -> Gathered | None:
    """The stretch whose records stand from ``at`` on, up to the first record that is cut short, not good, not
    of a plain transaction, or behind ``max_bytes`` of runs; None: that is the first."""
    transactions: list[Transaction] = []
    last_at = synced = size = 0
    while size < max_bytes:
        found = _record_at(data, at, salt)
        if found is None or (transactions and found[0].commit_lsn < transactions[-1].end_lsn):
            break
        transactions.append(found[0])
        size += len(found[0].run)
        last_at, (_, synced, at) = at, found
    if not transactions:
        return None
    return Gathered(b"".join(one.run for one in transactions), _told(transactions), last_at, at, synced)


def _record_at(data: bytes, at: int, salt: int) -> tuple[Transaction, int, int] | None:
    if at < 0 or at + _RECORD.size > len(data):
        return None
    magic, crc, length, kind, flags, salted, xid, synced, *told = _RECORD.unpack_from(data, at)
    body = at + _RECORD.size
    following = body + length + (-length & 7)
    if (magic, kind, flags, salted) != (_RECORD_MAGIC, _CHANGES, _WHOLE, salt & 0xFFFF) or following > len(
        data
    ):
        return None
    found = _transaction_at(data, body, body + length)
    if found is None or found[1] != body + length or list(found[0][1:]) != [xid, *told]:
        return None
    if google_crc32c.extend(salt, data[at + 8 : following]) != crc:
        return None
    return found[0], synced << 3, following


def encode_plain(run: bytes, salt: int, synced: int) -> Encoded:
    """Each transaction of a stretch as a record of a segment; `ValueError` when ``run`` isn't one."""
    parts: list[bytes] = []
    entries: list[bytes] = []
    relations: set[int] = set()
    first_us = latest_us = 0
    for one in cut(run):
        size = len(one.run)
        head = (size, _CHANGES, _WHOLE, salt & 0xFFFF, one.xid, synced >> 3)
        rest = _RECORD_REST.pack(*head, *one[2:]) + one.run + bytes(-size & 7)
        parts += (_RECORD_START.pack(_RECORD_MAGIC, google_crc32c.extend(salt, rest)), rest)
        entries.append(_ENTRY.pack(one.xid, one.end_lsn))
        relations.update(_relations(one.run))
        if one.commit_time_us > latest_us:
            first_us, latest_us = first_us or one.commit_time_us, one.commit_time_us
    return Encoded(b"".join(parts), b"".join(entries), relations, first_us, latest_us)
