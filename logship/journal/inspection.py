"""Reads a journal from outside of its writer: for the commands, and after the fact.

In: a directory, whether its journal is being written or not. Out: its segments, its records with their
places, or a verdict on all of it. Takes no lock, writes nothing, and never trusts a byte unchecked.

A process may be writing there meanwhile. What looks bad is therefore read a second time after the
proof that it is bad was found; segments that retention takes away while they are read are passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from logship.errors import JournalDamaged, JournalError, JournalTooOld
from logship.journal.beginning import Beginning, Verdict
from logship.journal.contents import Contents
from logship.journal.cursor import Cursor, SegmentFile
from logship.journal.directory import check_follows, describe, sealed_segment, segment_paths
from logship.journal.files import Files
from logship.journal.recovery import dirty, find_proof
from logship.journal.retention import Segment, begin_for, oldest_lsn
from logship.journal.segment import (
    HEADER_BYTES,
    Malformed,
    Record,
    RecordKind,
    TouchedRelation,
    decode_index,
    record_size,
)
from logship.lsn import Lsn


@dataclass(frozen=True, slots=True)
class Located:
    """A record, and where it stands. ``size`` is what it takes in the file."""

    segment: str
    offset: int
    size: int
    record: Record


@dataclass(frozen=True, slots=True)
class Described:
    segment: Segment
    relations: tuple[TouchedRelation, ...]


@dataclass(frozen=True, slots=True)
class Verified:
    """``torn``: file and offset of an unfinished tail, which the next start cuts; else empty."""

    segments: int
    records: int
    transactions: int
    bytes: int
    first_lsn: Lsn
    last_lsn: Lsn
    torn: str


def inspect(directory: Path) -> Inspection:
    """The journal in ``directory``; `JournalError` when there is none."""
    return Inspection(directory, Files())


class Inspection:
    def __init__(self, directory: Path, files: Files) -> None:
        self._directory = directory
        self._files = files
        if not segment_paths(directory):
            raise JournalError(
                f"there is no journal in {directory}",
                file=str(directory),
                hint="give the directory that `logship run --journal` was given",
            )

    def segments(self) -> list[Described]:
        """From the oldest to the newest; the last one is read through, the others by their index."""
        found: list[Described] = []
        paths = segment_paths(self._directory)
        for path in paths:
            try:
                with SegmentFile(path, self._files) as file:
                    found.append(self._describe(file))
            except FileNotFoundError:
                continue
        return found

    def _describe(self, file: SegmentFile) -> Described:
        if self._followed(file):
            segment = sealed_segment(file)
            cursor = Cursor(file, file.trailer().index_offset)
            index = self._step(file, cursor)
            if index is None or index.kind is not RecordKind.INDEX:
                raise file.damaged(cursor.at, "its trailer names a place where no index stands")
            return Described(segment, decode_index(index.run, file.header.salt).relations)
        contents = Contents(file.header.first_lsn, file.header.open, {})
        end, sealed = HEADER_BYTES, False
        for located in self._of(file):
            contents.note(located.record)
            end, sealed = located.offset + located.size, located.record.kind is RecordKind.INDEX
        segment = describe(file.header, contents.trailer(end), file.size, end, sealed=sealed)
        return Described(segment, tuple(contents.relations()))

    def records(self, *, start: Lsn | None = None) -> Iterator[Located]:
        """Every record, or those from the first one that a reader at ``start`` would get."""
        if start is None:
            for path in segment_paths(self._directory):
                yield from self._of_path(path)
            return
        segments = [described.segment for described in self.segments()]
        index = begin_for(segments, start)
        if index is None:
            raise JournalTooOld(start, oldest_lsn(segments))
        names = [segment.name for segment in segments[index:]]
        yield from self._from(Beginning(start), names, start)

    def _from(self, beginning: Beginning, names: list[str], start: Lsn) -> Iterator[Located]:
        begun = False
        for name in names:
            for located in self._of_path(self._directory / name):
                if begun:
                    yield located
                    continue
                verdict = beginning.judge(located.record, (located.segment, located.offset))
                if verdict is Verdict.GO_BACK:
                    yield from self._from(Beginning(start, aim=beginning.mark), names, start)
                    return
                if verdict is Verdict.BEGIN:
                    begun = True
                    yield located

    def verify(self) -> Verified:
        """Read everything. `JournalDamaged` names the first bad place."""
        segments = records = transactions = size = 0
        first_lsn = last_lsn = Lsn(0)
        torn = ""
        previous: Segment | None = None
        for path in segment_paths(self._directory):
            try:
                file = SegmentFile(path, self._files)
            except FileNotFoundError:
                previous = None
                continue
            with file:
                if previous is not None:
                    check_follows(previous, file)
                contents, count, end = self._read_through(file)
                previous = describe(file.header, contents.trailer(end), file.size, end, sealed=True)
                first_lsn = first_lsn if segments else file.header.first_lsn
                last_lsn = contents.last_lsn
                segments, records, size = segments + 1, records + count, size + end
                transactions += contents.transactions
                dirt = next(dirty(file, end, file.size), None)
                torn = f"{file.path} at byte {end}" if dirt is not None else ""
        return Verified(segments, records, transactions, size, first_lsn, last_lsn, torn)

    def _read_through(self, file: SegmentFile) -> tuple[Contents, int, int]:
        """What stands in it, the number of its records, and where they end."""
        contents = Contents(file.header.first_lsn, file.header.open, {})
        count, end = 0, HEADER_BYTES
        for located in self._of(file):
            record = located.record
            if record.kind is RecordKind.INDEX:
                index = decode_index(record.run, file.header.salt)
                if index.trailer != contents.trailer(located.offset):
                    raise file.damaged(located.offset, "its index contradicts its records")
            contents.note(record)
            count, end = count + 1, located.offset + located.size
        if count == 0:
            raise file.damaged(
                HEADER_BYTES, "its first record, which was fsynced before it got its name, is bad"
            )
        return contents, count, end

    def _of_path(self, path: Path) -> Iterator[Located]:
        try:
            file = SegmentFile(path, self._files)
        except FileNotFoundError:
            return
        with file:
            yield from self._of(file)

    def _of(self, file: SegmentFile) -> Iterator[Located]:
        cursor = Cursor(file)
        while (record := self._step(file, cursor)) is not None:
            yield Located(file.header.name, cursor.at, record_size(len(record.run)), record)
            if record.kind is RecordKind.INDEX:
                return

    def _step(self, file: SegmentFile, cursor: Cursor) -> Record | None:
        """The next record; None at the end of the last segment, be it torn."""
        try:
            record = cursor.step(file.size)
        except Malformed:
            record = None
        if record is not None:
            return record
        # First the proof that there must be a record, then a second look: the writer may have been faster.
        damaged = self._why_damaged(file, cursor.offset)
        cursor.forget()
        try:
            record = cursor.step(file.size)
        except Malformed as error:
            if damaged is not None:
                raise damaged from error
        if record is None and damaged is not None:
            raise damaged
        return record

    def _why_damaged(self, file: SegmentFile, offset: int) -> JournalDamaged | None:
        if self._followed(file):
            return file.damaged(offset, "there is no good record, though the segment is sealed")
        size = file.size
        if size < file.header.segment_bytes:
            return file.damaged(offset, f"the file is cut short: {size} of {file.header.segment_bytes} bytes")
        proof = find_proof(file, offset, size)
        if proof is not None:
            return file.damaged(
                offset, f"there is no good record, though one at byte {proof} knew it fsynced"
            )
        return None

    def _followed(self, file: SegmentFile) -> bool:
        """Whether a segment stands behind this one, which must be sealed then."""
        return segment_paths(self._directory)[-1].name != file.path.name
