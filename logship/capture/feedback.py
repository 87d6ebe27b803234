"""When to send a status update to the walsender.

In: the positions as they are, what was sent last and when, what the stream asked. Out: yes or no, and
how long the stream may be waited on. No I/O, no clock: ``now_s`` is monotonic seconds, given.

Sent at once: when a keepalive asks; when a keepalive moved the LSN, whether it asks or not, unless the server was
told of as much (with a synchronous standby, a commit that decodes to nothing waits for just that answer: PostgreSQL
asks only after half of wal_sender_timeout); when a position moved, which happens after every fsync and every
replayed batch, so the caller decides once per turn of its loop and what moved in between is one
update. Otherwise every ``interval_s``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from logship.capture.copydata import NOWHERE, Keepalive, Positions
from logship.lsn import INVALID, Lsn

INTERVAL_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Heard:
    """What some keepalives ask for."""

    reply_requested: bool
    moved: bool  # one told of a later end of the WAL than was told before
    wal_end: Lsn  # the latest that was told

    def is_news(self, sent: Sent) -> bool:
        """Whether the LSN was moved to where the server doesn't know yet that it is flushed. A walsender sends a
        keepalive whenever it begins to wait: behind what is answered already, another answer would only wake it."""
        return self.moved and self.wal_end > sent.positions.flush


@dataclass(frozen=True, slots=True)
class Sent:
    """The last status update: ``at_s`` None when there was none in this session."""

    positions: Positions = NOWHERE
    at_s: float | None = None


def heard(keepalives: Iterable[Keepalive], wal_end: Lsn = INVALID) -> Heard:
    """What ``keepalives`` say; ``wal_end`` is the latest that was told before."""
    asked = moved = False
    for keepalive in keepalives:
        asked |= keepalive.reply_requested
        if keepalive.wal_end > wal_end:
            moved, wal_end = True, keepalive.wal_end
    return Heard(asked, moved, wal_end)


def is_due(
    positions: Positions,
    sent: Sent,
    now_s: float,
    *,
    interval_s: float = INTERVAL_S,
    reply_requested: bool = False,
    moved: bool = False,
) -> bool:
    """Whether ``positions`` are to be sent now. The caller sends, then keeps ``Sent(positions, now_s)``."""
    if reply_requested or moved or positions != sent.positions:
        return True
    return sent.at_s is None or now_s - sent.at_s >= interval_s


def wait_s(sent: Sent, now_s: float, *, interval_s: float = INTERVAL_S) -> float:
    """How long the stream may be read without an update: until the timer is due, never below zero."""
    if sent.at_s is None:
        return 0.0
    return max(0.0, sent.at_s + interval_s - now_s)
