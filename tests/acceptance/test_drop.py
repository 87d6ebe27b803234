"""`logship drop`: nothing of logship is left, and everything of the users' is."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.acceptance.test_run import assert_refused, both, streaming
from tests.conftest import Pair
from tests.servers import Database, Logship, eventually

TABLES = """
create table t (id int primary key, v text);
create table keyless (a int);
create table nothing (a int primary key);
alter table nothing replica identity nothing;
create table full_before (a int);
alter table full_before replica identity full;
insert into t values (1, 'one');
insert into keyless values (1), (1);
"""
SHARED = {
    "slots": "select slot_name from pg_replication_slots",
    "origins": "select roname from pg_replication_origin",
    "roles": "select rolname from pg_roles",
    "parameters": "select parname, paracl::text from pg_parameter_acl",
    "schemas": "select nspname from pg_namespace where nspname !~ '^pg_(toast_)?temp'",
    "publications": "select pubname from pg_publication",
    "functions": "select oid::regprocedure::text, proacl::text from pg_proc where proname ~ '^pg_replication_origin'",
}


def dump(database: Database, *arguments: str) -> str:
    """Schema and rows as pg_dump has them, without the token that differs each time."""
    shown = subprocess.run(
        [database.program("pg_dump"), *arguments, database.conninfo],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return "\n".join(
        line for line in shown.splitlines() if not line.startswith(("\\restrict", "\\unrestrict"))
    )


def shared(database: Database) -> dict[str, list[Any]]:
    return {name: sorted(map(str, database.execute(query))) for name, query in SHARED.items()}


def test_nothing_is_left(pair: Pair, logship: Logship, tmp_path: Path) -> None:
    pair.primary.execute(TABLES)
    before, before_on = dump(pair.primary), [shared(side) for side in pair]
    assert logship.run("init", *both(pair)).exit_code == 0
    pair.primary.execute("update t set v = 'two'; delete from keyless")
    sessions = ("--apply-sessions", "2")  # each has an origin of its own
    stopped = logship.run("run", *both(pair), "--journal", tmp_path / "j", "--stop-at", "current", *sessions)
    assert stopped.exit_code == 0, stopped.stderr
    assert len(shared(pair.secondary)["origins"]) == len(before_on[1]["origins"]) + 2
    rows = dump(pair.secondary, "--schema=public")

    dry = logship.run("drop", *both(pair), "--dry-run")
    assert dry.exit_code == 0, dry.stderr
    assert_refused(logship.run("drop", *both(pair)), 6, "nobody is there to confirm", "--yes")
    assert shared(pair.primary) != before_on[0], "neither has dropped anything"
    done = logship.run("drop", *both(pair), "--yes", "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["left"] == []
    assert [f"would drop {what}" for what in json.loads(done.stdout)["done"]] == dry.stdout.splitlines()

    assert [shared(side) for side in pair] == before_on
    assert dump(pair.primary) == before.replace("1\tone", "1\ttwo").replace("1\n1\n\\.", "\\.")
    assert dump(pair.secondary, "--schema=public") == rows
    assert "logship" not in dump(pair.secondary).replace(pair.secondary.name, "")
    assert_refused(logship.run("drop", *both(pair), "--yes"), 4, "nothing of logship")
    again = logship.run("init", *both(pair), "--schema", "existing")
    assert_refused(again, 6)  # the rows are there, and they are the user's now


def test_it_is_refused_while_replication_goes_on(pair: Pair, logship: Logship, tmp_path: Path) -> None:
    pair.primary.execute("create table t (id int primary key)")
    assert logship.run("init", *both(pair)).exit_code == 0
    running = streaming(logship.start("run", *both(pair), "--journal", tmp_path / "j"))
    assert_refused(logship.run("drop", *both(pair), "--yes"), 6, "in use", "stop `logship run` first")
    eventually(
        lambda: pair.secondary.value("select count(*) from logship.replay_report"), what="the first report"
    )
    exchanged = ("drop", "--primary", pair.secondary.conninfo, "--secondary", pair.primary.conninfo, "--yes")
    assert_refused(logship.run(*exchanged), 2, "which is a secondary of logship's", "exchanged?")
    alone = ("drop", "--secondary", pair.secondary.conninfo, "--yes")
    assert_refused(logship.run(*alone), 6, "in use", "stop `logship run` first")
    assert running.terminate(10).exit_code == 0
    assert logship.run("drop", *both(pair), "--yes").exit_code == 0


def test_one_of_two_replicas_goes(pair: Pair, make_database: Any, logship: Logship) -> None:
    pair.primary.execute("create table t (id int primary key)")
    other = Pair(pair.primary, make_database(pair.secondary.server))
    for name, each in (("first", pair), ("second", other)):
        assert logship.run("init", *both(each), "--name", name).exit_code == 0
    assert_refused(logship.run("drop", "--primary", pair.primary.conninfo, "--yes"), 2, "several", "--name")
    assert_refused(logship.run("drop", *both(pair), "--name", "frist", "--yes"), 2, "frist", "first")
    assert logship.run("drop", *both(pair), "--name", "first", "--yes").exit_code == 0
    assert pair.secondary.value("select count(*) from pg_namespace where nspname ~ 'logship'") == 0
    assert pair.primary.execute("select name from logship.replica") == [("second",)]
    assert pair.primary.value("select count(*) from pg_replication_slots where slot_name ~ 'logship'") == 1
    # The second secondary is lost: the primary is cleared without it.
    assert logship.run("drop", "--primary", pair.primary.conninfo, "--yes").exit_code == 0
    assert pair.primary.value("select count(*) from pg_namespace where nspname = 'logship'") == 0
    assert pair.primary.value("select count(*) from pg_publication") == 0


def test_what_this_user_may_not_drop_is_left_with_its_statement(pair: Pair, logship: Logship) -> None:
    """A user that is no superuser, whose publication an administrator made."""
    primary, secondary = pair
    user, publication = f"small_{primary.name}", f"logship_{primary.name}"
    primary.execute(
        f"create table t (id int primary key); create role {user} login replication; "
        f"grant create on database {primary.name} to {user}; grant pg_read_all_data to {user}; "
        f"create publication {publication} for all tables"
    )
    sides = ("--primary", primary.conninfo_as(user), "--secondary", secondary.conninfo)
    made = logship.run("init", *sides)
    assert made.exit_code == 0, made.stderr
    dropped = logship.run("drop", *sides, "--yes")
    assert dropped.exit_code == 1, dropped.stderr
    left = dropped.stdout.split("left ")[1]
    assert f'publication "{publication}"' in left
    statement = left.split("for who may: ")[1].strip()
    assert primary.execute("select nspname from pg_namespace where nspname ~ 'logship'") == []
    assert primary.execute("select slot_name from pg_replication_slots where slot_name ~ 'logship'") == []
    primary.execute(statement)
    assert primary.execute("select pubname from pg_publication") == []


def test_an_own_publication_stays(pair: Pair, logship: Logship) -> None:
    pair.primary.execute("create table t (id int primary key); create publication mine for table t")
    assert logship.run("init", *both(pair), "--publication", "mine").exit_code == 0
    assert logship.run("drop", *both(pair), "--yes").exit_code == 0
    assert pair.primary.execute("select pubname from pg_publication") == [("mine",)]


def test_a_table_that_was_changed_since_keeps_its_identity(pair: Pair, logship: Logship) -> None:
    pair.primary.execute("create table a (x int); create table b (x int); create table c (x int)")
    assert logship.run("init", *both(pair)).exit_code == 0
    pair.primary.execute(
        "alter table a add primary key (x); alter table a replica identity default; drop table b"
    )
    assert logship.run("drop", *both(pair), "--yes").exit_code == 0
    assert pair.primary.execute("select relname, relreplident from pg_class where relname in ('a', 'c')") == [
        ("a", "d"), ("c", "d"),
    ]  # fmt: skip


def test_a_view_on_ours_is_named(pair: Pair, logship: Logship) -> None:
    """A view that an operator made on our views stands in the way: it is said, and nothing of theirs goes."""
    pair.primary.execute("create table t (id int primary key)")
    assert logship.run("init", *both(pair)).exit_code == 0
    pair.secondary.execute("create view public.mine as select * from logship.replica_lag")
    refused = logship.run("drop", "--secondary", pair.secondary.conninfo, "--yes")
    assert_refused(refused, 4, "depend")
    assert pair.secondary.value("select count(*) from public.mine") > 0
    pair.secondary.execute("drop view public.mine")
    assert logship.run("drop", "--secondary", pair.secondary.conninfo, "--yes").exit_code == 0
    with pytest.raises(psycopg.errors.UndefinedTable):
        pair.secondary.execute("select from logship.replica")
