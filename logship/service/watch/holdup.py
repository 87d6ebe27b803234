"""Asks the secondary what the session that replays is at: at work, or waiting for somebody's lock.

In: that session's process id, while something is being replayed there. Out: `Seen`, with the time of the
answer: a secondary that stopped answering leaves an old one, which proves nothing any more. The columns of
pg_stat_activity are shown to the session's own role, so no right is needed. Never more than one question a
second, and none while nothing is being replayed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import psycopg

from logship.connection import Side, connect, cut
from logship.errors import SecondaryError

log = logging.getLogger(__name__)

_FRESH_S: Final = 5.0
_ASK: Final = """
select a.state, a.wait_event_type, pg_catalog.pg_blocking_pids(a.pid)
  from pg_catalog.pg_stat_activity a
 where a.pid = %s
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """``working``: the server executes a statement and waits for no lock. ``blockers``: processes that hold
    one it waits for, 0 for a prepared transaction."""

    at_s: float
    working: bool
    waits_for_lock: bool
    blockers: tuple[int, ...]

    @property
    def held_by(self) -> str:
        """What holds it up, in words; empty when nothing does."""
        if not self.waits_for_lock:
            return ""
        processes = ", ".join(str(pid) for pid in sorted(set(self.blockers)) if pid)
        prepared = "a prepared transaction" if 0 in self.blockers else ""
        who = " and ".join(each for each in (processes and f"process {processes}", prepared) if each)
        return f"it waits for a lock on the secondary, held by {who}" if who else "it waits for a lock"


class HoldUp:
    def __init__(self, secondary: str, session: Callable[[], int | None], *, interval_s: float = 1.0) -> None:
        """``session``: the process id to ask about; None: nothing is being replayed."""
        self._secondary = secondary
        self._session = session
        self._interval_s = interval_s
        self._stopping = threading.Event()
        self._connection: psycopg.Connection | None = None
        self._seen: Seen | None = None

    @property
    def seen(self) -> Seen | None:
        """What is true now, as far as it is known."""
        seen = self._seen
        return seen if seen is not None and time.monotonic() - seen.at_s <= _FRESH_S else None

    def run(self) -> None:
        try:
            while not self._stopping.wait(self._interval_s):
                pid = self._session()
                if pid is None:
                    self._seen = None
                else:
                    self._try(pid)
        finally:
            self._close()

    def stop(self) -> None:
        self._stopping.set()
        connection = self._connection
        if connection is not None:
            cut(connection)

    def _try(self, pid: int) -> None:
        try:
            self._ask(pid)
        except (psycopg.Error, SecondaryError) as error:
            log.debug("the secondary doesn't say what holds replay up: %s", type(error).__name__)
            self._seen = None
            self._close()

    def _ask(self, pid: int) -> None:
        if self._connection is None:
            self._connection = connect(self._secondary, Side.SECONDARY, application_name="logship watch")
        row = self._connection.execute(_ASK, [pid]).fetchone()
        if row is None:
            self._seen = None
            return
        state, wait_type, blockers = row
        locked = wait_type == "Lock"
        self._seen = Seen(time.monotonic(), state == "active" and not locked, locked, tuple(blockers))

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
