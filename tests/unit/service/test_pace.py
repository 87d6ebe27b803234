"""How eagerly the shipper turns, by what the primary says of those who wait."""

from __future__ import annotations

import pytest

from logship.capture.copydata import Positions
from logship.capture.feedback import Sent
from logship.lsn import Lsn
from logship.service.ship import pace as module
from logship.service.ship.pace import FSYNC_SPACING_S, GATHER_S, STATUS_SPACING_S, Pace

HERE = Positions(Lsn(30), Lsn(20), Lsn(10))


class Primary:
    """Answers the one question that is asked; ``asked``: with which process."""

    def __init__(self, waits: bool | None) -> None:
        self.waits = waits
        self.asked: list[int | None] = []

    def execute(self, query: str, parameters: list[int | None]) -> Primary:
        self.asked += parameters
        return self

    def fetchone(self) -> tuple[bool | None] | None:
        return (self.waits,)


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 100.0
        self.slept: list[float] = []
        monkeypatch.setattr(module, "time", self)

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds


def looked(pace: Pace, waits: bool | None) -> Pace:
    pace.look(Primary(waits))  # type: ignore[arg-type]
    return pace


def unawaited() -> Pace:
    return looked(Pace(1.0, lambda: None), False)


def test_until_the_primary_has_answered_a_commit_may_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, pace = Clock(monkeypatch), Pace(1.0, lambda: None)
    pace.rest(100)
    assert clock.slept == []
    assert pace.fsync_spacing_s == 0
    assert pace.may_tell(Sent(HERE, 100.0), 100.0)
    assert pace.wait_s(Sent(HERE, 100.0), 100.0, pending=True) == 1.0


def test_the_primary_is_asked_for_our_own_session() -> None:
    primary, pace = Primary(True), Pace(1.0, lambda: None)
    pace.backend_pid = 42
    pace.look(primary)  # type: ignore[arg-type]
    assert primary.asked == [42]
    assert pace.awaited


def test_where_nobody_waits_everything_is_spaced(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, pace = Clock(monkeypatch), unawaited()
    pace.rest(100)
    assert clock.slept == [GATHER_S]
    assert pace.fsync_spacing_s == FSYNC_SPACING_S
    sent = Sent(HERE, 100.0)
    assert not pace.may_tell(sent, 100.0 + STATUS_SPACING_S / 2)
    assert pace.may_tell(sent, 100.0 + STATUS_SPACING_S * 2)
    assert pace.wait_s(sent, 100.0, pending=True) == pytest.approx(STATUS_SPACING_S)
    assert pace.wait_s(sent, 100.0, pending=False) == pytest.approx(1.0)


def test_the_first_update_of_a_session_is_due_at_once() -> None:
    for pace in (unawaited(), Pace(1.0, lambda: None)):
        assert pace.may_tell(Sent(), 0.0)
        assert pace.wait_s(Sent(), 0.0, pending=False) == 0


def test_a_backlog_is_read_without_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, pace = Clock(monkeypatch), unawaited()
    pace.rest(1 << 20)
    pace.rest(10)
    assert clock.slept == []
    clock.now_s += 1
    pace.rest(10)
    assert clock.slept == [GATHER_S]


def test_who_begins_to_wait_is_told_of_at_once() -> None:
    told: list[bool] = []
    pace = Pace(1.0, lambda: told.append(True))
    looked(pace, True)
    assert told == []  # it was taken for granted
    looked(pace, False)
    looked(pace, True)
    assert told == [True]
    assert pace.awaited
