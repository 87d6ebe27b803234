"""The segments of an open journal, shared by its writer, its readers and retention.

In: from the writer, how far the last segment is written, and when it is sealed; from retention, what
goes. Out: to readers, how far they may read, waiting for more where they ask to. All state is behind
one condition. No I/O.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from logship.journal.active import ActiveSegment
from logship.journal.directory import describe
from logship.journal.retention import Segment, begin_for, oldest_lsn
from logship.journal.segment import parse_name
from logship.lsn import Lsn


class Chain:
    def __init__(self, directory: Path, sealed: list[Segment], active: ActiveSegment) -> None:
        self.directory = directory
        self.written_lsn = active.contents.last_lsn
        self._condition = threading.Condition()
        self._sealed = sealed
        self._active = active
        self._written = active.written
        self._closed = False
        self._listeners: tuple[Callable[[bool], None], ...] = ()

    @property
    def closed(self) -> bool:
        return self._closed

    def publish(self, lsn: Lsn, *, hurried: bool = False) -> None:
        """The active segment is written as far as it says, which ends whole transactions at ``lsn``. ``hurried``:
        somebody may wait for what was written."""
        with self._condition:
            self._written = self._active.written
            self.written_lsn = lsn
            self._condition.notify_all()
        self._tell(hurried=hurried)

    def listen(self, listener: Callable[[bool], None]) -> None:
        """Call ``listener``, without the lock, when there may be something to read, from the thread that knows of it:
        the writer's, mostly, so it must not block. It is told whether that is hurried."""
        with self._condition:
            self._listeners = (*self._listeners, listener)

    def unlisten(self, listener: Callable[[bool], None]) -> None:
        with self._condition:
            self._listeners = tuple(each for each in self._listeners if each != listener)

    def _tell(self, *, hurried: bool) -> None:
        for listener in self._listeners:
            listener(hurried)

    def turn(self, active: ActiveSegment) -> None:
        """The active segment has been sealed; ``active`` takes its place."""
        with self._condition:
            self._sealed.append(self._describe(sealed=True))
            self._active = active
            self._written = active.written
            self._condition.notify_all()
        self._tell(hurried=False)

    def _describe(self, *, sealed: bool) -> Segment:
        active = self._active
        trailer = active.contents.trailer(self._written)
        return describe(active.header, trailer, active.size, self._written, sealed=sealed)

    def segments(self) -> list[Segment]:
        with self._condition:
            return [*self._sealed, self._describe(sealed=False)]

    def drop(self, name: str) -> None:
        """The oldest segment, which must be ``name``, is gone."""
        with self._condition:
            if self._sealed and self._sealed[0].name == name:
                del self._sealed[0]

    def begin(self, lsn: Lsn) -> str | None:
        """Where a reader begins that wants what ends after ``lsn``; None when that is no longer kept."""
        segments = self.segments()
        index = begin_for(segments, lsn)
        return None if index is None else segments[index].name

    @property
    def oldest_lsn(self) -> Lsn:
        return oldest_lsn(self.segments())

    def limit(self, name: str) -> int | None:
        """Up to where the segment may be read; None: to the end of its file, as it is sealed."""
        with self._condition:
            return self._written if name == self._active.name else None

    def has(self, name: str) -> bool:
        with self._condition:
            return name == self._active.name or any(segment.name == name for segment in self._sealed)

    def gone(self, name: str) -> bool:
        """Whether the segment was taken away: one that isn't there and isn't still to come."""
        with self._condition:
            oldest = self._sealed[0].name if self._sealed else self._active.name
        return (parse_name(name) or (0, 0)) < (parse_name(oldest) or (0, 0))

    def wait(self, ready: Callable[[], bool], timeout_s: float | None) -> bool:
        """Wait until ``ready`` (it may ask this chain) or the journal is closed; False: time is up."""
        with self._condition:
            return self._condition.wait_for(lambda: self._closed or ready(), timeout_s)

    def notify(self) -> None:
        with self._condition:
            self._condition.notify_all()
        self._tell(hurried=False)

    def close(self) -> None:
        with self._condition:
            self._closed = True
            self._condition.notify_all()
        self._tell(hurried=False)
