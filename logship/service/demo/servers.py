"""PostgreSQL servers of our own: for `logship demo`, and for the tests.

In: a directory of PostgreSQL binaries (15 or newer), and settings. Out: a running server with
`wal_level = logical`, its conninfo, its log file. Assumes Linux. Started by root, it runs as somebody
else, to whom its files belong. A server that was started here never outlives this process: it is
stopped at exit, and by a watcher if the process is killed. Clients come through a socket in a directory
that only the server's user (and root) can enter; TCP is opened on 127.0.0.1 only, and only on request.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self, TypedDict

from psycopg import conninfo as libpq

from logship.errors import InternalError, UsageError
from logship.service.demo.binaries import (
    TEMPORARY,
    Binaries,
    account,
    find_binaries,
    reachable,
    wheel_binaries,
)
from logship.service.demo.watcher import Watcher, alive, children

__all__ = ["Binaries", "Server", "ServerNotStarted", "environment", "find_binaries", "wheel_binaries"]

_POLL_S: Final = 0.01
# sun_path holds 108 bytes with the closing zero; the socket's file name takes up to 21 of them.
_SOCKET_DIRECTORY_BYTES: Final = 107 - len("/.s.PGSQL.65535.lock")
_SETTINGS: Final[dict[str, str]] = {
    "wal_level": "logical",
    "max_wal_senders": "20",
    "max_replication_slots": "20",
    "max_connections": "100",
    "shared_buffers": "64MB",
    "max_wal_size": "2GB",
    "log_line_prefix": "%m [%p] %q%d ",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
_NOT_DURABLE: Final[dict[str, str]] = {"fsync": "off", "full_page_writes": "off"}


class ServerNotStarted(InternalError):
    """A server of our own did not come up. ``log_tail`` is the end of what it wrote."""

    def __init__(self, what: str, log_file: Path, log_tail: str) -> None:
        super().__init__(f"{what}\n{log_tail}".rstrip(), hint=f"the server's log is {log_file}")
        self.log_file = log_file
        self.log_tail = log_tail


class Identity(TypedDict):
    """What subprocess takes; ``None`` leaves it as ours."""

    user: int | None
    group: int | None
    extra_groups: list[int] | None


@dataclass
class Server:
    """One cluster and its server; ``with Server(find_binaries(), "primary") as server:`` starts and ends it.

    ``durable=False`` turns fsync off. ``tcp`` opens 127.0.0.1 with that method of authentication;
    ``superuser`` then has ``password``. Everything is under ``base``, which `close` removes; ``parent`` is
    where ``base`` is made, and every user can enter it.
    """

    binaries: Binaries
    name: str = "server"
    settings: Mapping[str, str] = field(default_factory=dict)
    durable: bool = True
    tcp: Literal["trust", "scram-sha-256"] | None = None
    superuser: str = "postgres"
    password: str = field(default_factory=lambda: secrets.token_urlsafe(18), repr=False)
    parent: Path = TEMPORARY

    def __post_init__(self) -> None:
        self._account = account()
        self.binaries = reachable(self.binaries, self._account)
        self.base = Path(tempfile.mkdtemp(prefix=f"logship-{self.name[:20]}-", dir=self.parent))
        if len(os.fsencode(self.base)) > _SOCKET_DIRECTORY_BYTES:
            raise UsageError(f"{self.base} is too long for a socket", hint="choose a shorter name")
        if self._account is not None:
            os.chown(self.base, self._account.uid, self._account.gid)
        self.data_directory = self.base / "data"
        self.log_file = self.base / "log"
        self.port = 5432 if self.tcp is None else _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: Watcher | None = None
        atexit.register(self.close)

    # -- life ------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        try:
            self.initialise()
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def initialise(self) -> None:
        """Make the cluster, and its postgresql.conf."""
        self.make_cluster()
        self.configure(
            _SETTINGS
            | ({} if self.durable else _NOT_DURABLE)
            | {
                "listen_addresses": "127.0.0.1" if self.tcp else "",
                "unix_socket_directories": str(self.base),
            }
            | dict(self.settings)
        )

    def make_cluster(self) -> None:
        """The data directory: UTF8, locale C, checksums as the version has them by default."""
        password_file = self.base / "password"
        password_file.touch(0o600)
        password_file.write_text(self.password + "\n")
        if self._account is not None:
            os.chown(password_file, self._account.uid, self._account.gid)
        made = subprocess.run(
            [
                self.binaries.program("initdb"), "--pgdata", self.data_directory,
                "--username", self.superuser, "--pwfile", password_file,
                "--auth-local", "trust", "--auth-host", self.tcp or "reject",
                "--encoding", "UTF8", "--locale", "C", "--no-sync", "--no-instructions",
            ],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
            env=environment(), cwd=self.base, **self.identity(),
        )  # fmt: skip
        password_file.unlink()
        if made.returncode != 0:
            raise ServerNotStarted(f"initdb failed ({self.name})", self.log_file, made.stdout)

    def configure(self, settings: Mapping[str, str]) -> None:
        """Add to postgresql.conf (the last line of a name wins); takes effect at the next start or reload."""
        with (self.data_directory / "postgresql.conf").open("a") as file:
            for name, value in settings.items():
                escaped = value.replace("'", "''")
                file.write(f"{name} = '{escaped}'\n")

    def start(self, *, deadline_s: float = 60.0) -> None:
        """Start and wait until it takes connections; `ServerNotStarted` with the end of its log otherwise."""
        for attempts_left in (4, 3, 2, 1, 0):
            self._launch()
            failure = self._await_ready(deadline_s)
            if failure is None:
                return
            tail = self.log_tail()
            taken = self.tcp is not None and "Address already in use" in tail
            self._end(signal.SIGKILL)
            if not taken or attempts_left == 0:
                raise ServerNotStarted(f"PostgreSQL {failure} ({self.name})", self.log_file, tail)
            self.port = _free_port()

    def _launch(self) -> None:
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [self.binaries.program("postgres"), "-D", self.data_directory, "-p", str(self.port)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment(), cwd=self.base,
                # A Ctrl-C at the terminal is for us: we end the server when its clients are done.
                start_new_session=True, **self.identity(),
            )  # fmt: skip
        self._watcher = Watcher(self._process.pid, self.base)

    def _await_ready(self, deadline_s: float) -> str | None:
        """Wait for the postmaster's own word in postmaster.pid, as pg_ctl does; or say what went wrong."""
        process = self._running()
        deadline = time.monotonic() + deadline_s
        while time.monotonic() < deadline:
            if process.poll() is not None:
                return f"ended with exit code {process.returncode} at its start"
            with contextlib.suppress(FileNotFoundError):
                lines = (self.data_directory / "postmaster.pid").read_text().splitlines()
                if len(lines) >= 8 and lines[0] == str(process.pid) and lines[7].strip() == "ready":
                    return None
            time.sleep(_POLL_S)
        return f"was not ready after {deadline_s:g} s"

    def stop(self, *, deadline_s: float = 20.0) -> None:
        """A fast shutdown (clients are disconnected); past the deadline an immediate one, then SIGKILL."""
        if self._process is None:
            return
        for number in (signal.SIGINT, signal.SIGQUIT):
            if self._process.poll() is None:
                self._process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(deadline_s)
                break
        self._end(signal.SIGKILL)

    def kill(self) -> None:
        """SIGKILL to the postmaster and its children, as to a container; returns when all are gone."""
        if self._process is not None:
            self._end(signal.SIGKILL)

    def restart(self, settings: Mapping[str, str] | None = None) -> None:
        """Stop, change ``settings``, start on the same port."""
        self.stop()
        self.configure(settings or {})
        self.start()

    def reload(self) -> None:
        """Have the server read its configuration again."""
        self._running().send_signal(signal.SIGHUP)

    def close(self) -> None:
        """Stop at once (nothing is kept) and remove every file. Harmless when called again."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
        self.kill()
        shutil.rmtree(self.base, ignore_errors=True)
        atexit.unregister(self.close)

    # -- what it is ------------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def conninfo(self, dbname: str = "postgres", user: str | None = None, *, tcp: bool = False) -> str:
        """For libpq: through the socket, or with ``tcp`` through 127.0.0.1 (with its password)."""
        parameters = {
            "host": "127.0.0.1" if tcp else str(self.base),
            "port": str(self.port),
            "dbname": dbname,
            "user": user or self.superuser,
        }
        if tcp and self.tcp == "scram-sha-256" and parameters["user"] == self.superuser:
            parameters["password"] = self.password
        return libpq.make_conninfo("", **parameters)

    def log_tail(self, lines: int = 30) -> str:
        if not self.log_file.exists():
            return ""
        return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-lines:])

    def identity(self) -> Identity:
        """Whom the server's programs run as."""
        if self._account is None:
            return {"user": None, "group": None, "extra_groups": None}
        return {"user": self._account.uid, "group": self._account.gid, "extra_groups": []}

    # -- within ----------------------------------------------------------------------------------

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise InternalError(f"the server {self.name!r} is not running")
        return self._process

    def _end(self, number: signal.Signals) -> None:
        """Nothing of the server is left when this returns: a child that lives on holds the shared memory."""
        process = self._running()
        family: list[int] = []
        if process.poll() is None:
            # Stopped, the postmaster forks no child that we'd miss.
            process.send_signal(signal.SIGSTOP)
            family = children(process.pid)
            process.send_signal(number)
            process.wait()
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + 30
        while any(alive(pid) for pid in family):
            if time.monotonic() > deadline:
                raise InternalError(f"children of the server {self.name!r} do not end")
            time.sleep(_POLL_S)
        self._process = None
        if self._watcher is not None:
            self._watcher.dismiss()
            self._watcher = None


def environment() -> dict[str, str]:
    """Ours without what speaks to PostgreSQL: PGPORT, PGDATA … would change the server or its tools."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


def _free_port() -> int:
    """A port below the ephemeral range, so that no outgoing connection takes it during a restart."""
    while True:
        port = random.SystemRandom().randrange(20000, 32000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
