"""Opens the segments of a journal for writing, and mends what a crash left.

In: a directory that this process has locked. Out: the sealed segments, and an active one behind them.

What a crash may leave, and what becomes of it:

| killed | leaves | is mended by |
|---|---|---|
| while a segment is made | a file without its name | removing it: nothing in it was acknowledged |
| while writing | a torn tail | cutting it: zeros are written over it |
| while sealing | a torn INDEX record | cutting it, like any other |
| between INDEX and giving back the rest | a sealed segment with zeros behind it | cutting the file |
| between sealing and the next segment | a sealed segment that is the last | making the next one |
| in the middle of a transaction | a transaction without end | an ABANDON record, which the journal appends |
| while unlinking old segments | fewer of them, from the oldest on | nothing |
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from logship.failpoints import hit
from logship.journal import identity
from logship.journal.active import ActiveSegment
from logship.journal.contents import Contents, Schema
from logship.journal.cursor import SegmentFile
from logship.journal.directory import (
    check_follows,
    check_source,
    describe,
    leftovers,
    sealed_segment,
    segment_paths,
)
from logship.journal.files import Files, write_all
from logship.journal.recovery import Tail, read_tail, wipe
from logship.journal.retention import Segment
from logship.journal.segment import Source
from logship.lsn import Lsn

_logger: Final = logging.getLogger(__name__)
Opened = tuple[list[Segment], ActiveSegment, bool]


def open_segments(
    files: Files, directory: Path, source: Source, *, segment_bytes: int, start: Callable[[], Lsn]
) -> Opened:
    """The sealed segments, the active one, and whether its last record proves all before it. ``start`` says where
    a journal begins that holds nothing yet."""
    for path in leftovers(directory):
        files.unlink(path)
    paths = segment_paths(directory)
    if not paths:
        contents = Contents(start(), None, Schema())
        identity.make(files, directory)
        return [], _next(files, directory, source, contents, part=0, segment_bytes=segment_bytes), True
    sealed: list[Segment] = []
    for path in paths:
        with SegmentFile(path, files) as file:
            check_source(directory, file.header.source, source)
            if sealed:
                check_follows(sealed[-1], file)
            if path != paths[-1]:
                sealed.append(sealed_segment(file))
                continue
            tail = read_tail(file)
            active = _mend(files, file, tail)
    if not tail.sealed:
        return sealed, active, tail.marked
    active.close()
    contents, header = tail.contents, file.header
    sealed.append(describe(header, contents.trailer(tail.end), active.size, tail.end, sealed=True))
    part = header.part + 1 if contents.last_lsn == header.first_lsn else 0
    fresh = Contents(contents.last_lsn, contents.open, contents.schema)
    return sealed, _next(files, directory, source, fresh, part=part, segment_bytes=segment_bytes), True


def _next(
    files: Files, directory: Path, source: Source, contents: Contents, *, part: int, segment_bytes: int
) -> ActiveSegment:
    return ActiveSegment.create(files, directory, source, contents, part=part, room=0, size=segment_bytes)


def _mend(files: Files, file: SegmentFile, tail: Tail) -> ActiveSegment:
    """The last segment, opened for writing, with nothing in it that isn't whole and durable."""
    fd = files.open(file.path, os.O_RDWR)
    try:
        if tail.torn:
            _logger.warning(
                "%s: cutting the torn tail at byte %d (%s); it was not acknowledged and comes again",
                file.path, tail.end, tail.torn,
            )  # fmt: skip
            wipe(files, fd, file, tail.end)
            hit("journal.open.cut")
        # What isn't proven is written again: if the last process died of a failed fsync, these pages
        # may be clean in memory and yet not on disk, and an fsync now would not write them.
        unproven = file.pread(tail.end - tail.proven, tail.proven)
        write_all(files, fd, unproven, tail.proven)
        files.fsync(fd)
        active = ActiveSegment(files, fd, file.header, tail.contents, end=tail.end, size=file.size)
        if tail.sealed:
            active.finish()
    except BaseException:
        os.close(fd)
        raise
    return active
