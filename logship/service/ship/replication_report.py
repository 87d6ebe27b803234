"""Tells the primary's view `logship.stat_replication`, once a second, what the shipper knows of its replicas.

In: the probe's session on the primary, the rows as of now. Out: rows of `logship.replication_report`, which is
unlogged: after a crash of the primary it is empty until the next report. Rows of replicas that are gone for good
go. Nothing waits for a flush, and reporting never stops the shipper; a report that stopped coming shows its age.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import logging
import os
from collections.abc import Callable, Sequence
from typing import Any, Final

import psycopg
from psycopg.types.json import Jsonb

from logship.lsn import INVALID, Lsn
from logship.relay.lag import Lag
from logship.relay.synchrony import Positions3, ReplicaState, SyncState
from logship.service.positions import Positions, Stage
from logship.service.ship.acknowledge import OwnReplica
from logship.service.ship.replicas import ReplicaRow

log = logging.getLogger(__name__)

_COLUMNS: Final = {
    "replica": "text", "pid": "int4", "usename": "text", "client_addr": "inet", "client_port": "int4",
    "backend_start": "timestamptz", "state": "text", "sent_lsn": "pg_lsn", "write_lsn": "pg_lsn",
    "flush_lsn": "pg_lsn", "replay_lsn": "pg_lsn", "write_lag": "interval", "flush_lag": "interval",
    "replay_lag": "interval", "sync_priority": "int4", "sync_state": "text", "reply_time": "timestamptz",
}  # fmt: skip
_NAMES: Final = ", ".join(_COLUMNS)
_REPORT: Final = f"""
with gone as (
  delete from logship.replication_report r
   where r.slot = %(slot)s and r.replica <> all (%(names)s::text[])
)
insert into logship.replication_report (slot, {_NAMES}, reported_at)
select %(slot)s, {", ".join(f"x.{name}" for name in _COLUMNS)}, pg_catalog.clock_timestamp()
  from pg_catalog.jsonb_to_recordset(%(rows)s) as x ({", ".join(f"{n} pg_catalog.{t}" for n, t in _COLUMNS.items())})
    on conflict (slot, replica) do update set
       {", ".join(f"{name} = excluded.{name}" for name in _COLUMNS if name != "replica")},
       reported_at = excluded.reported_at
"""


class ReplicationReport:
    """``rows`` is called from the probe's thread."""

    def __init__(self, slot: str, rows: Callable[[], Sequence[ReplicaRow]]) -> None:
        self._slot = slot
        self._rows = rows
        self._allowed = True

    def look(self, connection: psycopg.Connection) -> None:
        """Report now. `psycopg.Error` when the primary is away."""
        if not self._allowed:
            return
        rows = [_values(row) for row in self._rows()]
        given = {"slot": self._slot, "names": [row["replica"] for row in rows], "rows": Jsonb(rows)}
        try:
            with connection.transaction():
                connection.execute("set local synchronous_commit = off")
                connection.execute(_REPORT, given)
        except (psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedTable) as error:
            self._allowed = False
            log.warning(
                "logship.stat_replication on the primary will show nothing: %s "
                "(see `logship check --print-grants primary`)",
                error.diag.message_primary,
            )


class OwnRow:
    """The row of the replica that is this process: it has no session, and what it has is the journal's.

    ``own``: what the primary is told of its replay. ``awaited``: whether commits may wait for this process, as
    the primary says; where they don't it is asynchronous, as pg_stat_replication shows our connection."""

    def __init__(self, name: str, positions: Positions, own: OwnReplica, awaited: Callable[[], bool]) -> None:
        self._name = name
        self._positions = positions
        self._own = own
        self._awaited = awaited
        self._since = dt.datetime.now(dt.UTC)

    def __call__(self) -> list[ReplicaRow]:
        lsn = self._positions.lsn
        received = lsn(Stage.RECEIVED) or INVALID
        positions = Positions3(received, lsn(Stage.FLUSHED) or INVALID, self._own.replayed())
        replays, awaited = positions.replay != INVALID, self._awaited()
        write, flush, replay = (
            self._lag(stage) for stage in (Stage.RECEIVED, Stage.FLUSHED, self._own.replaying)
        )
        return [
            ReplicaRow(
                name=self._name,
                client=None,
                since=self._since,
                state=(ReplicaState.STREAMING if replays else ReplicaState.STARTUP).value,
                sent_lsn=received,
                positions=positions,
                lags_s=(write, flush, replay),
                sync_priority=1 if awaited else 0,
                sync_state=SyncState.SYNC if awaited else SyncState.ASYNC,
                reply_time=dt.datetime.now(dt.UTC),
                pid=os.getpid(),
            )
        ]

    def _lag(self, stage: Stage) -> Lag:
        lag_us = self._positions.lag_us(stage)
        return None if lag_us is None else lag_us / 1e6


def _values(row: ReplicaRow) -> dict[str, Any]:
    client, said = row.client, row.positions
    write_lag, flush_lag, replay_lag = (None if lag is None else f"{lag:.6f} s" for lag in row.lags_s)
    return {
        "replica": row.name,
        "pid": client.pid if client else row.pid,
        "usename": client.user if client else None,
        "client_addr": _address(client.address) if client else None,
        "client_port": client.port if client else None,
        "backend_start": row.since.isoformat() if row.since else None,
        "state": row.state,
        "sent_lsn": _lsn(row.sent_lsn),
        "write_lsn": _lsn(said.write),
        "flush_lsn": _lsn(said.flush),
        "replay_lsn": _lsn(said.replay),
        "write_lag": write_lag,
        "flush_lag": flush_lag,
        "replay_lag": replay_lag,
        "sync_priority": row.sync_priority,
        "sync_state": row.sync_state.value,
        "reply_time": row.reply_time.isoformat() if row.reply_time else None,
    }


def _lsn(lsn: Lsn) -> str | None:
    return None if lsn == INVALID else str(lsn)


def _address(text: str) -> str | None:
    """An address as inet takes it; a link-local one without its interface."""
    try:
        return str(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        return None
