"""Tells the secondary's views, once a second, what the replayer knows of itself.

In: positions, counters and objects of the running replayer. Out: rows of `logship.replay_report` and
`logship.object_report`, which are unlogged: after a crash of the secondary they are empty, and what
the views don't know is NULL; and fewer of `logship.ddl_replayed`, where what is too old is forgotten. Reporting
never stops the replica; a report that stopped coming shows its age.
"""

from __future__ import annotations

import datetime as dt
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import psycopg

from logship.catalog import ddl_history
from logship.config import History
from logship.connection import Side, connect
from logship.errors import SecondaryError, is_transient
from logship.lsn import Lsn
from logship.service.positions import Positions, Stage
from logship.service.watch.health import Health

log = logging.getLogger(__name__)

_TRIM_S: Final = 600.0
_EPOCH = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)

_REPORT = """
insert into logship.replay_report as r
  (replica, state, received_lsn, flush_lsn, memory_lsn, primary_lsn, primary_lsn_at,
   received_lag, flushed_lag, memory_lag, persistence_lag, last_error, last_error_time, reported_at)
values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, pg_catalog.clock_timestamp())
on conflict (replica) do update set
  state = excluded.state, received_lsn = excluded.received_lsn, flush_lsn = excluded.flush_lsn,
  memory_lsn = excluded.memory_lsn, primary_lsn = excluded.primary_lsn,
  primary_lsn_at = excluded.primary_lsn_at, received_lag = excluded.received_lag,
  flushed_lag = excluded.flushed_lag, memory_lag = excluded.memory_lag,
  persistence_lag = excluded.persistence_lag,
  last_error = coalesce(excluded.last_error, r.last_error),
  last_error_time = coalesce(excluded.last_error_time, r.last_error_time),
  reported_at = excluded.reported_at
"""

_OBJECT = """
insert into logship.object_report
  (replica, schemaname, relname, residence, rows, bytes, loads, evictions,
   dml_memory, dml_persistence, ddl_memory, ddl_persistence, last_change_lsn,
   hits, merges, merge_time, reason)
values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
on conflict (replica, schemaname, relname) do update set
  residence = excluded.residence, rows = excluded.rows, bytes = excluded.bytes, loads = excluded.loads,
  evictions = excluded.evictions, dml_memory = excluded.dml_memory,
  dml_persistence = excluded.dml_persistence, ddl_memory = excluded.ddl_memory,
  ddl_persistence = excluded.ddl_persistence, last_change_lsn = excluded.last_change_lsn,
  hits = excluded.hits, merges = excluded.merges, merge_time = excluded.merge_time, reason = excluded.reason
"""

# What an earlier run said of an object that this one hasn't met: its memory is gone, and it may be, too.
_UNMET = """
  o.replica = %s and not exists (
    select from rows from (pg_catalog.unnest(%s::text[]), pg_catalog.unnest(%s::text[])) k (schemaname, relname)
     where k.schemaname = o.schemaname and k.relname = o.relname)
"""
_FORGET = f"""
delete from logship.object_report o
 where {_UNMET} and not exists (
    select from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
     where n.nspname = o.schemaname and c.relname = o.relname)
"""
_COLD = f"""
update logship.object_report o
   set residence = 'cold', rows = null, bytes = null, loads = 0, evictions = 0, dml_memory = 0, dml_persistence = 0,
       ddl_memory = 0, ddl_persistence = 0, hits = 0, merges = 0, merge_time = interval '0',
       reason = 'not loaded yet: nothing has changed it'
 where {_UNMET}
"""


@dataclass(frozen=True, slots=True)
class ObjectReport:
    """A row of `logship.stat_object`; ``rows`` and ``bytes`` None: not resident."""

    schemaname: str
    relname: str
    residence: str
    rows: int | None
    bytes: int | None
    loads: int
    evictions: int
    dml_memory: int
    dml_persistence: int
    ddl_memory: int
    ddl_persistence: int
    last_change_lsn: Lsn | None
    hits: int = 0
    merges: int = 0
    merge_s: float = 0.0
    reason: str = ""  # why it isn't in memory, or goes


