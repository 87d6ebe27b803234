"""The one segment that is being written.

In: records, from the writer's thread. Out: a file that is made whole before it gets its name, filled
by one write per call of `write`, and sealed with its index. Assumes that `Contents.check` let each
record pass. Errors of the disk leave as `OSError`; after one this segment is never written again.
Never syncs by itself what `write` wrote: `logship.journal.flush` does.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from pathlib import Path
from typing import Final, Self

from logship.failpoints import hit
from logship.journal.contents import Contents, schema_record
from logship.journal.directory import NEW_SUFFIX
from logship.journal.files import Files, preallocate, write_all
from logship.journal.segment import (
    HEADER_BYTES,
    Header,
    Record,
    Source,
    Stretch,
    encode_header,
    encode_record,
    record_size,
)
from logship.kernel import encode_plain

_PAGE_BYTES: Final = 4096
_POSTGRES_EPOCH_S: Final = 946_684_800


def current_time_us() -> int:
    """Microseconds since 2000-01-01 UTC, PostgreSQL's epoch."""
    return time.time_ns() // 1000 - _POSTGRES_EPOCH_S * 1_000_000


class ActiveSegment:
    """``offset`` counts what is appended, ``written`` what is in the file, ``synced`` what is known to be
    fsynced (the fsync thread moves it)."""

    def __init__(
        self, files: Files, fd: int, header: Header, contents: Contents, *, end: int, size: int
    ) -> None:
        self.header = header
        self.name: Final = header.name
        self.contents = contents
        self.size = size
        self.offset = self.written = self.synced = end
        self.fd = fd
        self._files = files
        self._salt = header.salt
        self._parts: list[bytes] = []

    @classmethod
    def create(
        cls,
        files: Files,
        directory: Path,
        source: Source,
        contents: Contents,
        *,
        part: int,
        room: int,
        size: int,
    ) -> Self:
        """A segment of ``size`` bytes, or what a record of ``room`` bytes needs, durable with its name."""
        opening = schema_record(contents.schema)
        need = HEADER_BYTES + record_size(len(opening.run)) + room
        size = -(-max(size, need) // _PAGE_BYTES) * _PAGE_BYTES
        salt = secrets.randbits(32)
        header = Header(source, contents.last_lsn, part, size, salt, contents.open, current_time_us())
        start = b"".join((encode_header(header), *encode_record(opening, salt, 0)))
        path = directory / header.name
        fresh = path.with_suffix(NEW_SUFFIX)
        fd = files.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        try:
            hit("journal.segment.made")
            preallocate(files, fd, size)
            write_all(files, fd, start, 0)
            files.fsync(fd)
            hit("journal.segment.synced")
            files.rename(fresh, path)
            hit("journal.segment.named")
            files.sync_directory(directory)
        except OSError:
            os.close(fd)
            with contextlib.suppress(OSError):  # the error that matters is on its way; opening removes it too
                files.unlink(fresh)
            raise
        return cls(files, fd, header, contents, end=len(start), size=size)

    def append(self, record: Record) -> None:
        """Into the buffer. `ValueError` or `struct.error` when it can't be coded; nothing is buffered."""
        parts = encode_record(record, self._salt, self.synced)
        self.contents.note(record)
        self._parts += parts
        self.offset += record_size(len(record.run))

    def append_stretch(self, stretch: Stretch) -> bool:
        """As `append`, each transaction in a record of its own; False, and nothing is buffered, where they may not all
        have room here."""
        if (
            self.offset + len(stretch.run) + stretch.transactions * record_size(0) + 8 * stretch.transactions
            > self.size
        ):
            return False
        encoded = encode_plain(stretch.run, self._salt, self.synced)
        self.contents.note_stretch(stretch, encoded)
        self._parts.append(encoded.data)
        self.offset += len(encoded.data)
        return True

    def write(self) -> bool:
        """The buffer into the file; False when it is empty."""
        if not self._parts:
            return False
        data = b"".join(self._parts)
        self._parts.clear()
        hit("journal.write.before")
        write_all(self._files, self.fd, data, self.written)
        hit("journal.write.after")
        self.written = self.offset
        return True

    def append_index(self) -> None:
        """The last record of the segment. It may reach beyond the preallocated size."""
        self.append(self.contents.index_record(self.offset, self._salt))

    def finish(self) -> None:
        """Give back what isn't used, once the index is fsynced: the file now ends with the trailer.

        Durable before the next segment is made, or that one would follow a file that isn't sealed.
        """
        hit("journal.seal.synced")
        self._files.truncate(self.fd, self.written)
        hit("journal.seal.cut")
        self._files.fsync(self.fd)
        self.size = self.written

    def close(self) -> None:
        os.close(self.fd)
