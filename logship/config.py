"""The bounds of a run: every queue and buffer has one, and each is a setting.

In: what flags, environment and file say (`logship.cli.options` reads them). Out: frozen values with
their units in their names. Nothing here reads a file or the environment.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


@dataclass(frozen=True, slots=True)
class JournalBounds:
    segment_bytes: int = 64 * MIB
    limit_bytes: int = 64 * GIB  # past it the oldest segment goes, needed or not
    min_age_s: float = 0.0  # a segment younger than this stays even when nobody needs it
    lossless: bool = False  # what is needed stays past the limit: whoever fills the journal waits, and can


@dataclass(frozen=True, slots=True)
class History:
    """What `logship.stat_ddl` keeps of the schema changes that were carried: whichever ends first."""

    statements: int = 10_000
    age_s: float = 90 * 86400.0


@dataclass(frozen=True, slots=True)
class ReplayBounds:
    """``batch_bytes`` and ``queue_bytes`` count the log's own bytes; decoded they take about eight times that."""

    batch_bytes: int = 4 * MIB  # a larger transaction is replayed in pieces of this size
    queue_bytes: int = 8 * MIB  # between the replay thread and each store
    read_bytes: int = 1 * MIB  # taken from the journal at a time
    history: History = History()
    refresh_views: bool = True  # materialized ones, where the primary's were
    apply_sessions: int = 1  # that write to the secondary; more than one share a backlog
    lock_timeout_s: float = 10.0  # on the secondary; then others pass, and it is tried again


MOST_USUAL_SESSIONS = 4


def usual_apply_sessions(cores: int) -> int:
    """Where nobody says how many: each session on the secondary keeps a core busy while there is a backlog."""
    return max(1, min(MOST_USUAL_SESSIONS, cores))


@dataclass(frozen=True, slots=True)
class MemorySettings:
    """``policy`` is that of tables which no pattern names: lazy, eager or off. The others are patterns."""

    budget_bytes: int
    policy: str = "lazy"
    eager: tuple[str, ...] = ()
    off: tuple[str, ...] = ()
    pinned: tuple[str, ...] = ()
    loaders: int = 2  # tables that are read at a time


RECEIVER_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Intervals:
    feedback_s: float = 1.0  # a status goes to the primary at least this often
    position_s: float = 0.1  # an idle position is stored at most this often
    report_s: float = 1.0
    retention_s: float = 5.0
    receiver_timeout_s: float = (
        RECEIVER_TIMEOUT_S  # of silence, until a stream counts as broken; 0: it never does
    )
    stall_s: float = 30.0  # no progress for so long, with something to do, is a stall
    heartbeat_s: float = 10.0  # something goes into the log of an idle primary; 0: nothing does
    stop_grace_s: float = 8.0  # for all threads to end, once the program is told to


class Cold(enum.Enum):
    """What becomes of a query to memory that memory can't answer as it is."""

    PERSISTENCE = "persistence"  # the secondary answers
    LOAD = "load"  # what isn't resident is loaded first; what memory can't answer at all, the secondary does
    REFUSE = "refuse"  # an error says why


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen; port 0 takes one that is free."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
