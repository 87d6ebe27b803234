"""When a status update is due."""

from __future__ import annotations

from logship.capture.copydata import Keepalive, Positions
from logship.capture.feedback import Sent, is_asked, is_due, wait_s
from logship.lsn import Lsn

HERE = Positions(Lsn(30), Lsn(20), Lsn(10))


def alive(wal_end: int, *, asks: bool = False) -> Keepalive:
    return Keepalive(Lsn(wal_end), 0, asks)


def test_a_keepalive_that_asks_is_answered_though_nothing_moved() -> None:
    assert is_asked([alive(40), alive(40, asks=True), alive(39)])
    assert is_due(HERE, Sent(HERE, 10.0), 10.0, reply_requested=True)


def test_a_keepalive_that_does_not_ask_is_answered_by_what_it_moves() -> None:
    assert not is_asked([])
    assert not is_asked([alive(50)])
    assert not is_due(HERE, Sent(HERE, 10.0), 10.5, interval_s=1.0)


def test_any_position_that_moved_is_sent_at_once() -> None:
    for moved in (
        Positions(Lsn(31), Lsn(20), Lsn(10)),
        Positions(Lsn(30), Lsn(21), Lsn(10)),
        Positions(Lsn(30), Lsn(20), Lsn(11)),
    ):
        assert is_due(moved, Sent(HERE, 10.0), 10.0)


def test_the_timer() -> None:
    sent = Sent(HERE, 10.0)
    assert not is_due(HERE, sent, 10.999, interval_s=1.0)
    assert is_due(HERE, sent, 11.0, interval_s=1.0)
    assert wait_s(sent, 10.25, interval_s=1.0) == 0.75
    assert wait_s(sent, 20.0, interval_s=1.0) == 0.0


def test_a_new_session_is_told_at_once() -> None:
    assert is_due(Sent().positions, Sent(), 10.0)
    assert wait_s(Sent(), 10.0) == 0.0
