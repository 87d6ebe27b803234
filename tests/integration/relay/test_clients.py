"""Outside clients at the relay, as they are: pg_recvlogical, psycopg2, psycopg 3."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.request import urlopen

import psycopg
import psycopg2
import psycopg2.extras
import pytest

from logship import pgoutput
from logship.capture.slot import start_command
from logship.change import Begin, Commit, Event, Insert, Message, Relation, Truncate
from logship.config import Address
from logship.lsn import Lsn
from tests.relay import PUBLICATION, Relay, publish
from tests.servers import Database, eventually


@pytest.fixture
def relay(primary: Database, tmp_path: Path) -> Iterator[Relay]:
    primary.execute("create table t (id int primary key, v text); create table u (id int primary key)")
    publish(primary)
    with Relay(primary, tmp_path / "relay") as relay:
        yield relay


def recvlogical(relay: Relay, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = relay.primary.program("pg_recvlogical")
    return subprocess.run(
        [program, "--dbname", relay.conninfo(), *arguments], capture_output=True, text=True, timeout=30
    )


def test_pg_recvlogical_creates_streams_and_drops(relay: Relay, tmp_path: Path) -> None:
    made = recvlogical(relay, "--slot=r", "--create-slot", "--plugin=pgoutput")
    assert made.returncode == 0, made.stderr
    relay.primary.execute("insert into t values (1, 'one'), (2, 'two')")
    end = relay.primary.value("select pg_current_wal_flush_lsn()::text")
    relay.primary.execute("insert into u values (3)")
    out = tmp_path / "out"
    streamed = recvlogical(
        relay, "--slot=r", "--start", f"--endpos={end}", "--file", str(out), "--no-loop",
        "-o", "proto_version=1", "-o", f"publication_names={PUBLICATION}",
    )  # fmt: skip
    assert streamed.returncode == 0, streamed.stderr
    assert out.read_bytes().count(b"one") == 1
    twice = recvlogical(relay, "--slot=r", "--create-slot", "--plugin=pgoutput")
    assert 'replication slot "r" already exists' in twice.stderr
    assert recvlogical(relay, "--slot=r", "--drop-slot").returncode == 0
    gone = recvlogical(relay, "--slot=r", "--drop-slot")
    assert 'replication slot "r" does not exist' in gone.stderr


def test_psycopg2_reads_with_its_replication_cursor(relay: Relay) -> None:
    connection = psycopg2.connect(
        relay.conninfo(), connection_factory=psycopg2.extras.LogicalReplicationConnection
    )
    with connection.cursor() as cursor:
        cursor.create_replication_slot("two", output_plugin="pgoutput")
        relay.primary.execute("insert into t values (1, 'one'); truncate t")
        cursor.start_replication(
            "two", decode=False, options={"proto_version": "1", "publication_names": PUBLICATION}
        )
        events = []

        def committed() -> bool:
            message = cursor.read_message()
            if message is not None:
                events.append(pgoutput.decode(message.payload))
                message.cursor.send_feedback(flush_lsn=message.data_start, force=True)
            return bool(events) and isinstance(events[-1], Commit)

        eventually(committed, what="the transaction comes")
        assert [type(event) for event in events] == [Begin, Relation, Insert, Truncate, Commit]
        end = events[-1].end_lsn
        eventually(lambda: flushed(relay, "two") >= end, what="the relay knows that it is flushed")
    connection.close()


def flushed(relay: Relay, name: str) -> Lsn:
    """What a restarted client would go on from."""
    with psycopg.connect(relay.conninfo(replication="database"), autocommit=True) as connection:
        row = connection.execute(f"READ_REPLICATION_SLOT {name}".encode()).fetchone()
        return Lsn.parse(row[1])


def test_psycopg_3_reads_it_as_it_reads_a_walsender(relay: Relay) -> None:
    """With `logship.capture.slot`'s words; logical messages come when they are asked for."""
    with closing(psycopg.connect(relay.conninfo(replication="database"), autocommit=True)) as connection:
        created = connection.execute("CREATE_REPLICATION_SLOT three LOGICAL pgoutput").fetchone()
        assert created is not None
        relay.primary.execute("select pg_logical_emit_message(true, 'said', 'x')")
        system = connection.execute("IDENTIFY_SYSTEM").fetchone()
        assert system is not None
        assert int(system[0]) == relay.primary.value("select system_identifier from pg_control_system()")
        raw = connection.pgconn
        raw.send_query(start_command("three", [PUBLICATION], Lsn.parse(created[1])).encode())
        eventually(lambda: raw.consume_input() or not raw.is_busy(), what="an answer")  # type: ignore[func-returns-value]
        result = raw.get_result()
        assert result is not None
        assert result.status == psycopg.pq.ExecStatus.COPY_BOTH
        events: list[Event] = []

        def committed() -> bool:
            raw.consume_input()
            while (got := raw.get_copy_data(1))[0] > 0:
                if bytes(got[1][:1]) == b"w":
                    events.append(pgoutput.decode(bytes(got[1][25:])))
            return any(isinstance(event, Message) and event.prefix == "said" for event in events)

        eventually(committed, what="the message comes")
        assert isinstance(events[0], Begin)


