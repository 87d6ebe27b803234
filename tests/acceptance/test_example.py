"""The example project's own tests, as a reader of docs/alembic.md runs them, on servers named by conninfo."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import psycopg

from logship.service.demo.servers import Server

_EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "alembic"
_LEFT = (
    "select count(*) from pg_database where datname like 'logship_test_%'",
    "select count(*) from pg_replication_slots",
    "select count(*) from pg_replication_origin",
)


def _pytest(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "LOGSHIP_", "PYTEST_"))}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        cwd=project, env=inherited, capture_output=True, text=True, timeout=240,
    )  # fmt: skip


def test_its_tests_pass_and_leave_nothing(
    primary_server: Server, secondary_server: Server, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    shutil.copytree(_EXAMPLE, project, ignore=shutil.ignore_patterns("__pycache__"))
    servers = (
        f"--logship-primary={primary_server.conninfo()}",
        f"--logship-secondary={secondary_server.conninfo()}",
    )
    before = [_ask(server, _LEFT) for server in (primary_server, secondary_server)]
    done = _pytest(project, *servers)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
    assert [_ask(server, _LEFT) for server in (primary_server, secondary_server)] == before


def test_one_server_is_not_enough(primary_server: Server) -> None:
    done = _pytest(_EXAMPLE, f"--logship-primary={primary_server.conninfo()}", "-k", "history")
    assert done.returncode == 1
    assert "give both --logship-primary and --logship-secondary, or neither" in done.stdout


def _ask(server: Server, queries: tuple[str, ...]) -> list[int]:
    with psycopg.connect(server.conninfo()) as connection:
        return [int(row[0]) for query in queries for row in connection.execute(query.encode())]
