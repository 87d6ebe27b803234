"""Has the primary write into its log what its sequences have reached.

In: the probe's session on the primary, once a second. Out: a call of `logship.ddl_sequences`, which writes one
signed message for all that have moved so far that it is due, and nothing at all otherwise; everything is
written at the start and every few minutes, for replicas that were made meanwhile. Where schema changes aren't
captured it does nothing: there is no key to sign with.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

import psycopg

log = logging.getLogger(__name__)

_EVERYTHING_S: Final = 300.0
_CARRY: Final = "select logship.ddl_sequences(%s)"
_NOT_YET: Final = (
    psycopg.errors.LockNotAvailable,
    psycopg.errors.UndefinedTable,
)  # altered, or dropped, meanwhile


class Sequences:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._everything_at_s = clock()
        self._allowed = True
        self.written = 0  # states, since the start

    def look(self, connection: psycopg.Connection) -> None:
        """`psycopg.Error` when the primary is away."""
        if not self._allowed:
            return
        now_s = self._clock()
        everything = now_s >= self._everything_at_s
        try:
            with connection.transaction():
                # What is lost with a crash is written again: the table that says what was written loses it too.
                connection.execute("set local synchronous_commit = local")
                row = connection.execute(_CARRY, [everything]).fetchone()
        except _NOT_YET as error:
            log.debug("sequences are looked at again: %s", type(error).__name__)
        except (psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedFunction) as error:
            self._allowed = False
            log.warning(
                'user "%s" may not have sequences written into the log (%s): the secondary keeps those of the copy. '
                "As a superuser of the primary: grant execute on function logship.ddl_sequences(boolean) to it",
                connection.info.user,
                type(error).__name__,
            )
        else:
            self.written += row[0] if row else 0
            if everything:
                self._everything_at_s = now_s + _EVERYTHING_S
