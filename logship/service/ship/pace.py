"""How eagerly the shipper turns: at once where a commit on the primary may wait for it, gathering where none does.

In: what the primary says of its synchronous standbys; the time. Out: how long to let the stream gather before it is
read again, how long an fsync may be put off, when a status update is due. Nothing here decides what may be told,
only when: nothing is acknowledged before it is fsynced either way.

A commit waits for us when `synchronous_standby_names` lists our connection. As long as nobody has asked, or where the
primary doesn't show it to our user, it is taken that one may. While none waits, each message read by itself, each
fsync and each status update (which wakes the walsender) would cost the clients of a busy primary CPU and disk for
nothing. Setting the name takes effect here within a second.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import psycopg

from logship.capture.feedback import Sent

GATHER_S: Final = 0.004  # between two reads while nobody waits: the mean of what it adds to lag is half of it
FSYNC_SPACING_S: Final = 0.05  # a commit on the same disk waits for each
STATUS_SPACING_S: Final = 0.1
_MUCH_BYTES: Final = (
    16 * 1024
)  # more than this at once: there is a backlog, or a load that needs no gathering
_BACKLOG_S: Final = 0.1  # that it is taken to last

_ASK: Final = """
select pg_catalog.current_setting('synchronous_standby_names') operator(pg_catalog.<>) ''
       and coalesce((select s.sync_state operator(pg_catalog.<>) 'async'
                     from pg_catalog.pg_stat_replication s where s.pid operator(pg_catalog.=) %s), true)
"""


class Pace:
    """`look` is for the probe's thread, `awaited` and `backend_pid` may be used from any, the rest is the shipper's."""

    def __init__(self, interval_s: float, changed: Callable[[], None]) -> None:
        """``interval_s``: a status update goes at least this often. ``changed``: called when somebody waits now."""
        self._interval_s = interval_s
        self._changed = changed
        self._busy_until_s = 0.0
        self.awaited = True
        self.backend_pid: int | None = None  # of the walsender session under way

    def look(self, connection: psycopg.Connection) -> None:
        """Ask the primary whether commits wait for our session."""
        row = connection.execute(_ASK, [self.backend_pid]).fetchone()
        awaited, before = row is None or bool(row[0]), self.awaited
        self.awaited = awaited
        if awaited and not before:
            self._changed()

    @property
    def fsync_spacing_s(self) -> float:
        return 0.0 if self.awaited else FSYNC_SPACING_S

    @property
    def gather_s(self) -> float:
        """How long a read looks for more while there is a backlog: what a walsender sends is read in few large
        pieces, without leaving it in the socket, which holds little and would hold it up."""
        return GATHER_S if not self.awaited and time.monotonic() <= self._busy_until_s else 0.0

    def rest(self, read_bytes: int) -> None:
        """After a read: let the stream gather, unless somebody waits, or there is a backlog: a rest then would only
        fill the socket, and hold the walsender up."""
        if self.awaited:
            return
        if read_bytes > _MUCH_BYTES:
            self._busy_until_s = time.monotonic() + _BACKLOG_S
        elif time.monotonic() > self._busy_until_s:
            time.sleep(GATHER_S)

    def may_tell(self, sent: Sent, now_s: float) -> bool:
        """Whether positions that moved are to be told now."""
        return self.awaited or sent.at_s is None or now_s - sent.at_s >= STATUS_SPACING_S

    def wait_s(self, sent: Sent, now_s: float, *, pending: bool) -> float:
        """How long the stream may be read before a status update is due. ``pending``: there will be more to tell
        than was told, once an fsync is over perhaps."""
        if sent.at_s is None:
            return 0.0
        spaced = pending and not self.awaited
        interval_s = min(STATUS_SPACING_S, self._interval_s) if spaced else self._interval_s
        left_s = sent.at_s + interval_s - now_s
        # Past it nothing has moved that could be told: it will when the fsync is over, and nobody wakes us then.
        return FSYNC_SPACING_S if spaced and left_s <= 0 else max(0.0, left_s)