def test_what_isnt_there_is_refused_with_a_hint_and_the_session_goes_on(relay: Relay) -> None:
    with psycopg.connect(relay.conninfo(replication="database"), autocommit=True) as connection:
        connection.execute("CREATE_REPLICATION_SLOT four LOGICAL pgoutput")

        def refused(command: str) -> psycopg.Error:
            with pytest.raises(psycopg.Error) as raised:
                connection.execute(command.encode())
            return raised.value

        error = refused(
            "START_REPLICATION SLOT four LOGICAL 0/0 (proto_version '1', publication_names 'nobody')"
        )
        assert error.sqlstate == "42704"
        assert PUBLICATION in (error.diag.message_hint or "")
        error = refused(
            f"START_REPLICATION SLOT five LOGICAL 0/0 (proto_version '1', publication_names '{PUBLICATION}')"
        )
        assert (error.sqlstate, error.diag.message_primary) == (
            "42704",
            'replication slot "five" does not exist',
        )
        assert '"four"' in (error.diag.message_hint or "")
        assert refused("CREATE_REPLICATION_SLOT four LOGICAL pgoutput").sqlstate == "42710"
        assert refused('CREATE_REPLICATION_SLOT "Four!" LOGICAL pgoutput').sqlstate == "42602"
        assert refused("DROP_REPLICATION_SLOT five").sqlstate == "42704"
        assert refused("SHOW nothing").sqlstate == "42704"
        assert refused("select 1").sqlstate == "0A000"
        tables = connection.execute(
            "SELECT DISTINCT t.schemaname, t.tablename, t.attnames FROM pg_catalog.pg_publication_tables t "
            f"WHERE t.pubname IN ('{PUBLICATION}')"
        ).fetchall()
        assert tables == [("public", "t", ["id", "v"]), ("public", "u", ["id"])]


def test_a_name_has_one_client_and_a_temporary_slot_goes_with_it(relay: Relay) -> None:
    command = f"START_REPLICATION SLOT six LOGICAL 0/0 (proto_version '1', publication_names '{PUBLICATION}')"
    first = psycopg.connect(relay.conninfo(replication="database"), autocommit=True)
    first.execute("CREATE_REPLICATION_SLOT six TEMPORARY LOGICAL pgoutput")
    pid = first.pgconn.backend_pid
    first.pgconn.send_query(command.encode())
    eventually(lambda: first.pgconn.consume_input() or not first.pgconn.is_busy())  # type: ignore[func-returns-value]
    with psycopg.connect(relay.conninfo(replication="database"), autocommit=True) as second:
        for refused in (command, "DROP_REPLICATION_SLOT six"):
            with pytest.raises(psycopg.errors.ObjectInUse, match=f"active for PID {pid}"):
                second.execute(refused.encode())
        first.close()

        def gone() -> bool:
            row = second.execute("READ_REPLICATION_SLOT six").fetchone()
            return row is not None and row[0] is None

        eventually(gone, what="the temporary slot is gone")


def test_the_figures_name_the_relays_clients(primary: Database, tmp_path: Path) -> None:
    publish(primary)
    with (
        Relay(primary, tmp_path / "relay", metrics=Address("127.0.0.1", 0)) as relay,
        psycopg.connect(relay.conninfo(replication="database"), autocommit=True) as connection,
    ):
        connection.execute("CREATE_REPLICATION_SLOT figured LOGICAL pgoutput")

        def scraped() -> str:
            with urlopen(f"http://{relay.ship.metrics}/metrics") as answer:
                return str(answer.read().decode())

        text = scraped()
        assert "logship_relay_connections 1.0" in text
        assert 'logship_relay_replicas{state="away"} 1.0' in text
        assert 'logship_relay_replica_lsn_bytes{position="flush",replica="figured"}' in text
        assert 'logship_relay_replica_lsn_bytes{position="write",replica="figured"}' not in text  # not known
        eventually(lambda: f'logship_ready{{replica="{relay.settings.slot}"}} 1.0' in scraped(), what="ready")
