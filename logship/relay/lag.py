"""How long replicas take, as pg_stat_replication has it: write_lag, flush_lag, replay_lag.

In: when this shipper's journal was how far; what each replica reported, and when. Out: for each position, the
age of the oldest part of the journal that the replica lacks; where it lacks nothing, the time that the last
part took; NULL (None) once that is `SHOWN_S` old, or where nothing was measured. So an idle link shows nothing, one
that was cut shows an age that grows, and none ever shows zero for what it doesn't know. Pure; ``now_s`` is monotonic.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from logship.lsn import INVALID, Lsn
from logship.relay.synchrony import Positions3

SHOWN_S: Final = 10.0
_GRAIN_S: Final = 0.001
_MOST: Final = 8_192

Lag: TypeAlias = float | None


@dataclass(slots=True)
class _Measured:
    lsn: Lsn = INVALID
    took_s: float = 0.0
    at_s: float | None = None


@dataclass(slots=True)
class _Replica:
    positions: dict[str, _Measured] = field(
        default_factory=lambda: {name: _Measured() for name in ("write", "flush", "replay")}
    )


class Lags:
    def __init__(self) -> None:
        self._lsns: list[Lsn] = []
        self._times_s: list[float] = []
        self._replicas: dict[str, _Replica] = {}

    def noted(self, lsn: Lsn, now_s: float) -> None:
        """The journal is at ``lsn`` now."""
        if self._lsns and lsn <= self._lsns[-1]:
            return
        if self._times_s and now_s - self._times_s[-1] < _GRAIN_S:
            self._lsns[-1] = lsn
            return
        self._lsns.append(lsn)
        self._times_s.append(now_s)
        if len(self._lsns) > _MOST:
            self._thin_out()

    def reported(self, name: str, positions: Positions3, now_s: float) -> None:
        replica = self._replicas.setdefault(name, _Replica())
        for which, measured in replica.positions.items():
            lsn: Lsn = getattr(positions, which)
            passed = bisect_right(self._lsns, lsn)
            # Of a first report it isn't known when the replica got there.
            if passed > bisect_right(self._lsns, measured.lsn) and measured.lsn != INVALID:
                measured.took_s, measured.at_s = max(0.0, now_s - self._times_s[passed - 1]), now_s
            measured.lsn = lsn

    def forgotten(self, name: str) -> None:
        self._replicas.pop(name, None)

    def lags(self, name: str, now_s: float) -> tuple[Lag, Lag, Lag]:
        """Of write, flush and replay, in seconds."""
        replica = self._replicas.get(name)
        if replica is None:
            return (None, None, None)
        write, flush, replay = (self._lag(measured, now_s) for measured in replica.positions.values())
        return (write, flush, replay)

    def _lag(self, measured: _Measured, now_s: float) -> Lag:
        if measured.lsn == INVALID:
            return None
        lacks = bisect_right(self._lsns, measured.lsn)
        if lacks < len(self._lsns):
            return max(0.0, now_s - self._times_s[lacks])
        if measured.at_s is None or now_s - measured.at_s > SHOWN_S:
            return None
        return measured.took_s

    def _thin_out(self) -> None:
        """What every replica has goes; then each second one, with the earlier time and the later LSN."""
        lowest = min(
            (m.lsn for r in self._replicas.values() for m in r.positions.values() if m.lsn != INVALID),
            default=INVALID,
        )
        done = max(0, bisect_right(self._lsns, lowest) - 1)
        del self._lsns[:done], self._times_s[:done]
        if len(self._lsns) > _MOST // 2:
            even = len(self._lsns) // 2 * 2
            self._lsns = self._lsns[1:even:2] + self._lsns[even:]
            self._times_s = self._times_s[0:even:2] + self._times_s[even:]
