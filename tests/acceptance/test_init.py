"""`logship init`, `status` and `lag` as a person runs them, and init killed in the middle."""

from __future__ import annotations

import contextlib
import json
import resource
from pathlib import Path
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
    assert (lines["tables"], lines["exclude"]) == ("all", "none")

    lag = logship.run("lag", "--secondary", pair.secondary.conninfo, "--json")
    stages = json.loads(lag.stdout)
    assert [stage["stage"] for stage in stages] == ["received", "flushed", "memory", "persistence"]
    assert [stage["lag_bytes"] for stage in stages] == [None] * 4
    assert stages[3]["lsn"]


def test_json(pair: Pair, logship: Logship) -> None:
    pair.primary.execute("create table public.t (a int)")
    selected = ("--tables", "public.*", "--exclude", "public.no?,other.*")
    result: dict[str, Any] = json.loads(logship.run("init", *both(pair), *selected, "--json").stdout)
    assert result["already"] is False
    assert result["identity_full"] == ['"public"."t"']
    status = json.loads(logship.run("status", *both(pair), "--json").stdout)
    (replica,) = status["replicas"]
    assert (replica["replica"], replica["state"], replica["initialised"]) == (result["replica"], None, True)
    assert replica["replay_lsn"] == result["snapshot_lsn"]
    assert replica["slot"]["active"] is False
    assert (replica["tables"], replica["exclude"]) == (["public.*"], ["public.no?", "other.*"])
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


def test_killed_in_the_middle_of_the_copy_it_is_run_again(
    pair: Pair, logship: Logship, tmp_path: Path
) -> None:
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
    # A table that was finished gets what arrives meanwhile from the log, the others from the next snapshot.
    pair.primary.execute("insert into public.small values (11); update public.big set b = 'y' where a = 1")

    stranger = logship.run("init", *both(pair), "--name", "another")
    assert stranger.exit_code == 6, stranger.stderr  # not what "another" was filling

    done = logship.run("init", *both(pair), "--name", "again")
    assert done.exit_code == 0, done.stderr
    assert "that an interrupted init was filling" in done.stderr
    assert pair.secondary.value("select last_value from public.s") == 1  # before the stream sets it ahead
    run = logship.run("run", *both(pair), "--journal", tmp_path / "journal", "--stop-at", "current")
    assert run.exit_code == 0, run.stderr
    assert_equal(pair.primary, pair.secondary)
    assert pair.secondary.value("select count(*) from pg_indexes where tablename = 'big'") == 2
    assert pair.secondary.value("select count(*) from pg_constraint where conname = 'fk_a_fkey'") == 1
    assert pair.secondary.value("select count(*) from logship.copy_progress") == 0


BIG = (
    "create table public.big (a int primary key, b text);"
    "create table public.other (a int primary key references public.big (a), b text);"
    "insert into public.big select n, repeat('x', 300) from generate_series(1, 120000) n;"
    "insert into public.other select n, 'y' from generate_series(1, 1000) n;"
    "create index on public.big (b); create index on public.other (b)"
)


@pytest.mark.parametrize(
    "failpoint",
    [
        "copy.part", "copy.filled", "init.index", "init.before_finish",
        *(
            pytest.param(name, marks=pytest.mark.soak)
            for name in (
                "init.recorded", "init.published", "init.slot", "copy.schema", "init.rows", "init.index=3",
                "init.finished",
            )
        ),
    ],
)  # fmt: skip
def test_killed_at_each_step_it_is_run_again(
    pair: Pair, logship: Logship, tmp_path: Any, failpoint: str
) -> None:
    """Each table is as of one LSN, whichever attempt copied it, and the log does the rest exactly once."""
    pair.primary.execute(BIG)
    command = ("init", *both(pair), "--name", "again", "--jobs", "2")
    killed = logship.run(*command, env={"LOGSHIP_FAILPOINTS": failpoint})
    assert killed.exit_code == -9, killed.stderr
    # Between the attempts: what was copied before lacks it, what is copied later has it.
    pair.primary.execute(
        "insert into public.big values (0, 'new'), (-1, 'new'); update public.big set b = b || '!' where a % 1000 = 1;"
        "insert into public.other values (0, 'refers to a new row'); delete from public.other where a = 1000"
    )
    done = logship.run(*command)
    assert done.exit_code == 0, done.stderr
    pair.primary.execute(
        "update public.big set b = 'late' where a = 0; insert into public.other values (-1, '')"
    )
    ended = logship.run("run", *both(pair), "--journal", tmp_path / "journal", "--stop-at", "current")
    assert ended.exit_code == 0, ended.stderr
    assert_equal(pair.primary, pair.secondary)
    assert pair.secondary.value("select count(*) from pg_index where indrelid = 'public.big'::regclass") == 2
    assert pair.secondary.value("select count(*) from pg_constraint where conname = 'other_a_fkey'") == 1
    for left in ("copy_progress", "copy_part", "copy_made"):
        assert pair.secondary.value(f"select count(*) from logship.{left}") == 0


