"""When to send a status update to the walsender.

In: the positions as they are, what was sent last and when, what the stream asked. Out: yes or no, and
how long the stream may be waited on. No I/O, no clock: ``now_s`` is monotonic seconds, given.

Sent at once: when a keepalive asks; when a position moved, which happens after every fsync, every replayed
batch, and every keepalive that tells of a later end of the log: there is nothing before it, so it is journaled
as a position, and told as soon as that is fsynced, whether the keepalive asked or not (with a synchronous
standby, a commit that decodes to nothing waits for just that: PostgreSQL asks only after half of
wal_sender_timeout). A keepalive that says nothing new is not answered: a walsender sends one whenever it begins to
wait, and an answer without news would only wake it to send the next. Otherwise every ``interval_s``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from logship.capture.copydata import NOWHERE, Keepalive, Positions

INTERVAL_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Sent:
    """The last status update: ``at_s`` None when there was none in this session."""

    positions: Positions = NOWHERE
    at_s: float | None = None


def is_asked(keepalives: Iterable[Keepalive]) -> bool:
    """Whether one of ``keepalives`` asks for an answer."""
    return any(keepalive.reply_requested for keepalive in keepalives)


def is_due(
    positions: Positions,
    sent: Sent,
    now_s: float,
    *,
    interval_s: float = INTERVAL_S,
    reply_requested: bool = False,
) -> bool:
    """Whether ``positions`` are to be sent now. The caller sends, then keeps ``Sent(positions, now_s)``."""
    if reply_requested or positions != sent.positions:
        return True
    return sent.at_s is None or now_s - sent.at_s >= interval_s


def wait_s(sent: Sent, now_s: float, *, interval_s: float = INTERVAL_S) -> float:
    """How long the stream may be read without an update: until the timer is due, never below zero."""
    if sent.at_s is None:
        return 0.0
    return max(0.0, sent.at_s + interval_s - now_s)
