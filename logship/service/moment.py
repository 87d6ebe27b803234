"""Both sides at one LSN, while the primary is written to and the replica follows.

In: conninfo of both, the replica. Out: `Moment`: two sessions, each in a REPEATABLE READ transaction, and
snapshots for further ones; the secondary's shows exactly the transactions that end at ``lsn`` or before,
and so does the primary's. How: the replayer stands still (`logship.service.hold`); a temporary slot on
the primary gives an LSN and the snapshot true at it; the replayer goes on up to there; the secondary's
snapshot is taken; the replayer goes on. Without a replayer its replication origin is taken, so that
none starts meanwhile, and nothing may lie between the replica's position and the LSN.

The position in the secondary's snapshot is compared with the LSN: a lease that ended early, or a
replayer that went on for any other reason, is an error and never a wrong answer.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

import psycopg
from psycopg import sql

from logship.catalog import hold
from logship.catalog.state import Replica
from logship.connection import Side, connect
from logship.errors import LogshipError, PrimaryError, RefusedAsUnsafe, SecondaryError, SlotActive
from logship.lsn import Lsn
from logship.service.between import changes_between
from logship.service.probe import flushed_position
from logship.service.replica import Found
from logship.snapshot.failures import failure
from logship.snapshot.source import identity, waits_for

_LEASE_S: Final = 5.0
_LOOK_S: Final = 0.005
_STUCK: Final = """
select pg_catalog.count(*) from pg_catalog.pg_stat_activity a
 where a.wait_event = 'SyncRep' and a.query_start < pg_catalog.clock_timestamp() - interval '1 s'
"""
_POSITION: Final = "select p.replay_lsn::pg_catalog.text from logship.position p where p.replica = %s"

Say = Callable[[str], None]


class NotAtOneLsn(LogshipError):
    """The two sides can't be brought to one LSN now. The answer is no; nothing was changed."""

    exit_code = 1


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


@dataclass(slots=True)
class Ends:
    """Where, and for how long at most the replayer may be held."""

    primary: str
    secondary: str
    found: Found
    max_hold_s: float
    say: Say = field(default=lambda _: None)

    @property
    def replica(self) -> Replica:
        return self.found.replica


@contextmanager
def one_lsn(ends: Ends, *, keep: bool = False) -> Iterator[Moment]:
    """Both sides at one LSN. The replayer goes on before the body runs, or after it with ``keep``.

    `NotAtOneLsn` when it can't be done now; what `logship.errors` has for either server.
    """
    with ExitStack() as stack:
        standing, moment = _arrive(ends, stack)
        if not keep:
            moment.held_s = standing.release()
        yield moment
        moment.held_s = standing.release()


def _arrive(ends: Ends, stack: ExitStack) -> tuple[_Held | _Alone, Moment]:
    """Where nobody replayed, somebody may have begun to meanwhile: then it is asked to stand, like any other."""
    _require_same_cluster(ends)
    end = time.monotonic() + ends.max_hold_s
    while True:
        with ExitStack() as attempt:
            try:
                standing = attempt.enter_context(_standing(ends))
                moment = attempt.enter_context(_moment(ends, standing))
            except SlotActive:
                if time.monotonic() > end:
                    raise
            else:
                stack.enter_context(attempt.pop_all())
                return standing, moment
        time.sleep(0.2)


def _require_same_cluster(ends: Ends) -> None:
    replica = ends.replica
    with closing(connect(ends.primary, Side.PRIMARY, application_name="logship verify")) as link:
        ours = identity(link)
    if (ours.system_identifier, ours.database) != (replica.system_identifier, replica.database):
        raise RefusedAsUnsafe(
            f'replica "{replica.name}" follows another primary (database "{replica.database}")',
            hint="give --primary the database that this replica was initialised from",
        )


# -- the replayer stands --------------------------------------------------------------------------


class _Held:
    """A running replayer, held. The lease is renewed until ``deadline`` and no longer."""

    def __init__(self, ends: Ends, link: psycopg.Connection) -> None:
        self._ends = ends
        self._link = link
        self._replica = ends.replica.name
        self._token = secrets.token_hex(8)
        self._lock = threading.Lock()
        self._began = self.deadline = 0.0
        self._held_s: float | None = None
        self._over = threading.Event()
        self._renewing = threading.Thread(target=self._renew, name="lease", daemon=True)

    def begin(self) -> None:
        self._catch_up()
        if not hold.ask(self._link, self._replica, self._token, _LEASE_S):
            raise NotAtOneLsn(
                f'another command holds replica "{self._replica}" just now', hint="wait for its end"
            )
        self._began = time.monotonic()
        self.deadline = self._began + self._ends.max_hold_s
        self._renewing.start()
        self._await(None)

    def reach(self, lsn: Lsn) -> None:
        """Let it replay up to ``lsn`` and stand there."""
        with self._lock:
            hold.set_up_to(self._link, self._replica, self._token, lsn)
        # The primary may be idle: then something has to come behind the LSN to show that it is reached.
        flushed_position(self._ends.primary)
        self._await(lsn)

    def release(self) -> float | None:
        if self._held_s is None and self._began:
            self._over.set()
            with self._lock:
                if not self._link.closed:
                    hold.release(self._link, self._replica, self._token)
            self._held_s = time.monotonic() - self._began
        return self._held_s

    def _catch_up(self) -> None:
        """What the replica has still to do isn't done under the hold."""
        target = flushed_position(self._ends.primary)
        end = time.monotonic() + self._ends.max_hold_s
        said = time.monotonic() + 1
        while (position := position_of(self._link, self._replica)) < target:
            now = time.monotonic()
            if now > end:
                raise NotAtOneLsn(
                    f'replica "{self._replica}" stands at {position} and doesn\'t come to {target}, where the '
                    f"primary was {self._ends.max_hold_s:g} s ago",
                    hint="see `logship status` for what holds it up; when it is catching up, wait, or raise --max-hold",
                )
            if now > said:
                said = end
                self._ends.say(f"waiting for the replica, which stands at {position}, to come to {target}")
            time.sleep(0.05)

    def _await(self, lsn: Lsn | None) -> None:
        while True:
            with self._lock:
                request = hold.request(self._link, self._replica)
            if request is None or request.token != self._token:
                raise self._lost()
            if request.held_at is not None and request.up_to == lsn:
                return
            if time.monotonic() > self.deadline:
                what = "answer" if lsn is None else f"come to {lsn}"
                raise NotAtOneLsn(
                    f'replica "{self._replica}" was asked to stand still and did not {what} within '
                    f"{self._ends.max_hold_s:g} s",
                    hint="is it replaying something large, or waiting? See `logship status`; or raise --max-hold",
                )
            time.sleep(_LOOK_S)

    def _lost(self) -> NotAtOneLsn:
        return NotAtOneLsn(
            f'replica "{self._replica}" was held for longer than was agreed, and goes on', hint="try again"
        )

    def _renew(self) -> None:
        with suppress(psycopg.Error):  # the link is gone: the lease ends by itself, and `_await` says so
            while not self._over.wait(1.0) and time.monotonic() < self.deadline:
                with self._lock:
                    hold.renew(self._link, self._replica, self._token, _LEASE_S)


