"""Asks the primary, once a second, where its log ends, what its clock says, and how the slot stands.

In: a connection of its own to the primary. Out: `Positions.heard`, and `SlotFigures`. The walsender's
stream can't tell: while the shipper is behind, it names only the changes that it sends. A primary that
doesn't answer is not an error here; the last answer just grows old, and the views show its age.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psycopg

from logship.connection import Side, connect, cut
from logship.errors import PrimaryError
from logship.lsn import Lsn
from logship.service.positions import Positions, now_us

log = logging.getLogger(__name__)

# Microseconds since 2000-01-01, as the log counts them. A walsender sends what is flushed, no more.
_ASK = """
select pg_catalog.pg_current_wal_lsn()::text,
       (extract(epoch from pg_catalog.clock_timestamp() - timestamptz '2000-01-01 00:00:00+00') * 1000000)::bigint,
       pg_catalog.pg_current_wal_flush_lsn()::text,
       s.slot_name is not null, s.active, s.wal_status,
       (pg_catalog.pg_current_wal_lsn() operator(pg_catalog.-) s.restart_lsn)::bigint, s.safe_wal_size
  from (select) as always
  left join pg_catalog.pg_replication_slots s on s.slot_name = %s
"""


@dataclass(frozen=True, slots=True)
class SlotFigures:
    """A row of pg_replication_slots. ``safe_wal_size`` None: no limit is set, or the slot is lost."""

    exists: bool
    active: bool | None
    wal_status: str | None
    retained_bytes: int | None
    safe_wal_size: int | None


@dataclass(frozen=True, slots=True)
class Answer:
    """``at_s``: monotonic seconds. ``flush_lsn``: what a walsender may have sent by then."""

    at_s: float
    flush_lsn: Lsn
    slot: SlotFigures


class Probe:
    """``looks`` are given the session after each answer: what else is asked of, or told to, the primary once a
    second. A `psycopg.Error` from them is one of the link's, anything else ends the program."""

    def __init__(
        self,
        primary: str,
        slot: str,
        positions: Positions,
        *,
        interval_s: float,
        looks: Sequence[Callable[[psycopg.Connection], None]] = (),
    ) -> None:
        self._primary = primary
        self._slot = slot
        self._positions = positions
        self._interval_s = interval_s
        self._looks = tuple(looks)
        self._stopping = threading.Event()
        self._connection: psycopg.Connection | None = None
        self._answered = True
        self.answer: Answer | None = None  # the last one; None: there was none yet

    def run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._try()
                self._stopping.wait(self._interval_s)
        finally:
            self._close()

    def stop(self) -> None:
        self._stopping.set()
        connection = self._connection
        if connection is not None:
            cut(connection)

    def _try(self) -> None:
        try:
            self._ask()
        except (psycopg.Error, PrimaryError) as error:
            if self._answered and not self._stopping.is_set():
                log.warning("the primary doesn't say where its log ends: %s", type(error).__name__)
            self._answered = False
            self._close()
        else:
            self._answered = True

    def _ask(self) -> None:
        if self._connection is None:
            self._connection = connect(
                self._primary,
                Side.PRIMARY,
                application_name="logship probe",
                settings={"default_transaction_read_only": "off"},  # ``looks`` write down what they know
            )
        asked_us = now_us()
        row = self._connection.execute(_ASK, [self._slot]).fetchone()
        answered_us = now_us()
        if row is not None:
            self._positions.heard(Lsn.parse(row[0]), row[1] - (asked_us + answered_us) // 2)
            self.answer = Answer(time.monotonic(), Lsn.parse(row[2]), SlotFigures(*row[3:]))
        for look in self._looks:
            look(self._connection)

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
        raise PrimaryError(
            "the primary doesn't say where its log ends", hint="is --primary a primary, and not a standby?"
        )
    return Lsn.parse(row[0])
