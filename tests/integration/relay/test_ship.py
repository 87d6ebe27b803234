"""What a shipper tells and does: facts, a cancelled stream, log that is gone, the users of the primary."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.request import urlopen

import psycopg
import pytest

from logship.capture.copydata import NOWHERE
from logship.capture.relay_stream import RelayStream
from logship.capture.slot import start_command
from logship.config import MIB, Address, JournalBounds
from logship.connection import Side, connect
from logship.errors import ShipperBroken
from logship.lsn import INVALID, Lsn
from logship.relay.frames import decode_record
from tests.integration.persistence.proxy import Proxy
from tests.relay import PUBLICATION, Relay, publish
from tests.servers import Database, eventually

REPLICATION = "select coalesce(state, '') from logship.stat_replication where application_name = %s"


def command_session(relay: Relay, **more: str) -> psycopg.Connection:
    return psycopg.connect(
        relay.conninfo(replication="database", **more), autocommit=True, prepare_threshold=None
    )


def stream(connection: psycopg.Connection, name: str, start: Lsn = INVALID) -> psycopg.pq.abc.PGresult:
    connection.pgconn.send_query(start_command(name, [PUBLICATION], start).encode())
    return result(connection)


def result(connection: psycopg.Connection) -> psycopg.pq.abc.PGresult:
    """The next one, once it has come."""

    def come() -> bool:
        connection.pgconn.consume_input()
        return not connection.pgconn.is_busy()

    eventually(come, what="an answer")
    found = connection.pgconn.get_result()
    assert found is not None
    return found


def figures(relay: Relay) -> str:
    with urlopen(f"http://{relay.ship.metrics}/metrics") as answer:
        return str(answer.read().decode())


@pytest.fixture
def relay(primary: Database, tmp_path: Path) -> Iterator[Relay]:
    primary.execute("create table t (id int primary key, v text)")
    publish(primary)
    bounds = JournalBounds(segment_bytes=1 * MIB, limit_bytes=2 * MIB)
    with Relay(primary, tmp_path / "relay", journal_bounds=bounds, metrics=Address("127.0.0.1", 0)) as relay:
        yield relay


def test_facts_a_cancelled_stream_and_log_that_is_gone(relay: Relay) -> None:
    """One relay for three things that leave nothing behind."""
    with command_session(relay) as connection:
        connection.execute("CREATE_REPLICATION_SLOT early LOGICAL pgoutput")
        connection.execute("CREATE_REPLICATION_SLOT watched LOGICAL pgoutput")
        tells_facts(relay, connection)
        gives_up_a_network_that_swallows(relay)
        gives_up_a_shipper_that_is_not_heard(relay)
        ends_a_stream_that_is_cancelled(relay, connection)
        names_the_oldest_lsn(relay)


def tells_facts(relay: Relay, connection: psycopg.Connection) -> None:
    assert connection.execute('SHOW "logship.epoch"').fetchone() == ("1",)
    before = Lsn.parse(relay.primary.value("select pg_current_wal_insert_lsn()::text"))
    relay.primary.execute("set synchronous_commit = off; insert into t values (0, 'not flushed by anybody')")
    marked = connection.execute('SHOW "logship.mark"').fetchone()
    assert marked is not None
    assert (
        before
        < Lsn.parse(marked[0])
        <= Lsn.parse(relay.primary.value("select pg_current_wal_flush_lsn()::text"))
    )
    connection.execute('SHOW "logship.primary"')

    def facts() -> dict[str, str | None]:
        cursor = connection.execute('SHOW "logship.primary"')
        row = cursor.fetchone()
        assert row is not None
        assert cursor.description is not None
        return dict(zip([column.name for column in cursor.description], row, strict=True))

    eventually(
        lambda: (said := facts()["flush_lsn"]) and Lsn.parse(said) >= Lsn.parse(marked[0]), what="asked anew"
    )
    said = facts()
    assert (said["slot_exists"], said["slot_active"], said["slot_wal_status"]) == ("t", "t", "reserved")
    assert int(said["age_us"] or -1) >= 0
    clock = "select (extract(epoch from clock_timestamp() - '2000-01-01 UTC') * 1e6)::int8"
    assert abs(int(said["clock_us"] or 0) - relay.primary.value(clock)) < 60_000_000
    assert int(said["slot_retained_bytes"] or -1) >= 0
    with pytest.raises(psycopg.errors.UndefinedObject):
        connection.execute('SHOW "logship.nothing"')


def gives_up_a_network_that_swallows(relay: Relay) -> None:
    """By itself the system would try for a quarter of an hour, and commits wait."""
    for more, expected in (({}, 60_000), ({"tcp_user_timeout": "5000"}, 5_000)):
        with (
            closing(connect(relay.conninfo(**more), Side.SHIPPER, replication=True)) as client,
            socket.socket(fileno=os.dup(client.pgconn.socket)) as link,
        ):
            assert link.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == expected


def gives_up_a_shipper_that_is_not_heard(relay: Relay) -> None:
    """One that has nothing to say is asked, and answers; one whose answers don't come through is given up."""
    proxy, start = Proxy(relay.port), Lsn.parse(relay.primary.value("select pg_current_wal_lsn()::text"))
    try:
        with RelayStream(
            relay.conninfo(port=str(proxy.port)), "early", decode_record, receiver_timeout_s=0.4
        ) as stream:
            stream.start(PUBLICATION, start)
            end = time.monotonic() + 1.2
            while time.monotonic() < end:
                stream.read(0.02)
                stream.send_status(NOWHERE)
            proxy.mute = True
            with pytest.raises(ShipperBroken, match=r"nothing was heard for 0\.4 s") as broken:
                while True:
                    stream.read(0.02)
                    stream.send_status(NOWHERE)
            assert broken.value.transient
    finally:
        proxy.close()


