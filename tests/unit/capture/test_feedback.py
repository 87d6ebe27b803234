"""When a status update is due."""

from __future__ import annotations

from logship.capture.copydata import Keepalive, Positions
from logship.capture.feedback import Sent, heard, is_due, wait_s
from logship.lsn import INVALID, Lsn

HERE = Positions(Lsn(30), Lsn(20), Lsn(10))


def alive(wal_end: int, *, asks: bool = False) -> Keepalive:
    return Keepalive(Lsn(wal_end), 0, asks)


def test_a_keepalive_that_moves_the_lsn_is_answered_whether_it_asks_or_not() -> None:
    said = heard([alive(50)], Lsn(40))
    assert (said.moved, said.reply_requested, said.wal_end) == (True, False, 50)
    assert said.is_news(Sent(HERE, 10.0))
    assert said.is_news(Sent())
    assert is_due(HERE, Sent(HERE, 10.0), 10.0, moved=said.moved)


def test_a_keepalive_behind_what_was_told_to_be_flushed_is_answered_only_if_it_asks() -> None:
    for wal_end, news in ((19, False), (20, False), (21, True), (30, True)):  # flushed is 20, written 30
        assert heard([alive(wal_end)], INVALID).is_news(Sent(HERE, 10.0)) is news
    again = heard([alive(50)], Lsn(50))
    assert not again.is_news(Sent(HERE, 10.0))  # it was told before, and answered then


def test_a_keepalive_that_asks_is_answered_though_nothing_moved() -> None:
    said = heard([alive(40), alive(40, asks=True), alive(39)], Lsn(40))
    assert (said.moved, said.reply_requested, said.wal_end) == (False, True, 40)
    assert is_due(HERE, Sent(HERE, 10.0), 10.0, reply_requested=True)


def test_no_keepalive_asks_for_nothing() -> None:
    said = heard([])
    assert (said.moved, said.reply_requested, said.wal_end) == (False, False, INVALID)
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
