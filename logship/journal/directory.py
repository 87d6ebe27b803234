"""The segment files of a journal's directory, in order, and what each says of itself.

In: a directory. Out: paths, and `Segment` descriptions of the sealed ones, taken from their trailers.
`JournalDamaged` where one is missing between two, or a sealed one isn't sealed. Reads only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from logship.errors import JournalError, JournalForeign
from logship.journal.cursor import SegmentFile
from logship.journal.files import failure
from logship.journal.retention import Segment
from logship.journal.segment import Header, Malformed, Source, Trailer, parse_name, segment_name
from logship.lsn import Lsn

NEW_SUFFIX: Final = ".new"  # a segment whose header isn't fsynced yet


def segment_paths(directory: Path) -> list[Path]:
    """In the order of the log."""
    found: list[tuple[tuple[int, int], Path]] = []
    try:
        for path in directory.iterdir():
            key = parse_name(path.name)
            if key is not None:
                found.append((key, path))
    except FileNotFoundError:
        raise JournalError(
            f"there is no directory {directory}",
            file=str(directory),
            hint="give the path of a journal's directory",
        ) from None
    except OSError as error:
        raise failure(error, "read", str(directory)) from error
    return [path for _, path in sorted(found)]


def leftovers(directory: Path) -> list[Path]:
    """Segments that a crash left before they got their name; nothing in them was ever acknowledged."""
    return [
        path for path in directory.iterdir() if path.suffix == NEW_SUFFIX and parse_name(path.stem + ".seg")
    ]


def sealed_segment(file: SegmentFile) -> Segment:
    """What a sealed segment says of itself."""
    size = file.size
    try:
        trailer = file.trailer()
    except Malformed as error:
        raise file.damaged(size, f"{error.message}, though another one follows it") from error
    return describe(file.header, trailer, size, size, sealed=True)


def describe(header: Header, trailer: Trailer, size: int, used: int, *, sealed: bool) -> Segment:
    return Segment(
        name=header.name,
        first_lsn=header.first_lsn,
        last_lsn=trailer.last_lsn,
        whole_lsn=trailer.whole_lsn,
        bytes=size,
        used_bytes=used,
        sealed=sealed,
        transactions=trailer.transactions,
        first_commit_time_us=trailer.first_commit_time_us,
        last_commit_time_us=trailer.last_commit_time_us,
    )


def following_name(first_lsn: Lsn, part: int, last_lsn: Lsn) -> str:
    """The name of the segment behind the one that has these."""
    return segment_name(last_lsn, part + 1 if last_lsn == first_lsn else 0)


def check_follows(previous: Segment, file: SegmentFile) -> None:
    """`JournalDamaged` unless ``file`` is the segment right behind ``previous``."""
    part = (parse_name(previous.name) or (0, 0))[1]
    expected = following_name(previous.first_lsn, part, previous.last_lsn)
    if file.header.name != expected:
        raise file.damaged(0, f"it follows {previous.name}, but segment {expected} is missing between them")


def check_source(directory: Path, found: Source, expected: Source) -> None:
    """`JournalForeign` unless the journal is of this source."""
    if found == expected:
        return
    hint = ""
    same = (found.system_identifier, found.database) == (expected.system_identifier, expected.database)
    if same and found.timeline > expected.timeline:
        hint = (
            "the primary went back to an earlier timeline (was an old copy restored?), and the journal holds "
            "what it doesn't know: give it an empty journal directory and run `logship init` again"
        )
    elif same:
        hint = (
            "the primary was promoted, and following a promotion is not supported yet: give it an empty "
            "journal directory and run `logship init` again"
        )
    raise JournalForeign(str(directory), str(found), str(expected), hint=hint)
