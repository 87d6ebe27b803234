"""docs/operations.md: its procedures lead where it says they do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.test_run import both, streaming
from tests.conftest import Pair
from tests.follow import assert_equal
from tests.servers import Logship, Running, eventually


@pytest.fixture
def replica(pair: Pair, logship: Logship) -> Pair:
    pair.primary.execute("create table t (id int primary key, v text); insert into t values (1, 'one')")
    assert logship.run("init", *both(pair)).exit_code == 0
    return pair


@pytest.fixture
def replica_without_ddl(pair: Pair, logship: Logship) -> Pair:
    pair.primary.execute("create table t (id int primary key, v text); insert into t values (1, 'one')")
    assert logship.run("init", *both(pair), "--ddl", "off").exit_code == 0
    return pair


def follow(pair: Pair, logship: Logship, journal: Path) -> Running:
    return streaming(logship.start("run", *both(pair), "--journal", journal))


def catch_up(pair: Pair) -> None:
    lsn = pair.primary.value("select pg_current_wal_flush_lsn()::text")
    assert pair.secondary.value("select logship.wait_for(%s::pg_lsn, '30 s')", [lsn]) is True


def test_both_sides_by_hand_without_schema_changes(
    replica_without_ddl: Pair, logship: Logship, tmp_path: Path
) -> None:
    replica = replica_without_ddl
    running = follow(replica, logship, tmp_path / "j")
    for side in (replica.secondary, replica.primary):
        side.execute("create table added (id int primary key, v text)")
    replica.primary.execute("insert into added select g, 'v' from generate_series(1, 100) g")
    catch_up(replica)
    for side in (replica.secondary, replica.primary):
        side.execute("alter table t add column w int default 7")
    replica.primary.execute("update t set w = 8; insert into t values (2, 'two', null)")
    catch_up(replica)
    replica.primary.execute("alter table t drop column v; insert into t values (3, 9)")
    catch_up(replica)
    replica.secondary.execute("alter table t drop column v")
    replica.primary.execute("insert into t values (4, 10)")
    catch_up(replica)
    assert running.terminate(10).exit_code == 0
    assert_equal(*replica)


def test_a_table_that_was_made_on_the_primary_first(
    replica_without_ddl: Pair, logship: Logship, tmp_path: Path
) -> None:
    replica = replica_without_ddl
    running = follow(replica, logship, tmp_path / "j")
    replica.primary.execute("create table late (id int primary key); insert into late values (1), (2)")
    stopped = running.wait(60)
    assert stopped.exit_code == 7, stopped.stderr
    assert "does not exist on the secondary" in stopped.stderr
    replica.secondary.execute("create table late (id int primary key)")
    went_on = logship.run("run", *both(replica), "--journal", tmp_path / "j", "--stop-at", "current")
    assert went_on.exit_code == 0, went_on.stderr
    assert_equal(*replica)


def test_a_second_replica_with_a_slot_of_its_own(
    replica: Pair, make_database: Any, logship: Logship, tmp_path: Path
) -> None:
    other = Pair(replica.primary, make_database(replica.secondary.server))
    slot = f"logship_{replica.primary.name}_second"
    assert logship.run("init", *both(other), "--name", "second", "--slot", slot).exit_code == 0
    first, second = follow(replica, logship, tmp_path / "a"), follow(other, logship, tmp_path / "b")
    replica.primary.execute("insert into t values (2, 'two')")
    catch_up(replica)
    catch_up(other)
    assert first.terminate(10).exit_code == 0
    assert second.terminate(10).exit_code == 0
    assert_equal(*replica)
    assert_equal(*other)
    assert logship.run("drop", *both(other), "--name", "second", "--yes").exit_code == 0
    left = replica.primary.execute(
        "select slot_name from pg_replication_slots where database = current_database()"
    )
    assert left == [(f"logship_{replica.primary.name}",)]


def test_upgrading_is_init_again(replica: Pair, logship: Logship, tmp_path: Path) -> None:
    again = logship.run("init", *both(replica))
    assert again.exit_code == 0, again.stderr
    assert "nothing to do" in again.stdout
    running = follow(replica, logship, tmp_path / "j")
    eventually(lambda: replica.secondary.value("select state from logship.stat_replay"), what="it reports")
    assert running.terminate(10).exit_code == 0
