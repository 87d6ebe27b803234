"""`logship.stat_replication`: the columns of pg_stat_replication, true while the shipper lives and when it is dead."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from logship.catalog import migrate
from logship.catalog.status import shippers
from logship.connection import Side
from logship.lsn import Lsn
from logship.relay.policy import parse
from logship.relay.ports import ClientInfo
from logship.relay.synchrony import Block
from logship.relay.syncrep import SyncRep
from logship.service.demo.binaries import wheel_binaries
from logship.service.demo.servers import Server
from logship.service.ship.registered import RegisteredReplicas
from logship.service.ship.replicas import Replicas
from tests.integration.capture.pump import current_lsn, publish
from tests.integration.ship.shipper import PUBLICATION, Ship
from tests.servers import Database, eventually

COLUMNS = """
select a.attname, format_type(a.atttypid, a.atttypmod)
  from pg_attribute a where a.attrelid = %s::regclass and a.attnum > 0 order by a.attnum
"""
CLIENT = ClientInfo(user="postgres", application_name="x", address="192.0.2.7", port=1234, pid=4711)


@pytest.fixture
def slot(primary: Database) -> str:
    migrate.upgrade(primary.conninfo, Side.PRIMARY)
    primary.execute("create table t (id int primary key)")
    return publish(primary, PUBLICATION)


def rows(primary: Database) -> list[dict[str, Any]]:
    with primary.connect() as connection, connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute("select * from logship.stat_replication order by application_name").fetchall()


def replicas_of(directory: Path, policy: str | None) -> Replicas:
    directory.mkdir()
    moved: Callable[[], None] = lambda: None  # noqa: E731  the shipper's timer is short
    return Replicas(SyncRep(parse(policy), Block()), RegisteredReplicas(directory), moved)


def assert_same_columns(database: Database) -> None:
    expected = database.execute(COLUMNS, ["pg_catalog.pg_stat_replication"])
    assert len(expected) == 20
    assert database.execute(COLUMNS, ["logship.stat_replication"]) == expected


def test_it_has_the_columns_of_pg_stat_replication(primary: Database, slot: str) -> None:
    assert_same_columns(primary)


def test_it_has_the_columns_of_the_newest_version_too(make_server: Callable[..., Server]) -> None:
    database = Database(make_server("newest", binaries=wheel_binaries(), durable=False), "postgres")
    migrate.upgrade(database.conninfo, Side.PRIMARY)
    assert_same_columns(database)


def test_a_replica_that_comes_reports_and_goes(primary: Database, slot: str, tmp_path: Path) -> None:
    replicas = replicas_of(tmp_path / "r", "FIRST 1 (a, b)")
    with Ship(primary, slot, tmp_path / "j", replicas=replicas).streaming() as ship:
        replicas.connected("a", CLIENT)
        replicas.connected("c", CLIENT)
        end = current_lsn(primary)
        replicas.sent("a", end)
        replicas.reported("a", end, end, Lsn(end - 1))
        replicas.reported("c", end, end, end)
        eventually(lambda: [r["state"] for r in rows(primary)] == ["streaming", "streaming"])
        a, c = rows(primary)
        me = primary.value("select oid from pg_roles where rolname = 'postgres'")
        assert (a["pid"], a["usesysid"], a["usename"]) == (4711, me, "postgres")
        assert (a["application_name"], str(a["client_addr"]), a["client_port"]) == ("a", "192.0.2.7", 1234)
        assert (a["sent_lsn"], a["flush_lsn"], a["replay_lsn"]) == (str(end), str(end), str(Lsn(end - 1)))
        assert (a["sync_priority"], a["sync_state"]) == (1, "sync")
        assert (c["sync_priority"], c["sync_state"]) == (0, "async")
        assert primary.value(
            "select now() - reply_time < interval '1 min' from logship.stat_replication limit 1"
        )
        # What it lacks has an age, and the age grows.
        primary.execute("insert into t values (1)")
        eventually(lambda: (rows(primary)[0]["flush_lag"] or a["write_lag"]) is not None)
        first = rows(primary)[0]["flush_lag"]
        eventually(lambda: rows(primary)[0]["flush_lag"] > first, what="it grows")
        replicas.gone("a")
        replicas.gone("c")
        replicas.forgotten("c")
        eventually(lambda: [r["application_name"] for r in rows(primary)] == [])
        assert ship.error is None


def test_those_that_are_registered_are_shown_while_they_are_away(
    primary: Database, slot: str, tmp_path: Path
) -> None:
    primary.execute(
        "insert into logship.replica (name, slot, publication, created_at) values ('made', %s, 'p', now())",
        [slot],
    )
    assert [(r["application_name"], r["state"]) for r in rows(primary)] == [("made", None)]  # nobody reports
    replicas = replicas_of(tmp_path / "r", None)
    RegisteredReplicas(tmp_path / "r").add("made", Lsn(7))
    replicas = Replicas(SyncRep(None, Block()), RegisteredReplicas(tmp_path / "r"), lambda: None)
    with Ship(primary, slot, tmp_path / "j", replicas=replicas).streaming():
        eventually(lambda: [r["state"] for r in rows(primary)] == ["away"])
        (row,) = rows(primary)
        assert (row["application_name"], row["pid"], row["flush_lsn"]) == ("made", None, "0/7")


def test_two_shippers_with_clients_of_one_name_are_told_apart(primary: Database, slot: str) -> None:
    primary.execute(
        "insert into logship.shipper (slot, epoch, started_at) values ('first', 1, now()), ('second', 1, now())"
    )
    primary.execute(
        "insert into logship.replica (name, slot, publication, created_at) values ('one', 'first', 'p', now())"
    )
    primary.execute(
        "insert into logship.replication_report (slot, replica, flush_lsn, reported_at) "
        "values ('first', 'one', '0/1', now()), ('second', 'one', '0/2', now())"
    )
    with primary.connect() as connection:
        found = {
            shipper.slot: [(one.replica, one.flush_lsn) for one in shipper.replicas]
            for shipper in shippers(connection)
        }
    assert found == {"first": [("one", Lsn(1))], "second": [("one", Lsn(2))]}
    assert [row["flush_lsn"] for row in rows(primary)] in (["0/1", "0/2"], ["0/2", "0/1"])


def test_when_the_shipper_is_dead_nothing_is_said_of_now(
    primary: Database, slot: str, tmp_path: Path
) -> None:
    with Ship(primary, slot, tmp_path / "j").streaming() as ship:
        primary.execute("insert into t values (1)")
        eventually(lambda: [r["state"] for r in rows(primary)] == ["startup"])
        eventually(lambda: ship.journal.flushed_lsn > 0)
        eventually(lambda: rows(primary)[0]["flush_lsn"] is not None)
    (alive,) = rows(primary)
    assert alive["pid"] == os.getpid()
    # Its last report grows old.
    primary.execute("update logship.replication_report set reported_at = reported_at - interval '1 min'")
    (dead,) = rows(primary)
    for column in ("pid", "state", "write_lag", "flush_lag", "replay_lag", "sync_state", "backend_start"):
        assert dead[column] is None, column
    assert dead["flush_lsn"] == alive["flush_lsn"]
    assert dead["reply_time"] == alive["reply_time"]


def test_the_own_replica_is_synchronous_only_where_the_primary_lists_it(
    make_server: Callable[..., Server], tmp_path: Path
) -> None:
    primary = Database(make_server("listing", durable=False), "postgres")
    migrate.upgrade(primary.conninfo, Side.PRIMARY)
    primary.execute("create table t (id int primary key)")
    with Ship(primary, publish(primary, PUBLICATION), tmp_path / "j").streaming():
        shown = "select sync_state, sync_priority from {} where application_name = %s"
        own, theirs = shown.format("logship.stat_replication"), shown.format("pg_catalog.pg_stat_replication")
        for names, expected in (("", ("async", 0)), ("logship", ("sync", 1)), ("another", ("async", 0))):
            primary.execute(f"alter system set synchronous_standby_names = '{names}'")
            primary.execute("select pg_reload_conf()")
            for query, name in ((theirs, "logship"), (own, "own")):
                eventually(lambda q=query, n=name, e=expected: primary.execute(q, [n]) == [e], what=names)  # type: ignore[misc]


def test_monitoring_roles_read_it_and_others_do_not(primary: Database, slot: str) -> None:
    primary.execute("create role test_watch login in role pg_monitor; create role test_nobody login")
    with primary.connect("test_watch") as connection:
        assert connection.execute("select * from logship.stat_replication").fetchall() == []
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("select * from logship.shipper")
    with primary.connect("test_nobody") as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("select * from logship.stat_replication")


def test_a_user_without_the_right_ships_and_says_so_once(
    primary: Database, slot: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    primary.execute(
        "create role test_ship login replication; grant usage on schema logship to test_ship;"
        "grant select, insert, update on logship.shipper to test_ship"
    )
    with Ship(primary, slot, tmp_path / "j", user="test_ship").streaming() as ship:
        eventually(lambda: "will show nothing" in caplog.text)
        before = ship.journal.written_lsn
        primary.execute("insert into t values (1)")
        eventually(lambda: ship.journal.written_lsn > before)
        assert ship.error is None
    assert caplog.text.count("will show nothing") == 1
