"""Two servers of our own, what runs on them, and what CPU they took.

In: settings. Out: a primary and a secondary as people run them (fsync on), sockets only; seconds of CPU of all
processes of a server, those that ended included.
"""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psycopg

from logship.service.demo.servers import Server, environment, find_binaries
from logship.service.demo.watcher import children

SETTINGS: Final = {
    "max_wal_size": "8GB", "checkpoint_timeout": "60min", "autovacuum": "off", "shared_buffers": "256MB",
    "maintenance_work_mem": "128MB", "max_sync_workers_per_subscription": "2", "max_worker_processes": "24",
    "max_logical_replication_workers": "16",
    # The launcher's default of 5 s would be most of what is measured.
    "wal_retrieve_retry_interval": "200ms",
}  # fmt: skip
_TICK: Final = os.sysconf("SC_CLK_TCK")
Rows = list[tuple[object, ...]]


class Pair:
    """``with Pair() as pair``: a primary and a secondary; databases of both bear the same name."""

    def __init__(self, *, pglogical: bool = False) -> None:
        self.pglogical = pglogical
        settings = SETTINGS | ({"shared_preload_libraries": "pglogical"} if pglogical else {})
        binaries = find_binaries()
        self.primary = Server(binaries, "primary", settings)
        self.secondary = Server(binaries, "secondary", settings)
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(self.primary)
        self._stack.enter_context(self.secondary)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def described(self) -> str:
        version = run(self.primary.conninfo(), "show server_version")[0][0]
        model = next(
            (
                line.partition(":")[2].strip()
                for line in Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")
            ),
            platform.machine(),
        )
        return (
            f"PostgreSQL {version}, Python {platform.python_version()}, {os.cpu_count()} cores ({model}), "
            f"load {os.getloadavg()[0]:.1f} at the start"
        )

    def wait_for_commits(self, name: str) -> None:
        """Let commits on the primary wait for the standby ``name``; '' for none."""
        run(self.primary.conninfo(), f"alter system set synchronous_standby_names = '{name}'")
        run(self.primary.conninfo(), "select pg_reload_conf()")
        until(
            lambda: run(self.primary.conninfo(), "show synchronous_standby_names") == [(name,)],
            "synchronous_standby_names",
        )

    def flushed(self) -> str:
        """Where the primary's log ends."""
        return str(run(self.primary.conninfo(), "select pg_current_wal_flush_lsn()")[0][0])

    def pgbench(self, database: str, *arguments: str | Path, options: str = "") -> str:
        done = subprocess.run(
            [self.primary.binaries.program("pgbench"), "-n", *arguments, self.primary.conninfo(database)],
            check=False, capture_output=True, text=True,
            env={**environment(), "PGOPTIONS": f"-c client_min_messages=warning {options}"},
        )  # fmt: skip
        if done.returncode != 0:
            raise SystemExit(f"pgbench: {done.stderr}")
        return done.stdout


def pglogical_is_installed() -> bool:
    """Whether the servers' own directories have it."""
    binaries = find_binaries()
    found = subprocess.run(
        [binaries.program("pg_config"), "--sharedir"], check=False, capture_output=True, text=True
    )
    return found.returncode == 0 and Path(found.stdout.strip(), "extension", "pglogical.control").exists()


def run(conninfo: str, statement: str) -> Rows:
    with psycopg.connect(conninfo, autocommit=True) as link:
        cursor = link.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def until(condition: Callable[[], bool], what: str, deadline_s: float = 300.0, poll_s: float = 0.01) -> None:
    end_s = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end_s:
            raise SystemExit(f"waited {deadline_s:.0f} s in vain for {what}")
        time.sleep(poll_s)


def cpu_of(pids: list[int]) -> float:
    """User and system time of ``pids`` and of their children, those that ended included."""
    every = {pid for parent in pids for pid in (parent, *children(parent))}
    return sum(sum(map(int, _stat(pid)[11:15])) for pid in every) / _TICK


def peak_bytes(pid: int) -> int:
    """The most that the process had in memory so far (VmHWM)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # it ended meanwhile: its parent has its time
        return ["0"] * 15
