"""Both sides at one LSN, while the primary is written to and the replica follows.

In: conninfo of both, the replica. Out: `Moment`: two sessions, each in a REPEATABLE READ transaction, and
snapshots for further ones; the secondary's shows exactly the transactions that end at ``lsn`` or before,
and so does the primary's. How: the replayer stands still (`logship.service.replay.hold`); a temporary slot on
the primary gives an LSN and the snapshot true at it; the replayer goes on up to there; the secondary's
snapshot is taken; the replayer goes on. Without a replayer its replication origin is taken, so that
none starts meanwhile, and nothing may lie between the replica's position and the LSN.

The position in the secondary's snapshot is compared with the LSN: a lease that ended early, or a
replayer that went on for any other reason, is an error and never a wrong answer.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg import sql

from logship.connection import Side, connect
from logship.errors import RefusedAsUnsafe, SlotActive
from logship.lsn import Lsn
from logship.service.compare.standing import Alone, Ends, Held, NotAtOneLsn, position_of, standing
from logship.service.initial import snapshot_slot
from logship.snapshot.source import identity

_AGAIN_S: Final = 0.2


@dataclass(slots=True)
class Moment:
    """``primary_snapshot`` and ``secondary_snapshot`` are exported by the sessions here: others may use
    them for as long as the moment lasts. ``held_s``: how long the replayer stood (None: none was running)."""

    lsn: Lsn
    position: Lsn  # of the replica: ``lsn``, or before it with nothing in between
    primary: psycopg.Connection
    secondary: psycopg.Connection
    primary_snapshot: str
    secondary_snapshot: str
    held_s: float | None = None


@contextmanager
def one_lsn(ends: Ends, *, keep: bool = False) -> Iterator[Moment]:
    """Both sides at one LSN. The replayer goes on before the body runs, or after it with ``keep``.

    `NotAtOneLsn` when it can't be done now; what `logship.errors` has for either server.
    """
    with ExitStack() as stack:
        holding, moment = _arrive(ends, stack)
        if not keep:
            moment.held_s = holding.release()
        yield moment
        moment.held_s = holding.release()


def _arrive(ends: Ends, stack: ExitStack) -> tuple[Held | Alone, Moment]:
    """Where nobody replayed, somebody may have begun to meanwhile: then it is asked to stand, like any other."""
    _require_same_cluster(ends)
    end = time.monotonic() + ends.max_hold_s
    while True:
        with ExitStack() as attempt:
            try:
                holding = attempt.enter_context(standing(ends))
                moment = attempt.enter_context(_moment(ends, holding))
            except SlotActive:
                if time.monotonic() > end:
                    raise
            else:
                stack.enter_context(attempt.pop_all())
                return holding, moment
        time.sleep(_AGAIN_S)  # nobody tells when a replayer that has the slot already takes its origin


def _require_same_cluster(ends: Ends) -> None:
    replica = ends.replica
    with closing(connect(ends.primary, Side.PRIMARY, application_name="logship verify")) as link:
        ours = identity(link)
    if (ours.system_identifier, ours.database) != (replica.system_identifier, replica.database):
        raise RefusedAsUnsafe(
            f'replica "{replica.name}" follows another primary (database "{replica.database}")',
            hint="give --primary the database that this replica was initialised from",
        )


@contextmanager
def _moment(ends: Ends, holding: Held | Alone) -> Iterator[Moment]:
    with ExitStack() as stack:
        primary = stack.enter_context(
            closing(connect(ends.primary, Side.PRIMARY, application_name="logship verify"))
        )
        secondary = stack.enter_context(
            closing(connect(ends.secondary, Side.SECONDARY, application_name="logship verify"))
        )
        walsender = stack.enter_context(
            closing(connect(ends.primary, Side.PRIMARY, application_name="logship verify", replication=True))
        )
        name, lsn = snapshot_slot.make(walsender, primary, ends, holding)
        begin(primary, name)
        exported = _export(primary)
        walsender.close()  # the slot goes with it; the snapshot lives on in our session
        holding.reach(lsn)
        begin(secondary, None)
        there = _export(secondary)
        position = position_of(secondary, ends.replica.name)
        if isinstance(holding, Held) and position != lsn:
            raise NotAtOneLsn(
                f'replica "{ends.replica.name}" went on from {lsn} to {position} before it could be looked at',
                hint="try again",
            )
        yield Moment(lsn, position, primary, secondary, exported, there)


def begin(link: psycopg.Connection, snapshot: str | None) -> None:
    """A REPEATABLE READ transaction, at ``snapshot`` when one is given."""
    link.execute("begin transaction isolation level repeatable read, read only")
    if snapshot is not None:
        link.execute(sql.SQL("set transaction snapshot {}").format(sql.Literal(snapshot)))


def _export(link: psycopg.Connection) -> str:
    row = link.execute("select pg_catalog.pg_export_snapshot()").fetchone()
    return str(row[0]) if row else ""
