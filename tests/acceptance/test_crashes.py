"""Killed at named places: in a schema change, while a shipper takes over, before its fsync of what a replica has."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.relayed import Relayed
from tests.conftest import Pair
from tests.follow import assert_equal
from tests.servers import Logship, eventually

SCHEMA = "create table t (id int primary key, v text); insert into t values (1, 'one')"
MIXED = (
    "begin; insert into t values (2, 'b'); alter table t add column w int default 5; savepoint s; "
    "create table gone (id int primary key); insert into gone values (1); rollback to s; "
    "insert into t values (3, 'c', 6); create table n (id int primary key); insert into n values (1); commit"
)
# What of MIXED is on the secondary.
THERE = (
    "select to_regclass('n') is not null, (select count(*) from t), (select count(*) from logship.ddl_replayed), "
    "exists (select from pg_attribute where attrelid = 't'::regclass and attname = 'w')"
)


def both(pair: Pair) -> tuple[str, ...]:
    return ("--primary", pair.primary.conninfo, "--secondary", pair.secondary.conninfo)


@pytest.fixture
def replica(pair: Pair, logship: Logship) -> Pair:
    pair.primary.execute(SCHEMA)
    finished = logship.run("init", *both(pair))
    assert finished.exit_code == 0, finished.stderr
    return pair


@pytest.mark.parametrize("failpoint", ["schema_change.run", "schema_change.run=2", "schema_change.noted=2"])
def test_inside_a_schema_change(replica: Pair, logship: Logship, tmp_path: Path, failpoint: str) -> None:
    """Nothing of its transaction is there; then all of it, once."""
    run = ("run", *both(replica), "--journal", tmp_path / "j")
    running = logship.start(*run, env={"LOGSHIP_FAILPOINTS": failpoint})
    replica.primary.execute(MIXED)
    assert running.wait().exit_code == -9
    assert replica.secondary.execute(THERE) == [(False, 1, 0, False)]
    again = logship.run(*run, "--stop-at", "current")
    assert again.exit_code == 0, again.stderr
    assert replica.secondary.execute(THERE) == [(True, 3, 2, True)]
    assert_equal(*replica)


@pytest.mark.parametrize("failpoint", ["takeover.claimed", "takeover.opened"])
def test_while_a_shipper_takes_over(replica: Pair, logship: Logship, tmp_path: Path, failpoint: str) -> None:
    """The next start goes on as if there had been none; and so it is where a journal is given up for another."""
    first = ("run", *both(replica), "--journal", tmp_path / "first", "--stop-at", "current")
    assert logship.run(*first, env={"LOGSHIP_FAILPOINTS": failpoint}).exit_code == -9
    replica.primary.execute("insert into t values (2, 'two')")
    ended = logship.run(*first)
    assert ended.exit_code == 0, ended.stderr
    other = ("run", *both(replica), "--journal", tmp_path / "other", "--stop-at", "current")
    killed = logship.run(*other, "--new-journal", env={"LOGSHIP_FAILPOINTS": failpoint})
    assert killed.exit_code == -9
    refused = logship.run(*other)
    assert refused.exit_code == 6 and "--new-journal" in refused.stderr, refused.stderr
    replica.primary.execute("insert into t values (3, 'three')")
    ended = logship.run(*first)  # nothing was received into the other one: this is still the slot's
    assert ended.exit_code == 0, ended.stderr
    assert_equal(*replica)


def test_a_replica_has_what_its_shipper_lost(replica: Pair, logship: Logship, tmp_path: Path) -> None:
    """A record is sent before it is fsynced: the shipper is killed in between, and sends it again when it has it."""
    ship = ("ship", "--primary", replica.primary.conninfo, "--journal", tmp_path / "s", "--auth", "trust")
    shipper = logship.start(
        *ship, "--listen", "127.0.0.1:0", env={"LOGSHIP_FAILPOINTS": "journal.fsync.before=12"}
    )
    port = eventually(lambda: listens_at(shipper.stderr), what="the shipper listens")
    replay = (
        "replay", "--shipper", f"host=127.0.0.1 port={port} user=any", "--secondary", replica.secondary.conninfo,
        "--journal", tmp_path / "r",
    )  # fmt: skip
    logship.start(*replay)

    def killed() -> bool:
        replica.primary.execute("insert into t select max(id) + 1, 'more' from t")
        return not shipper.alive

    eventually(killed, 60, what="the shipper is killed")
    assert shipper.wait().exit_code == -9
    logship.start(*ship, "--listen", f"127.0.0.1:{port}")
    replica.primary.execute("insert into t select max(id) + 1, 'behind' from t")
    rows = replica.primary.value("select count(*) from t")
    eventually(
        lambda: replica.secondary.value("select count(*) from t") == rows, 60, what="all of it is there"
    )
    assert_equal(*replica)


# Small transactions that nobody waits for: they are journaled, relayed and taken in as stretches, which go over the
# ends of segments. More than a megabyte of them at first, which a shipper that starts finds; then as many again.
MANY = """
do $$ begin
  for i in 1..1500 loop
    insert into t select coalesce(max(id), 0) + 1, repeat('x', 900) from t;
    if i % 3 = 0 then update t set v = 'changed ' || i where id = i; end if;
    if i % 7 = 0 then delete from t where id = i - 5; end if;
    commit;
  end loop;
