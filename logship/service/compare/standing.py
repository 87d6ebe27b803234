"""The replica stands still, whoever replays: a running replayer is held, or none can start meanwhile.

In: where the two sides are, for how long the replayer may stand. Out: `Held` or `Alone`, both of which
`begin`, `reach` an LSN and `release`. A hold is a lease that is renewed by a thread until ``max_hold_s`` is
over and no longer: whatever becomes of this program, the replica goes on.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import psycopg

from logship.catalog import hold, news
from logship.catalog.state import Replica
from logship.connection import Side, connect
from logship.errors import LogshipError, SecondaryError
from logship.lsn import Lsn
from logship.replay.origins import further
from logship.service.replay.between import changes_between
from logship.service.replica import Found
from logship.service.watch.probe import flushed_position
from logship.snapshot.failures import failure

LEASE_S: Final = 5.0
_RENEW_S: Final = 1.0
_LOOK_S: Final = 0.05
_POSITION: Final = "select p.replay_lsn::pg_catalog.text from logship.position p where p.replica = %s"

Say: TypeAlias = Callable[[str], None]


class NotAtOneLsn(LogshipError):
    """The two sides can't be brought to one LSN now. The answer is no; nothing was changed."""

    exit_code = 1


@dataclass(slots=True)
class Ends:
    """Where, and for how long at most the replayer may be held. ``token`` names who asks."""

    primary: str
    secondary: str
    found: Found
    max_hold_s: float
    say: Say = field(default=lambda _: None)
    token: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def replica(self) -> Replica:
        return self.found.replica


class Lease:
    """Renewed every second, over a connection of its own: the command's may be waiting. Until ``deadline``
    (`time.monotonic`), or until `end`."""

    def __init__(
        self, secondary: str, renew: Callable[[psycopg.Connection], object], deadline: float = float("inf")
    ) -> None:
        self._secondary = secondary
        self._renew = renew
        self._deadline = deadline
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        # When the link is gone the lease ends by itself, and whoever waits for an answer is told so.
        with (
            suppress(psycopg.Error, SecondaryError),
            closing(connect(self._secondary, Side.SECONDARY, application_name="logship lease")) as link,
        ):
            while not self._over.wait(_RENEW_S) and time.monotonic() < self._deadline:
                self._renew(link)


@contextmanager
def standing(ends: Ends) -> Iterator[Held | Alone]:
    with closing(connect(ends.secondary, Side.SECONDARY, application_name="logship verify")) as link:
        try:
            found = Alone(ends, link) if _take_origin(link, ends.replica) else Held(ends, link)
            try:
                found.begin()
                yield found
            finally:
                found.release()
        except psycopg.Error as error:
            raise failure(Side.SECONDARY, "hold the replica", error) from error


class Held:
    """A running replayer, held."""

    def __init__(self, ends: Ends, link: psycopg.Connection) -> None:
        self._ends = ends
        self._link = link
        self._replica = ends.replica.name
        self._token = ends.token
        self._began = self.deadline = 0.0
        self._held_s: float | None = None
        self._lease: Lease | None = None

    def begin(self) -> None:
        self._catch_up()
        news.listen_as_command(self._link)
        if not hold.ask(self._link, self._replica, self._token, LEASE_S):
            raise NotAtOneLsn(
                f'another command holds replica "{self._replica}" just now', hint="wait for its end"
            )
        self._began = time.monotonic()
        self.deadline = self._began + self._ends.max_hold_s
        self._lease = Lease(
            self._ends.secondary,
            lambda link: hold.renew(link, self._replica, self._token, LEASE_S),
            self.deadline,
        )
        self._await(None)

    def reach(self, lsn: Lsn) -> None:
        """Let it replay up to ``lsn`` and stand there."""
        hold.set_up_to(self._link, self._replica, self._token, lsn)
        # The primary may be idle: then something has to come behind the LSN to show that it is reached.
        flushed_position(self._ends.primary)
        self._await(lsn)

    def release(self) -> float | None:
        if self._held_s is None and self._lease is not None:
            self._lease.end()
            if not self._link.closed:
                hold.release(self._link, self._replica, self._token)
            self._held_s = time.monotonic() - self._began
        return self._held_s

    def _catch_up(self) -> None:
        """What the replica has still to do isn't done under the hold.

        The position is polled: a replayer that told of each step would pay for it at every commit.
        """
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
            time.sleep(_LOOK_S)

    def _await(self, lsn: Lsn | None) -> None:
        while True:
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
            news.wait(self._link, _RENEW_S)

    def _lost(self) -> NotAtOneLsn:
        return NotAtOneLsn(
            f'replica "{self._replica}" was held for longer than was agreed, and goes on', hint="try again"
        )


class Alone:
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


def _take_origin(link: psycopg.Connection, replica: Replica) -> bool:
    """Whether the origin is ours now: no replayer has it, nor any other of this replica's."""
    made = "select o.roname from pg_catalog.pg_replication_origin o where o.roname = any (%s)"
    try:
        for (further_one,) in link.execute(made, [further(replica.origin)]).fetchall():
            link.execute("select pg_catalog.pg_replication_origin_session_setup(%s)", [further_one])
            link.execute("select pg_catalog.pg_replication_origin_session_reset()")
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
