"""`logship ship` and `logship replay` as two programs: what they promise together, and how each ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.acceptance.relayed import Relayed, streams
from tests.conftest import Pair
from tests.follow import assert_equal
from tests.servers import Logship, Running, eventually


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
    shipper = relayed.ship()
    relayed.caught_up(secondary)
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
