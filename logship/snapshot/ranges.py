"""Cuts large tables into ranges of pages, so that several workers can copy one.

In: tables with their sizes. Out: `Unit`s, largest table first. A range is read by a TID range scan
(PostgreSQL 14 and newer), at the one snapshot that all workers share, so ranges neither overlap nor
leave anything out: pages that the table grows by meanwhile hold nothing that the snapshot shows, and
the last range is open all the same. No I/O.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from logship.snapshot.relations import Source

_SMALLEST: Final = 16 * 2**20
_LARGEST: Final = 2**30
_UNITS_PER_JOB: Final = 6  # so that no worker is left alone with much at the end


@dataclass(frozen=True, slots=True)
class Unit:
    """A table, or pages ``first`` to ``behind`` (exclusive; None: to the end) of it."""

    source: Source
    size_bytes: int
    first: int = 0
    behind: int | None = None

    @property
    def whole(self) -> bool:
        return self.first == 0 and self.behind is None


def units(tables: Sequence[Source], jobs: int, *, smallest: int = _SMALLEST) -> list[list[Unit]]:
    """For each table its units; ``smallest`` bytes are the least that a range is worth."""
    total = sum(table.size_bytes for table in tables)
    size = min(max(smallest, total // (max(jobs, 1) * _UNITS_PER_JOB)), max(smallest, _LARGEST))
    return [_units(table, size if jobs > 1 else 0) for table in tables]


def _units(table: Source, size: int) -> list[Unit]:
    count = min(table.size_bytes // size, table.pages) if size and table.pages else 0
    if count < 2:
        return [Unit(table, table.size_bytes)]
    bounds = [table.pages * number // count for number in range(count)]
    return [
        Unit(table, table.size_bytes // count, first, behind)
        for first, behind in zip(bounds, [*bounds[1:], None], strict=True)
    ]
