"""What a copy writes down on the secondary, so that another attempt can go on where it stopped.

In: connections to the secondary. Out: rows of logship.copy_progress (which tables, and what the finished
ones are true at), copy_part (the transactions that put rows there), copy_made (indexes and constraints that
exist), copied (tables whose rows are newer than the position). Each is written in the transaction
that makes it true.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import psycopg

from logship.lsn import Lsn

Table: TypeAlias = tuple[str, str]  # schema, name


@dataclass(frozen=True, slots=True)
class Filled:
    """A finished table: ``rows`` of it, true at ``lsn``. Both None: it is being filled."""

    lsn: Lsn | None
    rows: int | None


def progress(secondary: psycopg.Connection, replica: str) -> dict[Table, Filled]:
    """The tables that an unfinished init of this replica may have put rows into."""
    rows = secondary.execute(
        "select schemaname, relname, lsn::pg_catalog.text, rows from logship.copy_progress "
        "where replica = %s order by 1, 2",
        [replica],
    ).fetchall()
    return {
        (schema, name): Filled(None if lsn is None else Lsn.parse(lsn), count)
        for schema, name, lsn, count in rows
    }


def note_filling(secondary: psycopg.Connection, replica: str, tables: Iterable[Table]) -> None:
    """To be committed before the first row of these tables, and with the statement that makes them."""
    with secondary.cursor() as cursor:
        cursor.executemany(
            "insert into logship.copy_progress (replica, schemaname, relname) values (%s, %s, %s) "
            "on conflict (replica, schemaname, relname) do update set lsn = null, rows = null, done_at = null",
            [(replica, *table) for table in tables],
        )


def forget(secondary: psycopg.Connection, replica: str, tables: Iterable[Table]) -> None:
    """These are filled no more: what was put there is gone, or the primary has them no more."""
    for where in ("copy_part", "copy_progress"):
        with secondary.cursor() as cursor:
            cursor.executemany(
                f"delete from logship.{where} where replica = %s and schemaname = %s and relname = %s",
                [(replica, *table) for table in tables],
            )


def note_part(secondary: psycopg.Connection, replica: str, table: Table) -> None:
    """The present transaction puts rows into the table."""
    secondary.execute(
        "insert into logship.copy_part (replica, schemaname, relname, xid) "
        "values (%s, %s, %s, pg_catalog.pg_current_xact_id()::text::int8) on conflict do nothing",
        [replica, *table],
    )


def parts(secondary: psycopg.Connection, replica: str, table: Table) -> list[int]:
    """The transactions that did, as pg_current_xact_id() has them."""
    rows = secondary.execute(
        "select xid from logship.copy_part where replica = %s and schemaname = %s and relname = %s",
        [replica, *table],
    ).fetchall()
    return [xid for (xid,) in rows]


def note_filled(secondary: psycopg.Connection, replica: str, table: Table, lsn: Lsn, rows: int) -> None:
    secondary.execute(
        "update logship.copy_progress set done_at = pg_catalog.now(), lsn = %s::pg_catalog.pg_lsn, rows = %s "
        "where replica = %s and schemaname = %s and relname = %s",
        [str(lsn), rows, replica, *table],
    )


def made(secondary: psycopg.Connection, replica: str) -> set[str]:
    """Digests of the entries of pg_dump's post-data that exist."""
    rows = secondary.execute("select entry from logship.copy_made where replica = %s", [replica]).fetchall()
    return {entry for (entry,) in rows}


def note_made(secondary: psycopg.Connection, replica: str, entry: str) -> None:
    secondary.execute("insert into logship.copy_made (replica, entry) values (%s, %s)", [replica, entry])


def finish(secondary: psycopg.Connection, replica: str, tables: Mapping[Table, Lsn], position: Lsn) -> None:
    """The copy is whole: what is newer than the position is passed over, the rest is forgotten."""
    secondary.execute("delete from logship.copied where replica = %s", [replica])
    newer = {table: lsn for table, lsn in tables.items() if lsn > position}
    note_copied(secondary, replica, newer)
    for where in ("copy_part", "copy_progress", "copy_made"):
        secondary.execute(f"delete from logship.{where} where replica = %s".encode(), [replica])


def note_copied(secondary: psycopg.Connection, replica: str, tables: Mapping[Table, Lsn]) -> None:
    """Transactions that were committed before the LSN are in these tables already.

    Whoever calls it while a replayer may run holds the row of the position (`hold_position`).
    """
    with secondary.cursor() as cursor:
        cursor.executemany(
            "insert into logship.copied (replica, schemaname, relname, lsn) "
            "values (%s, %s, %s, %s::pg_catalog.pg_lsn) on conflict (replica, schemaname, relname) "
            "do update set lsn = excluded.lsn, noticed = false",
            [(replica, *table, str(lsn)) for table, lsn in tables.items()],
        )


def hold_position(secondary: psycopg.Connection, replica: str) -> Lsn | None:
    """No replayer commits until the present transaction ends; None: there is no position."""
    row = secondary.execute(
        "select replay_lsn::pg_catalog.text from logship.position where replica = %s for update", [replica]
    ).fetchone()
    return None if row is None else Lsn.parse(row[0])
