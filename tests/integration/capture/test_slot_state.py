"""What an operator is told about a slot that can't be streamed from."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from logship.capture.copydata import Positions
from logship.capture.slot import SlotStream
from logship.capture.slot_state import gap
from logship.errors import (
    InternalError,
    PrimaryError,
    PublicationMissing,
    SlotActive,
    SlotLost,
    SlotMissing,
    StreamBroken,
)
from logship.lsn import INVALID, Lsn
from logship.service.demo.servers import Server
from tests.integration.capture.pump import current_lsn, make_slot, open_pump, publish
from tests.servers import Database, eventually


def refusal(database: Database, slot: str, *publications: str) -> PrimaryError:
    with SlotStream(database.conninfo) as stream, pytest.raises(PrimaryError) as caught:
        stream.start(slot, publications or ("everything",), INVALID)
    assert caught.value.hint
    return caught.value


def test_the_system_is_identified(primary: Database) -> None:
    with SlotStream(primary.conninfo) as stream:
        system = stream.identify()
    identifier = primary.value("select system_identifier from pg_control_system()")
    assert (system.system_identifier, system.timeline, system.database) == (identifier, 1, primary.name)
    assert INVALID < system.xlogpos <= current_lsn(primary)


def test_a_missing_slot_is_said_and_never_made(primary: Database) -> None:
    primary.execute("create publication everything for all tables")
    error = refusal(primary, f"{primary.name}_none")
    assert isinstance(error, SlotMissing)
    assert "init" in error.hint
    assert primary.value("select count(*) from pg_replication_slots where database = %s", [primary.name]) == 0


def test_the_slot_of_another_plugin(primary: Database) -> None:
    slot = make_slot(primary, "test_decoding")
    assert "test_decoding" in str(refusal(primary, slot))


def test_a_physical_slot(primary: Database) -> None:
    slot = f"{primary.name}_physical"
    primary.execute("select pg_create_physical_replication_slot(%s)", [slot])
    try:
        assert "physical" in str(refusal(primary, slot))
    finally:
        primary.execute("select pg_drop_replication_slot(%s)", [slot])


def test_the_slot_of_another_database(primary: Database, make_database: Callable[[Server], Database]) -> None:
    other = make_database(primary.server)
    error = refusal(other, publish(primary))
    assert primary.name in str(error)
    assert other.name in str(error)


def test_a_missing_publication(primary: Database) -> None:
    slot = publish(primary)
    error = refusal(primary, slot, "everything", "no such")
    assert isinstance(error, PublicationMissing)
    assert error.publication == "no such"
    assert not error.transient


def test_a_publication_dropped_while_streaming(primary: Database) -> None:
    slot = publish(primary)
    pump = open_pump(primary, slot)
    primary.execute("create table t (id int); insert into t values (1)")
    assert pump.catch_up(primary)
    before = pump.assembler.position
    primary.execute("drop publication everything; insert into t values (2)")
    with pytest.raises(PublicationMissing) as caught:
        pump.catch_up(primary)
    assert caught.value.publication == "everything"
    assert not caught.value.transient
    assert before <= pump.assembler.position < current_lsn(primary)
    pump.stream.close()


def test_an_active_slot_names_its_holder_and_is_free_after_its_end(primary: Database) -> None:
    slot = publish(primary)
    holder = open_pump(primary, slot)
    error = refusal(primary, slot)
    assert isinstance(error, SlotActive)
    assert error.transient
    query = "select active_pid from pg_replication_slots where slot_name = %s"
    assert error.active_pid == primary.value(query, [slot])
    assert str(error.active_pid) in str(error)
    assert holder.stream.stop()
    eventually(lambda: primary.value(query, [slot]) is None, what="slot free")
    open_pump(primary, slot).stream.close()


def test_a_gap_before_the_slot_is_found(primary: Database) -> None:
    slot = publish(primary)
    pump = open_pump(primary, slot)
    primary.execute("create table t (id int); insert into t values (1)")
    early = current_lsn(primary)
    primary.execute("insert into t values (2)")
    pump.catch_up(primary)
    assert pump.stream.stop()
    confirmed = pump.assembler.position
    eventually(
        lambda: primary.value("select not active from pg_replication_slots where slot_name = %s", [slot])
    )
    with SlotStream(primary.conninfo) as stream:
        state = stream.start(slot, ["everything"], early)
    assert (state.confirmed_flush_lsn, state.database, state.wal_status) == (
        confirmed,
        primary.name,
        "reserved",
    )
    assert INVALID < state.restart_lsn <= confirmed
    assert gap(state, confirmed) is None
    assert gap(state, Lsn(confirmed + 1)) is None
    found = gap(state, early)
    assert found is not None
    assert str(early) in str(found)
    assert str(confirmed) in str(found)


def test_positions_are_checked_before_they_are_sent(primary: Database) -> None:
    pump = open_pump(primary, publish(primary))
    here = current_lsn(primary)
    pump.stream.send_status(Positions(here, here, INVALID))
    with pytest.raises(InternalError, match="backwards"):
        pump.stream.send_status(Positions(here, Lsn(here - 1), INVALID))
    with pytest.raises(InternalError, match="not written"):
        pump.stream.send_status(Positions(here, Lsn(here + 1), INVALID))
    pump.stream.close()


def test_a_lost_slot(make_server: Callable[..., Server]) -> None:
    server = make_server(durable=False, settings={"max_slot_wal_keep_size": "1MB", "min_wal_size": "32MB",
                                                  "max_wal_size": "32MB"})  # fmt: skip
    database = Database(server, "postgres")
    slot = publish(database)
    database.execute("create table t (v text)")
    stream = SlotStream(database.conninfo)
    stream.start(slot, ["everything"], INVALID)  # and acknowledges nothing

    def lost() -> bool:
        database.execute("insert into t values ('x'); select pg_switch_wal(); checkpoint")
        status = database.value("select wal_status from pg_replication_slots where slot_name = %s", [slot])
        return str(status) == "lost"

    eventually(lost, deadline_s=60.0, what="slot lost")
    # The server ends the walsender to release the slot: to be tried again, and then it is said.
    with stream, pytest.raises(StreamBroken) as caught:
        while True:
            stream.read(30.0)
    assert caught.value.transient
    error = refusal(database, slot)
    assert isinstance(error, SlotLost)
    assert "max_slot_wal_keep_size" in error.hint


def test_wal_level_replica(make_server: Callable[..., Server]) -> None:
    server = make_server(durable=False, settings={"wal_level": "replica"})
    error = refusal(Database(server, "postgres"), "any")
    assert "wal_level = replica" in str(error)
    assert "alter system set wal_level = logical" in error.hint
    assert "restart" in error.hint


def test_a_user_without_the_attribute_replication(primary: Database) -> None:
    user = f"{primary.name}_plain"
    primary.execute(f"create role {user} login")
    with pytest.raises(PrimaryError) as caught:
        SlotStream(primary.conninfo_as(user))
    assert "alter role <user> replication" in caught.value.hint
