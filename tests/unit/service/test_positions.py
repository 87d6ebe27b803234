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


def test_when_the_link_is_cut_the_age_grows_though_nothing_is_known_to_be_lacking(
    positions: Positions, clock: Clock
) -> None:
    positions.reach(Stage.PERSISTENCE, Lsn(100))
    positions.heard(Lsn(100), 0)
    clock.us += 2 * S
    assert positions.lag_us(Stage.PERSISTENCE) == 0
    clock.us += 58 * S
    assert positions.lag_us(Stage.PERSISTENCE) == 60 * S
    positions.heard(Lsn(100), 0)
    assert positions.lag_us(Stage.PERSISTENCE) == 0


def test_a_heartbeat_in_the_stream_says_how_far_all_is_there(positions: Positions, clock: Clock) -> None:
    """A replayer whose shipper can't ask the primary, or that never could: the stream is measure enough."""
    ahead_us = 60 * S
    positions.reach(Stage.RECEIVED, Lsn(100))
    positions.received(Lsn(110), clock.us)
    clock.us += 4 * S
    assert positions.lag_us(Stage.RECEIVED) == 4 * S, "it lacks what is 4 s old"
    positions.reach(Stage.RECEIVED, Lsn(110))
    clock.us += 2 * S
    assert positions.lag_us(Stage.RECEIVED) == 6 * S, "it had everything 6 s ago, and nobody knows since"
    positions.heard(Lsn(110), ahead_us)
    assert positions.lag_us(Stage.RECEIVED) == 0
    clock.us += 30 * S
    positions.received(Lsn(120), clock.us + ahead_us)
    positions.reach(Stage.RECEIVED, Lsn(120))
    clock.us += 5 * S
    assert positions.lag_us(Stage.RECEIVED) == 5 * S


def test_after_a_restart_what_an_earlier_run_received_is_not_taken_for_new(
    positions: Positions, clock: Clock
) -> None:
    """The journal holds an hour of work, and the primary goes on: the lag is not that of the newest commit."""
    hour_us = 3_600 * S
    positions.reach(Stage.RECEIVED, Lsn(1_000))
    positions.restart(Stage.PERSISTENCE, Lsn(100))
    positions.heard(Lsn(1_000), 0)
    assert positions.lag_us(Stage.PERSISTENCE) is None
    positions.received(Lsn(1_010), clock.us)
    positions.reach(Stage.RECEIVED, Lsn(1_010))
    positions.heard(Lsn(1_010), 0)
    assert positions.lag_us(Stage.PERSISTENCE) is None
    positions.reach(Stage.PERSISTENCE, Lsn(200), commit_time_us=clock.us - hour_us)
    assert positions.lag_us(Stage.PERSISTENCE) == hour_us
    assert positions.lag_us(Stage.RECEIVED) == 0
    clock.us += 10 * S
    positions.reach(Stage.PERSISTENCE, Lsn(1_000), commit_time_us=clock.us - 2 * S)
    assert positions.lag_us(Stage.PERSISTENCE) == 10 * S, "from here on what it lacks is dated"
    positions.restart(Stage.PERSISTENCE, Lsn(500))
    assert positions.lag_us(Stage.PERSISTENCE) is None, "begun again: nothing is known of it"


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


def test_a_clock_of_ours_that_is_put_back_makes_nothing_look_fresh(
    positions: Positions, clock: Clock
) -> None:
    positions.reach(Stage.PERSISTENCE, Lsn(100))
    positions.heard(Lsn(100), 0)
    clock.us -= 600 * S
    assert positions.lag_us(Stage.PERSISTENCE) is None, "when that was true, nobody knows any more"
    positions.heard(Lsn(100), 600 * S)
    assert positions.lag_us(Stage.PERSISTENCE) == 0
    clock.us += 20 * S
    assert positions.lag_us(Stage.PERSISTENCE) == 20 * S, "the primary is silent since"


def test_a_clock_of_the_primary_that_is_put_back_hides_no_old_transaction(
    positions: Positions, clock: Clock
) -> None:
    positions.reach(Stage.PERSISTENCE, Lsn(100))
    positions.received(Lsn(101), clock.us)
    positions.received(Lsn(102), clock.us + S)
    for index in range(10):
        positions.received(Lsn(110 + index), clock.us - 60 * S + index * S)
    clock.us += 10 * S
    positions.heard(Lsn(119), -60 * S)
    positions.reach(Stage.PERSISTENCE, Lsn(110))
    assert positions.lag_us(Stage.PERSISTENCE) == 9 * S
