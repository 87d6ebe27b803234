"""Where the records of a journal's last segment end, and why: by rights, torn, or damaged.

In: the last segment's file. Out: what stands in it, where its records end, and whether anything but
zeros follows. `JournalDamaged` when bytes that had been fsynced are bad. Reads only; `wipe` writes
zeros over a torn tail.

A process that dies leaves a tail that is cut anywhere; a machine that dies may also have lost any of
the pages that were not fsynced, in any order. So bad bytes at X are a torn tail unless they were
fsynced, and that is known from the records behind them: each says how far the file had been fsynced
when it was appended (`logship.journal.segment`). A good record behind X that knew of an fsync beyond
X makes it damage. What was fsynced last and has no record behind it can't be told apart; closing a
journal writes an empty record, so there is always one behind what matters.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from logship.journal.contents import Contents, Schema
from logship.journal.cursor import CHUNK_BYTES, Cursor, SegmentFile
from logship.journal.files import Files, write_all
from logship.journal.segment import (
    HEADER_BYTES,
    RECORD_HEADER_BYTES,
    RECORD_MAGIC,
    Malformed,
    RecordKind,
    Short,
    decode_record,
)
from logship.kernel import encode_plain

_ZEROS: Final = bytes(CHUNK_BYTES)


@dataclass(slots=True)
class Tail:
    """``end``: behind the last whole record. ``proven``: how much of the file is known to be fsynced.
    ``torn``: why reading ended, where it isn't simply the end. ``marked``: the last record is the
    empty one that proves everything before it."""

    contents: Contents
    end: int
    proven: int
    records: int
    sealed: bool
    torn: str
    marked: bool


def read_tail(file: SegmentFile) -> Tail:
    """All that stands in the last segment."""
    header, size = file.header, file.size
    contents = Contents(header.first_lsn, header.open, Schema())
    tail = Tail(contents, HEADER_BYTES, HEADER_BYTES, 0, sealed=False, torn="", marked=False)
    cursor = Cursor(file)
    while not tail.sealed:
        try:
            if (
                tail.records
                and contents.open is None
                and (stretch := cursor.gather(CHUNK_BYTES, size)) is not None
            ):
                contents.note_stretch(stretch, encode_plain(stretch.run, header.salt, cursor.synced))
                tail.end, tail.records = cursor.offset, tail.records + stretch.transactions
                tail.proven = max(tail.proven, cursor.synced)
                tail.marked = False
                continue
            record = cursor.step(size)
            if record is None:
                break
            if (record.kind is RecordKind.SCHEMA) is not (tail.records == 0):
                raise file.damaged(cursor.at, "a segment begins with one SCHEMA record and has no other")
            contents.note(record)
        except (Malformed, ValueError) as error:
            tail.torn = _judge(file, tail.end, str(error), size)
            break
        tail.end, tail.records = cursor.offset, tail.records + 1
        tail.proven = max(tail.proven, cursor.synced)
        tail.sealed = record.kind is RecordKind.INDEX
        tail.marked = record.kind is RecordKind.POSITION and cursor.synced == cursor.at
    if tail.records == 0:
        raise file.damaged(HEADER_BYTES, "its first record, which was fsynced before it got its name, is bad")
    if size < header.segment_bytes and not tail.sealed:
        raise file.damaged(tail.end, f"the file is cut short: {size} of {header.segment_bytes} bytes")
    return tail


def _judge(file: SegmentFile, offset: int, what: str, size: int) -> str:
    """Why the records end at ``offset``: empty for the zeros behind the last one, or a torn tail."""
    proof = find_proof(file, offset, size)
    if proof is not None:
        raise file.damaged(offset, f"{what}, though the record at byte {proof} knew it fsynced")
    return what if next(dirty(file, offset, size), None) is not None else ""


def find_proof(file: SegmentFile, offset: int, size: int) -> int | None:
    """Where a good record stands behind ``offset`` that knew of an fsync beyond it."""
    for base, chunk in _chunks(file, offset, size, overlap=len(RECORD_MAGIC) - 1):
        at = chunk.find(RECORD_MAGIC)
        while at >= 0:
            if (base + at) % 8 == 0 and base + at > offset and _proves(file, base + at, offset, size):
                return base + at
            at = chunk.find(RECORD_MAGIC, at + 1)
    return None


def _proves(file: SegmentFile, at: int, offset: int, size: int) -> bool:
    want = RECORD_HEADER_BYTES
    while at + want <= size:
        try:
            return decode_record(file.pread(want, at), 0, file.header.salt)[1] > offset
        except Short as error:
            if error.size <= want:  # the file ends there
                return False
            want = error.size
        except Malformed:
            return False
    return False


def _chunks(file: SegmentFile, offset: int, size: int, *, overlap: int = 0) -> Iterator[tuple[int, bytes]]:
    while offset < size:
        chunk = file.pread(min(CHUNK_BYTES + overlap, size - offset), offset)
        if not chunk:
            return
        yield offset, chunk
        offset += CHUNK_BYTES


def dirty(file: SegmentFile, offset: int, size: int) -> Iterator[tuple[int, int]]:
    """Ranges behind ``offset`` that aren't zeros, by chunk."""
    for base, chunk in _chunks(file, offset, size):
        if chunk != _ZEROS[: len(chunk)]:
            rest = chunk.lstrip(b"\0")
            yield base + len(chunk) - len(rest), len(rest.rstrip(b"\0"))


def wipe(files: Files, fd: int, file: SegmentFile, offset: int) -> None:
    """Write zeros over whatever stands behind ``offset``: stale bytes must never become readable again.

    The file keeps its size, so a crash in the middle leaves a tail that is as torn as before.
    """
    for base, length in dirty(file, offset, file.size):
        write_all(files, fd, _ZEROS[:length], base)
