"""Whether a slot can be streamed from, and what an operator does when it can't.

In: a connection to the primary that runs SQL (a `replication=database` one does), the names of slot
and publications. Out: `SlotState`, or the error that says what is wrong: `SlotMissing`, `SlotLost`,
`SlotActive`, `PublicationMissing`, or a `PrimaryError` with the statement that mends it. Never makes,
changes or drops a slot.

Source: PostgreSQL documentation, "pg_replication_slots"; its columns differ between 15 and 18, so the
later ones are read through to_jsonb.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import sql

from logship.errors import PrimaryError, PublicationMissing, SlotActive, SlotLost, SlotMissing
from logship.lsn import INVALID, Lsn

PLUGIN: Final = "pgoutput"

_SLOT: Final = """
    select s.slot_name::text, s.plugin::text, s.database::text, s.active_pid, s.wal_status,
           s.restart_lsn::text, s.confirmed_flush_lsn::text, s.safe_wal_size,
           to_jsonb(s) ->> 'invalidation_reason', to_jsonb(s) ->> 'conflicting'
      from pg_catalog.pg_replication_slots s
     where s.slot_name = {slot}
"""
_CONTEXT: Final = "select current_setting('wal_level'), current_database()::text"
_PUBLICATION: Final = "select 1 from pg_catalog.pg_publication where pubname::text = {publication}"


@dataclass(frozen=True, slots=True)
class SlotState:
    """A row of pg_replication_slots. The server starts a stream at ``confirmed_flush_lsn`` when that is
    later than what is asked for, without a word: see `gap`."""

    name: str
    plugin: str | None  # None: a physical slot
    database: str | None
    active_pid: int | None
    wal_status: str | None
    restart_lsn: Lsn  # INVALID when the slot reserves no WAL
    confirmed_flush_lsn: Lsn
    safe_wal_size: int | None  # bytes that may be written before the slot is in danger; None: no limit
    invalidation: str | None  # why the slot can't be used any more, in PostgreSQL's word


@dataclass(frozen=True, slots=True)
class Gap:
    """Transactions that ended after ``journal_end`` and up to ``confirmed_flush_lsn`` will not be sent."""

    journal_end: Lsn
    confirmed_flush_lsn: Lsn

    def __str__(self) -> str:
        return f"the journal ends at {self.journal_end}, the slot starts at {self.confirmed_flush_lsn}"


def gap(state: SlotState, journal_end: Lsn) -> Gap | None:
    """What the primary has been told is safe and the journal doesn't have; None when nothing is missing.
    A gap means that the journal is not the one that the slot has been read into, or has lost its tail."""
    if state.confirmed_flush_lsn > journal_end:
        return Gap(journal_end, state.confirmed_flush_lsn)
    return None


def read_slot(connection: psycopg.Connection, slot: str) -> SlotState | None:
    """The slot as it is now; None when there is none of that name."""
    row = _row(connection, sql.SQL(_SLOT).format(slot=sql.Literal(slot)))
    if row is None:
        return None
    name, plugin, database, pid, wal_status, restart, confirmed, safe, reason, conflicting = row
    return SlotState(
        name=name,
        plugin=plugin,
        database=database,
        active_pid=pid,
        wal_status=wal_status,
        restart_lsn=_lsn(restart),
        confirmed_flush_lsn=_lsn(confirmed),
        safe_wal_size=safe,
        invalidation=reason or ("conflicting with recovery" if conflicting == "true" else None),
    )


def check_slot(connection: psycopg.Connection, slot: str, publications: Sequence[str]) -> SlotState:
    """The slot, fit to be streamed from by this connection; the error that says why not, otherwise."""
    context = _row(connection, sql.SQL(_CONTEXT))
    wal_level, database = context or ("", "")
    if wal_level != "logical":
        raise PrimaryError(
            f"the primary runs with wal_level = {wal_level}, which doesn't log what replication needs",
            hint="run alter system set wal_level = logical on the primary and restart it",
        )
    state = read_slot(connection, slot)
    if state is None:
        raise SlotMissing(slot)
    judge(state, database)
    for publication in publications:
        query = sql.SQL(_PUBLICATION).format(publication=sql.Literal(publication))
        if _row(connection, query) is None:
            raise PublicationMissing(publication)
    return state


def judge(state: SlotState, database: str) -> None:
    """Raise what is wrong with ``state`` for a stream of ``database``; return when nothing is."""
    if state.plugin != PLUGIN:
        kind = f"the plugin {state.plugin}" if state.plugin else "physical replication"
        raise PrimaryError(
            f'replication slot "{state.name}" is for {kind}, not for {PLUGIN}',
            hint=f"name a slot made with pg_create_logical_replication_slot('<slot>', '{PLUGIN}')",
        )
    if state.database != database:
        raise PrimaryError(
            f'replication slot "{state.name}" belongs to database "{state.database}", '
            f'and the conninfo names "{database}"',
            hint="name the slot's own database in the conninfo, or another slot",
        )
    if state.wal_status == "lost" or state.invalidation:
        raise SlotLost(state.name, state.invalidation or "wal_status is lost")
    if state.active_pid is not None:
        raise SlotActive(state.name, state.active_pid)


def _row(connection: psycopg.Connection, query: sql.SQL | sql.Composed) -> tuple[Any, ...] | None:
    row: tuple[Any, ...] | None = connection.execute(query).fetchone()
    return row


def _lsn(text: str | None) -> Lsn:
    return Lsn.parse(text) if text else INVALID
