"""The line in which transactions that are written side by side come to their commits: the order of the log.

In: what becomes of each of them. Out: whose turn it is, and which are to be rolled back. The one rule: nothing is
committed but the first, so what is committed is always a beginning of the log. When one fails, all
behind it leave: what they hold may be what it waits for, and they may have seen what isn't there. No I/O, no thread.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from logship.errors import InternalError


class State(enum.Enum):
    WRITING = enum.auto()  # its rows are on their way
    WRITTEN = enum.auto()  # they have been taken; it waits for its turn
    COMMITTING = enum.auto()  # it is the first, and its COMMIT is on its way
    COMMITTED = enum.auto()
    LEAVING = enum.auto()  # it is to be rolled back as soon as its session has an answer
    OUT = enum.auto()  # rolled back, or nobody knows: to be replayed by itself


class Event(enum.Enum):
    WROTE = enum.auto()
    TURN = enum.auto()
    COMMITTED = enum.auto()
    CALLED_OFF = enum.auto()
    ROLLED_BACK = enum.auto()
    LOST = enum.auto()  # at its COMMIT: refused, or the answer didn't come


TRANSITIONS: Final[dict[tuple[State, Event], State]] = {
    (State.WRITING, Event.WROTE): State.WRITTEN,
    (State.WRITING, Event.CALLED_OFF): State.LEAVING,
    (State.WRITTEN, Event.TURN): State.COMMITTING,
    (State.WRITTEN, Event.CALLED_OFF): State.LEAVING,
    (State.COMMITTING, Event.COMMITTED): State.COMMITTED,
    (State.COMMITTING, Event.LOST): State.OUT,
    (State.LEAVING, Event.ROLLED_BACK): State.OUT,
}


@dataclass(eq=False, slots=True)
class Place:
    """One transaction's place in the line."""

    state: State = State.WRITING

    def happens(self, event: Event) -> None:
        try:
            self.state = TRANSITIONS[self.state, event]
        except KeyError:
            raise InternalError(f"{event.name} can't happen to what is {self.state.name}") from None


P = TypeVar("P", bound=Place)


class Line(Generic[P]):
    def __init__(self) -> None:
        self._places: deque[P] = deque()

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[P]:
        return iter(self._places)

    @property
    def leaving(self) -> bool:
        """Some are on their way out: nobody may join."""
        return any(place.state in (State.LEAVING, State.OUT) for place in self._places)

    def join(self, place: P) -> None:
        if self.leaving or place.state is not State.WRITING:
            raise InternalError("nobody may join the line now")
        self._places.append(place)

    def turn(self) -> P | None:
        """The first, if it may commit: it is COMMITTING now."""
        if not self._places or self._places[0].state is not State.WRITTEN:
            return None
        self._places[0].happens(Event.TURN)
        return self._places[0]

    def committed(self) -> P:
        """The first has been; it isn't in the line any more."""
        self._places[0].happens(Event.COMMITTED)
        return self._places.popleft()

    def lost(self) -> None:
        """The first wasn't, or nobody knows."""
        self._places[0].happens(Event.LOST)
        self._call_off(1)

    def fail(self, place: P) -> None:
        """This one and all behind it leave."""
        self._call_off(self._places.index(place))

    def give_way(self) -> None:
        """All but the first leave: it waits for what they hold."""
        self._call_off(1)

    def _call_off(self, start: int) -> None:
        for place in list(self._places)[start:]:
            if place.state in (State.WRITING, State.WRITTEN):
                place.happens(Event.CALLED_OFF)

    def take_out(self) -> list[P]:
        """All that left, in order, once nobody is before them and none is still leaving; else none."""
        if not self._places or any(place.state is not State.OUT for place in self._places):
            return []
        out = list(self._places)
        self._places.clear()
        return out
