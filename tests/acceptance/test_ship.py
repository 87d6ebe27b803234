"""`logship ship` as a person runs it: users, a client, SIGHUP, SIGTERM, and what it says when something is missing."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psycopg

from tests.relay import PUBLICATION, SLOT, publish
from tests.servers import Database, Logship, Running, eventually


def verifier(name: str, password: str) -> str:
    made = subprocess.run(
        [sys.executable, "-m", "logship", "verifier", name],
        input=password + "\n",
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stderr
    assert password not in made.stdout
    return made.stdout


def port_of(running: Running) -> int:
    found = eventually(lambda: re.search(r"the relay listens on .*:(\d+)", running.stderr), what="it listens")
    assert found is not None
    return int(found[1])


def test_ship_serves_reads_its_users_again_and_ends_cleanly(
    primary: Database, logship: Logship, tmp_path: Path
) -> None:
    publish(primary)
    users = tmp_path / "users"
    users.touch(0o600)
    users.write_text(verifier("one", "first"))
    arguments = [
        "ship", "--primary", primary.conninfo, "--journal", tmp_path / "journal", "--listen", "127.0.0.1:0",
        "--slot", f"{SLOT}_{primary.name}", "--publication", PUBLICATION, "--users", users,
    ]  # fmt: skip
    running = logship.start(*arguments)
    port = port_of(running)

    def came_in(user: str, password: str) -> bool:
        try:
            psycopg.connect(
                host="127.0.0.1", port=port, dbname=primary.name, user=user, password=password
            ).close()
        except psycopg.OperationalError as error:
            assert "password authentication failed" in str(error)
            return False
        return True

    assert came_in("one", "first")
    assert not came_in("two", "second")
    users.write_text(verifier("two", "second"))
    running.send_signal(signal.SIGHUP)
    eventually(lambda: came_in("two", "second"), what="the new user")
    assert not came_in("one", "first")
    ended = running.terminate(10)
    assert ended.exit_code == 0, ended.stderr
    assert "first" not in ended.stderr
    assert "SCRAM" not in ended.stderr

    users.chmod(0o644)
    refused = logship.run(*arguments)
    assert refused.exit_code == 2
    assert "chmod 600" in refused.stderr
    # What can't be done as it was asked for is said before anything is claimed: the shipper in place isn't ended.
    epoch = primary.value("select max(epoch) from logship.shipper")
    open_to_all = logship.run(*arguments[:5], "--listen", "0.0.0.0:0", *arguments[7:-2], "--auth", "trust")
    assert open_to_all.exit_code == 2
    assert "loopback" in open_to_all.stderr
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        in_the_way = logship.run(*arguments[:5], "--listen", taken, *arguments[7:-2], "--auth", "trust")
    assert in_the_way.exit_code == 2
    assert "can't listen" in in_the_way.stderr
    assert primary.value("select max(epoch) from logship.shipper") == epoch
    missing = logship.run(*arguments[:8], "nothing", *arguments[9:-2], "--auth", "trust")
    assert missing.exit_code == 3, missing.stderr
    assert "does not exist" in missing.stderr
