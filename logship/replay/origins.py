"""The replication origins of one replica: one for each session that writes.

In: a session of persistence's, the name of the replica's first origin. Out: the origins of further sessions, made
or taken. An origin belongs to one session at a time, and until that has ended: who holds all of a replica's origins
knows that nothing of a predecessor can be committed any more. They are taken in one order, the first session's at
last, so that two who begin at the same time don't wait for one another. The server has places for so many of them
(max_active_replication_origins, before version 18 max_replication_slots), and one keeps its place until it is dropped.

The name of another session's origin can't be that of a replica's: those begin with logship_.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final

from logship.kernel import binary_text_array
from logship.replay.session import TEXT, TEXT_ARRAY, Command, ServerError, Session

log = logging.getLogger(__name__)

MOST_SESSIONS: Final = 8  # as logship.session_origin has it
_IN_USE: Final = "55006"
_AGAIN_S: Final = 0.1
_SAY_EVERY: Final = 100

_SETUP: Final = b"select pg_catalog.pg_replication_origin_session_setup($1)"
_RESET: Final = b"select pg_catalog.pg_replication_origin_session_reset()"
_MADE: Final = b"select logship.session_origin($1, $2)"
_EXISTING: Final = b"""
select pg_catalog.string_agg(o.n::pg_catalog.text, ' ' order by o.n)
  from pg_catalog.unnest($1) with ordinality o (roname, n)
  join pg_catalog.pg_replication_origin p on p.roname operator(pg_catalog.=) o.roname
"""


def further(origin: str) -> list[str]:
    """The names of the second session's origin and of all that may follow."""
    return [f"logship.{number}.{origin}" for number in range(2, MOST_SESSIONS + 1)]


def make(session: Session, replica: str, number: int) -> bytes | None:
    """The name of session ``number``'s, which exists then. `ServerError` where that isn't allowed."""
    return session.run([Command(_MADE, [replica.encode(), b"%d" % number], [TEXT, 23])])[0]


def existing(session: Session, origin: str) -> list[bytes]:
    """Of further sessions, those that have been made."""
    names = [name.encode() for name in further(origin)]
    found = session.run([Command(_EXISTING, [binary_text_array(names)], [TEXT_ARRAY])])[0]
    return [names[int(place) - 1] for place in (found or b"").split()]


def take(session: Session, name: bytes, wait: Callable[[float], None]) -> None:
    """``session`` has it from here on. While another one has it ``wait`` is called with seconds."""
    tries = 0
    while True:
        try:
            session.run([Command(_SETUP, [name], [TEXT])])
        except ServerError as error:
            if error.sqlstate != _IN_USE:
                raise
            if tries % _SAY_EVERY == 0:
                log.info("waiting for the predecessor to end: %s", error.reason)
            tries += 1
            wait(_AGAIN_S)
        else:
            return


def outlast(session: Session, names: Sequence[bytes], wait: Callable[[float], None]) -> None:
    """Returns when nobody has one of ``names``. ``session`` must not have one."""
    for name in names:
        try:
            take(session, name, wait)
        except ServerError as error:
            if error.sqlstate is None:
                raise
            continue  # it can't be taken at all: then nobody has
        session.run([Command(_RESET)])
