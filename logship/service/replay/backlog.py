"""How long a batch may grow before a store that has nothing to do gets it: not at all, but in a backlog.

In: what is pending, when its last transaction was committed, what was handed over; two clocks. Out: seconds to go on
gathering. Where capture is slower than the stores, each piece of a backlog would find a store idle and become a batch,
and what a larger one saves (a hot row written once, a statement planned once) would be lost. A replica is behind
when its newest transaction is older than a second, and gathering pays when the batch before held some kilobytes: so
a steady load is handed over at once, also where the primary's clock is wrong, and so is a commit that somebody
waits for. No I/O.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from logship.capture.copydata import microseconds

GATHER_S: Final = 0.03
_BEHIND_US: Final = 1_000_000
_PAYS_BYTES: Final = 16 << 10
_ENOUGH_BYTES: Final = 1 << 20


class Backlog:
    """Belongs to the replay thread."""

    def __init__(
        self, clock: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._last_bytes = 0
        self._since: float | None = None  # the batch in the making is pending

    def handed_over(self, size_bytes: int) -> None:
        self._last_bytes = size_bytes
        self._since = None

    def gather_s(self, pending_bytes: int, commit_time_us: int) -> float:
        """How long the pending batch, whose last transaction was committed then (microseconds since 2000; 0: it
        has none), may still grow. 0: hand it over."""
        now = self._monotonic()
        if self._since is None:
            self._since = now
        pays = self._last_bytes >= _PAYS_BYTES and 0 < pending_bytes < _ENOUGH_BYTES
        behind = 0 < commit_time_us < microseconds(self._clock()) - _BEHIND_US
        return max(0.0, self._since + GATHER_S - now) if pays and behind else 0.0
