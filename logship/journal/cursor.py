"""Reads the records of one segment file, one after the other.

In: a segment file, and up to where it may be read. Out: its header, and its records, each checked.
Bytes that are no record raise `Malformed`, with the cursor left in front of them; whether that is a
torn tail, damage, or only the end is for the caller to say. Reads in large chunks and never writes.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, Self

from logship.errors import JournalDamaged
from logship.journal.files import Files, failure
from logship.journal.segment import (
    HEADER_BYTES,
    RECORD_HEADER_BYTES,
    TRAILER_BYTES,
    Header,
    Malformed,
    Record,
    Short,
    Stretch,
    Trailer,
    decode_header,
    decode_record,
    decode_trailer,
    parse_name,
)
from logship.kernel import gather

CHUNK_BYTES: Final = 1 << 20


class SegmentFile:
    """A segment file opened for reading; its header has been checked against its name."""

    def __init__(self, path: Path, files: Files) -> None:
        """`FileNotFoundError` when it is gone; `JournalDamaged` when its header isn't whole."""
        self.path = path
        self._files = files
        try:
            self._fd = files.open(path, os.O_RDONLY)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise failure(error, "read", str(path)) from error
        try:
            self.header = self._read_header()
        except BaseException:
            self.close()
            raise

    def _read_header(self) -> Header:
        try:
            header = decode_header(self.pread(HEADER_BYTES, 0))
        except Malformed as error:
            raise self.damaged(0, error.message) from error
        if (header.first_lsn, header.part) != parse_name(self.path.name):
            raise self.damaged(0, f"its header says that it is {header.name}")
        return header

    @property
    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def pread(self, size: int, offset: int) -> bytes:
        try:
            return self._files.pread(self._fd, size, offset)
        except OSError as error:
            raise failure(error, "read", str(self.path)) from error

    def trailer(self) -> Trailer:
        """Of a sealed segment; `Malformed` when the file doesn't end with one."""
        return self.trailer_before(self.size)

    def trailer_before(self, end: int) -> Trailer:
        """The trailer of the index that ends at ``end``."""
        return decode_trailer(self.pread(TRAILER_BYTES, max(0, end - TRAILER_BYTES)), self.header.salt)

    def damaged(self, offset: int, what: str) -> JournalDamaged:
        return JournalDamaged(what, file=str(self.path), offset=offset)

    def close(self) -> None:
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Cursor:
    """``offset``: where the next record stands; ``at``: where the last stood; ``synced``: what it knew."""

    __slots__ = ("_base", "_data", "_file", "_salt", "at", "offset", "synced")

    def __init__(self, file: SegmentFile, offset: int = HEADER_BYTES) -> None:
        self._file = file
        self._salt = file.header.salt
        self._data = b""
        self._base = self.offset = self.at = offset
        self.synced = 0

    def step(self, limit: int) -> Record | None:
        """The next record of those before ``limit``; None when there is no byte left."""
        offset = self.offset
        while offset < limit:
            try:
                record, self.synced, following = decode_record(self._data, offset - self._base, self._salt)
            except Short as error:
                self._fill(error.size, limit)
                continue
            self.at = offset
            self.offset = following + self._base
            return record
        return None

    def gather(self, max_bytes: int, limit: int) -> Stretch | None:
        """The plain transactions that stand next before ``limit``, about ``max_bytes`` of runs; None: `step` has the
        next record. The file is read only when all that was read of it is used up."""
        if self.offset - self._base >= len(self._data) and self.offset + RECORD_HEADER_BYTES <= limit:
            self._fill(RECORD_HEADER_BYTES, limit)
        found = gather(self._data, self.offset - self._base, self._salt, max_bytes)
        if found is None:
            return None
        self.at, self.offset = found.last_at + self._base, found.following + self._base
        self.synced = found.synced
        return Stretch.of(found.run, found.plain)

    def forget(self) -> None:
        """Read again from the file what follows: another process may have written there."""
        self._data = b""
        self._base = self.offset

    def _fill(self, size: int, limit: int) -> None:
        if self.offset + size > limit:
            raise Malformed("a record reaches beyond the end")
        data = self._file.pread(min(max(size, CHUNK_BYTES), limit - self.offset), self.offset)
        self._data, self._base = data, self.offset
        if len(data) < size:
            raise Malformed("the file ends inside a record")
