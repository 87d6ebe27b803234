"""Whatever happens in whatever order: only the first commits, and nothing is lost from the line."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from logship.errors import InternalError
from logship.replay.line import TRANSITIONS, Event, Line, Place, State


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
def test_the_table_says_what_may_happen(state: State, event: Event) -> None:
    place = Place(state)
    if (state, event) in TRANSITIONS:
        place.happens(event)
        assert place.state is TRANSITIONS[state, event]
    else:
        with pytest.raises(InternalError):
            place.happens(event)
        assert place.state is state


def test_every_state_is_reached_and_only_the_ends_are_left_by_nothing() -> None:
    assert {State.WRITING, *TRANSITIONS.values()} == set(State)
    assert set(State) - {state for state, _ in TRANSITIONS} == {State.COMMITTED, State.OUT}


class Traffic(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.line: Line[Place] = Line()
        self.joined: list[Place] = []
        self.done: list[Place] = []  # committed, or replayed by itself

    def among(self, *states: State) -> list[Place]:
        return [place for place in self.line if place.state in states]

    @precondition(lambda self: not self.line.leaving)
    @rule()
    def join(self) -> None:
        place = Place()
        self.line.join(place)
        self.joined.append(place)

    @precondition(lambda self: self.line.leaving)
    @rule()
    def nobody_joins_while_some_leave(self) -> None:
        with pytest.raises(InternalError):
            self.line.join(Place())

    @precondition(lambda self: self.among(State.WRITING))
    @rule(data=st.data())
    def wrote(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.among(State.WRITING))).happens(Event.WROTE)

    @precondition(lambda self: self.among(State.WRITING))
    @rule(data=st.data())
    def fails(self, data: st.DataObject) -> None:
        self.line.fail(data.draw(st.sampled_from(self.among(State.WRITING))))

    @precondition(lambda self: len(self.line) > 1 and not self.line.leaving)
    @rule()
    def gives_way(self) -> None:
        self.line.give_way()
        assert next(iter(self.line)).state in (State.WRITING, State.WRITTEN)

    @precondition(lambda self: self.among(State.LEAVING))
    @rule(data=st.data())
    def rolled_back(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.among(State.LEAVING))).happens(Event.ROLLED_BACK)

    @rule(lost=st.booleans())
    def turn(self, lost: bool) -> None:
        first = next(iter(self.line), None)
        ready = first is not None and first.state is State.WRITTEN
        place = self.line.turn()
        assert (place is not None) == ready
        if place is None:
            return
        assert place is first
        if lost:
            self.line.lost()
            assert all(each.state in (State.LEAVING, State.OUT) for each in self.line)
        else:
            assert self.line.committed() is place
            self.done.append(place)

    @rule()
    def take_out(self) -> None:
        """Only when nobody is left who could still commit before them, or holds anything."""
        out = self.line.take_out()
        assert all(place.state is State.OUT for place in out)
        assert not (out and len(self.line))
        self.done += out

    @invariant()
    def everything_is_done_in_the_order_of_the_log(self) -> None:
        assert self.done + list(self.line) == self.joined

    @invariant()
    def nothing_is_behind_what_leaves(self) -> None:
        states = [place.state in (State.LEAVING, State.OUT) for place in self.line]
        assert states == sorted(states)


Traffic.TestCase.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestTraffic = Traffic.TestCase
