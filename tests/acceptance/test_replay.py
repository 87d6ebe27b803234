"""`logship ship` and `logship replay` as two programs: what they promise together, and how each ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from logship.service.demo.servers import Server
from tests.acceptance.load import assert_pgbench_equal, pgbench, prepare
from tests.acceptance.relayed import Relayed, streams
from tests.conftest import Pair
from tests.follow import assert_equal
from tests.servers import Database, Logship, Running, eventually


@pytest.fixture
def relayed(pair: Pair, logship: Logship, tmp_path: Path) -> Relayed:
    pair.primary.execute("create table t (id int primary key, v text); insert into t values (1, 'one')")
    found = Relayed(logship, tmp_path, pair.primary)
    found.init(pair.secondary, "one")
    return found


def said(running: Running, words: str) -> None:
    def there() -> bool:
        assert running.alive, running.stderr
        return words in running.stderr

    eventually(there, 30, what=words)


def test_a_shipper_that_comes_later(pair: Pair, relayed: Relayed) -> None:
    """The replayer waits for it, follows it through its restarts, and both end on SIGTERM."""
    secondary = pair.secondary
    replayer = relayed.replay(secondary, "one", "--report-interval", "200ms")
    said(replayer, "can't connect to the shipper")
    state = "select state from logship.stat_replay"
    eventually(lambda: secondary.value(state) == "waiting", 20, what="it says that it waits")
    relayed.primary.execute("insert into t select g, 'v' from generate_series(2, 2000) g")
    shipper = relayed.ship()
    streams(replayer)
    relayed.caught_up(secondary)
    assert_equal(*pair)
    eventually(lambda: secondary.value(state) == "streaming", 20, what="it says that it streams")
    shipper.kill()
    relayed.primary.execute("update t set v = 'w'")
    # nobody knows how far behind that is: the answer is old, and says so
    age = "select min(extract(epoch from now() - as_of)) > 1 from logship.replica_lag"
    eventually(lambda: secondary.value(age), 20, what="the lag is as old as the last answer")
    assert secondary.value(state) == "waiting"
    shipper = relayed.ship()
    relayed.caught_up(secondary)
    eventually(lambda: secondary.value(age) is False, 20, what="the lag is known again")
    assert_equal(*pair)
    assert shipper.terminate(10).exit_code == 0
    assert replayer.alive
    finished = replayer.terminate(10)
    assert finished.exit_code == 0, finished.stderr
    assert secondary.value(state) == "stopped"


def test_stop_at_current_over_the_relay(pair: Pair, relayed: Relayed) -> None:
    relayed.primary.execute(
        "insert into t select g, 'v' from generate_series(2, 5000) g; update t set v = 'w'"
    )
    relayed.ship()
    for _ in range(2):  # the second time there is nothing to do
        finished = relayed.replay_to_current(pair.secondary, "one", "--json")
        assert finished.exit_code == 0, finished.stderr
        assert json.loads(finished.stdout)["reached"] is True
        assert_equal(*pair)


def test_two_replicas_under_load(
    pair: Pair, make_database: Callable[[Server], Database], logship: Logship, tmp_path: Path
) -> None:
    """Each at its own pace, from one slot; all three programs are killed, and both replicas are equal."""
    primary, one = pair
    two = make_database(primary.server)
    prepare(primary, 1)
    relayed = Relayed(logship, tmp_path, primary)
    relayed.init(one, "one")
    relayed.init(two, "two")
    assert primary.value("select count(*) from pg_replication_slots") == 1
    shipper = streams(relayed.ship())
    replayers = {name: streams(relayed.replay(to, name)) for name, to in (("one", one), ("two", two))}
    with pgbench(primary, tmp_path, clients=2, transactions=400, rate=250) as load:
        replayers.pop("two").kill()
        eventually(lambda: moved(one), 20, what="the other goes on")
        shipper.kill()
        relayed.ship()
        replayers.pop("one").kill()
        for name, to in (("one", one), ("two", two)):
            replayers[name] = streams(relayed.replay(to, name))
        load.wait(60)
    relayed.caught_up(one, two)
    for name, to in (("one", one), ("two", two)):
        assert_pgbench_equal(primary, to)
        assert to.value("select count(*) from pgbench_history") == 800
        assert replayers[name].terminate(10).exit_code == 0


def moved(database: Database) -> bool:
    position = "select replay_lsn from logship.position"
    before = database.value(position)
    eventually(lambda: database.value(position) != before, 20, what="the position moves")
    return True


def test_what_is_refused(pair: Pair, relayed: Relayed, logship: Logship, tmp_path: Path) -> None:
    """Said in one sentence with a hint, and never tried for ever."""
    secondary = pair.secondary
    both = logship.run(*relayed.replay_arguments(secondary, "one"), "--primary", pair.primary.conninfo)
    assert both.exit_code == 2, both.stderr
    assert "contradict" in both.stderr
    neither = logship.run("replay", "--secondary", secondary.conninfo, "--journal", tmp_path / "j")
    assert neither.exit_code == 2, neither.stderr
    assert "--shipper" in neither.stderr
    # a server's own walsender where a shipper should be
    arguments = ("--secondary", secondary.conninfo, "--journal", tmp_path / "j", "--name", "one")
    wrong = logship.run("replay", *arguments, "--shipper", pair.primary.conninfo)
    assert wrong.exit_code == 2, wrong.stderr
    assert "is no shipper" in wrong.stderr
    relayed.ship()
    running = streams(relayed.replay(secondary, "one"))
    # a second client for one name waits until the first is gone
    second = logship.start(*relayed.replay_arguments(secondary, "one")[:-1], tmp_path / "second")
    said(second, 'serving replica "one" to another client')
    assert running.terminate(10).exit_code == 0
    said(second, 'streaming replica "one"')
    assert second.terminate(10).exit_code == 0
    # a shipper that was succeeded has nothing to say
    secondary.execute("update logship.replica set shipper_epoch = 1000000000")
    old = relayed.replay(secondary, "one")
    said(old, "has followed one of epoch 1000000000")
    old.kill()
    # what the shipper no longer keeps, or never had
    behind = "update logship.position set replay_lsn = '0/1'; update logship.replica set shipper_epoch = null"
    secondary.execute(behind)
    gone = logship.run(*relayed.replay_arguments(secondary, "one")[:-1], tmp_path / "behind")
    assert gone.exit_code == 3, gone.stderr
    assert "the oldest that the relay keeps begins at" in gone.stderr
    assert "hint: " in gone.stderr
    assert "logship init" in gone.stderr
    # the log of another server
    secondary.execute("update logship.replica set shipper_epoch = null, system_identifier = 1")
    other = logship.run(*relayed.replay_arguments(secondary, "one")[:-1], tmp_path / "other")
    assert other.exit_code == 6, other.stderr
    assert "another server" in other.stderr
