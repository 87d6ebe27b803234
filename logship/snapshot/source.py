"""Makes the primary ready to be followed: what it must allow, publication, slot, exported snapshot.

In: connections to the primary. Out: a publication and a logical slot that exist, and `Snapshot`,
whose LSN is where a replica that was filled at it starts. An existing publication or slot is used
as it is, or refused with a reason; a lost slot is never made anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import sql

from logship.connection import Side, connect
from logship.errors import PrimaryError, SlotLost, UsageError
from logship.lsn import Lsn
from logship.snapshot.failures import failure
from logship.snapshot.relations import TableName

_LOCK_TIMEOUT_S: Final = 5
_LOCK_ATTEMPTS: Final = 12


@dataclass(frozen=True, slots=True)
class Identity:
    system_identifier: int
    timeline: int
    database: str
    major: int


class StillWaiting(Exception):
    """The slot isn't there within the caller's patience; its text says what it waits for, as far as that is seen."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Lives as long as the connection that exported it."""

    name: str
    lsn: Lsn  # the slot's consistent point


def identity(primary: psycopg.Connection) -> Identity:
    """Which cluster, timeline and database this is."""
    row = primary.execute(
        "select s.system_identifier, c.timeline_id, pg_catalog.current_database() "
        "from pg_catalog.pg_control_system() s, pg_catalog.pg_control_checkpoint() c"
    ).fetchone()
    assert row is not None
    return Identity(int(row[0]) % 2**64, row[1], row[2], primary.info.server_version // 10000)


def set_full_identity(
    primary: psycopg.Connection, tables: list[TableName], side: Side, say: Callable[[str], None]
) -> None:
    """REPLICA IDENTITY FULL, without keeping other sessions waiting behind a lock that doesn't come."""
    for table in tables:
        statement = sql.SQL("alter table only {} replica identity full").format(table.identifier())
        for attempt in range(1, _LOCK_ATTEMPTS + 1):
            try:
                with primary.transaction():
                    primary.execute(f"set local lock_timeout = '{_LOCK_TIMEOUT_S}s'")
                    primary.execute(statement)
                break
            except psycopg.errors.LockNotAvailable as error:
                if attempt == _LOCK_ATTEMPTS:
                    raise failure(
                        side,
                        f"set replica identity of {table}",
                        error,
                        hint="end the transaction that holds the table, and run init again",
                    ) from error
                say(f"waiting for a lock on {table}, to set its replica identity")
            except psycopg.errors.InsufficientPrivilege as error:
                text = statement.as_string(primary)
                raise failure(
                    side, f"set replica identity of {table}", error, hint=f"as its owner: {text};"
                ) from error


def ensure_publication(primary: psycopg.Connection, name: str, *, given: bool, root: bool) -> bool:
    """Make publication ``name`` for all tables, or check the one there is; whether it was made.

    ``given``: the operator named it, so it must exist. ``root``: rows of partitions are published as
    rows of the partitioned table.
    """
    row = primary.execute(
        "select p.puballtables, p.pubviaroot, p.pubinsert and p.pubupdate and p.pubdelete and p.pubtruncate "
        "from pg_catalog.pg_publication p where p.pubname = %s",
        [name],
    ).fetchone()
    option = " with (publish_via_partition_root = true)" if root else ""
    statement = sql.SQL("create publication {} for all tables{}").format(
        sql.Identifier(name), sql.SQL(option)
    )
    if row is not None:
        _check_publication(primary, name, row, root=root)
        return False
    if given:
        raise UsageError(
            f'publication "{name}" does not exist on the primary',
            hint=f"leave --publication out, or: {statement.as_string(primary)};",
        )
    try:
        primary.execute(statement)
    except psycopg.errors.InsufficientPrivilege as error:
        raise PrimaryError(
            "only a superuser of the primary may publish all tables",
            hint=f"as a superuser, in this database: {statement.as_string(primary)}; then run init again "
            f"with --publication {name}",
        ) from error
    return True


def _check_publication(primary: psycopg.Connection, name: str, row: tuple[Any, ...], *, root: bool) -> None:
    _, via_root, complete = row
    if not complete:
        raise UsageError(
            f'publication "{name}" does not publish insert, update, delete and truncate',
            hint="logship replays all of them: alter publication … "
            "set (publish = 'insert, update, delete, truncate')",
        )
    if via_root != root:
        word = "root" if via_root else "leaf"
        raise UsageError(
            f'publication "{name}" publishes partitions by {word}', hint=f"pass --partitions {word}"
        )
    partial = primary.execute(
        """
        select t.schemaname, t.tablename
          from pg_catalog.pg_publication_tables t
          join pg_catalog.pg_namespace n on n.nspname = t.schemaname
          join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = t.tablename
         where t.pubname = %s
           and (t.rowfilter is not null or exists (
             select from pg_catalog.pg_attribute a
              where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
                and a.attname <> all (t.attnames)))
         limit 1
        """,
        [name],
    ).fetchone()
    if partial is not None:
        raise UsageError(
            f'publication "{name}" publishes only part of {TableName(*partial)}',
            hint="logship follows whole tables: take the row filter or the column list away",
        )


def slot_state(primary: psycopg.Connection, slot: str) -> str | None:
    """wal_status of the slot; None when there is no such slot. Refuses one that isn't ours to use."""
    row = primary.execute(
        "select s.plugin, s.database, s.wal_status, pg_catalog.current_database(), s.temporary "
        "from pg_catalog.pg_replication_slots s where s.slot_name = %s",
        [slot],
    ).fetchone()
    if row is None:
        return None
    plugin, database, status, here, temporary = row
    if plugin != "pgoutput" or database != here or temporary:
        raise UsageError(
            f'replication slot "{slot}" exists, and is not a pgoutput slot of database "{here}"',
            hint="choose another name with --slot",
        )
    if status == "lost":
        raise SlotLost(slot, "wal_status is lost")
    return status or "reserved"


def confirmed_flush(primary: psycopg.Connection, slot: str) -> Lsn | None:
    """Up to where the slot's log has been read, and need not be there any more."""
    row = primary.execute(
        "select s.confirmed_flush_lsn::pg_catalog.text from pg_catalog.pg_replication_slots s where s.slot_name = %s",
        [slot],
    ).fetchone()
    return Lsn.parse(row[0]) if row and row[0] else None


def ensure_slot(conninfo: str, primary: psycopg.Connection, slot: str, say: Callable[[str], None]) -> bool:
    """Make the slot if there is none; whether it was made. Says what it waits for."""
    if slot_state(primary, slot) is not None:
        return False
    # No journal holds what precedes a new slot, also not the one that a slot of this name was read into before.
    primary.execute("update logship.shipper set journal = null where slot = %s", [slot])
    with connect(conninfo, Side.PRIMARY, application_name="logship init") as waiting:
        _watched(
            waiting,
            sql.SQL("select pg_catalog.pg_create_logical_replication_slot({}, 'pgoutput')").format(
                sql.Literal(slot)
            ),
            primary,
            say,
        )
    return True


@contextmanager
def exported_snapshot(
    conninfo: str,
    primary: psycopg.Connection,
    slot: str,
    say: Callable[[str], None],
    patience_s: float | None = None,
) -> Iterator[Snapshot]:
    """A temporary slot, only for the snapshot that PostgreSQL exports with one.

    Its consistent point is later than that of the permanent slot ``slot``, which must exist: all that
    the snapshot doesn't show is in the permanent slot's log. It waits for the transactions that are running:
    `StillWaiting` when that takes longer than ``patience_s`` (None: as long as it takes).
    """
    with connect(conninfo, Side.PRIMARY, application_name="logship init", replication=True) as walsender:
        name = f"{slot[:40]}_init_{time.time_ns() % 10**12}"
        row = _watched(
            walsender,
            sql.SQL("CREATE_REPLICATION_SLOT {} TEMPORARY LOGICAL pgoutput (SNAPSHOT 'export')").format(
                sql.Identifier(name)
            ),
            primary,
            say,
            patience_s,
        )
        yield Snapshot(name=row[2], lsn=Lsn.parse(row[1]))


def _watched(
    waiting: psycopg.Connection,
    statement: sql.Composed,
    watcher: psycopg.Connection,
    say: Callable[[str], None],
    patience_s: float | None = None,
) -> tuple[Any, ...]:
    """Run what may wait for other sessions, and say once for which; the row it returns."""
    said = ""
    began = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(lambda: waiting.execute(statement).fetchone())
        try:
            while True:
                try:
                    row = future.result(timeout=1)
                    break
                except NotYet:
                    reason = waits_for(watcher)
                    if patience_s is not None and time.monotonic() - began >= patience_s:
                        raise StillWaiting(reason) from None
                    if reason and reason != said:
                        say(reason)
                        said = reason
        except psycopg.Error as error:
            raise failure(Side.PRIMARY, "create a replication slot", error) from error
        except BaseException:
            waiting.cancel_safe()
            raise
    assert row is not None
    return row


def waits_for(watcher: psycopg.Connection) -> str:
    """What keeps a slot from being made on the primary, in words; empty: nothing that can be seen."""
    synchronous = _number(
        watcher,
        "select pg_catalog.count(*) from pg_catalog.pg_stat_activity where wait_event = 'SyncRep'",
    )
    if synchronous:
        return (
            f"waiting: {synchronous} commits on the primary wait for a synchronous standby, and no slot "
            "can be made meanwhile; start that standby, or change synchronous_standby_names"
        )
    row = watcher.execute(
        "select pg_catalog.count(*), pg_catalog.min(xact_start)::pg_catalog.timestamptz(0)::pg_catalog.text "
        "from pg_catalog.pg_stat_activity "
        "where backend_xid is not null and pid <> pg_catalog.pg_backend_pid()"
    ).fetchone()
    if row is None or not row[0]:
        return ""
    return f"waiting for transactions that were running already to end: {row[0]}, the oldest since {row[1]}"


def _number(connection: psycopg.Connection, statement: str) -> int:
    row = connection.execute(statement.encode()).fetchone()
    return int(row[0]) if row else 0
