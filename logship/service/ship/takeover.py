"""The beginning of a shipper: be the slot's only one, have its journal, and only then receive.

In: the slot on the primary, the journal's directory. Out: the open journal, and an `Epoch` that is claimed. In
this order: a journal that can't follow the slot, or isn't the slot's, is refused, and fences nobody; the
epoch is taken, which the predecessor sees before its next stream; its session is ended; where the slot stands then
is where an empty journal begins; and the primary remembers the journal. Until then nothing is received or
acknowledged: a crash in between leaves a slot that any of the two can go on with.

Crash windows, each with its failpoint: `takeover.claimed` (the epoch is taken, and there is no journal yet) and
`takeover.opened` (there is one, and the primary doesn't know it).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

import psycopg

from logship.capture.slot import System
from logship.capture.slot_state import SlotState, read_slot
from logship.config import JournalBounds
from logship.errors import SlotMissing
from logship.failpoints import hit
from logship.journal.log import Journal
from logship.lsn import Lsn
from logship.service.ship.epoch import Epoch, session
from logship.service.ship.shipper import require_no_gap
from logship.service.ship.shipping import open_journal

log = logging.getLogger(__name__)

_ASK_AGAIN_S: Final = 0.2


def take_over(
    primary: str,
    epoch: Epoch,
    system: System,
    directory: Path,
    bounds: JournalBounds,
    *,
    stopped: Callable[[float], bool],
    require: Callable[[Lsn], None] = lambda _: None,
) -> Journal:
    """The journal, to be closed by the caller. ``stopped`` waits so many seconds, less when the program is told to
    stop, and says whether it was. ``require`` is given the LSN where the journal begins, and raises when whoever
    is to read it needs more."""
    with session(primary) as connection:

        def begin() -> Lsn:
            epoch.admit(connection, None)
            require(_slot(connection, epoch.slot).confirmed_flush_lsn)
            epoch.claim(connection)
            hit("takeover.claimed")
            return _alone(connection, epoch, stopped)

        journal = open_journal(directory, system, begin, bounds)
        try:
            if epoch.number is None:
                epoch.admit(connection, journal.identity)
            require(journal.oldest_lsn)
            if epoch.number is None:
                require_no_gap(_slot(connection, epoch.slot), journal.written_lsn)
                epoch.claim(connection, journal.identity)
            hit("takeover.opened")
            epoch.remember(connection, journal.identity)
        except BaseException:
            journal.close()
            raise
    return journal


def _alone(connection: psycopg.Connection, epoch: Epoch, stopped: Callable[[float], bool]) -> Lsn:
    """Where the slot stands, once nobody reads it."""
    waits = False
    while True:
        epoch.end_predecessor(connection)
        state = _slot(connection, epoch.slot)
        if state.active_pid is None:
            return state.confirmed_flush_lsn
        if not waits:
            log.warning(
                'slot "%s" is in use by process %d: waiting until it is free', epoch.slot, state.active_pid
            )
            waits = True
        if stopped(_ASK_AGAIN_S):
            return state.confirmed_flush_lsn  # nothing will be received


def _slot(connection: psycopg.Connection, slot: str) -> SlotState:
    state = read_slot(connection, slot)
    if state is None:
        raise SlotMissing(slot)
    return state
