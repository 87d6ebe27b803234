"""The replicas of a relay, seen by the shipper, by retention and by the reports."""

from __future__ import annotations

from pathlib import Path

import pytest

from logship.capture.copydata import Positions as Reported
from logship.lsn import INVALID, Lsn
from logship.relay.policy import parse
from logship.relay.ports import ClientInfo
from logship.relay.synchrony import Block, State, SyncState
from logship.relay.syncrep import SyncRep
from logship.service.ship.registered import RegisteredReplicas
from logship.service.ship.replicas import Replicas

CLIENT = ClientInfo(user="ann", application_name="a", address="127.0.0.1", port=1234, pid=77)


class Relay:
    def __init__(self, directory: Path, policy: str | None = None) -> None:
        self.moves = 0
        self.registered = RegisteredReplicas(directory)
        self.replicas = Replicas(SyncRep(parse(policy), Block()), self.registered, self._moved)

    def _moved(self) -> None:
        self.moves += 1

    def reached(self, lsn: int) -> Reported:
        return self.replicas.reached(Lsn(lsn), Lsn(lsn), 0.0)


@pytest.fixture
def relay(tmp_path: Path) -> Relay:
    return Relay(tmp_path, "a")


def test_a_report_reaches_acknowledgement_retention_and_rows(relay: Relay) -> None:
    relay.registered.add("a", Lsn(10))
    assert relay.reached(100).flush == INVALID
    assert relay.replicas.connected("a", CLIENT)
    relay.replicas.sent("a", Lsn(90))
    relay.replicas.sent("a", INVALID)  # inside a transaction: says nothing
    relay.replicas.reported("a", Lsn(80), Lsn(70), Lsn(60))
    assert relay.moves == 1
    assert relay.reached(100) == Reported(Lsn(80), Lsn(70), Lsn(60))
    assert relay.registered.needed() == {"a": Lsn(70)}
    (row,) = relay.replicas.rows()
    assert (row.name, row.client, row.state, row.sent_lsn) == ("a", CLIENT, "streaming", Lsn(90))
    assert (row.sync_state, row.sync_priority) == (SyncState.SYNC, 1)
    assert row.reply_time is not None
    assert row.reply_time >= (row.since or row.reply_time)


def test_a_second_client_of_one_name_is_refused_until_the_first_has_gone(relay: Relay) -> None:
    assert relay.replicas.connected("a", CLIENT)
    assert not relay.replicas.connected("a", CLIENT)
    relay.replicas.gone("a")
    assert relay.replicas.connected("a", CLIENT)


def test_away_it_is_still_shown_with_what_it_had(relay: Relay) -> None:
    relay.registered.add("a", Lsn(10))
    relay.registered.add("b", Lsn(20))
    relay.replicas.connected("a", CLIENT)
    relay.replicas.reported("a", Lsn(80), Lsn(70), Lsn(60))
    relay.replicas.gone("a")
    relay.replicas.reported("a", Lsn(99), Lsn(99), Lsn(99))  # too late
    a, b = relay.replicas.rows()
    assert (a.client, a.state, a.positions.flush, b.state, b.positions.flush) == (
        None, "away", Lsn(70), "away", Lsn(20),
    )  # fmt: skip
    relay.reached(100)
    assert relay.replicas.state is State.BLOCKED


def test_what_retention_dropped_is_shown_and_a_dropped_registration_is_gone(relay: Relay) -> None:
    relay.registered.add("b", Lsn(20))
    relay.registered.begins_at(Lsn(50))
    assert [row.state for row in relay.replicas.rows()] == ["lost"]
    relay.registered.drop("b")
    relay.replicas.forgotten("b")
    assert relay.replicas.rows() == []


def test_asynchronous_replicas_never_move_what_is_acknowledged(tmp_path: Path) -> None:
    relay = Relay(tmp_path)
    relay.replicas.connected("a", CLIENT)
    relay.replicas.reported("a", Lsn(5), Lsn(5), Lsn(5))
    assert relay.reached(100) == Reported(Lsn(100), Lsn(100), INVALID)
    assert relay.replicas.due_s(0.0) is None
