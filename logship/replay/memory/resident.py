"""What memory knows of one object, and how its residence changes.

In: events of memory's writer thread. Out: `ObjectState`, what is reported of an object. One table
holds all transitions; anything else is a defect of ours. No I/O.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from logship.errors import InternalError
from logship.lsn import INVALID, Lsn
from logship.replay.memory.parts import Parts
from logship.replay.memory.table import MemoryTable
from logship.replay.target import Target

Name: TypeAlias = tuple[str, str]  # schema and relation

_LONGEST_PAUSE: Final = 10  # a power of two: at most 1,024 batches between two attempts


class Residence(enum.Enum):
    COLD = "cold"  # in persistence only
    LOADING = "loading"  # being read, or read and ahead of the position that readers see
    RESIDENT = "resident"  # readers see it, at memory_lsn
    PINNED = "pinned"  # resident, and never evicted to make room
    EVICTING = "evicting"  # readers still see it; it goes once persistence has all of it


class Happening(enum.Enum):
    LOAD = "load"
    FAIL = "fail"
    SHOW = "show"
    PIN = "pin"  # shown, or kept, for good
    EVICT = "evict"  # to make room
    LOSE = "lose"  # memory can't follow what happens to it
    KEEP = "keep"
    DROP = "drop"


_TRANSITIONS: Final[dict[tuple[Residence, Happening], Residence]] = {
    (Residence.COLD, Happening.LOAD): Residence.LOADING,
    (Residence.LOADING, Happening.FAIL): Residence.COLD,
    (Residence.LOADING, Happening.SHOW): Residence.RESIDENT,
    (Residence.LOADING, Happening.PIN): Residence.PINNED,
    (Residence.RESIDENT, Happening.EVICT): Residence.EVICTING,
    (Residence.RESIDENT, Happening.LOSE): Residence.EVICTING,
    (Residence.PINNED, Happening.LOSE): Residence.EVICTING,
    (Residence.EVICTING, Happening.KEEP): Residence.RESIDENT,
    (Residence.EVICTING, Happening.PIN): Residence.PINNED,
    (Residence.EVICTING, Happening.DROP): Residence.COLD,
}
# Readers see these, and batches are replayed on them.
SHOWN: Final = frozenset({Residence.RESIDENT, Residence.PINNED, Residence.EVICTING})


@dataclass(frozen=True, slots=True)
class ObjectState:
    """One object, as it is reported. ``rows`` and ``bytes`` are None while it isn't in memory."""

    schemaname: str
    relname: str
    residence: Residence
    rows: int | None
    bytes: int | None
    loads: int
    evictions: int
    dml_memory: int
    last_change_lsn: Lsn | None
    reason: str  # why it isn't resident, or goes; empty when there is nothing to say
    hits: int = 0  # queries that read it in memory
    ddl_memory: int = 0  # schema changes carried out on it in memory
    merges: int = 0
    merge_s: float = 0.0
    delta_rows: int = 0  # not merged yet


@dataclass(slots=True)
class MemoryObject:
    """Changed by the writer thread only."""

    target: Target
    residence: Residence = Residence.COLD
    pinned: bool = False
    provisional: bool = False  # the target was made from a schema change: the next rows name the true one
    table: MemoryTable | None = None  # None while COLD, and LOADING as long as nothing was read
    parts: Parts = field(default_factory=Parts)  # what the table consists of, as of the last commit
    as_text: frozenset[str] = frozenset()  # columns that held a value their type can't; for good
    rows: int = 0
    size_bytes: int = 0
    loads: int = 0
    evictions: int = 0
    failures: int = 0  # in a row
    changes: int = 0
    schema_changes: int = 0
    hits: int = 0
    merges: int = 0  # of its delta into its main part, and how long they took
    merge_s: float = 0.0
    last_change_lsn: Lsn = INVALID
    last_used: int = 0
    not_before: int = 0  # the number of the batch from which it may be loaded again
    reason: str = field(default="not loaded yet: nothing has changed it")

    @property
    def name(self) -> Name:
        return (self.target.schema, self.target.name)

    @property
    def held(self) -> MemoryTable:
        if self.table is None:
            raise InternalError(f"{self.target} is {self.residence.value} and has no table in memory")
        return self.table

    def on(self, happening: Happening) -> None:
        following = _TRANSITIONS.get((self.residence, happening))
        if following is None:
            raise InternalError(f"{self.target} is {self.residence.value}: it can't {happening.value}")
        self.residence = following

    @property
    def shown(self) -> bool:
        return self.residence in SHOWN

    def show(self, table: MemoryTable) -> None:
        """The rows are there, at the position that readers see."""
        self.table = table
        self.loads += 1
        self.failures = 0
        self.reason = ""
        self.on(Happening.PIN if self.pinned else Happening.SHOW)

    def keep(self) -> None:
        """It doesn't go after all."""
        self.reason = ""
        self.on(Happening.PIN if self.pinned else Happening.KEEP)

    def lay_out(self, parts: Parts) -> None:
        """What was committed."""
        self.parts = parts
        self.size_bytes = parts.size_bytes

    def failed(self, reason: str, batch: int) -> None:
        """LOADING came to nothing; the pause before the next attempt doubles each time."""
        self.on(Happening.FAIL)
        self.failures += 1
        self._forget(reason, batch + 2 ** min(self.failures, _LONGEST_PAUSE))

    def put_off(self, reason: str) -> None:
        """LOADING was broken off for a reason that lies elsewhere: it may begin again at once."""
        self.on(Happening.FAIL)
        self._forget(reason, 0)

    def dropped(self, reason: str, batch: int) -> None:
        """EVICTING is over. An object that is evicted again and again comes back ever more slowly."""
        self.on(Happening.DROP)
        self.evictions += 1
        self._forget(reason, batch + 2 ** min(self.evictions, _LONGEST_PAUSE))

    def _forget(self, reason: str, not_before: int) -> None:
        self.table = None
        self.parts = Parts()
        self.rows = self.size_bytes = 0
        self.reason, self.not_before = reason, not_before

    def state(self) -> ObjectState:
        cold = self.residence is Residence.COLD
        return ObjectState(
            self.target.schema, self.target.name, self.residence,
            None if cold else self.rows, None if cold else self.size_bytes,
            self.loads, self.evictions, self.changes,
            self.last_change_lsn or None, self.reason,
            self.hits, self.schema_changes, self.merges, self.merge_s,
            self.parts.delta_rows,
        )  # fmt: skip
