"""`logship verify` and `repair` as a person runs them: under load, and killed in the middle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.load import assert_pgbench_equal, pgbench, prepare
from tests.conftest import Pair
from tests.servers import Logship, Running, eventually


def both(pair: Pair) -> tuple[str, ...]:
    return ("--primary", pair.primary.conninfo, "--secondary", pair.secondary.conninfo)


def following(pair: Pair, logship: Logship, journal: Path) -> Running:
    running = logship.start("run", *both(pair), "--journal", journal)

    def there() -> bool:
        assert running.alive, running.stderr
        return "streaming slot" in running.stderr

    eventually(there, 60, what="the replica streams")
    return running


def verified(pair: Pair, logship: Logship, code: int, *options: str) -> Any:
    done = logship.run("verify", *both(pair), *options, "--json")
    assert done.exit_code == code, done.stderr
    return json.loads(done.stdout)


def test_under_load(pair: Pair, logship: Logship, tmp_path: Path) -> None:
    """Equal, again and again; a row that was meddled with is found; mended while the load goes on."""
    primary, secondary = pair
    prepare(primary, 1)
    assert logship.run("init", *both(pair)).exit_code == 0
    running = following(pair, logship, tmp_path / "journal")
    history = "select count(*) from pgbench_history"
    with pgbench(primary, tmp_path, clients=2, transactions=100_000, rate=300) as load:
        eventually(lambda: secondary.value(history) > 100, 30)
        for options in ((), ("--memory",)):
            before = secondary.value(history)
            report = verified(pair, logship, 0, *options)
            assert report["equal"] is True
            assert report["held_s"] < 20
            assert {t["relname"]: t["primary_rows"] for t in report["tables"]}["pgbench_accounts"] == 100_000
            eventually(lambda before=before: secondary.value(history) > before, what="replication goes on")
        in_memory = {t["relname"]: (t["equal"], t["memory_rows"]) for t in report["memory"]["tables"]}
        assert in_memory["pgbench_accounts"] == (True, 100_000)
        assert "pgbench_history" in in_memory
        # Of 100,000 rows the load overwrites few: most of what is wrong stays wrong.
        secondary.execute(
            "update pgbench_accounts set filler = 'meddled' where aid in (1, 50000);"
            "delete from pgbench_accounts where aid = 99999; insert into pgbench_accounts values (0, 1, 0, null)"
        )
        report = verified(pair, logship, 1, "--tables", "public.pgbench_accounts")
        found = {(one["kind"], one["key"][0]) for one in report["tables"][0]["found"]}
        assert found <= {("differs", "1"), ("differs", "50000"), ("missing", "99999"), ("extra", "0")}
        assert len(found) >= 3, "the load may have overwritten one of them"
        findings = tmp_path / "findings.json"
        findings.write_text(json.dumps(report))
        mended = logship.run("repair", *both(pair), "--keys-from", findings)
        assert mended.exit_code == 0, mended.stderr
        assert "insert   aid = '99999'" in mended.stdout
        assert verified(pair, logship, 0)["equal"] is True
        assert not load.done
    assert running.terminate(20).exit_code == 0, running.stderr
    last = logship.run("run", *both(pair), "--journal", tmp_path / "journal", "--stop-at", "current")
    assert last.exit_code == 0, last.stderr
    assert_pgbench_equal(primary, secondary)


def test_killed_while_it_holds(pair: Pair, logship: Logship, tmp_path: Path) -> None:
    """verify dies and the replica goes on; the replica dies, and verify says so and the next one goes on."""
    primary, secondary = pair
    primary.execute("create table t (id int primary key); insert into t values (1)")
    assert logship.run("init", *both(pair)).exit_code == 0
    running = following(pair, logship, tmp_path / "journal")
    held = "select count(*) from logship.hold where held_at is not null and expires_at > clock_timestamp()"
    with primary.connect(autocommit=False) as blocker:  # no slot can be made: the hold lasts
        blocker.execute("insert into t values (2)")
        verifying = logship.start("verify", *both(pair))
        eventually(lambda: secondary.value(held), 30, what="the replica stands")
        primary.execute("insert into t values (3)")
        verifying.kill()
        assert secondary.value("select count(*) from t") == 1
        eventually(lambda: secondary.value("select count(*) from t") == 2, 20, what="the lease ends")

        verifying = logship.start("verify", *both(pair), "--max-hold", "4s")
        eventually(lambda: secondary.value(held), 30, what="the replica stands again")
        running.kill()
        primary.execute("insert into t values (4)")
        ended = verifying.wait()
        assert ended.exit_code == 1, ended.stderr
        assert "hint: " in ended.stderr
        running = following(pair, logship, tmp_path / "journal")
        eventually(lambda: secondary.value("select count(*) from t") == 3, 30)
        blocker.commit()
    assert verified(pair, logship, 0)["tables"][0]["primary_rows"] == 4
    assert running.terminate(20).exit_code == 0


def test_what_people_read(pair: Pair, logship: Logship, tmp_path: Path) -> None:
    primary, secondary = pair
    primary.execute(
        "create table t (id int primary key, v text); insert into t values (1, 'one'), (2, 'two');"
        "create table n (v text); insert into n values ('secret'), ('secret')"
    )
    assert logship.run("init", *both(pair)).exit_code == 0
    equal = logship.run("verify", *both(pair))
    assert equal.exit_code == 0, equal.stderr
    assert 'equal    "public"."t"  2 rows' in equal.stdout
    assert equal.stdout.splitlines()[-1].startswith("equal at ")

    alone = logship.run("verify", *both(pair), "--memory")
    assert alone.exit_code == 1
    assert "no replayer of replica" in alone.stderr
    assert "start `logship run`" in alone.stderr

    secondary.execute("update t set v = null where id = 2; delete from n where ctid = '(0,1)'")
    differs = logship.run("verify", *both(pair), "--jobs", "1", "--chunk", "100", "--max-rate", "1MB")
    assert differs.exit_code == 1, differs.stderr
    assert "  differs  id = '2'" in differs.stdout
    assert "2 on the primary, 1 on the secondary" in differs.stdout
    assert "2 of 2 tables differ at " in differs.stdout
    assert "secret" not in differs.stdout + differs.stderr
    shown = logship.run("verify", *both(pair), "--show-values")
    assert "v: primary 'two', secondary NULL" in shown.stdout

    findings = tmp_path / "findings.json"
    findings.write_text(logship.run("verify", *both(pair), "--json").stdout)
    rehearsed = logship.run("repair", *both(pair), "public.*", "--dry-run", "--json")
    assert rehearsed.exit_code == 1, rehearsed.stderr
    assert json.loads(rehearsed.stdout)["rows"] == 2
    mended = logship.run("repair", *both(pair), "--keys-from", findings)
    assert mended.exit_code == 0, mended.stderr
    assert "2 rows mended at " in mended.stdout
    assert logship.run("verify", *both(pair)).exit_code == 0
    assert "0 rows mended" in logship.run("repair", *both(pair), "--keys-from", findings).stdout
    assert "nothing differs" in logship.run("repair", *both(pair)).stdout

    primary.execute("insert into t values (3, 'three')")
    behind = logship.run("verify", *both(pair))
    assert behind.exit_code == 1
    assert "logship run" in behind.stderr
    assert "--stop-at current" in behind.stderr


@pytest.mark.soak
def test_each_row_is_read_once_in_bounded_memory(pair: Pair, logship: Logship) -> None:
    pair.primary.execute(
        "create table keyed (id int primary key, v text);"
        "insert into keyed select g, md5(g::text) from generate_series(1, 1000000) g;"
        "create table keyless (v text); insert into keyless select md5(g::text) from generate_series(1, 500000) g"
    )
    assert logship.run("init", *both(pair), deadline_s=300).exit_code == 0
    for side in pair:
        side.execute("analyze; select pg_stat_reset()")
    peak_kb = 0
    verifying = logship.start("verify", *both(pair), fresh=True)  # what it holds is its own

    def ended() -> bool:
        nonlocal peak_kb
        status = Path(f"/proc/{verifying.pid}/status")
        held = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        peak_kb = max([peak_kb, *(int(line.split()[1]) for line in held)])
        return not verifying.alive

    eventually(ended, 600)
    assert verifying.wait().exit_code == 0, verifying.stderr
    assert 20_000 < peak_kb < 200_000
    read = "select relname, greatest(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) from pg_stat_user_tables"
    for side in pair:
        counted = eventually(
            lambda side=side: dict(side.execute(read)).get("keyed", 0) and dict(side.execute(read))
        )
        assert 1_000_000 <= counted["keyed"] <= 1_001_000
        assert counted["keyless"] == 500_000


@pytest.mark.parametrize("command", ["verify", "repair"])
def test_refusals(pair: Pair, logship: Logship, tmp_path: Path, command: str) -> None:
    assert logship.run(command, *both(pair)).exit_code == 4
    pair.primary.execute("create table t (id int primary key)")
    assert logship.run("init", *both(pair)).exit_code == 0
    away = "host=127.0.0.1 port=1 dbname=none password=hush"
    tables = ("--exclude", "*") if command == "verify" else ("no_schema",)
    for code, arguments in (
        (2, (*both(pair), *tables)),
        (2, (*both(pair), "--max-hold", "3")),
        (3, ("--primary", away, "--secondary", pair.secondary.conninfo)),
        (4, ("--primary", pair.primary.conninfo, "--secondary", away)),
        (6, ("--primary", pair.primary.server.conninfo(), "--secondary", pair.secondary.conninfo)),
    ):
        done = logship.run(command, *arguments)
        assert done.exit_code == code, (arguments, done.stderr)
        assert "hint: " in done.stderr
        assert "hush" not in done.stderr + done.stdout
        assert "Traceback" not in done.stderr
    if command == "repair":
        (tmp_path / "findings").write_text("[]")
        assert logship.run(command, *both(pair), "--keys-from", tmp_path / "findings").exit_code == 2
