"""What the secondary's views, and the primary's slot, say of the replicas.

In: a connection to either. Out: frozen values, for `logship status` and `logship lag`. Only the public
views are needed on the secondary, and which tables were selected is told to those who may read
`logship.replica`; what nobody knows is None, never 0.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass

import psycopg

from logship.catalog.selection import Selection
from logship.lsn import Lsn


@dataclass(frozen=True, slots=True)
class StageLag:
    """A row of logship.replica_lag."""

    replica: str
    stage: str
    lsn: Lsn | None
    lag_bytes: int | None
    lag: datetime.timedelta | None
    as_of: datetime.datetime | None
    age: datetime.timedelta | None  # since as_of, by the secondary's clock


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """A row of logship.stat_replay."""

    replica: str
    state: str | None  # as last reported
    received_lsn: Lsn | None
    flush_lsn: Lsn | None
    memory_lsn: Lsn | None
    replay_lsn: Lsn | None  # None: init has not finished
    transactions: int | None
    changes: int | None
    batches: int | None
    coalesced: int | None
    bytes: int | None
    last_error: str | None
    last_error_time: datetime.datetime | None
    reported_at: datetime.datetime | None
    report_age: datetime.timedelta | None


@dataclass(frozen=True, slots=True)
class SlotStatus:
    """A replication slot of the primary. ``exists`` False: all the rest is None."""

    slot: str
    exists: bool
    active: bool | None = None
    wal_status: str | None = None
    confirmed_flush_lsn: Lsn | None = None
    retained_bytes: int | None = None  # WAL that the primary keeps for it
    safe_wal_size: int | None = None  # bytes until the slot may be lost; None: no limit is set


@dataclass(frozen=True, slots=True)
class StandbyStatus:
    """A row of logship.stat_replication."""

    slot: str
    replica: str
    state: str | None  # None: the shipper doesn't report
    sent_lsn: Lsn | None
    write_lsn: Lsn | None
    flush_lsn: Lsn | None
    replay_lsn: Lsn | None
    write_lag: datetime.timedelta | None
    flush_lag: datetime.timedelta | None
    replay_lag: datetime.timedelta | None
    sync_priority: int | None
    sync_state: str | None
    reply_age: datetime.timedelta | None  # since it was last heard of, by the primary's clock


@dataclass(frozen=True, slots=True)
class ShipperStatus:
    """Who ships a slot: the last that started. ``active``: somebody reads the slot now."""

    slot: str
    epoch: int
    host: str | None
    pid: int | None
    started_at: datetime.datetime
    active: bool | None
    replicas: list[StandbyStatus]


def lag(secondary: psycopg.Connection) -> list[StageLag]:
    """Four rows for each replica, in the order in which a transaction passes the stages."""
    rows = secondary.execute(
        """
        select l.replica, l.stage, l.lsn::pg_catalog.text, l.lag_bytes, l.lag, l.as_of,
               pg_catalog.clock_timestamp() - l.as_of
          from logship.replica_lag l
         order by l.replica,
                  pg_catalog.array_position(array['received', 'flushed', 'memory', 'persistence'], l.stage)
        """
    ).fetchall()
    return [StageLag(row[0], row[1], _lsn(row[2]), *row[3:]) for row in rows]


def replicas(secondary: psycopg.Connection) -> list[ReplicaStatus]:
    rows = secondary.execute(
        """
        select s.replica, s.state, s.received_lsn::pg_catalog.text, s.flush_lsn::pg_catalog.text,
               s.memory_lsn::pg_catalog.text, s.replay_lsn::pg_catalog.text, s.transactions, s.changes,
               s.batches, s.coalesced, s.bytes, s.last_error, s.last_error_time, s.reported_at,
               pg_catalog.clock_timestamp() - s.reported_at
          from logship.stat_replay s
         order by s.replica
        """
    ).fetchall()
    return [
        ReplicaStatus(row[0], row[1], _lsn(row[2]), _lsn(row[3]), _lsn(row[4]), _lsn(row[5]), *row[6:])
        for row in rows
    ]


def selections(secondary: psycopg.Connection) -> dict[str, Selection] | None:
    """What `--tables` and `--exclude` of init said, by the replica's name. None: the user may not look."""
    try:
        rows = secondary.execute("select r.name, r.tables, r.excluded from logship.replica r").fetchall()
    except psycopg.errors.InsufficientPrivilege:
        return None  # public reads the views, and nothing else
    return {name: Selection(tuple(tables), tuple(excluded)) for name, tables, excluded in rows}


def slots(primary: psycopg.Connection) -> dict[str, SlotStatus]:
    """The slot of every replica that this primary knows, by the replica's name."""
    rows = primary.execute(
        """
        select r.name, r.slot, s.slot_name is not null, s.active, s.wal_status,
               s.confirmed_flush_lsn::pg_catalog.text,
               (pg_catalog.pg_current_wal_lsn() - s.restart_lsn)::pg_catalog.int8, s.safe_wal_size
          from logship.replica r
          left join pg_catalog.pg_replication_slots s
                 on s.slot_name = r.slot and s.database = pg_catalog.current_database()
        """
    ).fetchall()
    return {row[0]: SlotStatus(row[1], row[2], row[3], row[4], _lsn(row[5]), row[6], row[7]) for row in rows}


def shippers(primary: psycopg.Connection) -> list[ShipperStatus]:
    """Of every slot that was shipped, with its replicas by name, those that are away included."""
    found: dict[str, list[StandbyStatus]] = {}
    for row in primary.execute(
        """
        select s.slot, s.application_name, s.state, s.sent_lsn::pg_catalog.text,
               s.write_lsn::pg_catalog.text, s.flush_lsn::pg_catalog.text, s.replay_lsn::pg_catalog.text,
               s.write_lag, s.flush_lag, s.replay_lag, s.sync_priority, s.sync_state,
               pg_catalog.clock_timestamp() - s.reply_time
          from logship.replica_by_slot s
         order by 2
        """
    ).fetchall():
        sent, write, flush, replay = map(_lsn, row[3:7])
        standby = StandbyStatus(row[0], row[1], row[2], sent, write, flush, replay, *row[7:])
        found.setdefault(standby.slot, []).append(standby)
    rows = primary.execute(
        """
        select s.slot, s.epoch, s.host, s.pid, s.started_at, l.active
          from logship.shipper s
          left join pg_catalog.pg_replication_slots l
                 on l.slot_name = s.slot and l.database = pg_catalog.current_database()
         order by 1
        """
    ).fetchall()
    return [
        ShipperStatus(slot, epoch, host, pid, started_at, active, found.get(slot, []))
        for slot, epoch, host, pid, started_at, active in rows
    ]


def _lsn(text: str | None) -> Lsn | None:
    return None if text is None else Lsn.parse(text)
