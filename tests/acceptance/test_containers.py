"""What docker-compose.yml starts, by hand on servers of our own: its SQL, environment, entrypoint and health check."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from logship.service.demo.servers import Server
from tests.acceptance.relayed import free_port
from tests.servers import Running, eventually

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "Str4nge'and spaced"


class Containers:
    """The services, with places of this machine where the containers have their own."""

    def __init__(self, directory: Path, servers: dict[str, Server]) -> None:
        self.services: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
        self.directory = directory
        self.servers = servers
        self.ports = {name: free_port() for name in ("relay", "shipper", "replayer")}
        for name in ("app_password", "logship_password"):
            (directory / name).write_text(PASSWORD + "\n")
        (directory / "postgres_password").write_text(servers["primary"].password + "\n")
        program = directory / "bin" / "logship"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m logship "$@"\n')
        program.chmod(0o755)

    def here(self, text: str, service: str = "") -> str:
        """Secrets, hosts and ports of the containers, as they are here."""
        text = text.replace("/tmp/relay-users", f"{self.directory}/users")
        text = text.replace("/tmp/pgpass", f"{self.directory}/pgpass")
        text = text.replace("/run/secrets/", f"{self.directory}/").replace(
            "9187", str(self.ports.get(service))
        )
        text = text.replace("0.0.0.0:5432", f"127.0.0.1:{self.ports['relay']}")
        text = text.replace("host=shipper port=5432", f"host=127.0.0.1 port={self.ports['relay']}")
        for name, server in self.servers.items():
            text = text.replace(f"host={name} ", f"host=127.0.0.1 port={server.port} ")
        return text.replace("/var/lib/logship/journal", f"{self.directory}/journal of {service}")

    def prepare(self, name: str) -> None:
        """As the image does with what is mounted into /docker-entrypoint-initdb.d, in its order."""
        server = self.servers[name]
        with psycopg.connect(server.conninfo(), autocommit=True) as link:
            link.execute("create database app")
        mounted = [volume.split(":")[:2] for volume in self.services[name]["volumes"] if ".sql" in volume]
        for source, _ in sorted(mounted, key=lambda pair: pair[1]):
            done = subprocess.run(
                [server.binaries.program("psql"), "--no-psqlrc", "-v", "ON_ERROR_STOP=1", server.conninfo("app")],
                input=self.here((ROOT / source).read_text()), capture_output=True, text=True,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr

    def start(self, name: str) -> Running:
        service = self.services[name]
        image = dict(re.findall(r"(LOGSHIP_\w+)=(\S+)", (ROOT / "Dockerfile").read_text()))
        environment = {key: self.here(value, name) for key, value in (image | service["environment"]).items()}
        shell, flag, script, *rest = service["entrypoint"]
        directory = self.directory / f"{name}-{len(list(self.directory.iterdir()))}"
        directory.mkdir()
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "LOGSHIP_"))}
        inherited["PATH"] = f"{self.directory / 'bin'}:{inherited['PATH']}"
        return Running(
            [shell, flag, self.here(script.replace("$$", "$")), *rest, *service["command"]],
            directory, inherited | environment, program=[],
        )  # fmt: skip

    def lacking(self, side: str) -> str:
        """The grants that `logship check` would still have an administrator make."""
        sides = [f"--{name}={server.conninfo('app')}" for name, server in self.servers.items()]
        done = subprocess.run(
            [sys.executable, "-m", "logship", "check", *sides, "--print-grants", side],
            capture_output=True, text=True, cwd=self.directory,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return "".join(line for line in done.stdout.splitlines() if line and not line.startswith("--"))

    def healthy(self, name: str) -> bool:
        _, _, *words = self.services[name]["healthcheck"]["test"]
        asked = subprocess.run(
            [sys.executable, *(self.here(word, name) for word in words)], capture_output=True
        )
        return asked.returncode == 0

    def write(self, statement: str) -> None:
        """As the application does."""
        with psycopg.connect(self.servers["primary"].conninfo("app"), autocommit=True) as link:
            link.execute("set role app")
            link.execute(statement.encode())

    def replication(self) -> list[tuple[str, str, str]]:
        query = "select application_name, state, sync_state from logship.stat_replication"
        with psycopg.connect(self.servers["primary"].conninfo("app")) as link:
            return link.execute(query).fetchall()


@pytest.fixture
def containers(tmp_path: Path, make_server: Callable[..., Server]) -> Containers:
    servers = {
        name: make_server(name, durable=False, tcp="scram-sha-256") for name in ("primary", "secondary")
    }
    return Containers(tmp_path, servers)


def test_it_comes_up_replicates_and_goes_down(containers: Containers) -> None:
    for name, server in containers.servers.items():
        containers.prepare(name)
        assert_few_rights(name, server)
    assert containers.lacking("primary") + containers.lacking("secondary") == ""
    init = containers.start("init").wait()
    assert init.exit_code == 0, init.stderr
    warnings = [line for line in init.stdout.splitlines() if line.startswith("warning: ")]
    assert all(line.startswith("warning: schema changes are not carried") for line in warnings), warnings
    again = containers.start("init").wait()
    assert (again.exit_code, "initialised already" in again.stdout) == (0, True), again.stderr

    for said in ("captured from now on", "captured already"):
        capture = containers.start("capture").wait()
        assert (capture.exit_code, said in capture.stdout) == (0, True), capture.stderr
        assert PASSWORD not in capture.stderr + capture.stdout

    assert containers.lacking("primary") == "", "init has given the shipper's role what it needs"

    assert not containers.healthy("shipper"), "nothing runs yet"
    running = {
        name: containers.start(name) for name in ("replayer", "shipper")
    }  # the first waits for the other
    try:
        for name in running:
            eventually(lambda name=name: containers.healthy(name), 60, what=f"/ready of {name}")  # type: ignore[misc]
        assert "superuser" not in running["replayer"].stderr
        containers.write("alter table public.note add column late text default 'carried'")
        containers.write("insert into public.note (text) values ('written afterwards')")
        both = ["written before the copy", "written afterwards"]
        eventually(lambda: _notes(containers) == both, 20, what="the row arrives")
        assert _notes(containers, "late") == ["carried", "carried"]
        shown = [("app", "streaming", "async")]  # a report a second
        eventually(lambda: containers.replication() == shown, 20, what="the primary shows its replica")
        containers.servers["secondary"].stop()
        eventually(lambda: not containers.healthy("replayer"), 60, what="health is lost with the secondary")
        assert containers.healthy("shipper"), "which is none of the shipper's business"
        containers.servers["secondary"].start()
        containers.write("update public.note set text = upper(text)")
        eventually(lambda: containers.healthy("replayer"), 60, what="and comes back with it")
        ended = {name: process.terminate(10) for name, process in running.items()}
    finally:
        for process in running.values():
            process.kill()
    for finished in ended.values():
        assert finished.exit_code == 0, finished.stderr
        assert PASSWORD not in finished.stderr + init.stderr


def _notes(containers: Containers, column: str = "text") -> list[str]:
    with psycopg.connect(containers.servers["secondary"].conninfo("app")) as link:
        rows = link.execute(f"select {column} from public.note order by id".encode()).fetchall()
        return [text for (text,) in rows]


def assert_few_rights(name: str, server: Server) -> None:
    """No role of ours is a superuser, or may make others."""
    with psycopg.connect(server.conninfo("app")) as link:
        rows = link.execute(
            "select rolname, rolsuper, rolcreaterole, rolcreatedb, rolbypassrls, rolreplication "
            "from pg_roles where rolname ~ '^(logship|app)' order by 1"
        ).fetchall()
    expected = {"app": False, "logship": name == "primary", "logship_init": name == "primary"}
    expected["logship_shipper_app" if name == "primary" else "logship_replayer_app"] = False
    assert {row[0]: row[1:] for row in rows} == {
        role: (False, False, False, False, replicates) for role, replicates in expected.items()
    }
