"""Every figure that logship shows to Prometheus: name, kind, unit, labels and meaning. They are named here only.

In: nothing. Out: `Metric`s, from which the endpoint makes its answer and a test makes sure of
`docs/metrics.md`, the dashboard and the alert rules; `Durations`, which a stage counts its seconds in.
What nobody knows has no sample: a lag that wasn't measured is absent, never 0. No clock, no I/O.
"""

from __future__ import annotations

import enum
import threading
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final


class Kind(enum.Enum):
    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """``name`` is the one that a query names; of a histogram it is what stands before `_bucket`."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ("replica",)

    @property
    def samples(self) -> tuple[str, ...]:
        """The names under which it can be asked for."""
        if self.kind is Kind.HISTOGRAM:
            return tuple(f"{self.name}_{ending}" for ending in ("bucket", "sum", "count"))
        return (self.name,)


_STAGE: Final = ("replica", "stage")
_STORE: Final = ("replica", "store")

# -- the program -----------------------------------------------------------------------------------
BUILD = Metric("logship_build_info", Kind.GAUGE, "Always 1; the labels say which logship and Python run.",
               ("version", "python"))  # fmt: skip
STARTED = Metric("logship_start_time_seconds", Kind.GAUGE, "When the run began, as a Unix time.", ())
RSS = Metric(
    "logship_resident_memory_bytes", Kind.GAUGE, "What the process takes of the machine's memory.", ()
)
STATE = Metric(
    "logship_state",
    Kind.GAUGE,
    "1 for the present state, 0 for the others: starting, streaming, busy, held, waiting, stalled, stopped, failed.",
    ("replica", "state"),
)
READY = Metric("logship_ready", Kind.GAUGE, "1 when /ready answers 200: streaming, nothing stands or failed.")
ERRORS = Metric("logship_errors_total", Kind.COUNTER, "Stalls, and the error that ended the run, by kind.",
                ("replica", "kind"))  # fmt: skip
RETRIES = Metric(
    "logship_retries_total",
    Kind.COUNTER,
    "What was tried again since the start, by stage and reason (docs/retries.md).",
    ("replica", "stage", "reason"),
)

# -- positions and lag -----------------------------------------------------------------------------
PRIMARY_LSN = Metric("logship_primary_lsn_bytes", Kind.GAUGE,
                     "End of the primary's log, as a number of bytes.")  # fmt: skip
PRIMARY_AGE = Metric("logship_primary_age_seconds", Kind.GAUGE,
                     "How long ago the primary last said where its log ends.")  # fmt: skip
LSN = Metric(
    "logship_stage_lsn_bytes", Kind.GAUGE, "What the stage has reached, as a number of bytes.", _STAGE
)
LAG_BYTES = Metric("logship_stage_lag_bytes", Kind.GAUGE,
                   "Log between the primary's end and the stage. Absent: not known.", _STAGE)  # fmt: skip
LAG_SECONDS = Metric(
    "logship_stage_lag_seconds",
    Kind.GAUGE,
    "How long ago that was committed which the stage still lacks. Absent: not known.",
    _STAGE,
)
STALLED = Metric(
    "logship_stage_stalled",
    Kind.GAUGE,
    "1 when the stage has had something to do and has made no progress for --stall-after. Absent: not known.",
    _STAGE,
)
STANDING = Metric(
    "logship_stage_standing_seconds",
    Kind.GAUGE,
    "For how long the stage's position has stood although there is something to do; 0 when it moves or is done.",
    _STAGE,
)

# -- work ------------------------------------------------------------------------------------------
RECEIVED_BYTES = Metric("logship_received_bytes_total", Kind.COUNTER,
                        "Bytes of the primary's stream received since the start.")  # fmt: skip
TRANSACTIONS = Metric("logship_transactions_total", Kind.COUNTER,
                      "Transactions committed on the secondary since the start.")  # fmt: skip
SKIPPED = Metric("logship_skipped_transactions_total", Kind.COUNTER,
                 "Transactions passed over since the start, because an operator named them: logship skip.")  # fmt: skip
CHANGES = Metric("logship_changes_total", Kind.COUNTER, "Row changes in them.")
COALESCED = Metric("logship_coalesced_changes_total", Kind.COUNTER,
                   "Row changes that never had to be written, as a later one made them void.")  # fmt: skip
REPLAYED_BYTES = Metric("logship_replayed_bytes_total", Kind.COUNTER, "Bytes of log in them.")
BATCHES = Metric("logship_batches_total", Kind.COUNTER, "Batches that a store has replayed.", _STORE)
APPLY = Metric("logship_batch_apply_seconds", Kind.HISTOGRAM, "Time a store took for a batch.", _STORE)
SCHEMA_CHANGES = Metric("logship_schema_changes_total", Kind.COUNTER,
                        "Schema changes carried, by target: persistence, or both (memory too).",
                        ("replica", "target"))  # fmt: skip
SCHEMA_CHANGE = Metric("logship_schema_change_seconds", Kind.HISTOGRAM, "Time a schema change took.")
REFUSED = Metric("logship_refused_messages_total", Kind.COUNTER,
                 "Messages that claim to be schema changes of logship's and aren't proven to be, by verdict.",
                 ("replica", "verdict"))  # fmt: skip
QUEUE = Metric("logship_queue_bytes", Kind.GAUGE, "Log that waits, decoded, before a store.", _STORE)
QUEUE_LIMIT = Metric("logship_queue_limit_bytes", Kind.GAUGE, "The bound of each of these queues.")

# -- the journal -----------------------------------------------------------------------------------
JOURNAL_BYTES = Metric("logship_journal_bytes", Kind.GAUGE,
                       "The journal's size on disk, the preallocated part included.")  # fmt: skip
JOURNAL_LIMIT = Metric("logship_journal_limit_bytes", Kind.GAUGE,
                       "Past this size the oldest file goes, needed or not.")  # fmt: skip
JOURNAL_SEGMENTS = Metric("logship_journal_segments", Kind.GAUGE, "Files of the journal.")
JOURNAL_OLDEST = Metric("logship_journal_oldest_lsn_bytes", Kind.GAUGE,
                        "Where the journal begins, as a number of bytes.")  # fmt: skip
JOURNAL_NEWEST = Metric("logship_journal_newest_lsn_bytes", Kind.GAUGE,
                        "Where the journal ends, as a number of bytes.")  # fmt: skip
FSYNC = Metric("logship_journal_fsync_seconds", Kind.HISTOGRAM, "Time of one fdatasync of the journal.")

# -- the slot on the primary -----------------------------------------------------------------------
SLOT_ACTIVE = Metric("logship_slot_active", Kind.GAUGE, "1 when a session streams from the slot.")
SLOT_RETAINED = Metric("logship_slot_retained_bytes", Kind.GAUGE, "WAL that the primary keeps for the slot.")
SLOT_SAFE = Metric(
    "logship_slot_safe_wal_bytes",
    Kind.GAUGE,
    "safe_wal_size: WAL that may be written before the slot is in danger. Absent: there is no limit.",
)
SLOT_STATUS = Metric(
    "logship_slot_wal_status",
    Kind.GAUGE,
    "1 for the slot's wal_status, 0 for the others: reserved, extended, unreserved, lost.",
    ("replica", "status"),
)

# -- memory ----------------------------------------------------------------------------------------
OBJECTS = Metric("logship_objects", Kind.GAUGE, "Relations that changed since the start, by residence.",
                 ("replica", "residence"))  # fmt: skip
MEMORY_BYTES = Metric("logship_memory_bytes", Kind.GAUGE, "What the relations in memory take, about.")
MEMORY_ROWS = Metric("logship_memory_rows", Kind.GAUGE, "Rows in memory.")
LOADS = Metric("logship_memory_loads_total", Kind.COUNTER, "Times that a relation was loaded into memory.")
EVICTIONS = Metric("logship_memory_evictions_total", Kind.COUNTER, "Times that one was taken out again.")
HITS = Metric("logship_memory_hits_total", Kind.COUNTER, "Times that a query read a relation in memory.")
MERGES = Metric(
    "logship_memory_merges_total", Kind.COUNTER, "Merges of a relation's latest changes into its main part."
)
MERGE_SECONDS = Metric("logship_memory_merge_seconds_total", Kind.COUNTER, "What those merges took.")
REPLAYED_DML = Metric("logship_replayed_dml_total", Kind.COUNTER,
                      "Row changes replayed, by store: memory or persistence.", ("replica", "store"))  # fmt: skip
REPLAYED_DDL = Metric("logship_replayed_ddl_total", Kind.COUNTER,
                      "Schema changes replayed, by relation they are about and store: memory or persistence.",
                      ("replica", "store"))  # fmt: skip
OBJECT_BYTES = Metric(
    "logship_object_bytes",
    Kind.GAUGE,
    "What a relation takes in memory, about; the 50 largest only.",
    ("replica", "schemaname", "relname"),
)

# -- the relay of `logship ship` ----------------------------------------------------------------------
_POSITION: Final = ("replica", "position")
RELAY_CONNECTIONS = Metric("logship_relay_connections", Kind.GAUGE,
                           "Clients at the relay, those that are logging in included.", ())  # fmt: skip
RELAY_REFUSED = Metric("logship_relay_refused_connections_total", Kind.COUNTER,
                       "Connections beyond --max-connections.", ())  # fmt: skip
RELAY_SENT = Metric("logship_relay_sent_bytes_total", Kind.COUNTER, "Bytes of log sent to all clients.", ())
RELAY_REPLICAS = Metric(
    "logship_relay_replicas",
    Kind.GAUGE,
    "Registered replicas by state: away, startup, catchup, streaming, fractured, lost.",
    ("state",),
)
RELAY_STATE = Metric(
    "logship_relay_replica_state",
    Kind.GAUGE,
    "1 for the state that a replica is in, 0 for every other: the states of logship_relay_replicas.",
    ("replica", "state"),
)
RELAY_POLICY = Metric(
    "logship_relay_policy_state",
    Kind.GAUGE,
    "1 for the state of the policy of --synchronous: in sync (also without one), catch-up, blocked, fractured.",
    ("state",),
)
RELAY_LSN = Metric(
    "logship_relay_replica_lsn_bytes",
    Kind.GAUGE,
    "A replica's sent, write, flush and replay LSN, as a number of bytes. Absent: not known.",
    _POSITION,
)
RELAY_LAG = Metric(
    "logship_relay_replica_lag_seconds",
    Kind.GAUGE,
    "A replica's write, flush and replay lag, as logship.stat_replication has it. Absent: not known.",
    _POSITION,
)

ALL: Final[tuple[Metric, ...]] = tuple(
    value for value in list(globals().values()) if isinstance(value, Metric)
)

FSYNC_BOUNDS_S: Final = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    1.0,
    5.0,
)
APPLY_BOUNDS_S: Final = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    10.0,
    60.0,
)


@dataclass(frozen=True, slots=True)
class Distribution:
    """``counts[i]``: observations up to ``bounds_s[i]``, all smaller ones included; ``count``: all of them."""

    bounds_s: tuple[float, ...]
    counts: tuple[int, ...]
    count: int
    sum_s: float


class Durations:
    """How long something took, counted in buckets. One thread observes, any may read."""

    def __init__(self, bounds_s: Sequence[float]) -> None:
        self._bounds_s = tuple(bounds_s)
        self._lock = threading.Lock()
        self._counts = [0] * (len(self._bounds_s) + 1)
        self._sum_s = 0.0

    def observe(self, seconds: float) -> None:
        bucket = bisect_left(self._bounds_s, seconds)
        with self._lock:
            self._counts[bucket] += 1
            self._sum_s += seconds

    def read(self) -> Distribution:
        with self._lock:
            counts, sum_s = list(self._counts), self._sum_s
        total, upto = 0, []
        for count in counts:
            total += count
            upto.append(total)
        return Distribution(self._bounds_s, tuple(upto[:-1]), total, sum_s)
