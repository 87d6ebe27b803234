"""`logship run`, killed at random moments under load: nothing lost, nothing doubled."""

from __future__ import annotations

import random
import time
from pathlib import Path

import psycopg
import pytest

from tests.acceptance.load import assert_pgbench_equal, pgbench, prepare
from tests.conftest import Pair
from tests.follow import assert_equal
from tests.servers import Database, Logship, Running, eventually


@pytest.mark.parametrize(
    ("scale", "clients", "transactions", "rate", "kills"),
    [
        pytest.param(1, 2, 3_000, 300, 5, id="short"),
        pytest.param(10, 4, 25_000, 800, 30, id="long", marks=[pytest.mark.soak, pytest.mark.timeout(3600)]),
    ],
)
def test_killed_under_load(
    pair: Pair,
    logship: Logship,
    tmp_path: Path,
    scale: int,
    clients: int,
    transactions: int,
    rate: int,
    kills: int,
) -> None:
    primary, secondary = pair
    prepare(primary, scale)
    both = ("--primary", primary.conninfo, "--secondary", secondary.conninfo)
    assert logship.run("init", *both, deadline_s=300).exit_code == 0
    arguments = ("run", *both, "--journal", tmp_path / "journal")
    chance = random.Random(scale)
    with pgbench(primary, tmp_path, clients=clients, transactions=transactions, rate=rate) as load:
        for _ in range(kills):
            running = logship.start(*arguments)
            _let_it_work(running, secondary, chance)
            running.kill()
        running = logship.start(*arguments)
        eventually(lambda: "streaming slot" in running.stderr, 30, what="the replica streams")
        load.wait(1800)
        assert running.alive, running.stderr
        finished = running.terminate(10)
        assert finished.exit_code == 0, finished.stderr
    last = logship.run(*arguments, "--stop-at", "current", deadline_s=1800)
    assert last.exit_code == 0, last.stderr
    assert_pgbench_equal(primary, secondary)
    expected = clients * transactions
    assert secondary.value("select count(*) from pgbench_history") == expected


KEYED = """
create table stock (id int primary key, n int not null, v text);
create table price (id int primary key, n int not null, code text unique);
insert into stock select g, 0, repeat('x', 40) from generate_series(1, 20000) g;
insert into price select g, 0, 'code ' || g from generate_series(1, 5000) g;
"""
# Rows that meet those of the round before and rows that don't, and a unique value that passes between two.
CHANGES = """
update stock set n = n + 1 where id between %(i)s %% 40 * 500 and %(i)s %% 40 * 500 + 700;
insert into stock select 20000 + %(i)s * 300 + g, 0, 'new' from generate_series(1, 300) g;
delete from stock where id between 20000 + (%(i)s - 3) * 300 and 20000 + (%(i)s - 3) * 300 + 150;
begin;
update price set code = 'code ' || id where code = 'passing';
update price set code = 'passing' where id = %(i)s %% 5000 + 1;
commit;
update price set n = n + 1 where id %% 7 = %(i)s %% 7;
"""


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_killed_while_several_sessions_apply_a_backlog(pair: Pair, logship: Logship, tmp_path: Path) -> None:
    primary, secondary = pair
    primary.execute(KEYED)
    both = ("--primary", primary.conninfo, "--secondary", secondary.conninfo)
    assert logship.run("init", *both, deadline_s=300).exit_code == 0
    sessions = ("--apply-sessions", "3", "--batch-size", "64kB", "--queue-size", "1MB", "--memory", "off")
    arguments = ("run", *both, "--journal", tmp_path / "journal", *sessions)
    chance = random.Random(3)
    for kill in range(12):
        with psycopg.connect(primary.conninfo, autocommit=True) as load:
            for i in range(40 * kill, 40 * kill + 40):
                for statement in (CHANGES % {"i": i + 10}).split(";"):
                    load.execute(statement.encode())
        running = logship.start(*arguments)
        _let_it_work(running, secondary, chance)
        running.kill()
    last = logship.run(*arguments, "--stop-at", "current", deadline_s=600)
    assert last.exit_code == 0, last.stderr
    assert_equal(*pair)


def _let_it_work(running: Running, secondary: Database, chance: random.Random) -> None:
    """Until it has replayed something since it started, and then for a random while."""
    position = "select replay_lsn from logship.position"
    before = secondary.value(position)

    def moved() -> bool:
        assert running.alive, running.stderr
        return bool(secondary.value(position) != before)

    # The load may have ended and everything be there: then the kill meets an idle replica.
    end = time.monotonic() + 5
    eventually(lambda: moved() or time.monotonic() > end, 30, what="the replica moves")
    moment = time.monotonic() + chance.uniform(0, 0.6)
    eventually(lambda: time.monotonic() > moment, 5)
