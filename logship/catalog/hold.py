"""The request that the replayer stands still for a moment, as a row of ``logship.hold``.

In: connections to the secondary, of whoever asks and of the replayer. Out: `Request`. A request is a
lease: it ends at ``expires_at`` by the secondary's clock, whatever became of who asked. One at a time
for each replica. Every change of a request is told (`logship.catalog.news`) to whoever waits for it.
"""

from __future__ import annotations

from dataclasses import dataclass

import psycopg

from logship.catalog import news
from logship.lsn import Lsn


@dataclass(frozen=True, slots=True)
class Request:
    """``up_to`` None: stand where you are. ``lease_s``: how long it still holds."""

    token: str
    up_to: Lsn | None
    held_at: Lsn | None
    lease_s: float


def ask(secondary: psycopg.Connection, replica: str, token: str, lease_s: float) -> bool:
    """False: somebody else's request is in force."""
    row = secondary.execute(
        """
        insert into logship.hold as h (replica, token, up_to, held_at, expires_at)
        values (%s, %s, null, null, pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => %s))
        on conflict (replica) do update
           set token = excluded.token, up_to = null, held_at = null, expires_at = excluded.expires_at
         where h.expires_at <= pg_catalog.clock_timestamp()
        returning true
        """,
        [replica, token, lease_s],
    ).fetchone()
    news.tell_replayer(secondary, replica)
    return row is not None


def renew(secondary: psycopg.Connection, replica: str, token: str, lease_s: float) -> bool:
    """False: it had ended already, and is not in force any more."""
    row = secondary.execute(
        """
        update logship.hold h
           set expires_at = pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => %s)
         where h.replica = %s and h.token = %s and h.expires_at > pg_catalog.clock_timestamp()
        returning true
        """,
        [lease_s, replica, token],
    ).fetchone()
    return row is not None


def set_up_to(secondary: psycopg.Connection, replica: str, token: str, lsn: Lsn) -> None:
    """Replay all that ends at ``lsn`` or before, and stand there. ``held_at`` is asked for anew."""
    secondary.execute(
        "update logship.hold h set up_to = %s::pg_catalog.pg_lsn, held_at = null "
        "where h.replica = %s and h.token = %s",
        [str(lsn), replica, token],
    )
    news.tell_replayer(secondary, replica)


def release(secondary: psycopg.Connection, replica: str, token: str) -> None:
    secondary.execute("delete from logship.hold h where h.replica = %s and h.token = %s", [replica, token])
    news.tell_replayer(secondary, replica)


def request(secondary: psycopg.Connection, replica: str) -> Request | None:
    """The request in force; None: there is none."""
    row = secondary.execute(
        """
        select h.token, h.up_to::pg_catalog.text, h.held_at::pg_catalog.text,
               extract(epoch from h.expires_at - pg_catalog.clock_timestamp())::pg_catalog.float8
          from logship.hold h
         where h.replica = %s and h.expires_at > pg_catalog.clock_timestamp()
        """,
        [replica],
    ).fetchone()
    return None if row is None else Request(row[0], _lsn(row[1]), _lsn(row[2]), row[3])


def answer(secondary: psycopg.Connection, replica: str, asked: Request, held_at: Lsn) -> None:
    """The replayer stands at ``held_at``, as it was asked. Nothing, when the request is another one now."""
    secondary.execute(
        "update logship.hold h set held_at = %s::pg_catalog.pg_lsn where h.replica = %s and h.token = %s "
        "and h.up_to is not distinct from %s::pg_catalog.pg_lsn",
        [str(held_at), replica, asked.token, None if asked.up_to is None else str(asked.up_to)],
    )
    news.tell_commands(secondary, replica)


def _lsn(text: str | None) -> Lsn | None:
    return None if text is None else Lsn.parse(text)