class _Alone:
    """No replayer runs, and none can start: its origin is ours. Leaves when the link is closed."""

    def __init__(self, ends: Ends, link: psycopg.Connection) -> None:
        self._ends = ends
        self._link = link
        self.deadline = time.monotonic() + ends.max_hold_s

    def begin(self) -> None:
        self._ends.say("no replayer is running, and none can start until the comparison has begun")

    def reach(self, lsn: Lsn) -> None:
        replica = self._ends.replica
        position = position_of(self._link, replica.name)
        if changes_between(self._ends.primary, self._ends.found, position, lsn):
            raise NotAtOneLsn(
                f'replica "{replica.name}" stands at {position}, nobody replays, and the primary\'s log has '
                f"changes for it before {lsn}",
                hint="run `logship run --primary … --secondary … --journal DIR --stop-at current` first, or "
                "start `logship run` and verify beside it",
            )

    def release(self) -> float | None:
        self._link.close()
        return None


@contextmanager
def _standing(ends: Ends) -> Iterator[_Held | _Alone]:
    with closing(connect(ends.secondary, Side.SECONDARY, application_name="logship verify")) as link:
        try:
            standing = _Alone(ends, link) if _take_origin(link, ends.replica) else _Held(ends, link)
            try:
                standing.begin()
                yield standing
            finally:
                standing.release()
        except psycopg.Error as error:
            raise failure(Side.SECONDARY, "hold the replica", error) from error


def _take_origin(link: psycopg.Connection, replica: Replica) -> bool:
    """Whether the origin is ours now: no replayer has it."""
    try:
        link.execute("select pg_catalog.pg_replication_origin_session_setup(%s)", [replica.origin])
    except psycopg.errors.ObjectInUse:
        return False
    except psycopg.errors.InsufficientPrivilege as error:
        raise SecondaryError(
            f'user "{link.info.user}" of the secondary may not do what the replayer may',
            hint='grant it the replayer\'s role: see "Rights" in docs/init.md',
        ) from error
    return True


def position_of(link: psycopg.Connection, replica: str) -> Lsn:
    row = link.execute(_POSITION, [replica]).fetchone()
    if row is None:
        raise SecondaryError(
            f'the secondary has no position of replica "{replica}"', hint="run `logship init` first"
        )
    return Lsn.parse(row[0])


# -- the two snapshots ----------------------------------------------------------------------------


@contextmanager
def _moment(ends: Ends, standing: _Held | _Alone) -> Iterator[Moment]:
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
        name, lsn = _slot(walsender, primary, ends, standing)
        begin(primary, name)
        exported = _export(primary)
        walsender.close()  # the slot goes with it; the snapshot lives on in our session
        standing.reach(lsn)
        begin(secondary, None)
        there = _export(secondary)
        position = position_of(secondary, ends.replica.name)
        if isinstance(standing, _Held) and position != lsn:
            raise NotAtOneLsn(
                f'replica "{ends.replica.name}" went on from {lsn} to {position} before it could be looked at',
                hint="try again",
            )
        yield Moment(lsn, position, primary, secondary, exported, there)


def _slot(
    walsender: psycopg.Connection, watcher: psycopg.Connection, ends: Ends, standing: _Held | _Alone
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


def _why_not(watcher: psycopg.Connection, ends: Ends, standing: _Held | _Alone, said: str) -> str:
    """Say once what keeps the slot from being made; raise when it has taken too long."""
    stuck = watcher.execute(_STUCK).fetchone()
    if isinstance(standing, _Held) and stuck is not None and stuck[0]:
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


def begin(link: psycopg.Connection, snapshot: str | None) -> None:
    """A REPEATABLE READ transaction, at ``snapshot`` when one is given."""
    link.execute("begin transaction isolation level repeatable read, read only")
    if snapshot is not None:
        link.execute(sql.SQL("set transaction snapshot {}").format(sql.Literal(snapshot)))


def _export(link: psycopg.Connection) -> str:
    row = link.execute("select pg_catalog.pg_export_snapshot()").fetchone()
    return str(row[0]) if row else ""
