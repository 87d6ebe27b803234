"""A temporary slot of the primary, made for its snapshot: an LSN, and what had committed before it.

In: a walsender connection, another to see what holds the slot up, for how long it may take. Out: the
exported snapshot's name and its LSN. A slot waits for the transactions that have written and are still open.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from typing import Final

import psycopg
from psycopg import sql

from logship.connection import Side
from logship.errors import PrimaryError
from logship.lsn import Lsn
from logship.service.compare.standing import Alone, Ends, Held, NotAtOneLsn
from logship.snapshot.failures import failure
from logship.snapshot.source import waits_for

_STUCK: Final = """
select pg_catalog.count(*) from pg_catalog.pg_stat_activity a
 where a.wait_event = 'SyncRep' and a.query_start < pg_catalog.clock_timestamp() - interval '1 s'
"""


def make(
    walsender: psycopg.Connection, watcher: psycopg.Connection, ends: Ends, standing: Held | Alone
) -> tuple[str, Lsn]:
    """A temporary slot: its snapshot's name, and the LSN that is true at."""
    statement = sql.SQL("CREATE_REPLICATION_SLOT {} TEMPORARY LOGICAL pgoutput (SNAPSHOT 'export')").format(
        sql.Identifier(f"{ends.replica.slot[:40]}_verify_{time.time_ns() % 10**12}")
    )
    with ThreadPoolExecutor(1) as pool:
        making = pool.submit(lambda: walsender.execute(statement).fetchone())
        try:
            said = ""
            while True:
                try:
                    row = making.result(timeout=0.5)
                    break
                except NotYet:
                    said = _why_not(watcher, ends, standing, said)
        except psycopg.Error as error:
            raise failure(
                Side.PRIMARY, "create a temporary replication slot", error,
                hint="verify needs a free slot and a free walsender (max_replication_slots, max_wal_senders), "
                "and the REPLICATION attribute",
            ) from error  # fmt: skip
        except BaseException:
            walsender.cancel_safe()
            raise
    if row is None:
        raise PrimaryError(
            "the primary made a slot and didn't say where", hint="try again; is there a proxy before it?"
        )
    return row[2], Lsn.parse(row[1])


def _why_not(watcher: psycopg.Connection, ends: Ends, standing: Held | Alone, said: str) -> str:
    """Say once what keeps the slot from being made; raise when it has taken too long."""
    stuck = watcher.execute(_STUCK).fetchone()
    if isinstance(standing, Held) and stuck is not None and stuck[0]:
        raise NotAtOneLsn(
            f"{stuck[0]} commits on the primary wait for the secondary, which has to stand still meanwhile "
            "(synchronous_commit = remote_apply)",
            hint="verify while nobody commits with remote_apply; on and local don't wait",
        )
    reason = waits_for(watcher)
    if time.monotonic() > standing.deadline:
        raise NotAtOneLsn(
            f"no slot could be made on the primary within {ends.max_hold_s:g} s: {reason or 'it is slow'}",
            hint="end the transactions that run for long, or raise --max-hold; the replica goes on now",
        )
    if reason and reason != said:
        ends.say(reason)
    return reason or said
