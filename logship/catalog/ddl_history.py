"""What the secondary knows of the schema changes that were carried.

In: connections to the secondary. Out: frozen values; fewer rows of `logship.ddl_replayed`. Reading needs nothing
but the public view.
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
    primary changed stays together; what renamed a type stays, since the log may say its old name for long."""
    return secondary.execute(
        """
        delete from logship.ddl_replayed d
         where d.replica = %(replica)s and d.renamed is null
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