def test_rows_that_somebody_else_put_there_are_refused(pair: Pair, logship: Logship) -> None:
    pair.primary.execute(BIG)
    command = ("init", *both(pair), "--name", "again", "--jobs", "2")
    assert logship.run(*command, env={"LOGSHIP_FAILPOINTS": "init.rows"}).exit_code == -9
    pair.secondary.execute("insert into public.other values (5000, 'mine')")
    refused = logship.run(*command)
    assert refused.exit_code == 6
    assert "somebody else wrote to the secondary" in refused.stderr
    pair.secondary.execute("delete from public.other where a = 5000; delete from public.big where a = 7")
    assert "holds 119999 rows, not the 120000" in logship.run(*command).stderr
    pair.secondary.execute("truncate public.big")
    done = logship.run(*command, "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["resumed"] == ['"public"."other"']
    assert_equal(pair.primary, pair.secondary)


def test_two_at_once(pair: Pair, logship: Logship) -> None:
    pair.primary.execute(BIG)
    with pair.primary.connect(autocommit=False) as holder:
        holder.execute("create table public.later (a int)")  # the slot waits for it
        first = logship.start("init", *both(pair))
        eventually(lambda: "running already to end" in first.stderr, 30)
        second = logship.run("init", *both(pair))
        assert second.exit_code == 6
        assert "another command is filling this secondary: logship init" in second.stderr
        holder.rollback()
    assert first.wait().exit_code == 0


def test_tables_that_another_replica_keeps(pair: Pair, logship: Logship, make_database: Any) -> None:
    pair.primary.execute(
        "create table public.t (a int primary key); create table public.u (a int primary key)"
    )
    assert logship.run("init", *both(pair), "--name", "one", "--tables", "public.t").exit_code == 0
    stranger = ("init", *both(pair), "--name", "two", "--schema", "existing", "--existing", "replace")
    refused = logship.run(*stranger)
    assert refused.exit_code == 6
    assert 'replica "one" keeps tables of this secondary already' in refused.stderr
    assert logship.run(*stranger, "--exclude", "public.t").exit_code == 0
    # A name that is another secondary's already.
    other = make_database(pair.secondary.server)
    taken = logship.run(
        "init", "--primary", pair.primary.conninfo, "--secondary", other.conninfo, "--name", "one"
    )
    assert taken.exit_code == 6
    assert "it is another secondary" in taken.stderr


def test_tables_and_exclude(pair: Pair, logship: Logship, tmp_path: Any) -> None:
    pair.primary.execute(
        "create schema shop; create table shop.orders (a int primary key);"
        "create table shop.lines (a int primary key references shop.orders (a));"
        "create table shop.log_1 (a int primary key, o int references shop.orders (a));"
        "create table public.t (a int primary key);"
        "insert into shop.orders values (1); insert into shop.lines values (1); insert into shop.log_1 values (1, 1);"
        "insert into public.t values (1)"
    )
    done = logship.run(
        "init", *both(pair), "--tables", "shop.*", "--exclude", "shop.log_?,shop.orders", "--json"
    )
    assert done.exit_code == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["tables"] == 1
    assert sorted(result["not_selected"]) == ['"public"."t"', '"shop"."log_1"', '"shop"."orders"']
    assert '"lines_a_fkey" of "shop"."lines" is left out' in result["warnings"][0]
    pair.primary.execute(
        "insert into shop.orders values (2); insert into shop.lines values (2); insert into public.t values (2)"
    )
    ended = logship.run("run", *both(pair), "--journal", tmp_path / "journal", "--stop-at", "current")
    assert ended.exit_code == 0, ended.stderr
    assert pair.secondary.execute("select a from shop.lines order by a") == [(1,), (2,)]
    assert pair.secondary.value("select count(*) from shop.orders") == 0
    assert pair.secondary.value("select count(*) from public.t") == 0
    other = logship.run("init", *both(pair), "--tables", "public.*")
    assert other.exit_code == 6
    assert logship.run("init", *both(pair), "--tables", "none").exit_code == 2


@pytest.mark.parametrize("existing", ["replace", "keep"])
def test_existing_rows(pair: Pair, logship: Logship, existing: str) -> None:
    for side in pair:
        side.execute("create table public.t (a int primary key); create table public.u (a int primary key)")
    pair.primary.execute("insert into public.t values (1), (2); insert into public.u values (1)")
    pair.secondary.execute("insert into public.t values (3)")
    command = ("init", *both(pair), "--schema", "existing")
    assert logship.run(*command).exit_code == 6
    result = json.loads(logship.run(*command, "--existing", existing, "--json").stdout)
    rows = pair.secondary.execute("select a from public.t order by a")
    assert (rows, result["replaced"], result["kept"]) == (
        ([(1,), (2,)], ['"public"."t"'], []) if existing == "replace" else ([(3,)], [], ['"public"."t"'])
    )
    assert pair.secondary.execute("select a from public.u") == [(1,)]


def test_a_disk_that_fills(pair: Pair, logship: Logship, make_server: Any, make_database: Any) -> None:
    """The server's files may be no larger than 20 MB: what a full disk is to a COPY."""
    pair.primary.execute(BIG)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    server = make_server("small", durable=False, settings={"wal_recycle": "off"})
    secondary = make_database(server)
    command = ("init", "--primary", pair.primary.conninfo, "--secondary", secondary.conninfo, "--jobs", "1")
    server.stop()
    resource.setrlimit(resource.RLIMIT_FSIZE, (20 << 20, before[1]))
    try:
        server.start()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    full = logship.run(*command)
    assert full.exit_code == 4, full.stderr
    assert '"public"."big": could not extend file' in full.stderr
    assert "hint: " in full.stderr
    server.restart()
    done = logship.run(*command)
    assert done.exit_code == 0, done.stderr
    assert_equal(pair.primary, secondary)
