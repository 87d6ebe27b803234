"""Of all shippers of a slot only the last one ships: its predecessors end, also those that hang."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from logship.capture.slot import SlotStream
from logship.catalog import migrate
from logship.connection import Side, connect
from logship.errors import JournalBehind, PrimaryError
from logship.lsn import INVALID
from logship.service.ship.epoch import Epoch, Fenced
from tests.integration.capture.pump import publish
from tests.integration.ship.shipper import PUBLICATION, Ship
from tests.servers import Database, eventually

HOLDER = "select active_pid from pg_replication_slots where slot_name = %s"


@pytest.fixture
def slot(primary: Database) -> str:
    migrate.upgrade(primary.conninfo, Side.PRIMARY)
    primary.execute("create table t (id int primary key)")
    return publish(primary, PUBLICATION)


def test_each_start_takes_the_next_epoch_also_when_many_start_at_once(primary: Database, slot: str) -> None:
    epochs: list[int] = []

    def start() -> None:
        with connect(primary.conninfo, Side.PRIMARY) as connection:
            epochs.append(Epoch(slot, "logship").claim(connection))

    threads = [threading.Thread(target=start) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(epochs) == [1, 2, 3, 4, 5]
    with connect(primary.conninfo, Side.PRIMARY) as connection:
        other = Epoch("another", "logship")
        assert other.claim(connection) == other.claim(connection) == 1


def test_the_older_one_ends_within_a_second_of_its_successors_start(
    primary: Database, slot: str, tmp_path: Path
) -> None:
    with Ship(primary, slot, tmp_path / "a").streaming() as old:
        assert old.epoch == 1
        with connect(primary.conninfo, Side.PRIMARY) as connection:
            assert Epoch(slot, "logship").claim(connection) == 2
        eventually(lambda: old.error is not None, what="the older one ends")
        assert isinstance(old.error, Fenced)
        assert old.error.exit_code == 6
        assert "epoch 2" in str(old.error)
    with Ship(primary, slot, tmp_path / "b").streaming() as new:
        assert new.epoch == 3
        before = new.journal.written_lsn
        primary.execute("insert into t values (2)")
        eventually(lambda: new.journal.written_lsn > before, what="the new one ships")
        assert new.error is None


def test_a_predecessor_that_hangs_is_ended(primary: Database, slot: str, tmp_path: Path) -> None:
    """A stopped process keeps its walsender, and the slot."""
    with SlotStream(primary.conninfo, application_name="logship") as hanging:
        hanging.start(slot, [PUBLICATION], INVALID)
        with Ship(primary, slot, tmp_path / "b").streaming() as new:
            assert new.error is None


@pytest.mark.parametrize("application_name", ["pg_recvlogical", "logship"])
def test_any_other_reader_of_the_slot_is_waited_for(
    primary: Database, slot: str, tmp_path: Path, application_name: str
) -> None:
    """A stranger, and a session of our name that began after our epoch did."""
    with connect(primary.conninfo, Side.PRIMARY) as connection:
        epoch = Epoch(slot, "logship")
        epoch.claim(connection)
        with SlotStream(primary.conninfo, application_name=application_name) as other:
            other.start(slot, [PUBLICATION], INVALID)
            assert not epoch.end_predecessor(connection)
            pid = primary.value(HOLDER, [slot])
            if application_name == "logship":
                return
            with Ship(primary, slot, tmp_path / "b") as new:
                eventually(lambda: "in use" in new.health.reason, what="it says that it waits")
                assert primary.value(HOLDER, [slot]) == pid
                other.close()
                new.streaming()


def test_one_that_may_not_be_ended_is_waited_for(
    primary: Database, slot: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    primary.execute(
        "create role test_ship login replication; grant usage on schema logship to test_ship;"
        "grant select, insert, update on logship.shipper to test_ship; grant pg_read_all_stats to test_ship"
    )
    with SlotStream(primary.conninfo, application_name="logship") as hanging:  # a superuser's
        hanging.start(slot, [PUBLICATION], INVALID)
        with Ship(primary, slot, tmp_path / "b", user="test_ship") as new:
            eventually(lambda: "may not end it" in caplog.text, what="it says so")
            hanging.close()
            new.streaming()


def test_a_journal_that_cannot_follow_the_slot_fences_nobody(
    primary: Database, slot: str, tmp_path: Path
) -> None:
    with Ship(primary, slot, tmp_path / "b").streaming():
        pass  # an older journal: it ends here
    with Ship(primary, slot, tmp_path / "a").streaming() as good:
        primary.execute("insert into t values (1)")
        confirmed = (
            "select confirmed_flush_lsn - %s::pg_lsn >= 0 from pg_replication_slots where slot_name = %s"
        )
        end = primary.value("select pg_current_wal_lsn()::text")
        eventually(lambda: primary.value(confirmed, [end, slot]), what="it is acknowledged")
        with Ship(primary, slot, tmp_path / "b") as bad:
            eventually(lambda: bad.error is not None, what="it is refused")
            assert isinstance(bad.error, JournalBehind)
        assert good.error is None
        assert primary.value("select epoch from logship.shipper where slot = %s", [slot]) == good.epoch


def test_without_the_table_or_the_right_it_says_what_to_do(primary: Database, slot: str) -> None:
    primary.execute("create role test_ship login replication")
    with connect(primary.conninfo_as("test_ship"), Side.PRIMARY) as connection:
        with pytest.raises(PrimaryError, match="permission denied") as caught:
            Epoch(slot, "logship").claim(connection)
        assert "--print-grants" in caught.value.hint
    migrate.downgrade(primary.conninfo, Side.PRIMARY)
    with connect(primary.conninfo, Side.PRIMARY) as connection:
        with pytest.raises(PrimaryError, match=r"logship\.shipper") as caught:
            Epoch(slot, "logship").claim(connection)
        assert "logship init" in caught.value.hint
