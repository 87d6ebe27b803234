"""What the secondary knows of schema changes: those that were carried, and those an operator passed over.

In: connections to the secondary. Out: frozen values; rows of `logship.ddl_skip`, and fewer of
`logship.ddl_replayed`. Reading needs nothing but the
public view.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass

import psycopg

from logship.lsn import Lsn


@dataclass(frozen=True, slots=True)
class Carried:
    """A row of logship.stat_ddl. ``lsn``: of the commit that it is part of."""

    lsn: Lsn
    replayed_at: datetime.datetime
    owner: str | None
    tag: str | None
    statement: str | None  # '' where nothing had to be run
    target: str | None
    made_from: str | None
    duration: datetime.timedelta | None


@dataclass(frozen=True, slots=True)
class Skip:
    """``number`` 0: every schema change of that transaction."""

    replica: str
    lsn: Lsn
    number: int
    asked_at: datetime.datetime
    asked_by: str


@dataclass(frozen=True, slots=True)
class Reported:
    received_lsn: Lsn | None
    last_error: str | None


def carried(
    secondary: psycopg.Connection, *, lsn: Lsn | None = None, last: int | None = None
) -> list[Carried]:
    """In the order in which they ran; all, or those of one commit, or the ``last`` so many."""
    rows = secondary.execute(
        """
        select d.lsn::pg_catalog.text, d.replayed_at, d.owner, d.tag, d.statement, d.target, d.made_from, d.duration
          from logship.stat_ddl d
         where %(lsn)s::pg_catalog.pg_lsn is null or d.lsn = %(lsn)s::pg_catalog.pg_lsn
         order by d.replayed_at desc
         limit %(last)s
        """,
        {"lsn": None if lsn is None else str(lsn), "last": last},
    ).fetchall()
    return [Carried(Lsn.parse(row[0]), *row[1:]) for row in reversed(rows)]


def trim(secondary: psycopg.Connection, replica: str, statements: int, age_s: float) -> int:
    """Forget what is older than the newest ``statements``, or than ``age_s``; how many went. What one commit of the
    primary changed stays together."""
    return secondary.execute(
        """
        delete from logship.ddl_replayed d
         where d.replica = %(replica)s
           and (d.replayed_at < pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => %(age_s)s)
                or d.lsn < (select n.lsn from logship.ddl_replayed n where n.replica = %(replica)s
                             order by n.lsn desc offset %(last)s limit 1))
        """,
        {"replica": replica, "age_s": age_s, "last": statements - 1},
    ).rowcount


def summary(secondary: psycopg.Connection) -> tuple[int, Lsn | None, datetime.datetime | None]:
    """How many were carried into this database, and of the last one the commit's LSN and when."""
    row = secondary.execute(
        "select pg_catalog.count(*), pg_catalog.max(d.lsn)::pg_catalog.text, pg_catalog.max(d.replayed_at) "
        "from logship.stat_ddl d"
    ).fetchone()
    assert row is not None  # an aggregate
    return row[0], None if row[1] is None else Lsn.parse(row[1]), row[2]


def skip(secondary: psycopg.Connection, replica: str, lsn: Lsn, number: int) -> bool:
    """Whether it is new."""
    return (
        secondary.execute(
            "insert into logship.ddl_skip (replica, lsn, number, asked_at, asked_by) "
            "values (%s, %s::pg_catalog.pg_lsn, %s, pg_catalog.now(), session_user) on conflict do nothing",
            [replica, str(lsn), number],
        ).rowcount
        == 1
    )


def reported(secondary: psycopg.Connection, replica: str) -> Reported:
    """As the replayer said last; nothing is known where it said nothing since the server's last crash."""
    row = secondary.execute(
        "select r.received_lsn::pg_catalog.text, r.last_error from logship.stat_replay r where r.replica = %s",
        [replica],
    ).fetchone()
    received, last_error = row or (None, None)
    return Reported(None if received is None else Lsn.parse(received), last_error)


def skips(secondary: psycopg.Connection, replica: str) -> list[Skip]:
    """Those that haven't been reached yet."""
    rows = secondary.execute(
        "select s.replica, s.lsn::pg_catalog.text, s.number, s.asked_at, s.asked_by from logship.ddl_skip s "
        "join logship.position p using (replica) where s.replica = %s and s.lsn > p.replay_lsn "
        "order by s.lsn, s.number",
        [replica],
    ).fetchall()
    return [Skip(row[0], Lsn.parse(row[1]), *row[2:]) for row in rows]
