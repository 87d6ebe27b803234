"""Asks the primary, once a second, where its log ends and what its clock says.

In: a connection of its own to the primary. Out: `Positions.heard`. The walsender's stream can't tell:
while the shipper is behind, it names only the changes that it sends. A primary that doesn't
answer is not an error here; the last answer just grows old, and the views show its age.
"""

from __future__ import annotations

import logging
import threading

import psycopg

from logship.connection import Side, connect
from logship.errors import PrimaryError
from logship.lsn import Lsn
from logship.service.positions import Positions, now_us

log = logging.getLogger(__name__)

# Microseconds since 2000-01-01, as the log counts them.
_ASK = (
    "select pg_catalog.pg_current_wal_lsn()::text, "
    "(extract(epoch from pg_catalog.clock_timestamp() - timestamptz '2000-01-01 00:00:00+00') * 1000000)::bigint"
)


class Probe:
    def __init__(self, primary: str, positions: Positions, *, interval_s: float) -> None:
        self._primary = primary
        self._positions = positions
        self._interval_s = interval_s
        self._stopping = threading.Event()
        self._connection: psycopg.Connection | None = None
        self._answered = True

    def run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._try()
                self._stopping.wait(self._interval_s)
        finally:
            self._close()

    def stop(self) -> None:
        self._stopping.set()

    def _try(self) -> None:
        try:
            self._ask()
        except (psycopg.Error, PrimaryError) as error:
            if self._answered:
                log.warning("the primary doesn't say where its log ends: %s", type(error).__name__)
            self._answered = False
            self._close()
        else:
            self._answered = True

    def _ask(self) -> None:
        if self._connection is None:
            self._connection = connect(self._primary, Side.PRIMARY, application_name="logship probe")
        asked_us = now_us()
        row = self._connection.execute(_ASK).fetchone()
        answered_us = now_us()
        if row is not None:
            self._positions.heard(Lsn.parse(row[0]), row[1] - (asked_us + answered_us) // 2)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def flushed_position(primary: str) -> Lsn:
    """Where the log ends, once all that the primary has committed by now is flushed.

    A commit of our own makes it so: commits under ``synchronous_commit = off`` are flushed with it,
    and an idle primary's log would otherwise not be sent to its very end.
    """
    with connect(primary, Side.PRIMARY, application_name="logship stop-at") as connection:
        connection.execute("select pg_catalog.pg_logical_emit_message(true, 'logship.mark', '')")
        row = connection.execute("select pg_catalog.pg_current_wal_flush_lsn()::text").fetchone()
    if row is None:
        raise PrimaryError("the primary doesn't say where its log ends")
    return Lsn.parse(row[0])
