"""`logship init`, `status` and `lag` as a person runs them, and init killed in the middle."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import psycopg
import pytest

from tests.conftest import Pair
from tests.follow import assert_equal
from tests.servers import Logship, eventually


def both(pair: Pair) -> list[str]:
    return ["--primary", pair.primary.conninfo, "--secondary", pair.secondary.conninfo]


def test_init_then_status_and_lag(pair: Pair, logship: Logship) -> None:
    pair.primary.execute("create table public.t (a int primary key); insert into public.t values (1), (2)")
    done = logship.run("init", *both(pair), "--name", "mine")
    assert done.exit_code == 0, done.stderr
    assert 'replica "mine" initialised at ' in done.stdout
    assert "1 tables, 2 rows" in done.stdout
    assert "logship run --primary" in done.stdout
    assert '[1/1] copied "public"."t": 2 rows' in done.stderr

    again = logship.run("init", *both(pair), "--name", "mine")
    assert again.exit_code == 0
    assert "initialised already" in again.stdout
    assert "nothing to do" in again.stdout

    status = logship.run("status", *both(pair))
    assert status.exit_code == 0, status.stderr
    assert "unknown: nothing was reported" in status.stdout
    lines = {line.partition("  ")[0]: line.rpartition("  ")[2] for line in status.stdout.splitlines()}
    assert lines["received_lsn"] == "-"
    assert lines["slot"] == f"logship_{pair.primary.name}"
    assert lines["slot active"] == "no"

    lag = logship.run("lag", "--secondary", pair.secondary.conninfo, "--json")
    stages = json.loads(lag.stdout)
    assert [stage["stage"] for stage in stages] == ["received", "flushed", "memory", "persistence"]
    assert [stage["lag_bytes"] for stage in stages] == [None] * 4
    assert stages[3]["lsn"]


def test_json(pair: Pair, logship: Logship) -> None:
    pair.primary.execute("create table public.t (a int)")
    result: dict[str, Any] = json.loads(logship.run("init", *both(pair), "--json").stdout)
    assert result["already"] is False
    assert result["identity_full"] == ['"public"."t"']
    status = json.loads(logship.run("status", *both(pair), "--json").stdout)
    (replica,) = status["replicas"]
    assert (replica["replica"], replica["state"], replica["initialised"]) == (result["replica"], None, True)
    assert replica["replay_lsn"] == result["snapshot_lsn"]
    assert replica["slot"]["active"] is False
    pair.primary.execute("select pg_drop_replication_slot(%s)", [result["slot"]])
    assert "does not exist on the primary" in logship.run("status", *both(pair)).stdout


@pytest.mark.parametrize("command", ["status", "lag"])
def test_before_init(pair: Pair, logship: Logship, command: str) -> None:
    done = logship.run(command, "--secondary", pair.secondary.conninfo)
    assert done.exit_code == 4
    assert "no schema logship" in done.stderr
    assert "logship init" in done.stderr


def test_watch_ends_with_sigterm(pair: Pair, logship: Logship) -> None:
    pair.primary.execute("create table public.t (a int primary key)")
    assert logship.run("init", *both(pair)).exit_code == 0
    watching = logship.start("lag", "--secondary", pair.secondary.conninfo, "--watch")
    eventually(lambda: watching.stdout.count("persistence") >= 2)
    assert watching.terminate().exit_code == 0


def test_exit_codes(pair: Pair, logship: Logship) -> None:
    for side in pair:
        side.execute("create table public.t (a int primary key); insert into public.t values (1)")
    primary, secondary = pair.primary.conninfo, pair.secondary.conninfo
    away = "host=127.0.0.1 port=1 dbname=none password=hush"
    for code, arguments in (
        (2, ["init", "--primary", primary]),
        (2, ["init", *both(pair), "--keyless", "perhaps"]),
        (3, ["init", "--primary", away, "--secondary", secondary]),
        (4, ["init", "--primary", primary, "--secondary", away]),
        (6, ["init", *both(pair)]),
        (6, ["init", "--primary", primary, "--secondary", primary]),
    ):
        done = logship.run(*arguments)
        assert done.exit_code == code, done.stderr
        assert "hint: " in done.stderr
        assert "hush" not in done.stderr + done.stdout
        assert "Traceback" not in done.stderr


def test_killed_in_the_middle_of_the_copy_it_is_run_again(pair: Pair, logship: Logship) -> None:
    pair.primary.execute(
        "create table public.big (a int primary key, b text); create table public.small (a int primary key);"
        "create sequence public.s; select nextval('public.s');"
        "insert into public.big select n, repeat('x', 50) from generate_series(1, 200000) n;"
        "insert into public.small select generate_series(1, 10);"
        "create index on public.big (b); create table public.fk (a int references public.small (a), primary key (a));"
        "insert into public.fk values (1)"
    )
    running = logship.start("init", *both(pair), "--name", "again", "--jobs", "2")
    eventually(lambda: pair.secondary.value("select to_regclass('public.big')") is not None)
    with (
        pair.secondary.connect(autocommit=False) as holder,
        contextlib.suppress(psycopg.errors.LockNotAvailable),
    ):
        # The big table isn't finished before the kill: it waits for this lock, or is being copied already.
        holder.execute("lock table public.big in exclusive mode nowait")
        done_at = "select count(*) > 0 from logship.copy_progress where done_at is not null"
        eventually(lambda: pair.secondary.value(done_at), what="a table is copied")
        running.kill()
    running.kill()
    assert pair.secondary.value("select count(*) from logship.position") == 0
    assert pair.secondary.value("select initialised_at from logship.replica") is None
    # Rows that arrive meanwhile are part of the next snapshot.
    pair.primary.execute("insert into public.small values (11); update public.big set b = 'y' where a = 1")

    stranger = logship.run("init", *both(pair), "--name", "another")
    assert stranger.exit_code == 6, stranger.stderr  # not what "another" was filling

    done = logship.run("init", *both(pair), "--name", "again")
    assert done.exit_code == 0, done.stderr
    assert "that an interrupted init was filling" in done.stderr
    assert_equal(pair.primary, pair.secondary)
    assert pair.secondary.value("select count(*) from pg_indexes where tablename = 'big'") == 2
    assert pair.secondary.value("select count(*) from pg_constraint where conname = 'fk_a_fkey'") == 1
    assert pair.secondary.value("select last_value from public.s") == 1
    assert pair.secondary.value("select count(*) from logship.copy_progress") == 0
