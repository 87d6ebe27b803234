"""The states of synchronous replication, the one table of their transitions, and what is shown of a replica.

Pure values. `logship.relay.syncrep` moves through them, once for each of write, flush and replay:

  IN_SYNC    the policy's replicas have all that the primary was told
  BLOCKED    too few are there: the position stands, and commits wait
  FRACTURED  something has waited longer than `DegradeAfter` allows: commits wait for the journal only
  CATCH_UP   enough are there again, but behind what was told. Far behind: the journal's own is reported, if
             degrading is allowed. Less than `HOLD_S` behind, or when it isn't: the position stands until they are there
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final, TypeAlias

from logship.lsn import INVALID, Lsn


@dataclass(frozen=True, slots=True)
class Positions3:
    """What a standby reports: handed to its log, durable there, committed. INVALID: not known."""

    write: Lsn = INVALID
    flush: Lsn = INVALID
    replay: Lsn = INVALID


@dataclass(frozen=True, slots=True)
class Block:
    """When the policy can't be met, commits wait until it can."""


@dataclass(frozen=True, slots=True)
class DegradeAfter:
    """… or until one has waited for ``seconds``."""

    seconds: float


WhenUnmet: TypeAlias = Block | DegradeAfter


class State(enum.Enum):
    """In the order of how bad it is."""

    IN_SYNC = "in sync"
    CATCH_UP = "catch-up"
    BLOCKED = "blocked"
    FRACTURED = "fractured"


class Event(enum.Enum):
    LEVEL = "level"  # enough replicas, and they have all that was told
    BEHIND = "behind"  # enough replicas, and they lack something that was told
    UNMET = "unmet"  # too few replicas
    LATE = "late"  # something has waited too long; or it is unmet again before it was in sync


TRANSITIONS: Final[dict[tuple[State, Event], State]] = {
    (State.IN_SYNC, Event.LEVEL): State.IN_SYNC,
    (State.IN_SYNC, Event.BEHIND): State.CATCH_UP,
    (State.IN_SYNC, Event.UNMET): State.BLOCKED,
    (State.IN_SYNC, Event.LATE): State.FRACTURED,
    (State.BLOCKED, Event.LEVEL): State.IN_SYNC,
    (State.BLOCKED, Event.BEHIND): State.CATCH_UP,
    (State.BLOCKED, Event.UNMET): State.BLOCKED,
    (State.BLOCKED, Event.LATE): State.FRACTURED,
    (State.FRACTURED, Event.LEVEL): State.CATCH_UP,
    (State.FRACTURED, Event.BEHIND): State.CATCH_UP,
    (State.FRACTURED, Event.UNMET): State.FRACTURED,
    (State.FRACTURED, Event.LATE): State.FRACTURED,
    (State.CATCH_UP, Event.LEVEL): State.IN_SYNC,
    (State.CATCH_UP, Event.BEHIND): State.CATCH_UP,
    (State.CATCH_UP, Event.UNMET): State.BLOCKED,
    (State.CATCH_UP, Event.LATE): State.FRACTURED,
}


class SyncState(enum.Enum):
    """pg_stat_replication.sync_state."""

    ASYNC = "async"
    POTENTIAL = "potential"
    SYNC = "sync"
    QUORUM = "quorum"


class ReplicaState(enum.Enum):
    """pg_stat_replication.state, and what PostgreSQL has no word for."""

    AWAY = "away"
    STARTUP = "startup"  # it is there and hasn't reported yet
    CATCHUP = "catchup"
    STREAMING = "streaming"
    FRACTURED = "fractured"  # commits no longer wait for it


@dataclass(frozen=True, slots=True)
class SyncStatus:
    sync_priority: int
    sync_state: SyncState
    state: ReplicaState
    positions: Positions3  # as last reported, also by one that is away
