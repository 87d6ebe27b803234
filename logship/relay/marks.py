"""When a position was reached: enough of it to say how long something has been waiting.

In: positions in ascending order with the time. Out: when a given one was passed. Pure; holds a few hundred
entries at most.
"""

from __future__ import annotations

from bisect import bisect_right

from logship.lsn import Lsn


class Marks:
    """When the journal was how far. Bounded: neighbours become one, with the earlier time and the later LSN,
    so ages are never too small and too large by at most a 256th of the horizon; older ones need no telling apart."""

    def __init__(self, horizon_s: float) -> None:
        self._horizon_s = horizon_s
        self._lsns: list[Lsn] = []
        self._times_s: list[float] = []

    def add(self, lsn: Lsn, now_s: float) -> None:
        if self._lsns and lsn <= self._lsns[-1]:
            return
        if self._times_s and now_s - self._times_s[-1] < self._horizon_s / 256:
            self._lsns[-1] = lsn
            return
        self._lsns.append(lsn)
        self._times_s.append(now_s)
        while len(self._times_s) > 1 and now_s - self._times_s[1] >= self._horizon_s:
            del self._times_s[0], self._lsns[0]

    def first_after(self, lsn: Lsn) -> float | None:
        """When the journal went past ``lsn``; None: it hasn't."""
        index = bisect_right(self._lsns, lsn)
        return self._times_s[index] if index < len(self._times_s) else None
