"""What tests hold in their hands: databases on real servers, `logship` as a subprocess, `eventually`.

`tests/conftest.py` makes them; test modules import the types, and `eventually`, from here.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import psycopg
from psycopg import sql

from logship.service.demo.servers import Server
from tests.preloaded import Forked, Preloaded

T = TypeVar("T")
FRESH: Final = (sys.executable, "-m", "logship")


def eventually(predicate: Callable[[], T], deadline_s: float = 20.0, *, what: str = "") -> T:
    """The first true value of ``predicate``, polled until the deadline. Only here do tests sleep."""
    deadline = time.monotonic() + deadline_s
    pause_s = 0.005
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {deadline_s:g} s: {what or predicate}; last value {value!r}")
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, 0.1)


@dataclass
class Database:
    """A database of its own for one test. ``conninfo`` is the superuser's, through the socket."""

    server: Server
    name: str
    _connections: list[psycopg.Connection] = field(default_factory=list, repr=False)

    @property
    def conninfo(self) -> str:
        return self.server.conninfo(self.name)

    def conninfo_as(self, user: str, *, tcp: bool = False) -> str:
        return self.server.conninfo(self.name, user, tcp=tcp)

    def connect(self, user: str | None = None, *, autocommit: bool = True) -> psycopg.Connection:
        """A connection that is closed at the end of the test."""
        connection = psycopg.connect(self.server.conninfo(self.name, user), autocommit=autocommit)
        self._connections.append(connection)
        return connection

    def execute(self, statement: str, parameters: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        """Run a statement (or several, without parameters) on its own connection; the last one's rows."""
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), parameters)
            while cursor.nextset():
                pass
            return cursor.fetchall() if cursor.description else []

    def value(self, statement: str, parameters: Sequence[Any] | None = None) -> Any:
        """The first column of the first row; ``None`` when there is none."""
        rows = self.execute(statement, parameters)
        return rows[0][0] if rows else None

    def program(self, name: str) -> Path:
        """A client program of this server's version: psql, pg_dump, pgbench."""
        return self.server.binaries.program(name)

    def drop(self) -> None:
        """Close, then remove the database with its slots."""
        for connection in self._connections:
            connection.close()
        with _maintenance(self.server) as connection:
            # A subscription's slot lives elsewhere; dropping the database must not reach for it.
            connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [self.name]
            )
            eventually(lambda: _drop_slots(connection, self.name), what=f"slots of {self.name} dropped")
            connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(self.name)))


def commits_wait_for(primary: Database, names: str) -> None:
    """Each commit from here on waits for ``names``; '': for nobody.

    Backends look at a flag that the checkpointer sets some time after the reload, and until then commit without a
    wait though they have the setting. So a commit is seen to wait for somebody who never comes, first."""
    if names:
        _set_standbys(primary, "nobody who comes")
        with contextlib.closing(psycopg.connect(primary.conninfo, autocommit=True)) as connection:
            eventually(lambda: _waits(primary, connection), what="a commit waits for a synchronous standby")
            _set_standbys(primary, names)
            primary.execute("select pg_cancel_backend(%s)", [connection.info.backend_pid])
    else:
        _set_standbys(primary, names)


def _set_standbys(primary: Database, names: str) -> None:
    quoted = f'"{names}"' if names else ""
    primary.execute(f"alter system set synchronous_standby_names = '{quoted}'")
    primary.execute("select pg_reload_conf()")


def _waits(primary: Database, connection: psycopg.Connection) -> bool:
    """Whether a commit of ``connection``'s waits; it begins another one when the last one didn't."""
    pgconn = connection.pgconn
    pgconn.consume_input()
    if pgconn.transaction_status != psycopg.pq.TransactionStatus.ACTIVE:
        pgconn.send_query(b"select pg_catalog.pg_logical_emit_message(true, 'test', '')")
    elif not pgconn.is_busy():
        while pgconn.get_result() is not None:
            pass
    ask = "select wait_event = 'SyncRep' from pg_stat_activity where pid = %s"
    return bool(primary.value(ask, [connection.info.backend_pid]))


def _drop_slots(connection: psycopg.Connection, database: str) -> bool:
    """True when no slot of the database is left; a walsender that is ending may hold one a little longer."""
    for (slot,) in connection.execute(
        "select slot_name from pg_replication_slots where database = %s and not active", [database]
    ).fetchall():
        with contextlib.suppress(psycopg.errors.ObjectInUse):
            connection.execute("select pg_drop_replication_slot(%s)", [slot])
    left = connection.execute("select 1 from pg_replication_slots where database = %s", [database]).fetchall()
    return not left


def _maintenance(server: Server) -> psycopg.Connection:
    return psycopg.connect(server.conninfo(), autocommit=True)


