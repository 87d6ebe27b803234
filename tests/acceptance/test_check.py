"""`logship check` as a person runs it: what it prints, its exit codes, and grants that go straight into psql."""

from __future__ import annotations

import json
import subprocess

import psycopg

from tests.conftest import Pair
from tests.servers import Logship


def both(pair: Pair) -> list[str]:
    return ["--primary", pair.primary.conninfo, "--secondary", pair.secondary.conninfo]


def test_what_blocks_is_said_with_what_mends_it(pair: Pair, logship: Logship) -> None:
    pair.primary.execute("create role app; create table public.t (a int); alter table public.t owner to app")
    done = logship.run("check", *both(pair))
    assert done.exit_code == 1, done.stderr
    assert done.stdout.startswith("blocks, on the secondary:\n  roles ")
    assert '\n              create role "app" nologin;\n' in done.stdout
    assert "not ready: 1 block" in done.stdout.splitlines()[-1]
    assert "informs, on the primary:" in done.stdout

    refused = logship.run("init", *both(pair))
    assert refused.exit_code == 4
    assert 'create role "app" nologin;' in refused.stderr

    pair.secondary.execute('create role "app" nologin')
    done = logship.run("check", *both(pair))
    assert done.exit_code == 0, done.stdout
    assert "ready for `logship init`" in done.stdout.splitlines()[-1]


def test_json(pair: Pair, logship: Logship) -> None:
    pair.primary.execute("create table public.t (a int)")
    done = logship.run("check", *both(pair), "--keyless", "refuse", "--json")
    report = json.loads(done.stdout)
    assert (done.exit_code, report["ready"], report["initialised"]) == (0, True, False)
    keyless = {each["id"]: each for each in report["findings"]}["keyless"]
    assert (keyless["severity"], keyless["side"], keyless["objects"]) == (
        "warns",
        "primary",
        ['"public"."t"'],
    )
    assert keyless["sql"] == ['alter table only "public"."t" replica identity full']
    # Both servers are on this machine: their clocks are one.
    assert abs(report["clock"]["difference_s"]) <= report["clock"]["uncertainty_s"] + 0.05


def test_exit_codes(pair: Pair, logship: Logship) -> None:
    away = "host=127.0.0.1 port=1 dbname=none password=hush"
    for code, arguments in (
        (2, ["--primary", pair.primary.conninfo]),
        (3, ["--primary", away, "--secondary", pair.secondary.conninfo]),
        (4, ["--primary", pair.primary.conninfo, "--secondary", away]),
    ):
        done = logship.run("check", *arguments)
        assert done.exit_code == code, done.stderr
        assert "hint: " in done.stderr
        assert "hush" not in done.stderr + done.stdout


def test_grants_go_into_psql(pair: Pair, logship: Logship) -> None:
    pair.primary.execute(
        "create role app; create table public.t (a int primary key); alter table public.t owner to app"
    )
    names = ["--init-role", "Test Init", "--run-role", 'test "run"']
    for place, database in (("primary", pair.primary), ("secondary", pair.secondary)):
        printed = logship.run("check", *both(pair), "--print-grants", place, *names)
        assert printed.exit_code == 0, printed.stderr
        subprocess.run(
            [database.program("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", database.conninfo],
            input=printed.stdout, text=True, check=True,
        )  # fmt: skip
    pair.secondary.execute("grant create on schema public to app")
    users = [
        "--primary",
        pair.primary.conninfo_as("Test Init"),
        "--secondary",
        pair.secondary.conninfo_as("Test Init"),
    ]
    done = logship.run("init", *users)
    assert done.exit_code == 0, done.stderr
    again = logship.run("check", *both(pair), "--print-grants", "secondary", *names)
    assert "-- nothing is lacking" in again.stdout
    with psycopg.connect(pair.secondary.conninfo_as('test "run"')) as link:
        assert link.execute("select count(*) from logship.position").fetchone() == (1,)
