"""`logship ddl …`: what was carried and how, what an operator passes over, capture off and on, a new key."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from psycopg.conninfo import make_conninfo

from logship.config import History, ReplayBounds
from logship.errors import ReplayError
from tests.conftest import Pair
from tests.follow import Follower
from tests.servers import Logship, eventually


@pytest.fixture
def following(pair: Pair, tmp_path: Path) -> Iterator[Follower]:
    pair.primary.execute("create table t (id int primary key, v text); insert into t values (1, 'one')")
    with Follower(*pair, tmp_path) as follower:
        yield follower


def test_only_the_newest_are_remembered(following: Follower) -> None:
    """As many as is said, with what one commit changed together; and none that is too old."""
    primary, secondary = following.primary, following.secondary
    for name in "abc":
        primary.execute(f"create table {name} (id int primary key)")
    primary.execute(
        "begin; alter table a add v int; alter table b add v int; alter table c add v int; commit"
    )
    following.assert_equal()
    tags = "select tag from logship.stat_ddl order by lsn, replayed_at"
    assert [tag for (tag,) in secondary.execute(tags)] == ["CREATE TABLE"] * 3 + ["ALTER TABLE"] * 3
    following.settings = dataclasses.replace(
        following.settings, replay_bounds=ReplayBounds(history=History(statements=2))
    )
    following.restart()
    kept = [("ALTER TABLE",)] * 3
    eventually(lambda: secondary.execute(tags) == kept, what="the older ones are forgotten")
    secondary.execute("update logship.ddl_replayed set replayed_at = replayed_at - interval '91 days'")
    following.restart()
    eventually(lambda: secondary.execute(tags) == [], what="what is too old is forgotten")


def test_what_an_operator_sees_and_does(following: Follower, logship: Logship, tmp_path: Path) -> None:
    primary, secondary = following.primary, following.secondary
    sides = ("--primary", primary.conninfo, "--secondary", secondary.conninfo)

    def ask(*arguments: str, code: int = 0) -> Any:
        done = logship.run("ddl", *arguments, "--json")
        assert done.exit_code == code, done.stderr
        return json.loads(done.stdout if code == 0 else done.stderr.splitlines()[0])

    # Where it was carried: t is in memory, u is not.
    primary.execute("update t set v = 'two'")
    following.assert_equal()
    primary.execute("alter table t add column w int; create table u (id int primary key)")
    following.catch_up()
    listed = ask("ls", *sides[2:])
    assert [(one["tag"], one["target"], one["made_from"]) for one in listed] == [
        ("ALTER TABLE", "both", "text"), ("CREATE TABLE", "persistence", "text")
    ]  # fmt: skip
    status = logship.run("status", *sides[2:], "--json")
    found = json.loads(status.stdout)["replicas"][0]["schema_changes"]
    assert (found["carried"], found["last_lsn"]) == (2, listed[1]["lsn"])
    counted = "select relname, ddl_memory, ddl_persistence from logship.stat_object order by 1"
    eventually(lambda: secondary.execute(counted) == [("t", 1, 1), ("u", 0, 1)], what="the view has them")
    shown = ask("show", *sides[2:], "--lsn", listed[1]["lsn"])
    assert [one["statement"] for one in shown][-1].startswith("create table u")
    replaying = following.run._replaying
    assert replaying is not None
    replayed = replaying.replayer.replayed
    assert dict(replayed.schema_changes) == {"both": 1, "persistence": 1}

    # What nobody signed does nothing, and is counted by what is wrong with it.
    primary.execute("select pg_logical_emit_message(true, 'logship.ddl', 'drop table t')")
    following.catch_up()
    assert dict(replayed.refused) == {"malformed": 1}

    # A statement that can't be run here stops the replica, and names what to pass over.
    secondary.execute("create table clash (id int primary key)")
    primary.execute("create table clash (id int primary key); insert into clash values (1)")
    error = following.failed()
    assert isinstance(error, ReplayError)
    named = re.search(r"--lsn (\S+) --number (\d+)", error.message)
    assert named is not None, error.message
    assert f"logship ddl skip --lsn {named[1]} --number {named[2]}" in error.hint
    assert ask("skip", *sides[2:], "--lsn", str(following.position), code=6)["kind"] == "RefusedAsUnsafe"
    assert "has not received" in ask("skip", *sides[2:], "--lsn", "F/FFFFFFFF", code=6)["error"]
    other = ask("skip", *sides[2:], "--lsn", named[1], "--number", "77")
    assert (other["new"], other["failing"]) == (True, f"--lsn {named[1]} --number {named[2]}")
    right = ask("skip", *sides[2:], "--lsn", named[1], "--number", named[2])
    assert (right["new"], right["failing"]) == (True, None)
    assert ask("skip", *sides[2:], "--lsn", named[1], "--number", named[2])["new"] is False
    following.restart()
    following.assert_equal()
    assert ask("ls", *sides[2:], "--last", "1")[0]["made_from"] == "skipped"

    # Sides that were exchanged, one named twice, and databases that are nobody's.
    exchanged = ("--primary", secondary.conninfo, "--secondary", primary.conninfo)
    for command, code in (("on", 2), ("rotate-key", 2)):
        assert "exchanged" in ask(command, *exchanged, code=code)["hint"]
    assert "exchanged" in ask("ls", *exchanged[2:], code=2)["hint"]
    assert "exchanged" in ask("skip", *exchanged[2:], "--lsn", named[1], code=2)["hint"]
    assert "exchanged" in ask("rotate-key", *sides[:2], "--secondary", primary.conninfo, code=2)["hint"]
    assert "named twice" in ask("rotate-key", *sides, secondary.conninfo, code=2)["error"]
    for wrong in (logship.run("status", *exchanged[2:]), logship.run("lag", *exchanged[2:])):
        assert (wrong.exit_code, "exchanged" in wrong.stderr) == (2, True), wrong.stderr
    shipper = logship.run(
        "ship", *exchanged[:2], "--journal", tmp_path / "j", "--listen", "127.0.0.1:0", "--auth", "trust"
    )
    assert (shipper.exit_code, "exchanged" in shipper.stderr) == (2, True), shipper.stderr
    nobodys = make_conninfo(primary.conninfo, dbname="postgres")
    assert ask("off", "--primary", nobodys, code=3)["kind"] == "PrimaryError"
    assert ask("ls", "--secondary", nobodys, code=4)["kind"] == "SecondaryError"

    # A key that is new to a running replayer.
    assert ask("rotate-key", *sides)["generation"] == 2
    primary.execute("create table signed (id int primary key); insert into signed values (1)")
    following.assert_equal()

    assert ask("off", *sides[:2])["changed"] is True
    for side in following.primary, following.secondary:
        side.execute("create table by_hand (id int primary key)")
    assert ask("on", *sides) == {"capture": "on", "changed": True, "warnings": []}
    primary.execute("alter table by_hand add column v int; insert into by_hand values (1, 2)")
    following.assert_equal()
