"""Decides whether a stage stands: it has had something to do and has made no progress for too long.

In: sightings of each stage, again and again, and the time. Out: a verdict for each. A stage makes progress
when its position moves, or when it has finished a piece of work that will move it later (one piece of
a large transaction). One that is seen at work in a single long piece doesn't stand either: it is *busy*,
and the verdict says with what, unless that piece is tried again and again. No clock, no I/O.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from logship.lsn import Lsn
from logship.service.positions import Stage

_BUSY_AFTER_S: Final = 5.0  # a position that stands this long, with work going on, is worth a word
_TRIES_IN_VAIN: Final = 3


class Condition(enum.Enum):
    UNKNOWN = "unknown"  # the position, or what it should reach, isn't known
    WELL = "well"
    BUSY = "busy"
    STALLED = "stalled"


@dataclass(frozen=True, slots=True)
class Sighting:
    """What is seen of a stage. ``source``: what it could have reached; ``source_age_s``: since when that
    isn't known any better. ``work``: pieces of work finished, ever, each of a ``task``. ``doing``: what it is
    at, when it is certain that something is going on, else empty. ``held_by``: what holds it up, when that is known.
    ``tries``: how often it had to begin again, ever."""

    lsn: Lsn | None
    source: Lsn | None
    source_age_s: float = 0.0
    work: int = 0
    task: str = ""
    doing: str = ""
    held_by: str = ""
    tries: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """``standing_s``: for how long the position has stood though there is something to do. ``reason``: why
    it is busy or stands, if that is known."""

    condition: Condition
    standing_s: float | None = None
    reason: str = ""
    lsn: Lsn | None = None


@dataclass(slots=True)
class _Memory:
    """Of one stage: what was last seen, and since when nothing has changed."""

    lsn: Lsn | None
    work: int
    tries: int  # when the position last moved
    moved_s: float  # when the position last moved, or there was nothing to do
    progressed_s: float  # when the position or the work did
    worked: bool = False  # work has been finished since the position last moved


class Watch:
    """`look` about once a second, with a clock that never goes back."""

    def __init__(self, stall_s: float) -> None:
        self._stall_s = stall_s
        self._busy_s = min(_BUSY_AFTER_S, stall_s / 2)
        self._seen: dict[Stage, _Memory] = {}

    def look(self, now_s: float, sightings: Mapping[Stage, Sighting]) -> dict[Stage, Verdict]:
        """A verdict for each stage that was sighted."""
        for gone in self._seen.keys() - sightings.keys():
            del self._seen[gone]
        return {stage: self._judge(now_s, stage, seen) for stage, seen in sightings.items()}

    def _judge(self, now_s: float, stage: Stage, seen: Sighting) -> Verdict:
        if seen.source is not None and seen.source_age_s >= self._stall_s:
            return Verdict(Condition.STALLED, seen.source_age_s, seen.held_by, seen.lsn)
        if seen.lsn is None or seen.source is None:
            self._seen.pop(stage, None)
            return Verdict(Condition.UNKNOWN)
        known = self._remember(now_s, stage, seen, seen.source)
        stood_s = now_s - known.moved_s
        return self._weigh(stood_s, now_s - known.progressed_s, known, seen)

    def _weigh(self, stood_s: float, silent_s: float, known: _Memory, seen: Sighting) -> Verdict:
        tries = seen.tries - known.tries
        in_vain = tries >= _TRIES_IN_VAIN
        at_work = bool(seen.doing) and not seen.held_by and not in_vain
        if stood_s >= self._stall_s and in_vain:
            reason = seen.held_by or f"it has been tried {tries} times in vain"
            return Verdict(Condition.STALLED, stood_s, reason, seen.lsn)
        if silent_s >= self._stall_s and not at_work:
            return Verdict(Condition.STALLED, silent_s, seen.held_by, seen.lsn)
        if stood_s >= self._busy_s and (at_work or known.worked):
            return Verdict(Condition.BUSY, stood_s, seen.doing or seen.task, seen.lsn)
        return Verdict(Condition.WELL, stood_s, "", seen.lsn)

    def _remember(self, now_s: float, stage: Stage, seen: Sighting, source: Lsn) -> _Memory:
        known = self._seen.get(stage)
        done = seen.lsn is not None and seen.lsn >= source
        if known is None or done or seen.lsn != known.lsn:
            known = self._seen[stage] = _Memory(seen.lsn, seen.work, seen.tries, now_s, now_s)
        elif seen.work != known.work:
            known.work, known.progressed_s, known.worked = seen.work, now_s, True
        return known


def sentence(stage: Stage, verdict: Verdict, since: str) -> str:
    """A stall in words: the stage that stands, where, since when, and why."""
    where = f" at {verdict.lsn}" if verdict.lsn is not None else ""
    why = f": {verdict.reason}" if verdict.reason else ""
    return f"{stage.value} stands{where} since {since}{why}"
