"""What the endpoint of a running replica answers, against the databases it runs between."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics

from logship import metrics
from logship.lsn import Lsn
from logship.metrics import ALL
from tests.conftest import Pair
from tests.follow import Follower
from tests.integration.endpoint.scrape import get, ready, series, until_ready, value, watched
from tests.servers import Logship, eventually

# Absent unless a limit is set on the primary, and until something is tried again.
RELAY = {metric for metric in ALL if metric.name.startswith("logship_relay_")}  # of `logship ship`
MAY_BE_ABSENT = {metrics.SLOT_SAFE, metrics.RETRIES} | RELAY


def test_figures_of_a_replica_at_work(pair: Pair, tmp_path: Path) -> None:
    primary, secondary = pair
    primary.execute('create table "Geheim" (id int primary key, v text)')
    with Follower(*pair, tmp_path, settings=watched()) as replica:
        until_ready(replica)
        primary.execute("""insert into "Geheim" select g, 'hidden cell' from generate_series(1, 1000) g""")
        primary.execute("""update "Geheim" set v = 'secret cell'""")
        replica.catch_up()
        eventually(
            lambda: value(series(replica), "logship_stage_standing_seconds", stage="memory") is not None
        )
        found = series(replica)
        names = {name for name, _ in found}
        missing = {m.name for m in ALL if m not in MAY_BE_ABSENT and not names & set(m.samples)}
        assert missing == set()
        labels = {m.samples[-1]: set(m.labels) for m in ALL}
        for name, own in found:
            if name in labels:
                assert {key for key, _ in own} == labels[name], name
        assert value(found, "logship_transactions_total") == 2
        assert value(found, "logship_changes_total") == 2000
        assert value(found, "logship_memory_rows") == 1000
        assert value(found, "logship_objects", residence="resident") == 1
        assert value(found, "logship_object_bytes", relname="Geheim") > 0
        assert value(found, "logship_batch_apply_seconds_count", store="persistence") == value(
            found, "logship_batches_total", store="persistence"
        )
        assert value(found, "logship_slot_active") == 1
        assert value(found, "logship_slot_wal_status", status="reserved") == 1
        assert value(found, "logship_slot_safe_wal_bytes") is None, "no limit is set, which is not 0"
        assert value(found, "logship_stage_stalled", stage="persistence") == 0
        assert sum(v for (name, _), v in found.items() if name == "logship_state") == 1
        position = Lsn.parse(secondary.value("select replay_lsn::text from logship.position"))
        assert int(value(found, "logship_stage_lsn_bytes", stage="persistence") or 0) >= int(position) - 100
        status = json.loads(get(replica, "/status")[1])
        assert [stage["stage"] for stage in status["stages"]] == [
            "received",
            "flushed",
            "memory",
            "persistence",
        ]
        assert status["objects"][0]["relname"] == "Geheim"
        assert status["objects"][0]["rows"] == 1000
        later = json.loads(get(replica, f"/status?after={status['history']['last']}")[1])
        assert len(later["history"]["at"]) <= 3, "what the asker has already isn't sent again"
        texts = b"".join(get(replica, path)[1] for path in ("/", "/metrics", "/status", "/ready", "/health"))
        for secret in (b"hidden cell", b"secret cell", b"dbname", b"user=", b"host="):
            assert secret not in texts
        body = get(replica, "/metrics", Accept="application/openmetrics-text; version=1.0.0")[1]
        families = {family.name for family in openmetrics(body.decode())}
        assert "logship_stage_lag_seconds" in families


def test_without_memory_its_figures_are_absent(pair: Pair, tmp_path: Path) -> None:
    pair.primary.execute("create table t (id int primary key)")
    with Follower(*pair, tmp_path, memory=False, settings=watched()) as replica:
        until_ready(replica)
        pair.primary.execute("insert into t values (1)")
        replica.catch_up()
        found = series(replica)
        for name in ("logship_stage_lag_seconds", "logship_stage_lsn_bytes", "logship_stage_stalled"):
            assert value(found, name, stage="memory") is None, name
        assert value(found, "logship_memory_bytes") is None
        assert value(found, "logship_queue_bytes", store="memory") is None
        stages = json.loads(get(replica, "/status")[1])["stages"]
        assert {s["stage"]: s["condition"] for s in stages}["memory"] == "off"


def test_a_slot_with_a_limit(pair: Pair, tmp_path: Path) -> None:
    pair.primary.execute("alter system set max_slot_wal_keep_size = '1GB'")
    pair.primary.execute("select pg_reload_conf()")
    try:
        with Follower(*pair, tmp_path, settings=watched()) as replica:
            safe = eventually(lambda: value(series(replica), "logship_slot_safe_wal_bytes"))
            assert 0 < safe <= 2 << 30
    finally:
        pair.primary.execute("alter system reset max_slot_wal_keep_size")
        pair.primary.execute("select pg_reload_conf()")


def test_the_failed_replica_says_so_to_the_end(pair: Pair, tmp_path: Path) -> None:
    """/ready is 503 as soon as it has failed; then the process, and the endpoint with it, is gone."""
    pair.primary.execute("create table t (id int primary key)")
    with Follower(*pair, tmp_path, settings=watched()) as replica:
        until_ready(replica)
        address = replica.run.metrics
        pair.secondary.execute("drop table t")
        pair.primary.execute("insert into t values (1)")
        replica.failed()
        assert address is not None
        with socket.socket() as link:
            assert link.connect_ex((address.host, address.port)) != 0
        assert pair.secondary.value("select state from logship.stat_replay") == "failed"
        assert "does not exist" in pair.secondary.value("select last_error from logship.stat_replay")


def test_an_address_in_use_is_said_before_anything_begins(logship: Logship, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        journal = tmp_path / "journal"
        nowhere = ("--primary", "host=/nowhere", "--secondary", "host=/nowhere", "--journal", journal)
        finished = logship.run("run", *nowhere, "--metrics", place)
    assert finished.exit_code == 2, finished.stderr
    assert f"--metrics: can't listen on {place}" in finished.stderr
    assert "hint: give another HOST:PORT" in finished.stderr
    assert not journal.exists()


def test_an_address_that_is_none(logship: Logship, tmp_path: Path) -> None:
    for wrong in ("9187", "localhost", "::1:9187", "host:99999", ":9187", "host:-1"):
        nowhere = ("--primary", "host=/nowhere", "--secondary", "host=/nowhere", "--journal", tmp_path / "j")
        finished = logship.run("run", *nowhere, "--metrics", wrong)
        assert finished.exit_code == 2, (wrong, finished.stderr)
        assert "--metrics" in finished.stderr
        assert "127.0.0.1:9187" in finished.stderr or "65535" in finished.stderr


def test_a_run_without_an_endpoint_imports_no_http_server() -> None:
    program = "import sys, logship.service.run; print('prometheus_client' in sys.modules)"
    shown = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert shown.stdout.strip() == "False"


def test_it_is_ready_only_while_it_streams(pair: Pair, tmp_path: Path) -> None:
    with Follower(*pair, tmp_path, settings=watched()) as replica:
        until_ready(replica)
        assert ready(replica)["state"] == "streaming"
        assert json.loads(get(replica, "/health")[1])["status"] == "ok"
