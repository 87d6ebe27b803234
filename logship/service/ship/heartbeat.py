"""Keeps something in the log of a database where nobody writes, so that lag is measured and the slot advances.

In: the probe's session on the primary, once a second; how many transactions the shipper has received. Out: a
logical message, transactional and empty, with the prefix `logship.heartbeat`, at most every ``interval_s``, and
none while other transactions come. It passes through the journal to every replica like any transaction, with
its commit time, and changes nothing anywhere: who forges one gains nothing by it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

import psycopg

log = logging.getLogger(__name__)

_BEAT: Final = "select pg_catalog.pg_logical_emit_message(true, 'logship.heartbeat', '')"


class Heartbeat:
    """``transactions``: how many have been received so far; ``interval_s`` 0: none is ever sent."""

    def __init__(
        self,
        transactions: Callable[[], int],
        interval_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._transactions = transactions
        self._interval_s = interval_s
        self._clock = clock
        self._looked_s: float | None = None
        self._seen = 0
        self._own = 0  # beats since the last look, which come back as transactions
        self._allowed = True
        self.beats = 0

    def look(self, connection: psycopg.Connection) -> None:
        """Beat, if it is time and nothing else came. `psycopg.Error` when the primary is away."""
        now_s, seen = self._clock(), self._transactions()
        if not self._interval_s or not self._allowed:
            return
        if self._looked_s is not None and now_s - self._looked_s < self._interval_s:
            return
        moved = seen - self._seen > self._own
        self._looked_s, self._seen, self._own = now_s, seen, 0
        if moved:
            return
        try:
            connection.execute(_BEAT)
        except psycopg.errors.InsufficientPrivilege:
            self._allowed = False
            log.warning(
                'user "%s" may not write heartbeats into the log: on an idle database no lag is measured. '
                "As a superuser: grant execute on function "
                "pg_catalog.pg_logical_emit_message(boolean, text, text) to it",
                connection.info.user,
            )
        else:
            self._own = 1
            self.beats += 1
