"""Makes room in memory: which objects go, and when.

In: the budget, when each object was used, how far persistence is. Out: objects that are cold again. The least
recently used goes first, a pinned one only where memory can't hold it any more. An object goes once persistence has
all that memory has for it, and is read and replayed until then; where the writer has to wait for that, loads
under way are given up first, since persistence may be waiting for a table that one of them has locked.

Assumes memory's writer thread, but for `touch`.
"""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Final, Protocol

from logship.errors import ReplayError
from logship.lsn import Lsn
from logship.replay.memory.resident import Happening, MemoryObject, Name, Residence
from logship.replay.memory.store import Store

_log: Final = logging.getLogger(__name__)
_TABLES_SHARE: Final = (3, 4)  # of the budget; the rest is for batches, loads and queries at work


class Behind(Protocol):
    """Persistence, as memory sees it."""

    def reached(self, lsn: Lsn) -> bool:
        """Whether it has everything up to there. Any thread."""
        ...

    def wait(self, lsn: Lsn) -> None:
        """Until it has, for the writer; what this raises goes through, with nothing changed here."""
        ...


class Room(ABC):
    def __init__(self, store: Store, behind: Behind, *, start_lsn: Lsn, budget_bytes: int) -> None:
        self._store = store
        self._behind = behind
        self._budget = budget_bytes
        self._tables_budget = budget_bytes * _TABLES_SHARE[0] // _TABLES_SHARE[1]
        self.lsn = start_lsn  # what readers see
        self.batches = 0
        self.objects: dict[Name, MemoryObject] = {}
        self._uses = 0
        self._lock = threading.Lock()

    # -- what loads have to do with it ---------------------------------------------------------------

    @abstractmethod
    def give_up_loads(self, reason: str) -> None:
        """All of them; they begin again later. Their locks on the secondary go."""

    @abstractmethod
    def _break_off(self, known: MemoryObject, reason: str) -> None:
        """The load of ``known``."""

    @abstractmethod
    def _announced_bytes(self) -> int:
        """What loads under way take, or will."""

    @abstractmethod
    def _gone(self, known: MemoryObject) -> None:
        """It is cold: is it to come back?"""

    # -- use and room --------------------------------------------------------------------------------

    def touch(self, known: MemoryObject) -> None:
        with self._lock:
            self._uses += 1
            known.last_used = self._uses

    def least_used(self, protected: Iterable[Name] = ()) -> MemoryObject | None:
        kept = set(protected)
        held = [
            known
            for known in self.objects.values()
            if known.residence is Residence.RESIDENT and known.name not in kept
        ]
        return min(held, key=lambda known: known.last_used, default=None)

    def _used_bytes(self) -> int:
        """Without what is going already; with what loads have announced."""
        held = sum(
            known.size_bytes
            for known in self.objects.values()
            if known.residence not in (Residence.EVICTING, Residence.LOADING)
        )
        return held + self._announced_bytes()

    def _going(self) -> bool:
        return any(known.residence is Residence.EVICTING for known in list(self.objects.values()))

    def keep_within_budget(self) -> None:
        while self._used_bytes() > self._tables_budget:
            victim = self.least_used()
            if victim is None:
                break
            self._evict_soon(victim, "memory is full, and it was used least recently")
        for known in list(self.objects.values()):
            if known.residence is Residence.EVICTING and self._all_bytes() > self._budget:
                self.wait_behind(known.last_change_lsn)
                self._drop_evicted(known)

    def _all_bytes(self) -> int:
        return sum(known.size_bytes for known in self.objects.values())

    def _evict_soon(self, known: MemoryObject, reason: str) -> None:
        """It goes now if persistence has all of it, else as soon as that is so."""
        known.on(Happening.EVICT)
        known.reason = reason
        if self._behind.reached(known.last_change_lsn):
            self._drop_evicted(known)

    def _evict_what_may_go(self) -> bool:
        going = [
            known
            for known in self.objects.values()
            if known.residence is Residence.EVICTING and self._behind.reached(known.last_change_lsn)
        ]
        for known in going:
            self._drop_evicted(known)
        return bool(going)

    def evict(self, known: MemoryObject, reason: str) -> None:
        """Now. Readers lose it only when persistence can answer in its place: that is waited for."""
        if known.residence is Residence.LOADING:
            self._break_off(known, reason)
            return
        if known.residence is not Residence.EVICTING:
            known.on(Happening.LOSE)
        try:
            self.wait_behind(self.lsn)
        except BaseException:
            known.keep()
            raise
        known.reason = reason
        self._drop_evicted(known)

    def _drop_evicted(self, known: MemoryObject) -> None:
        reason = known.reason
        self._store.execute(known.held.drop())
        self._store.give_back()
        known.dropped(reason, self.batches)
        self._gone(known)
        _log.info("%s evicted: %s", known.target, reason)

    def wait_behind(self, lsn: Lsn) -> None:
        """For the writer, until persistence has everything up to there."""
        if not self._behind.reached(lsn):
            self.give_up_loads("persistence had to be waited for")
            self._behind.wait(lsn)

    def give_way(self, changed: Iterable[Name]) -> None:
        """After lack of memory in a batch: the least used object goes, or one that the batch changes."""
        self.give_up_loads("it waits for others to make room")
        victim = self.least_used(changed) or max(
            (known for known in self.objects.values() if known.shown),
            key=lambda known: (known.residence is not Residence.PINNED, known.size_bytes),
            default=None,
        )
        if victim is None:
            raise ReplayError(
                "memory is too small to move its position", hint="raise the memory budget, or set memory off"
            )
        self.evict(victim, "pinned, but out of memory" if victim.pinned else "out of memory")
