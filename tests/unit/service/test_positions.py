from __future__ import annotations

import pytest

from logship.errors import InternalError
from logship.lsn import Lsn
from logship.service.positions import Positions, Stage

S = 1_000_000


class Clock:
    def __init__(self) -> None:
        self.us = 1_000 * S

    def __call__(self) -> int:
        return self.us


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def positions(clock: Clock) -> Positions:
    return Positions(clock)


def test_unknown_is_not_zero(positions: Positions) -> None:
    assert positions.lag_us(Stage.PERSISTENCE) is None
    positions.reach(Stage.PERSISTENCE, Lsn(10))
    assert positions.lag_us(Stage.PERSISTENCE) is None, "where the primary is, nobody has asked yet"
    assert positions.lsn(Stage.MEMORY) is None


def test_zero_when_everything_is_there(positions: Positions, clock: Clock) -> None:
    positions.received(Lsn(90), clock.us - 3 * S)
    positions.reach(Stage.PERSISTENCE, Lsn(100))
    positions.heard(Lsn(100), 0)
    assert positions.lag_us(Stage.PERSISTENCE) == 0


def test_lag_is_the_age_of_the_oldest_transaction_not_yet_done(positions: Positions, clock: Clock) -> None:
    positions.reach(Stage.PERSISTENCE, Lsn(100))
    for index in range(1, 11):
        positions.received(Lsn(100 + index), clock.us + index * S)
    clock.us += 10 * S
    positions.heard(Lsn(110), 0)
    assert positions.lag_us(Stage.PERSISTENCE) == 9 * S
    positions.reach(Stage.PERSISTENCE, Lsn(105))
    assert positions.lag_us(Stage.PERSISTENCE) == 4 * S
    positions.reach(Stage.PERSISTENCE, Lsn(110))
    assert positions.lag_us(Stage.PERSISTENCE) == 0


def test_an_answer_is_as_old_as_whoever_passes_it_on_says(positions: Positions, clock: Clock) -> None:
    """A shipper that can't reach the primary repeats its last answer: the lag grows from there, it isn't zero."""
    positions.reach(Stage.PERSISTENCE, Lsn(100))
    positions.heard(Lsn(100), 0, age_us=2 * S)
    assert positions.primary == (Lsn(100), clock.us - 2 * S)
    clock.us += 5 * S
    positions.heard(Lsn(100), 0, age_us=7 * S)
    assert positions.primary == (Lsn(100), clock.us - 7 * S)
    positions.heard(Lsn(100), 0, age_us=9 * S)  # the answer of a slower way: what is known better stays
    assert positions.primary == (Lsn(100), clock.us - 7 * S)


def test_a_clock_that_differs_is_taken_into_account(positions: Positions, clock: Clock) -> None:
    ahead_us = 60 * S
    positions.reach(Stage.PERSISTENCE, Lsn(100))
    positions.received(Lsn(101), clock.us + ahead_us)
    clock.us += 2 * S
    positions.heard(Lsn(101), ahead_us)
    assert positions.lag_us(Stage.PERSISTENCE) == 2 * S


def test_what_has_not_arrived_is_dated_by_when_all_was_there(positions: Positions, clock: Clock) -> None:
    positions.reach(Stage.RECEIVED, Lsn(100))
    positions.heard(Lsn(100), 0)
    clock.us += 5 * S
    positions.heard(Lsn(200), 0)
    assert positions.lag_us(Stage.RECEIVED) == 5 * S


def test_positions_never_move_back(positions: Positions) -> None:
    positions.reach(Stage.MEMORY, Lsn(100))
    with pytest.raises(InternalError, match="would move back"):
        positions.reach(Stage.MEMORY, Lsn(99))
    positions.restart(Stage.MEMORY, Lsn(50))
    assert positions.lsn(Stage.MEMORY) == Lsn(50)


def test_samples_are_bounded_and_keep_the_newest(positions: Positions, clock: Clock) -> None:
    positions.reach(Stage.PERSISTENCE, Lsn(1))
    last = 200_000
    for index in range(2, last + 1):
        positions.received(Lsn(index), clock.us + index * S)
    positions.heard(Lsn(last), 0)
    positions.reach(Stage.PERSISTENCE, Lsn(last - 1))
    clock.us += (last + 1) * S
    assert positions.lag_us(Stage.PERSISTENCE) == 1 * S
    assert len(positions._samples.lsns) <= 8_192


def test_wait_sees_progress_and_stop(positions: Positions) -> None:
    positions.reach(Stage.PERSISTENCE, Lsn(5))
    assert positions.wait(Stage.PERSISTENCE, Lsn(5), 0, lambda: False)
    assert not positions.wait(Stage.PERSISTENCE, Lsn(6), 0, lambda: False)
    assert not positions.wait(Stage.PERSISTENCE, Lsn(6), None, lambda: True)
