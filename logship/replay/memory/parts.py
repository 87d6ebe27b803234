"""What an object in memory consists of: the segments of its main part, its delta, and a merge under way.

In: what memory's writer did. Out: the next `Parts`; every one is immutable, so that a transaction that is
rolled back leaves the one before it. Rows and bytes are those of committed or pending statements, not
estimates, but for the share of a segment's or the delta's bytes that some of its rows have. No I/O.

Main is cut into segments so that what a merge does at a time has a bound, and the space of rows that are gone
comes back with the segment that is rewritten.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from logship.replay.memory.keys import DeltaKeys

SEGMENT_ROWS: Final = 2 * 122_880  # DuckDB's row groups; to rewrite a segment takes less than 50 ms
DELTA_ROWS: Final = 1 << 16  # from here on it is merged between batches, whoever waits
IDLE_DELTA_S: Final = 1.0  # without a batch: then whatever is there is merged
_SMALL_ROWS: Final = 1 << 17  # main is changed at once: to look through it costs less than a delta
_LOOKED_THROUGH: Final = 64  # rows of main that may be looked through for each that changes
_FEW_DEAD: Final = 1 << 14
_DEAD_SHARE: Final = 8  # one in eight


@dataclass(frozen=True, slots=True)
class Segment:
    number: int
    rows: int = 0
    dead: int = 0  # deleted, and still taking space
    size_bytes: int = 0  # of both

    def lost(self, rows: int) -> Segment:
        return replace(self, rows=self.rows - rows, dead=self.dead + rows)

    def gained(self, rows: int, size_bytes: int) -> Segment:
        return replace(self, rows=self.rows + rows, size_bytes=self.size_bytes + size_bytes)

    @property
    def full(self) -> bool:
        return self.rows + self.dead >= SEGMENT_ROWS

    def room(self, rows: int) -> int:
        """How many of ``rows`` it takes. A few more than it should have are better than a segment of a few."""
        left = max(1, SEGMENT_ROWS - self.rows - self.dead)
        return rows if rows <= left + SEGMENT_ROWS // 4 else left

    @property
    def live_bytes(self) -> int:
        return self.size_bytes * self.rows // max(1, self.rows + self.dead)

    @property
    def wasteful(self) -> bool:
        return self.dead > max(_FEW_DEAD, (self.rows + self.dead) // _DEAD_SHARE)


@dataclass(frozen=True, slots=True)
class Merge:
    """Of the delta's entries that were born up to ``born``."""

    born: int
    segments: tuple[int, ...]  # that still hold rows which those replace
    expected: int  # such rows in all
    found: int = 0


@dataclass(frozen=True, slots=True)
class Parts:
    segments: tuple[Segment, ...] = ()
    next_number: int = 0  # of segments and deltas
    delta: int = 0  # the number of its table
    delta_rows: int = 0  # that were put there, later replaced ones included
    delta_bytes: int = 0
    epoch: int = 0  # of what is born now
    merge: Merge | None = None
    shown: bool = False
    keys: DeltaKeys | None = field(default=None, compare=False, repr=False)  # as of `keys_version`
    keys_version: int = field(default=0, compare=False, repr=False)

    @property
    def main_rows(self) -> int:
        """To be looked through, dead ones included."""
        return sum(segment.rows + segment.dead for segment in self.segments)

    @property
    def size_bytes(self) -> int:
        return self.delta_bytes + sum(segment.size_bytes for segment in self.segments)

    @property
    def layout(self) -> object:
        """What the readers' view depends on."""
        return [segment.number for segment in self.segments], self.delta, self.delta_rows > 0

    @property
    def full(self) -> bool:
        """Whether the delta has to be merged."""
        return self.delta_rows > DELTA_ROWS

    @property
    def overfull(self) -> bool:
        """Whether it has to be merged before anything else: batches came faster than merges."""
        return self.delta_rows > 4 * DELTA_ROWS

    @property
    def wasteful(self) -> Segment | None:
        """A segment that should be rewritten. While a merge goes through them, none."""
        if self.merge is not None:
            return None
        return next((segment for segment in self.segments if segment.wasteful), None)

    def at_once(self, going: int) -> bool:
        """Whether ``going`` rows are better looked for in main, and not left to the delta."""
        return self.main_rows <= max(_SMALL_ROWS, going * _LOOKED_THROUGH)

    def with_segment(self, changed: Segment) -> Parts:
        return replace(
            self, segments=tuple(changed if one.number == changed.number else one for one in self.segments)
        )

    def without_segment(self, number: int) -> Parts:
        return replace(self, segments=tuple(one for one in self.segments if one.number != number))
