"""What an operator named to be passed over: whole transactions, and schema changes.

In: connections to the secondary. Out: frozen values; rows of `logship.skip` and `logship.ddl_skip`. What becomes of
them is the replayer's.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass

import psycopg

from logship.lsn import Lsn


@dataclass(frozen=True, slots=True)
class Skip:
    """A transaction. ``skipped_at`` None: not passed over yet. ``changes``: rows of it that were not replayed."""

    replica: str
    lsn: Lsn
    asked_at: datetime.datetime
    asked_by: str
    skipped_at: datetime.datetime | None
    changes: int | None


@dataclass(frozen=True, slots=True)
class Reported:
    received_lsn: Lsn | None
    last_error: str | None


def reported(secondary: psycopg.Connection, replica: str) -> Reported:
    """As the replayer said last; nothing is known where it said nothing since the server's last crash."""
    row = secondary.execute(
        "select r.received_lsn::pg_catalog.text, r.last_error from logship.stat_replay r where r.replica = %s",
        [replica],
    ).fetchone()
    received, last_error = row or (None, None)
    return Reported(None if received is None else Lsn.parse(received), last_error)


def name_transaction(secondary: psycopg.Connection, replica: str, lsn: Lsn) -> bool:
    """Whether it is new."""
    return (
        secondary.execute(
            "insert into logship.skip (replica, lsn, asked_at, asked_by) "
            "values (%s, %s::pg_catalog.pg_lsn, pg_catalog.now(), session_user) on conflict do nothing",
            [replica, str(lsn)],
        ).rowcount
        == 1
    )


def name_schema_change(secondary: psycopg.Connection, replica: str, lsn: Lsn, number: int) -> bool:
    """Whether it is new. ``number`` 0: every schema change of that transaction."""
    return (
        secondary.execute(
            "insert into logship.ddl_skip (replica, lsn, number, asked_at, asked_by) "
            "values (%s, %s::pg_catalog.pg_lsn, %s, pg_catalog.now(), session_user) on conflict do nothing",
            [replica, str(lsn), number],
        ).rowcount
        == 1
    )


def transactions(secondary: psycopg.Connection) -> list[Skip] | None:
    """All that were ever named, of every replica. None: the user may not look, or an older version made the tables."""
    try:
        rows = secondary.execute(
            "select s.replica, s.lsn::pg_catalog.text, s.asked_at, s.asked_by, s.skipped_at, s.changes "
            "from logship.skip s order by s.replica, s.lsn"
        ).fetchall()
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedTable):
        return None  # public reads the views, and nothing else
    return [Skip(row[0], Lsn.parse(row[1]), *row[2:]) for row in rows]
