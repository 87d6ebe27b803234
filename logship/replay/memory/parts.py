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

SEGMENT_ROWS: Final = 122_880 * 7 // 4  # of DuckDB's row groups; to rewrite a segment takes less than 50 ms
DELTA_ROWS: Final = 1 << 16  # from here on it is merged between batches, whoever waits
IDLE_DELTA_S: Final = 1.0  # without a batch: then whatever is there is merged
_SMALL_ROWS: Final = 1 << 17  # main is changed at once: to look through it costs less than a delta
_LOOKED_THROUGH: Final = 64  # rows of main that may be looked through for each that changes
_APART_ROWS: Final = 1 << 13  # in the delta: below, one join of all segments is as good
_TOGETHER_ROWS: Final = 1 << 11  # of the delta, in one join: as many keys are found in the processor's cache
_MOST_APART: Final = 32  # joins: each takes a quarter of a millisecond to plan
_NARROW: Final = 2  # keys that may lie between a segment's least and greatest for each that it could hold
_FEW_DEAD: Final = 1 << 14
_DEAD_SHARE: Final = 8  # one in eight


@dataclass(frozen=True, slots=True)
class Span:
    """Every key lies here; of a key that is one column of integers."""

    column: str
    low: int
    high: int

    def joined(self, other: Span | None) -> Span | None:
        if other is None or other.column != self.column:
            return None
        return Span(self.column, min(self.low, other.low), max(self.high, other.high))

    @property
    def narrow(self) -> bool:
        """Whether a segment of such keys has a good part of them."""
        return self.high - self.low < _NARROW * SEGMENT_ROWS


@dataclass(frozen=True, slots=True)
class Segment:
    number: int
    rows: int = 0
    dead: int = 0  # deleted, and still taking space
    size_bytes: int = 0  # of both
    span: Span | None = None  # of both; None: not known

    def lost(self, rows: int) -> Segment:
        return replace(self, rows=self.rows - rows, dead=self.dead + rows)

    def gained(self, rows: int, size_bytes: int, span: Span | None) -> Segment:
        """``span``: of these rows."""
        if self.rows + self.dead:
            span = self.span and self.span.joined(span)
        return replace(self, rows=self.rows + rows, size_bytes=self.size_bytes + size_bytes, span=span)

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
class Apart:
    """Segments, by their numbers, whose keys lie in one span."""

    span: Span
    numbers: frozenset[int]


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
        numbers = [segment.number for segment in self.segments]
        spans = [segment.span for segment in self.segments[:-1]] if self._joins else []
        return numbers, self.delta, self.delta_rows > 0, self._joins, spans

    @property
    def _joins(self) -> int:
        """How many readers have of segments that they join apart."""
        if self.delta_rows < _APART_ROWS:
            return 0
        return min(_MOST_APART, 1 << (self.delta_rows // _TOGETHER_ROWS).bit_length())

    @property
    def apart(self) -> tuple[Apart, ...]:
        """The segments that readers join with a part of the delta only: a join with a few thousand keys costs half
        of one with many. Not the last, whose span grows. They change when the delta has twice as many rows."""
        if not self._joins:
            return ()
        narrow = [
            (one.span, one.number) for one in self.segments[:-1] if one.span is not None and one.span.narrow
        ]
        narrow.sort(key=lambda each: each[0].low)
        each = max(1, -(-len(narrow) // self._joins))
        found = []
        for start in range(0, len(narrow), each):
            spans, numbers = zip(*narrow[start : start + each], strict=True)
            span: Span | None = spans[0]
            for other in spans[1:]:
                span = span and span.joined(other)
            if span is not None:
                found.append(Apart(span, frozenset(numbers)))
        return tuple(found)

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

    def without_spans(self) -> Parts:
        return replace(self, segments=tuple(replace(one, span=None) for one in self.segments))
