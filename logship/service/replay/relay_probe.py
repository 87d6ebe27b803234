"""Asks the shipper, once a second, what the primary last told it: where its log ends, its clock, the slot.

In: a connection of its own to the relay. Out: what `logship.service.watch.probe` has of the primary itself, as old as
the shipper says it is: a shipper that can't reach the primary gives an answer that grows old, and so do the
views. Another question has an answer of its own: where the log ends once all is flushed (`mark`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from typing import Final

import psycopg

from logship.capture.relay_stream import connected, shown
from logship.errors import PrimaryError, ProtocolViolation
from logship.lsn import Lsn
from logship.service.positions import Positions, now_us
from logship.service.watch.probe import Answer, Probe, SlotFigures

PRIMARY: Final = "logship.primary"
MARK: Final = "logship.mark"
_COLUMNS: Final = 9


class RelayProbe(Probe):
    """``shipper``: the relay's conninfo; ``replica``: who asks."""

    def __init__(self, shipper: str, replica: str, positions: Positions, *, interval_s: float) -> None:
        super().__init__(shipper, replica, positions, interval_s=interval_s)
        self._shipper = shipper
        self._replica = replica

    def _ask(self) -> None:
        if self._connection is None:
            self._connection = connected(self._shipper, f"{self._replica} probe")
        asked_us = now_us()
        row = shown(self._connection, PRIMARY)
        middle_us = (asked_us + now_us()) // 2
        if len(row) != _COLUMNS:
            raise ProtocolViolation(f"an answer to SHOW {PRIMARY} with {len(row)} columns")
        wal_lsn, flush_lsn, clock_us, age_us = row[:4]
        if wal_lsn is None or flush_lsn is None or clock_us is None or age_us is None:
            return  # the shipper has had no answer yet
        age = _number(age_us)
        self._positions.heard(Lsn.parse(wal_lsn), _number(clock_us) + age - middle_us, age_us=age)
        self.answer = Answer(time.monotonic() - age / 1e6, Lsn.parse(flush_lsn), _slot(row[4:]))


def mark(shipper: str, replica: str, wait: Callable[[PrimaryError], bool]) -> Lsn | None:
    """Where the primary's log ends once all that it has committed by now is flushed. Asks until there is an
    answer; ``wait`` is told why there is none yet, and says whether to ask again. None: it said no."""
    while True:
        try:
            with closing(connected(shipper, f"{replica} stop-at")) as connection:
                (lsn,) = shown(connection, MARK)
                if lsn is None:
                    raise ProtocolViolation(f"an answer to SHOW {MARK} without an LSN")
                return Lsn.parse(lsn)
        except PrimaryError as error:
            if not getattr(error, "transient", False):
                raise
            failed = error
        except psycopg.Error as error:
            failed = PrimaryError(
                f"the shipper doesn't say where the primary's log ends: "
                f"{error.diag.message_primary or type(error).__name__}",
                hint="can the shipper reach the primary? See its log",
            )
        if not wait(failed):
            return None


def _slot(row: tuple[str | None, ...]) -> SlotFigures:
    active, wal_status, retained, safe, exists = row
    return SlotFigures(
        exists=_yes(exists) is True,
        active=_yes(active),
        wal_status=wal_status,
        retained_bytes=None if retained is None else _number(retained),
        safe_wal_size=None if safe is None else _number(safe),
    )


def _yes(text: str | None) -> bool | None:
    return None if text is None else text in ("t", "true", "on")


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ProtocolViolation("an answer of the shipper that should be a number") from None
