"""How far a copy is: rows, bytes, rate, time left.

In: what the workers tell, from any thread. Out: `Standing`, for whoever shows it. Time left comes from the
sizes that the primary's tables have on disk; before anything is known it is None, never 0.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Standing:
    tables_done: int
    tables: int
    rows: int
    size_bytes: int  # as COPY carries them
    fraction: float  # 0 to 1, by size on disk
    seconds: float

    @property
    def bytes_per_s(self) -> float | None:
        return self.size_bytes / self.seconds if self.seconds > 0 else None

    @property
    def left_s(self) -> float | None:
        """None: not known yet."""
        if self.fraction <= 0 or self.seconds < 0.5:
            return None
        return self.seconds * (1 - self.fraction) / self.fraction


@dataclass(slots=True)
class Meter:
    """``total_bytes``: the tables' sizes on disk."""

    tables: int
    total_bytes: int
    clock: Callable[[], float] = time.monotonic
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _began: float = field(init=False)
    _rows: int = 0
    _size_bytes: int = 0
    _tables_done: int = 0
    _done_bytes: int = 0  # on disk, of units that are finished
    _under_way: dict[int, tuple[int, int]] = field(default_factory=dict)  # unit: carried, on disk

    def __post_init__(self) -> None:
        self._began = self.clock()

    def add(self, unit: int, disk_bytes: int, rows: int, size_bytes: int) -> None:
        """So much more of the unit that takes ``disk_bytes`` on the primary has been carried."""
        with self._lock:
            carried, _ = self._under_way.get(unit, (0, 0))
            self._under_way[unit] = (carried + size_bytes, disk_bytes)
            self._rows += rows
            self._size_bytes += size_bytes

    def unit_done(self, unit: int, disk_bytes: int) -> None:
        with self._lock:
            self._under_way.pop(unit, None)
            self._done_bytes += disk_bytes

    def table_done(self) -> None:
        with self._lock:
            self._tables_done += 1

    def standing(self) -> Standing:
        with self._lock:
            # A row takes about as much room in COPY as on disk; never more than the unit is taken for.
            under_way = sum(min(carried, disk) for carried, disk in self._under_way.values())
            done = self._done_bytes + under_way
            complete = self._tables_done >= self.tables
            return Standing(
                tables_done=self._tables_done,
                tables=self.tables,
                rows=self._rows,
                size_bytes=self._size_bytes,
                fraction=1.0
                if complete
                else min(0.999, done / self.total_bytes)
                if self.total_bytes
                else 0.0,
                seconds=self.clock() - self._began,
            )
