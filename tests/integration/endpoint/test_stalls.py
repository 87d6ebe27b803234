"""Stages that stand: what is said of them, that it clears by itself, and what isn't called a stall."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from logship.config import ReplayBounds
from logship.service.demo.servers import Server
from tests.conftest import Pair
from tests.follow import Follower
from tests.integration.endpoint.scrape import (
    ready,
    series,
    until_ready,
    until_stalled,
    value,
    watched,
)
from tests.integration.persistence.proxy import Proxy
from tests.servers import Database, Logship, eventually


def test_a_lock_on_the_secondary(pair: Pair, tmp_path: Path) -> None:
    primary, secondary = pair
    primary.execute("create table t (id int primary key, v text)")
    with Follower(*pair, tmp_path, settings=watched()) as replica:
        until_ready(replica)
        with secondary.connect() as blocker:
            blocker.execute("begin")
            blocker.execute("lock table t in access exclusive mode")
            pid = blocker.info.backend_pid
            primary.execute("insert into t values (1, 'blocked')")  # and then the primary is idle
            reason = until_stalled(replica, "persistence")
            assert f"held by process {pid}" in reason
            found = series(replica)
            assert value(found, "logship_stage_stalled", stage="persistence") == 1
            assert value(found, "logship_stage_stalled", stage="received") == 0
            assert (value(found, "logship_stage_standing_seconds", stage="persistence") or 0) >= 2
            assert value(found, "logship_state", state="stalled") == 1
            assert value(found, "logship_ready") == 0
            report = "select state, last_error from logship.stat_replay"
            eventually(lambda: secondary.execute(report)[0][0] == "stalled", what="the view says so")
            error = secondary.execute(report)[0][1]
            assert re.search(r"persistence stands at \w+/\w+ since 2\d{3}-.* UTC: it waits for a lock", error)
            assert "blocked" not in error
            blocker.execute("rollback")
        until_ready(replica)
        replica.catch_up()
        assert secondary.value("select v from t") == "blocked"
        eventually(lambda: secondary.execute(report)[0][0] == "streaming", what="the view says so")
        assert value(series(replica), "logship_errors_total", kind="stalled") == 1


def test_a_schema_change_behind_a_long_reader(pair: Pair, tmp_path: Path, logship: Logship) -> None:
    """It is tried again as long as the reader reads; who comes later reads, too; and everybody is told."""
    primary, secondary = pair
    primary.execute("create table t (id int primary key); insert into t values (1)")
    bounds = ReplayBounds(lock_timeout_s=0.2)
    with Follower(*pair, tmp_path, settings={**watched(), "replay_bounds": bounds}) as replica:
        until_ready(replica)
        with secondary.connect() as reader:
            reader.execute("begin; select * from t")
            primary.execute(
                "begin; insert into t values (2); alter table t add column v int default 7; commit"
            )
            until_stalled(replica, "persistence")
            retried = "logship_retries_total"
            eventually(
                lambda: value(series(replica), retried, reason="lock_timeout"), what="it is tried again"
            )
            report = "select state, last_error from logship.stat_replay"
            eventually(lambda: secondary.execute(report)[0][0] == "stalled", what="the view says so")
            assert re.search(
                "a lock on the secondary|a lock was not given in time", secondary.execute(report)[0][1]
            )
            status = logship.run("status", "--secondary", secondary.conninfo)
            assert "stalled" in status.stdout
            assert "lock" in status.stdout, status.stdout
            # Between the tries; nothing of the transaction is there.
            assert secondary.value("select count(*) from t") == 1
            reader.execute("rollback")
        until_ready(replica)
        replica.assert_equal()
    assert secondary.value("select sum(v) from t") == 14


def test_a_walsender_that_stands_while_the_primary_moves(pair: Pair, tmp_path: Path) -> None:
    primary = pair.primary
    primary.execute("create table t (id int primary key)")
    with Follower(*pair, tmp_path, settings=watched()) as replica:
        until_ready(replica)
        pid = primary.value(
            "select pid from pg_stat_activity where backend_type = 'walsender' and datname = current_database()"
        )
        os.kill(pid, signal.SIGSTOP)
        try:
            primary.execute("insert into t values (1)")
            reason = until_stalled(replica, "received")
            assert "persistence" not in reason, "what never arrived is not persistence's fault"
            assert value(series(replica), "logship_stage_stalled", stage="received") == 1
            assert (value(series(replica), "logship_stage_lag_bytes", stage="received") or 0) > 0
        finally:
            os.kill(pid, signal.SIGCONT)
        until_ready(replica)
        replica.catch_up()


def test_a_secondary_that_is_down(
    primary: Database, make_server: Callable[..., Server], make_database: Callable[[Server], Database],
    tmp_path: Path,
) -> None:  # fmt: skip
    server = make_server("second")
    secondary = make_database(server)
    primary.execute("create table t (id int primary key)")
    with Follower(primary, secondary, tmp_path, settings=watched()) as replica:
        until_ready(replica)
        primary.execute("insert into t values (0)")
        replica.catch_up()  # the table is known: what comes next waits for nothing but being written
        server.stop()
        primary.execute("insert into t values (1)")
        eventually(lambda: not ready(replica)["ready"], what="/ready says 503")
        reason = until_stalled(replica, "persistence")
        assert "tried again" in reason, "and why: what is being waited out"
        found = series(replica)
        assert value(found, "logship_stage_stalled", stage="received") == 0
        assert (value(found, "logship_retries_total", stage="replayer", reason="link_lost") or 0) > 0
        server.start()
        until_ready(replica, 60)
        replica.catch_up()
        assert secondary.value("select count(*) from t") == 2


def test_a_primary_that_does_not_answer(
    secondary: Database, make_server: Callable[..., Server], make_database: Callable[[Server], Database],
    tmp_path: Path,
) -> None:  # fmt: skip
    """Frozen as a whole: nobody knows whether it moves, and unknown is not well."""
    server = make_server("first")
    primary = make_database(server)
    with Follower(primary, secondary, tmp_path, settings=watched()) as replica:
        until_ready(replica)
        sessions = primary.execute(
            "select pid from pg_stat_activity where application_name in ('logship', 'logship probe')"
        )
        frozen = [server.pid, *(pid for (pid,) in sessions)]
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        try:
            until_stalled(replica, "received")
            eventually(lambda: "the primary doesn't answer" in ready(replica)["reason"], what="why")
        finally:
            for pid in frozen:
                os.kill(pid, signal.SIGCONT)
        until_ready(replica)


def test_a_link_that_is_cut_mends_and_counts(pair: Pair, tmp_path: Path) -> None:
    primary, secondary = pair
    primary.execute("create table t (id int primary key)")
    before, behind = Proxy(primary.server.port), Proxy(secondary.server.port)
    through = {
        "primary": _through(before, primary),
        "secondary": _through(behind, secondary),
    }
    try:
        with Follower(*pair, tmp_path, settings=watched(**through)) as replica:
            until_ready(replica)
            for number in range(1, 4):
                before.cut_all()
                behind.cut_all()
                primary.execute("insert into t values (%s)", [number])
                replica.catch_up(30)
                until_ready(replica)
            found = series(replica)
            assert (value(found, "logship_retries_total", stage="shipper", reason="link_lost") or 0) >= 3
            assert (value(found, "logship_retries_total", stage="replayer", reason="link_lost") or 0) >= 1
            replica.catch_up()
    finally:
        before.close()
        behind.close()


def _through(proxy: Proxy, database: Database) -> str:
    own = f"port={database.server.port}"
    return database.conninfo_as("postgres", tcp=True).replace(own, f"port={proxy.port}")


SLOW = """
create function slow() returns trigger language plpgsql as $$ begin perform pg_sleep({0}); return null; end $$;
create trigger slow after insert on t for each statement execute function slow();
alter table t enable always trigger slow
"""


def test_one_long_statement_is_busy(pair: Pair, tmp_path: Path) -> None:
    primary, secondary = pair
    primary.execute("create table t (id int primary key)")
    with Follower(*pair, tmp_path, settings=watched()) as replica:
        until_ready(replica)
        secondary.execute(SLOW.format(4))
        primary.execute("insert into t values (1), (2)")
        said = _what_it_is_busy_with(replica)
        assert said == {"persistence: replaying a batch of 2 changes"}
        replica.catch_up()
        assert value(series(replica), "logship_errors_total", kind="stalled") == 0


def test_one_large_transaction_is_busy(pair: Pair, tmp_path: Path) -> None:
    """In pieces, each of which takes a while: longer in all than a stage may stand."""
    primary, secondary = pair
    primary.execute("create table t (id int primary key, v text)")
    with Follower(*pair, tmp_path, batch_bytes=64 << 10, settings=watched()) as replica:
        until_ready(replica)
        secondary.execute(SLOW.format(0.3))
        # More than is taken from the walsender at a time, so that it comes in several records of the journal.
        primary.execute("insert into t select g, repeat('v', 1000) from generate_series(1, 3000) g")
        assert "persistence: replaying a large transaction" in _what_it_is_busy_with(replica)
        replica.catch_up()
        assert value(series(replica), "logship_errors_total", kind="stalled") == 0
        assert secondary.value("select count(*) from t") == 3000


def _what_it_is_busy_with(replica: Follower) -> set[str]:
    """Every reason given from when it is busy to when it streams again; it is ready all the time."""
    said: set[str] = set()

    def over() -> bool:
        answer = ready(replica)
        assert answer["ready"], answer
        if answer["state"] == "busy":
            said.update(part for part in answer["reason"].split("; ") if part.startswith("persistence"))
        return bool(said) and answer["state"] == "streaming"

    eventually(over, 30, what="busy, and then over")
    return said


def test_credentials_that_are_refused_later(
    make_server: Callable[..., Server], make_database: Callable[[Server], Database], tmp_path: Path
) -> None:
    """A password changed on either side after first contact: waited for, and said with what to do, on /ready,
    in the views and by its own reason in the figures. The other side stays reachable."""
    server = make_server("guarded", tcp="scram-sha-256", durable=False)
    primary, secondary = make_database(server), make_database(server)
    primary.execute("create table t (id int primary key)")
    for database, user in ((primary, "shipping"), (secondary, "replaying")):
        database.execute(f"create role {user} superuser login password 'right'")
    through = {
        side: database.conninfo_as(user, tcp=True) + " password=right"
        for side, database, user in (
            ("primary", primary, "shipping"), ("secondary", secondary, "replaying"),
        )
    }  # fmt: skip
    with Follower(primary, secondary, tmp_path, settings=watched(**through)) as replica:
        until_ready(replica)
        for user, who, shown in (("shipping", "shipper", True), ("replaying", "replayer", False)):
            primary.execute(f"alter role {user} password 'changed'")
            _end_sessions(primary, user)
            primary.execute("insert into t select count(*) from t")
            reason = eventually(lambda: _about_credentials(replica), what=f"{who}: credentials on /ready")
            assert f'user "{user}"' in reason
            assert "check user and password" in reason
            assert (value(series(replica), "logship_retries_total", stage=who, reason="credentials") or 0) > 0
            if shown:
                eventually(lambda: "check user and password" in (secondary.value(_LAST_ERROR) or ""))
            primary.execute(f"alter role {user} password 'right'")
            until_ready(replica, 60)
            replica.catch_up()
        assert secondary.value("select count(*) from t") == 2


_LAST_ERROR = "select last_error from logship.stat_replay"


def _end_sessions(database: Database, user: str) -> None:
    database.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = %s", [user])


def _about_credentials(replica: Follower) -> str:
    answer = ready(replica)
    return answer["reason"] if "password authentication failed" in answer["reason"] else ""


def test_an_idle_primary_after_the_secondary_returns(
    primary: Database, make_server: Callable[..., Server], make_database: Callable[[Server], Database],
    tmp_path: Path,
) -> None:  # fmt: skip
    """Nothing is replicated all the time, only the log's end moves: not ready while the secondary is away, ready again
    once it is back."""
    server = make_server("returning")
    secondary = make_database(server)
    primary.execute("create table t (id int primary key)")
    with Follower(primary, secondary, tmp_path, settings=watched()) as replica:
        until_ready(replica)
        primary.execute("insert into t values (1)")
        replica.catch_up()
        server.stop()
        eventually(lambda: not ready(replica)["ready"], what="/ready says 503")
        primary.execute("checkpoint")  # the position moves, and can't be stored
        asked = eventually(lambda: _retried(replica), what="the position is tried again")
        assert asked["ready"] is False
        server.start()
        until_ready(replica, 60)
        assert ready(replica)["state"] == "streaming"


def _retried(replica: Follower) -> dict[str, Any] | None:
    return ready(replica) if value(series(replica), "logship_retries_total", stage="replayer") else None