end $$
"""
AMONG_STRETCHES = [
    ("shipper", "journal.write.after=3"),
    ("replayer", "journal.segment.synced=2"),
    *(
        pytest.param(victim, failpoint, marks=pytest.mark.soak)
        for victim in ("shipper", "replayer")
        for failpoint in (
            "journal.write.before=2", "journal.write.after=2", "journal.fsync.before=2", "journal.fsync.after=2",
            "journal.seal.written", "journal.seal.synced", "journal.seal.cut", "journal.segment.made=2",
            "journal.segment.synced=3", "journal.segment.named=2",
        )
    ),
    *(
        pytest.param("replayer", f"persistence.{point}", marks=pytest.mark.soak)
        for point in ("after_rows=2", "before_commit", "commit_sent", "after_commit=2")
    ),
]  # fmt: skip


@pytest.mark.parametrize(("victim", "failpoint"), AMONG_STRETCHES)
def test_among_stretches(
    replica: Pair, logship: Logship, tmp_path: Path, victim: str, failpoint: str
) -> None:
    """Half of a stretch is written, or relayed, or in two segments: what is missing comes again, and nothing twice."""
    relayed = Relayed(logship, tmp_path, replica.primary)
    name = replica.secondary.value("select name from logship.replica")
    dies, bounds = {"LOGSHIP_FAILPOINTS": failpoint}, ("--segment-size", "1MB")
    replica.primary.execute(MANY)
    shipper = relayed.ship(*bounds, env=dies if victim == "shipper" else None)
    replayer = relayed.replay(replica.secondary, name, *bounds, env=dies if victim == "replayer" else None)
    dying = shipper if victim == "shipper" else replayer
    replica.primary.execute(MANY)
    assert dying.wait(60).exit_code == -9
    if victim == "shipper":
        shipper = relayed.ship(*bounds)
    else:
        replayer = relayed.replay(replica.secondary, name, *bounds)
    relayed.caught_up(replica.secondary)
    assert_equal(*replica)
    for running, journal in ((replayer, name), (shipper, "shipper")):
        finished = running.terminate(10)
        assert finished.exit_code == 0, finished.stderr
        verified = logship.run("journal", "verify", "--journal", tmp_path / journal)
        assert verified.exit_code == 0, verified.stderr


def listens_at(log: str) -> str | None:
    return next(
        (line.rpartition(":")[2] for line in log.splitlines() if "the relay listens on" in line), None
    )
