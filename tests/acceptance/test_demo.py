"""`logship demo` as a person runs it: to the end, interrupted, and with its replication killed."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import psycopg

from logship.service.demo.watcher import alive, children
from tests.servers import Logship, Running, eventually


def family(pid: int) -> list[int]:
    below = children(pid)
    return below + [each for child in below for each in family(child)]


def command_line(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return []


def replication(demo: Running) -> int:
    """The process that `logship run` is."""
    (found,) = [pid for pid in children(demo.pid) if command_line(pid)[1:4] == ["-m", "logship", "run"]]
    return found


def directories(demo: Running) -> set[Path]:
    """The temporary directories that the demo's processes name in their command lines."""
    words = [word for pid in family(demo.pid) for word in command_line(pid)]
    return {Path(*Path(word).parts[:3]) for word in words if word.startswith("/tmp/logship-")}


def under_load(demo: Running) -> None:
    eventually(lambda: "transactions committed" in demo.stdout or not demo.alive, 60, what="the demo's load")
    assert demo.alive, demo.stderr


def test_both_sides_are_equal_and_nothing_is_left(logship: Logship) -> None:
    demo = logship.start("demo", "--seconds", "4")
    under_load(demo)
    processes, used = family(demo.pid), directories(demo)
    assert len(used) == 3
    done = demo.wait(110)
    assert done.exit_code == 0, done.stdout + done.stderr
    assert "Verdict: both sides are equal." in done.stdout
    assert "DIFFERENT" not in done.stdout
    assert "8 of 8 migrations arrived, and both schemas are the same." in done.stdout
    assert "To try next:" in done.stdout
    assert not any(directory.exists() for directory in used)
    assert not any(alive(pid) for pid in processes)


def test_json_is_the_verdict(logship: Logship) -> None:
    done = logship.run("demo", "--seconds", "1", "--json", deadline_s=110)
    assert done.exit_code == 0, done.stderr
    verdict = json.loads(done.stdout)
    assert verdict["equal"] is True
    assert verdict["committed"] > 0
    # Alembic begins up to three transactions for a revision. One that changes nothing is not counted.
    most = verdict["committed"] + 3 * len(verdict["migrations"])
    assert most >= verdict["replayed"] > 0
    assert verdict["schema_differences"] == []
    assert [each["revision"] for each in verdict["migrations"]] == [f"shop_000{n}" for n in range(1, 9)]
    assert all(each["seen_after_s"] is not None for each in verdict["migrations"])
    assert {table["table"]: table["equal"] for table in verdict["tables"]}["shop.event"] is True


def test_kept_it_can_be_tried_until_ctrl_c(logship: Logship) -> None:
    demo = logship.start("demo", "--seconds", "1", "--keep")
    eventually(lambda: "Ctrl-C ends it" in demo.stdout or not demo.alive, 110, what="the demo kept running")
    primary, secondary = (
        line.split("'")[1] for line in demo.stdout.splitlines() if line.strip().startswith("psql ")
    )
    with psycopg.connect(primary) as connection:
        connection.execute("insert into shop.event (kind) values ('tried')")
    with psycopg.connect(secondary, autocommit=True) as connection:
        ask = "select from shop.event where kind = 'tried'"
        eventually(lambda: connection.execute(ask).fetchall(), what="the row on the secondary")
    used = directories(demo)
    demo.send_signal(signal.SIGINT)
    assert demo.wait(60).exit_code == 0
    assert not any(directory.exists() for directory in used)


def test_interrupted_it_leaves_nothing(logship: Logship) -> None:
    demo = logship.start("demo", "--seconds", "60")
    under_load(demo)
    processes, used = family(demo.pid), directories(demo)
    demo.send_signal(signal.SIGINT)
    assert demo.wait(30).exit_code == 130
    assert not any(directory.exists() for directory in used)
    assert not any(alive(pid) for pid in processes)


def test_killed_it_leaves_nothing(logship: Logship) -> None:
    demo = logship.start("demo", "--seconds", "60")
    under_load(demo)
    processes, used = family(demo.pid), directories(demo)
    demo.send_signal(signal.SIGKILL)
    eventually(lambda: not any(alive(pid) for pid in processes), 30, what="its processes ended")
    eventually(lambda: not any(directory.exists() for directory in used), what="its files removed")


def test_replication_that_dies_is_told(logship: Logship) -> None:
    demo = logship.start("demo", "--seconds", "60")
    under_load(demo)
    os.kill(replication(demo), signal.SIGKILL)
    done = demo.wait(30)
    assert done.exit_code == 70
    assert "logship run ended with exit code -9" in done.stderr
