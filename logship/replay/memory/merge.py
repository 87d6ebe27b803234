"""Merges deltas into main parts and gives back space, when memory's writer has nothing better to do.

In: the objects that readers see, between transactions; the time. Out: the same rows, laid out so that reading
and replaying them costs less. Each `step` is bounded work, one DuckDB transaction at most: a segment gone through,
a delta put behind main, a segment rewritten, space given back to the system; a batch waits for one step at most.
Readers wait for none, and see the same rows before and after. `MemoryDiffers` when the rows that a delta replaces
weren't in main.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from logship.lsn import Lsn
from logship.replay.memory.main import Writing
from logship.replay.memory.parts import IDLE_DELTA_S, Segment
from logship.replay.memory.resident import MemoryObject, Residence
from logship.replay.memory.store import Store

_KEPT_SHARE: Final = 16  # one part in so many of the budget: what the allocators may keep of what was dropped


class Merger:
    def __init__(self, store: Store, now: Callable[[], float]) -> None:
        self._store = store
        self._now = now
        self._last_batch = now()
        self._dropped_bytes = 0  # since space was last given back

    def replayed(self) -> None:
        """A batch has come: what can wait does."""
        self._last_batch = self._now()

    def pending(self, objects: Iterable[MemoryObject]) -> bool:
        """Whether `step` has, or will have, something to do."""
        if self._dropped_bytes > self._store.limit_bytes // _KEPT_SHARE:
            return True
        return any(known.parts.delta_rows or known.parts.wasteful for known in objects if _merges(known))

    def step(self, objects: Iterable[MemoryObject], lsn: Lsn) -> bool:
        """One of what is due, the most urgent. Whether anything was. ``lsn`` is for errors."""
        idle = self._now() - self._last_batch >= IDLE_DELTA_S
        if self._dropped_bytes > self._store.limit_bytes // _KEPT_SHARE:
            self._dropped_bytes = 0
            self._store.give_back()
            return True
        open_objects = [known for known in objects if _merges(known)]
        due = [
            known
            for known in open_objects
            if known.parts.merge is not None or known.parts.full or (idle and known.parts.delta_rows)
        ]
        if due:
            self.merge(max(due, key=lambda known: known.parts.delta_rows), lsn)
            return True
        for known in open_objects:
            segment = known.parts.wasteful
            if segment is not None:
                self.rewrite(known, segment, lsn)
                return True
        return False

    def merge(self, known: MemoryObject, lsn: Lsn) -> None:
        """One step of the merge of its delta."""
        began, delta_bytes = time.monotonic(), known.parts.delta_bytes
        with self._writing(known, lsn) as writing:
            whole = writing.merge_some()
        known.merge_s += time.monotonic() - began
        known.merges += whole
        self._dropped_bytes += delta_bytes * whole

    def rewrite(self, known: MemoryObject, segment: Segment, lsn: Lsn) -> None:
        """Give back the space of its dead rows."""
        with self._writing(known, lsn) as writing:
            writing.rewrite(segment)
        self._dropped_bytes += segment.size_bytes

    @contextmanager
    def _writing(self, known: MemoryObject, lsn: Lsn) -> Iterator[Writing]:
        self._store.begin()
        writing = Writing(self._store, known.held, known.parts, lsn)
        try:
            yield writing
            self._store.commit()
        except BaseException:
            self._store.rollback()
            raise
        known.lay_out(writing.parts)


def _merges(known: MemoryObject) -> bool:
    return known.residence in (Residence.RESIDENT, Residence.PINNED)