def ends_a_stream_that_is_cancelled(relay: Relay, connection: psycopg.Connection) -> None:
    assert stream(connection, "watched").status == psycopg.pq.ExecStatus.COPY_BOTH
    pid, address = connection.pgconn.backend_pid, ("127.0.0.1", relay.port)
    with socket.create_connection(address) as stranger:  # with another key nothing happens
        stranger.settimeout(20)
        stranger.sendall(struct.pack(">IIII", 16, 1234 << 16 | 5678, pid, 1))
        assert stranger.recv(10) == b""
    with command_session(relay) as other, pytest.raises(psycopg.errors.ObjectInUse, match=str(pid)):
        other.execute("DROP_REPLICATION_SLOT watched")
    connection.cancel_safe(timeout=20)  # the other one holds the interpreter that the relay runs in

    def cancelled() -> bool:
        connection.pgconn.consume_input()
        return connection.pgconn.get_copy_data(1)[0] == -1

    eventually(cancelled, what="the stream ends")
    error = result(connection)
    assert error.error_field(psycopg.pq.DiagnosticField.SQLSTATE) == b"57014"
    while connection.pgconn.get_result() is not None:
        pass
    assert connection.execute("IDENTIFY_SYSTEM").fetchone() is not None  # the session goes on
    connection.execute("DROP_REPLICATION_SLOT watched")  # and its name is free


def names_the_oldest_lsn(relay: Relay) -> None:
    # Incompressible, or it would be stored and sent short.
    rows = (
        "insert into t select i, (select string_agg(md5((i * j)::text), '') from generate_series(1, 100) j)"
    )
    for start in range(1, 5001, 500):
        relay.primary.execute(f"{rows} from generate_series({start}, {start + 499}) i")
    eventually(
        lambda: 'logship_relay_replica_state{replica="early",state="lost"} 1.0' in figures(relay), what="lost"
    )
    eventually(lambda: relay.primary.value(REPLICATION, ["early"]) == "lost", what="the view says so")
    named = INVALID

    def streams() -> bool:
        """From where it was told that it could; retention may have gone on since then."""
        nonlocal named
        with closing(command_session(relay)) as connection:
            answer = stream(connection, "early", named)
            if answer.status == psycopg.pq.ExecStatus.COPY_BOTH:
                return True
            field = psycopg.pq.DiagnosticField
            assert answer.error_field(field.SQLSTATE) == b"58P01"
            assert b"copied anew" in (answer.error_field(field.MESSAGE_HINT) or b"")
            oldest = Lsn.parse(
                (answer.error_field(field.MESSAGE_PRIMARY) or b"").decode().rsplit(maxsplit=1)[1]
            )
            assert oldest > named
            named = oldest
            return False

    assert not streams()
    eventually(streams, what="it gets what there is")


def test_the_primarys_own_roles_may_come_in(primary: Database, tmp_path: Path) -> None:
    publish(primary)
    primary.execute(
        "set password_encryption = 'scram-sha-256'; create role test_comes login replication password 'its own';"
        "create role test_stays login password 'its own'; create role test_out replication password 'its own'"
    )
    with Relay(primary, tmp_path / "relay", users="primary") as relay:

        def comes(user: str, password: str) -> bool:
            try:
                command_session(relay, user=user, password=password).close()
            except psycopg.OperationalError as error:
                assert "password authentication failed" in str(error)
                return False
            return True

        assert comes("test_comes", "its own")
        assert not comes("test_comes", "another")
        assert not comes("test_stays", "its own")  # it may not replicate
        assert not comes("test_out", "its own")  # it may not log in
        primary.execute("alter role test_comes password 'a new one'")
        relay.ship.reload()
        eventually(lambda: comes("test_comes", "a new one"), what="the new password")
        assert not comes("test_comes", "its own")
