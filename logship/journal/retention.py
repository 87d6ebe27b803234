"""Which sealed segments may go.

In: the segments in order, the position of every replica, the bounds. Out: the names of those to
unlink, the oldest position that is left, and the replicas that have lost something by it. Pure.

What a replica needs is kept, up to the limit of bytes; past it the oldest goes, needed or not. Age is
a minimum to keep beyond need. A segment may become the oldest only if every transaction behind its
whole LSN is whole from there on, so a transaction that spans segments goes whole or stays whole. The
last segment, which is being written, always stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from logship.lsn import Lsn


@dataclass(frozen=True, slots=True)
class Segment:
    """``whole_lsn``: the smallest position from which a reader that begins here gets every transaction
    whole; None when one transaction goes right through. ``bytes`` are those on disk, ``used_bytes``
    those of records. Times count from 2000-01-01 UTC; 0 where there is no commit."""

    name: str
    first_lsn: Lsn
    last_lsn: Lsn
    whole_lsn: Lsn | None
    bytes: int
    used_bytes: int
    sealed: bool
    transactions: int
    first_commit_time_us: int
    last_commit_time_us: int


@dataclass(frozen=True, slots=True)
class Retention:
    drop: tuple[str, ...]
    oldest_lsn: Lsn
    lost: tuple[str, ...]  # replicas whose position is before oldest_lsn


def begin_for(segments: Sequence[Segment], lsn: Lsn) -> int | None:
    """Index of the newest segment from which all that ends after ``lsn`` can be read whole; None: too old."""
    for index in range(len(segments) - 1, -1, -1):
        whole = segments[index].whole_lsn
        if whole is not None and whole <= lsn:
            return index
    return None


def oldest_lsn(segments: Sequence[Segment]) -> Lsn:
    """The smallest position from which the journal can be read."""
    known = (segment.whole_lsn for segment in segments if segment.whole_lsn is not None)
    return next(known, segments[-1].last_lsn)


def decide(
    segments: Sequence[Segment],
    needed: Mapping[str, Lsn],
    *,
    limit_bytes: int | None,
    min_age_s: float,
    now_us: int,
) -> Retention:
    """``needed``: the position of each replica, by name. With none, age alone keeps segments. A replica
    that has been given up is to be left out, or it holds everything up to the limit."""
    may_begin = [index for index, segment in enumerate(segments) if segment.whole_lsn is not None]
    if not may_begin:
        return Retention((), oldest_lsn(segments), ())
    wanted = min(_by_need(segments, needed), _by_age(segments, now_us - int(min_age_s * 1_000_000)))
    keep = max((index for index in may_begin if index <= wanted), default=0)
    bound = _by_size(segments, limit_bytes)
    if bound > keep:
        keep = min((index for index in may_begin if index >= bound), default=max(keep, may_begin[-1]))
    oldest = oldest_lsn(segments[keep:])
    lost = tuple(sorted(replica for replica, lsn in needed.items() if lsn < oldest))
    return Retention(tuple(segment.name for segment in segments[:keep]), oldest, lost)


def _by_need(segments: Sequence[Segment], needed: Mapping[str, Lsn]) -> int:
    """The first segment that a replica needs. A position before all of them keeps all: it may have been
    read before a later one was acted upon, and what a replica needs must not go by a stale look at it."""
    return min((begin_for(segments, lsn) or 0 for lsn in needed.values()), default=len(segments) - 1)


def _by_age(segments: Sequence[Segment], since_us: int) -> int:
    """The first segment that holds a commit since then."""
    for index, segment in enumerate(segments[:-1]):
        if segment.last_commit_time_us and segment.last_commit_time_us >= since_us:
            return index
    return len(segments) - 1


def _by_size(segments: Sequence[Segment], limit_bytes: int | None) -> int:
    """The first segment from which on all fit under the limit."""
    if limit_bytes is None:
        return 0
    total = 0
    for index in range(len(segments) - 1, -1, -1):
        total += segments[index].bytes
        if total > limit_bytes:
            return min(index + 1, len(segments) - 1)
    return 0
