"""write_lag, flush_lag and replay_lag: ages and durations, and nothing where nothing is known."""

from __future__ import annotations

import pytest

from logship.lsn import INVALID, Lsn
from logship.relay.lag import SHOWN_S, Lags
from logship.relay.synchrony import Positions3


def at(lsn: int, replay: int | None = None) -> Positions3:
    return Positions3(Lsn(lsn), Lsn(lsn), Lsn(lsn if replay is None else replay))


def test_nothing_is_known_of_a_replica_that_never_reported() -> None:
    assert Lags().lags("a", 5.0) == (None, None, None)


def test_while_busy_it_is_what_the_last_part_took_and_idle_it_fades() -> None:
    lags = Lags()
    lags.noted(Lsn(10), 0.0)
    lags.reported("a", at(10), 0.5)
    assert lags.lags("a", 0.5) == (None, None, None)  # when it got there isn't known
    lags.noted(Lsn(20), 1.0)
    lags.reported("a", at(20), 1.25)
    assert lags.lags("a", 1.25) == (0.25, 0.25, 0.25)
    assert lags.lags("a", 1.25 + SHOWN_S) == (0.25, 0.25, 0.25)
    assert lags.lags("a", 1.3 + SHOWN_S) == (None, None, None)


def test_what_is_lacked_ages_also_when_nothing_is_heard_any_more() -> None:
    lags = Lags()
    lags.noted(Lsn(10), 0.0)
    lags.reported("a", at(10), 0.1)
    lags.noted(Lsn(20), 1.0)
    lags.noted(Lsn(30), 2.0)
    assert lags.lags("a", 61.0) == (60.0, 60.0, 60.0)
    lags.reported("a", at(30, replay=20), 62.0)
    assert lags.lags("a", 62.0) == (60.0, 60.0, 60.0)
    assert lags.lags("a", 70.0) == (60.0, 60.0, 68.0)


def test_a_position_that_was_never_reported_has_no_lag() -> None:
    lags = Lags()
    lags.noted(Lsn(10), 0.0)
    lags.reported("a", at(10, replay=0), 1.0)
    lags.noted(Lsn(20), 1.0)
    assert lags.lags("a", 3.0) == (2.0, 2.0, None)


def test_one_that_is_forgotten_begins_anew() -> None:
    lags = Lags()
    lags.noted(Lsn(10), 0.0)
    lags.reported("a", at(5), 1.0)
    lags.forgotten("a")
    assert lags.lags("a", 2.0) == (None, None, None)


@pytest.mark.parametrize("lacking", [1, 50_000])
def test_it_is_bounded_and_never_says_too_little(lacking: int) -> None:
    lags = Lags()
    lags.reported("a", at(lacking), 0.0)
    for lsn in range(1, 100_000):
        lags.noted(Lsn(lsn), lsn / 100)
    assert len(lags._lsns) <= 8_192
    write, _, _ = lags.lags("a", 1_000.0)
    assert write is not None
    assert 1_000.0 - (lacking + 1) / 100 <= write <= 1_000.0 - lacking / 100 + 1.0


def test_thinning_out_keeps_what_was_measured() -> None:
    lags = Lags()
    lags.reported("a", Positions3(Lsn(1), Lsn(1), INVALID), 0.0)
    for lsn in range(2, 20_000):
        lags.noted(Lsn(lsn), lsn / 100)
        lags.reported("a", Positions3(Lsn(lsn - 1), Lsn(lsn - 1), INVALID), lsn / 100)
    assert lags.lags("a", 200.0)[0] == pytest.approx(0.01)