@dataclass(frozen=True)
class Shared:
    """What a cluster's databases share, and a test may leave behind: roles and replication origins."""

    roles: frozenset[str]
    origins: frozenset[str]

    @classmethod
    def of(cls, server: Server) -> Shared:
        with _maintenance(server) as connection:
            roles = connection.execute("select rolname from pg_roles").fetchall()
            origins = connection.execute("select roname from pg_replication_origin").fetchall()
        return cls(frozenset(row[0] for row in roles), frozenset(row[0] for row in origins))

    def restore(self, server: Server) -> None:
        """Drop what came since. To be called when the databases of the test are gone."""
        now = Shared.of(server)
        with _maintenance(server) as connection:
            for origin in now.origins - self.origins:
                connection.execute("select pg_replication_origin_drop(%s)", [origin])
            # A role may be a member of another or have its grants: all privileges first, then the roles.
            fresh = [sql.Identifier(role) for role in sorted(now.roles - self.roles)]
            for role in fresh:
                connection.execute(sql.SQL("drop owned by {} cascade").format(role))
            for role in fresh:
                connection.execute(sql.SQL("drop role {}").format(role))


@dataclass(frozen=True)
class Finished:
    """How a command ended. ``exit_code`` is negative when a signal ended it."""

    exit_code: int
    stdout: str
    stderr: str


class Running:
    """A command under way. Its output goes to files, so it can be read at any time and never blocks."""

    def __init__(
        self,
        arguments: Sequence[str],
        directory: Path,
        environment: Mapping[str, str],
        program: Sequence[str] | Preloaded = FRESH,
    ) -> None:
        self._out = directory / "stdout"
        self._err = directory / "stderr"
        self._process: subprocess.Popen[bytes] | Forked
        with self._out.open("wb") as out, self._err.open("wb") as err:
            if isinstance(program, Preloaded):
                self._process = program.start(arguments, directory, environment, out, err)
            else:
                self._process = subprocess.Popen(
                    [*program, *arguments],
                    stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=directory, env=dict(environment),
                    start_new_session=True,
                )  # fmt: skip

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def stdout(self) -> str:
        return self._out.read_text(errors="replace")

    @property
    def stderr(self) -> str:
        return self._err.read_text(errors="replace")

    def send_signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, deadline_s: float = 60.0) -> Finished:
        """Wait for its end; `AssertionError` with its output when it doesn't come."""
        try:
            code = self._process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"still running after {deadline_s:g} s\n{self.stdout}\n{self.stderr}"
            ) from None
        return Finished(code, self.stdout, self.stderr)

    def terminate(self, deadline_s: float = 60.0) -> Finished:
        """SIGTERM, and wait for the end."""
        self._process.terminate()
        return self.wait(deadline_s)

    def kill(self) -> None:
        """SIGKILL to the command and whatever it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


class Logship:
    """The command line as a person has it: a process for each command, in a directory of its own.

    With ``preloaded`` a command doesn't import what every command imports, unless it is ``fresh``.
    """

    def __init__(self, directory: Path, preloaded: Preloaded | None = None) -> None:
        self.directory = directory
        self._preloaded = preloaded
        self._count = 0
        self._started: list[Running] = []

    def start(
        self, *arguments: str | Path, env: Mapping[str, str] | None = None, fresh: bool = False
    ) -> Running:
        """Start a command; it is killed at the end of the test if it still runs. ``fresh``: `python -m logship`."""
        self._count += 1
        directory = self.directory / f"command-{self._count}"
        directory.mkdir(parents=True)
        # No PG* and LOGSHIP_* of the person who runs the tests may reach the command.
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "LOGSHIP_"))}
        environment = inherited | {"NO_COLOR": "1", "COLUMNS": "120"} | dict(env or {})
        # Who knows what a library reads at its import; of ours, failpoints do, and are read again.
        fresh = fresh or not all(name.startswith(("LOGSHIP_", "PG")) for name in env or {})
        program = FRESH if fresh or self._preloaded is None else self._preloaded
        running = Running([str(argument) for argument in arguments], directory, environment, program)
        self._started.append(running)
        return running

    def run(
        self, *arguments: str | Path, env: Mapping[str, str] | None = None, deadline_s: float = 60.0
    ) -> Finished:
        """Run a command to its end."""
        return self.start(*arguments, env=env).wait(deadline_s)

    def limited(self, file_bytes: int, *arguments: str | Path, deadline_s: float = 60.0) -> Finished:
        """Run a command that may make no file larger than this: the full disk that a test can have."""
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, before[1]))
        try:
            running = self.start(*arguments, fresh=True)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        return running.wait(deadline_s)

    def close(self) -> None:
        for running in self._started:
            running.kill()
