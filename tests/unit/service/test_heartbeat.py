"""When a heartbeat is sent: on time, and only where nothing else is in the log."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import psycopg
import pytest

from logship.service.ship.heartbeat import Heartbeat


@dataclass
class Primary:
    """Counts what is written; each beat comes back as a transaction when ``link`` is up."""

    transactions: int = 0
    link: bool = True
    now_s: float = 0.0
    sent: list[float] = field(default_factory=list)

    def execute(self, statement: str) -> None:
        assert "logship.heartbeat" in statement
        self.sent.append(self.now_s)
        self.transactions += self.link

    def look(self, heartbeat: Heartbeat, seconds: float, *, writes: int = 0) -> None:
        """One second after the other, with so many transactions of others in each."""
        for _ in range(int(seconds)):
            self.now_s += 1.0
            self.transactions += writes
            heartbeat.look(cast("psycopg.Connection[Any]", self))


@pytest.fixture
def primary() -> Primary:
    return Primary()


def heartbeat(primary: Primary, interval_s: float = 10.0) -> Heartbeat:
    return Heartbeat(lambda: primary.transactions, interval_s, lambda: primary.now_s)


def test_an_idle_database_gets_one_each_interval(primary: Primary) -> None:
    primary.look(heartbeat(primary), 31)
    assert primary.sent == [1.0, 11.0, 21.0, 31.0]


def test_a_busy_one_gets_none(primary: Primary) -> None:
    primary.look(heartbeat(primary), 60, writes=1)
    assert primary.sent == []


def test_it_begins_and_ends_with_the_traffic(primary: Primary) -> None:
    beating = heartbeat(primary)
    primary.look(beating, 12)
    primary.look(beating, 20, writes=1)
    assert primary.sent == [1.0, 11.0]
    primary.look(beating, 20)
    assert len(primary.sent) == 3


def test_what_does_not_come_back_is_sent_again(primary: Primary) -> None:
    primary.link = False
    primary.look(heartbeat(primary), 31)
    assert len(primary.sent) == 4


def test_none_when_it_is_turned_off(primary: Primary) -> None:
    primary.look(heartbeat(primary, 0.0), 100)
    assert primary.sent == []
