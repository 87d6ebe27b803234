"""Looks ahead of a reader for the end of a transaction that spans records.

In: the place behind the transaction's first record, and the chain of segments. Out: whether it ends, was
abandoned, or is still open as far as the log is written. Asked again, it goes on where it stood.

Reads the header of each record and no body: a large transaction costs one small read for each of its
records. Checksums are for the reader to check, which comes by later; what is no record raises
`JournalDamaged`, and a segment that retention has taken away `JournalTooOld`.
"""

from __future__ import annotations

import enum

from logship.errors import JournalTooOld
from logship.journal.chain import Chain
from logship.journal.cursor import SegmentFile
from logship.journal.directory import following_name
from logship.journal.files import Files
from logship.journal.segment import (
    HEADER_BYTES,
    RECORD_HEADER_BYTES,
    Malformed,
    RecordKind,
    peek_record,
)
from logship.lsn import Lsn


class Fate(enum.Enum):
    """What becomes of a transaction whose first record has been read."""

    OPEN = "open"  # as far as the log is written
    ENDS = "ends"
    ABANDONED = "abandoned"


class Ahead:
    """For one transaction. To be closed."""

    def __init__(self, chain: Chain, files: Files, *, start: Lsn, name: str, offset: int) -> None:
        """``offset`` in segment ``name`` is where the record behind the first one stands, or will stand.
        ``start``: what the reader asked for, for its error."""
        self._chain = chain
        self._files = files
        self._start = start
        self._name = name
        self._offset = offset
        self._file: SegmentFile | None = None

    def look(self) -> Fate:
        """As far as the log is written now."""
        while True:
            if self._file is None and self._void():
                return Fate.ABANDONED
            if self._file is None and not self._enter():
                return Fate.OPEN
            file = self._file
            assert file is not None
            limit = self._chain.limit(self._name)
            end = file.size if limit is None else limit
            while self._offset < end:
                kind, last = self._step(file)
                if kind is RecordKind.ABANDON:
                    return Fate.ABANDONED
                if last:
                    return Fate.ENDS
                if kind is RecordKind.INDEX:
                    self._pass(file)
                    break
            else:
                return Fate.OPEN

    @property
    def more(self) -> bool:
        """Whether there is something that `look` hasn't seen."""
        if self._file is None:
            return self._chain.has(self._name) or self._chain.gone(self._name)
        limit = self._chain.limit(self._name)
        return limit is None or self._offset < limit

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _step(self, file: SegmentFile) -> tuple[RecordKind, bool]:
        data = file.pread(RECORD_HEADER_BYTES, self._offset)
        try:
            kind, last, size = peek_record(data, file.header.salt)
        except Malformed as error:
            raise file.damaged(self._offset, error.message) from error
        self._offset += size
        return kind, last

    def _pass(self, file: SegmentFile) -> None:
        """The segment is seen to its end; it is sealed, or its index would not be there."""
        try:
            # The file may not be cut to its used size yet: the trailer stands where the index ends.
            trailer = file.trailer_before(self._offset)
        except Malformed as error:
            raise file.damaged(self._offset, error.message) from error
        header = file.header
        self._name = following_name(header.first_lsn, header.part, trailer.last_lsn)
        self._offset = 0
        self.close()

    def _void(self) -> bool:
        """The next segment was taken away, and nothing that ends behind the start with it."""
        if not self._chain.gone(self._name):
            return False
        if self._chain.oldest_lsn > self._start:
            raise JournalTooOld(self._start, self._chain.oldest_lsn)
        return True

    def _enter(self) -> bool:
        if not self._chain.has(self._name):
            return False
        try:
            self._file = SegmentFile(self._chain.directory / self._name, self._files)
        except FileNotFoundError:
            raise JournalTooOld(self._start, self._chain.oldest_lsn) from None
        self._offset = self._offset or HEADER_BYTES
        return True
