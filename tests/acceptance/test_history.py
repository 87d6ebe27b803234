"""Alembic revisions up, down and up again under load, with `logship run` killed in between: both sides are the same."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from logship.lsn import Lsn
from logship.service.watch.probe import flushed_position
from tests.acceptance.load import assert_pgbench_equal, pgbench, prepare
from tests.acceptance.migrating import History, assert_same
from tests.conftest import Pair
from tests.servers import Database, Logship, eventually

_ENDLESS = 1_000_000  # transactions: the load ends with the history
_LOAD_GONE = "select not exists (select from pg_stat_activity where application_name = 'pgbench')"
_POSITION = "select replay_lsn::text from logship.position"


@pytest.mark.parametrize(
    ("upto", "rate", "kills"),
    [
        pytest.param("h11", 100, 0, id="short"),
        pytest.param(None, 300, 0.3, id="long", marks=[pytest.mark.soak, pytest.mark.timeout(3600)]),
    ],
)
def test_up_down_up(
    pair: Pair, logship: Logship, tmp_path: Path, upto: str | None, rate: int, kills: float
) -> None:
    """``kills`` is the chance of one after each revision."""
    primary, secondary = pair
    prepare(primary, 1)
    both = ("--primary", primary.conninfo, "--secondary", secondary.conninfo)
    begun = logship.run("init", *both, "--ddl", "on", deadline_s=120)
    assert begun.exit_code == 0, begun.stderr
    arguments = ("run", *both, "--journal", tmp_path / "journal")
    history = History(primary, upto)
    chance = random.Random(7)
    running = logship.start(*arguments)
    with pgbench(primary, tmp_path, clients=2, transactions=_ENDLESS, rate=rate) as load:
        for direction, revision in [*history.up, *history.down, *history.up]:
            history.step(direction, revision)
            assert running.alive, f"{direction} {revision}\n{running.stderr}"
            assert not load.done, f"{direction} {revision}\n{load.output.read_text()}"
            if chance.random() < kills:
                _let_it_work(secondary, chance)
                assert running.alive, f"{direction} {revision}\n{running.stderr}"
                running.kill()
                running = logship.start(*arguments)
    eventually(lambda: "streaming slot" in running.stderr, 30, what="the replica streams")
    eventually(lambda: primary.value(_LOAD_GONE), what="the load's sessions have ended")
    end = flushed_position(primary.conninfo)

    def caught_up() -> bool:
        assert running.alive, running.stderr
        return Lsn.parse(secondary.value(_POSITION)) >= end

    eventually(caught_up, 180, what=f"the secondary reaches {end}")
    # What memory holds after all these changes of shape, too.
    verified = logship.run("verify", *both, "--memory", deadline_s=300)
    assert verified.exit_code == 0, verified.stdout + verified.stderr
    assert running.terminate(60).exit_code == 0, running.stderr
    last = logship.run(*arguments, "--stop-at", "current", deadline_s=300)
    assert last.exit_code == 0, last.stderr
    assert_same(primary, secondary)
    assert_pgbench_equal(primary, secondary)
    assert secondary.value("select version_num from alembic_version") == history.revisions[-1]


def _let_it_work(secondary: Database, chance: random.Random) -> None:
    """A random while: until it has replayed something, or is only about to."""
    before = secondary.value(_POSITION)
    moment = time.monotonic() + chance.uniform(0, 3)
    eventually(lambda: time.monotonic() > moment or secondary.value(_POSITION) != before, 10)
    moment = time.monotonic() + chance.uniform(0, 0.2)
    eventually(lambda: time.monotonic() > moment, 5)
