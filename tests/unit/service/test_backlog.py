"""A batch grows in a backlog only, and not for long."""

from __future__ import annotations

import pytest

from logship.capture.copydata import microseconds
from logship.service.replay.backlog import GATHER_S, Backlog

KIB = 1024
NOW_S = 1_800_000_000.0
OLD_US = microseconds(NOW_S - 5)


class Clocks:
    def __init__(self) -> None:
        self.passed_s = 0.0
        self.backlog = Backlog(lambda: NOW_S + self.passed_s, lambda: self.passed_s)


def behind(last_bytes: int = 100 * KIB) -> Clocks:
    clocks = Clocks()
    clocks.backlog.handed_over(last_bytes)
    return clocks


def test_in_a_backlog_it_grows_for_a_while() -> None:
    clocks = behind()
    assert clocks.backlog.gather_s(20 * KIB, OLD_US) == pytest.approx(GATHER_S)
    clocks.passed_s = GATHER_S / 2
    assert 0 < clocks.backlog.gather_s(200 * KIB, OLD_US) < GATHER_S
    clocks.passed_s = GATHER_S
    assert clocks.backlog.gather_s(300 * KIB, OLD_US) == 0


def test_the_next_batch_has_a_time_of_its_own() -> None:
    clocks = behind()
    clocks.backlog.gather_s(20 * KIB, OLD_US)
    clocks.passed_s = 1.0
    clocks.backlog.handed_over(300 * KIB)
    assert clocks.backlog.gather_s(20 * KIB, OLD_US) == pytest.approx(GATHER_S)


def test_what_is_large_enough_goes_at_once() -> None:
    assert behind().backlog.gather_s(1024 * KIB, OLD_US) == 0


def test_what_was_committed_just_now_goes_at_once() -> None:
    """Somebody may wait for it."""
    assert behind().backlog.gather_s(20 * KIB, microseconds(NOW_S - 0.5)) == 0


def test_a_steady_load_goes_at_once_though_the_clocks_differ() -> None:
    assert behind(last_bytes=2 * KIB).backlog.gather_s(2 * KIB, OLD_US) == 0


def test_a_position_without_changes_goes_at_once() -> None:
    assert behind().backlog.gather_s(0, 0) == 0