class Reporter:
    def __init__(
        self,
        secondary: str,
        replica: str,
        positions: Positions,
        objects: Callable[[], Sequence[ObjectReport]],
        health: Health,
        *,
        interval_s: float,
        history: History,
    ) -> None:
        self._secondary = secondary
        self._replica = replica
        self._positions = positions
        self._objects = objects
        self._health = health
        self._interval_s = interval_s
        self._history = history
        self._trimmed_at: float | None = None
        self._stopping = threading.Event()
        self._connection: psycopg.Connection | None = None
        self._reported: dict[tuple[str, str], ObjectReport] = {}
        self._met = False  # whether what is in the views is of this connection's making

    def run(self) -> None:
        while not self._stopping.is_set():
            self.report()
            self._stopping.wait(self._interval_s)

    def stop(self) -> None:
        self._stopping.set()

    def report(self) -> bool:
        """Report now. False, and a line in the log, when the secondary doesn't take it."""
        try:
            self._report()
        except (psycopg.Error, SecondaryError) as error:
            log.warning("the secondary doesn't take the report: %s", type(error).__name__)
            self.close()
            self._say(error)
            return False
        return True

    def _say(self, error: psycopg.Error | SecondaryError) -> None:
        """A secondary that is away is known here first when there is nothing to replay. What it refuses is
        no trouble of the replica's: the views grow old, and the log says it."""
        if isinstance(error, SecondaryError):
            self._health.trouble("reporter", error)
        elif is_transient(error.sqlstate):
            lost = SecondaryError(
                "the connection to the secondary is lost", hint="is the secondary running? See its own log"
            )
            self._health.trouble("reporter", lost)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
            self._reported.clear()
            self._met = False

    def _report(self) -> None:
        if self._connection is None or self._connection.closed:
            self._connection = connect(
                self._secondary,
                Side.SECONDARY,
                application_name=f"logship report {self._replica}",
                # An unlogged row that is lost with the server is no loss; never wait for a flush.
                settings={"synchronous_commit": "off"},
            )
        self._health.over("reporter")
        objects = {(o.schemaname, o.relname): o for o in self._objects()}
        changed = [o for name, o in objects.items() if self._reported.get(name) != o]
        with self._connection.transaction(), self._connection.cursor() as cursor:
            cursor.execute(_REPORT, self._row())
            if not self._met or self._reported.keys() - objects.keys():
                names = [self._replica, [schema for schema, _ in objects], [name for _, name in objects]]
                cursor.execute(_FORGET.encode(), names)
                cursor.execute(_COLD.encode(), names)
            if changed:
                cursor.executemany(_OBJECT, [self._object_row(o) for o in changed])
        self._reported, self._met = objects, True
        self._trim(self._connection)

    def _trim(self, connection: psycopg.Connection) -> None:
        """The history of schema changes, now and then: on this connection, where no transaction of users' waits."""
        now = time.monotonic()
        if self._trimmed_at is None or now >= self._trimmed_at + _TRIM_S:
            self._trimmed_at = now
            ddl_history.trim(connection, self._replica, self._history.statements, self._history.age_s)

    def _row(self) -> list[object]:
        positions = self._positions
        lsns = [positions.lsn(stage) for stage in (Stage.RECEIVED, Stage.FLUSHED, Stage.MEMORY)]
        lags = [positions.lag_us(stage) for stage in Stage]
        primary = positions.primary
        return [
            self._replica,
            self._health.shown,
            *[None if lsn is None else str(lsn) for lsn in lsns],
            None if primary is None else str(primary[0]),
            None if primary is None else _EPOCH + dt.timedelta(microseconds=primary[1]),
            *[None if lag is None else dt.timedelta(microseconds=lag) for lag in lags],
            *(self._health.last_error or (None, None)),
        ]

    def _object_row(self, o: ObjectReport) -> list[object]:
        lsn = None if o.last_change_lsn is None else str(o.last_change_lsn)
        return [
            self._replica, o.schemaname, o.relname, o.residence, o.rows, o.bytes, o.loads, o.evictions,
            o.dml_memory, o.dml_persistence, o.ddl_memory, o.ddl_persistence, lsn,
            o.hits, o.merges, dt.timedelta(seconds=o.merge_s), o.reason or None,
        ]  # fmt: skip
