"""Who replays: built-in logical replication, pglogical, `logship run`, `logship ship` with `logship replay`.

In: a pair of servers and a database of the primary with its tables and rows. Out: a database of the secondary that
has been copied and follows while `following`. Each peer has a slot of its own, so that the log waits for all of them
alike. All apply durably where they are asked to answer commits, and as each does by default elsewhere.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from psycopg import sql

from bench.pair import Pair, cpu_of, peak_bytes, run, until
from logship.service.demo.servers import environment
from logship.service.initial.init import initialise

_SENT: Final = (
    "select 1 from pg_replication_slots s join pg_stat_replication r on r.pid = s.active_pid "
    "where s.slot_name = '{}' and r.sent_lsn is not null and r.state in ('catchup', 'streaming')"
)
_READY: Final = "select not exists (select from pg_subscription_rel where srsubstate not in ('r', 's'))"


class Peer(ABC):
    """``database`` is the primary's; ``number`` tells several replicas of one peer apart."""

    name: str

    def __init__(self, pair: Pair, database: str, number: int = 1) -> None:
        self.pair = pair
        self.database = database
        self.number = number
        self.target = f"{database}_{self.key}{number}"

    @property
    def key(self) -> str:
        return "".join(letter for letter in self.name if letter.isalnum())

    @property
    def standby(self) -> str:
        """The name under which `synchronous_standby_names` knows it."""
        return self.target

    @property
    def source_conninfo(self) -> str:
        return self.pair.primary.conninfo(self.database)

    @property
    def target_conninfo(self) -> str:
        return self.pair.secondary.conninfo(self.target)

    def set_up(self) -> None:
        """Copy what is there, and keep the log from here on."""
        run(self.pair.secondary.conninfo(), f"create database {self.target} template template0")
        self.copy()

    @abstractmethod
    def copy(self) -> None: ...

    @abstractmethod
    def following(self, *, durable: bool = False) -> contextlib.AbstractContextManager[None]:
        """Replays until the block ends. ``durable``: also flushes what it has applied before it says so."""

    @abstractmethod
    def began(self) -> bool:
        """Whether the first byte of the log has come, or is on its way."""

    def load_ended(self) -> None:  # noqa: B027  most have nothing to do
        """The log that is to be replayed is written."""

    def cpu_s(self) -> float:
        """Of processes beside the two servers."""
        return 0.0

    def memory_bytes(self) -> int:
        """The most that its processes had so far, beside the two servers; 0: it has none."""
        return 0

    def take_down(self) -> None:  # noqa: B027  most have nothing to do
        """Nothing of it is left on the primary."""

    def schema(self) -> None:
        dumped = subprocess.run(
            [self.pair.primary.binaries.program("pg_dump"), "--schema-only", "--no-publications",
             "--exclude-schema=logship", "--exclude-schema=pglogical*", "--extension=plpgsql",
             "--dbname", self.source_conninfo],
            check=True, capture_output=True, env=environment(),
        )  # fmt: skip
        subprocess.run(
            [self.pair.primary.binaries.program("psql"), "-q", "-X", "-o", "/dev/null", "-d", self.target_conninfo],
            check=True, input=dumped.stdout, env=environment(),
        )  # fmt: skip


class BuiltIn(Peer):
    name = "built-in"

    @property
    def slot(self) -> str:
        return self.target

    def copy(self) -> None:
        self.schema()
        if not run(self.source_conninfo, "select 1 from pg_publication where pubname = 'bench'"):
            run(self.source_conninfo, "create publication bench for tables in schema public")
        source = sql.Literal(self.source_conninfo).as_string(None)
        run(self.target_conninfo, f"create subscription {self.target} connection {source} publication bench")
        until(lambda: run(self.target_conninfo, _READY) == [(True,)], "the copy of the built-in replication")
        run(self.target_conninfo, f"alter subscription {self.target} disable")
        self._released()

    @contextlib.contextmanager
    def following(self, *, durable: bool = False) -> Iterator[None]:
        setting = "on" if durable else "off"
        run(self.target_conninfo, f"alter subscription {self.target} set (synchronous_commit = {setting})")
        run(self.target_conninfo, f"alter subscription {self.target} enable")
        try:
            yield
        finally:
            run(self.target_conninfo, f"alter subscription {self.target} disable")
            self._released()

    def began(self) -> bool:
        return bool(run(self.pair.primary.conninfo(), _SENT.format(self.slot)))

    def take_down(self) -> None:
        run(self.target_conninfo, f"drop subscription {self.target}")

    def _released(self) -> None:
        released = f"select 1 from pg_replication_slots where slot_name = '{self.slot}' and not active"
        until(lambda: bool(run(self.pair.primary.conninfo(), released)), f"slot {self.slot} to be free")


class Pglogical(Peer):
    name = "pglogical"

    @property
    def slot(self) -> str:
        made = f"pglogical.pglogical_gen_slot_name('{self.target}', 'provider', 'bench')"
        return str(run(self.target_conninfo, f"select {made}")[0][0])

    @property
    def standby(self) -> str:
        return "bench"

    def copy(self) -> None:
        self.schema()
        for conninfo, name in ((self.source_conninfo, "provider"), (self.target_conninfo, "subscriber")):
            run(conninfo, "create extension if not exists pglogical")
            dsn = sql.Literal(conninfo).as_string(None)
            run(conninfo, f"select pglogical.create_node(node_name := '{name}', dsn := {dsn})")
        tables = run(
            self.source_conninfo,
            "select oid::regclass::text, exists (select from pg_index where indrelid = c.oid and indisprimary) "
            "from pg_class c where relkind = 'r' and relnamespace = 'public'::regnamespace",
        )
        for table, keyed in tables:
            into = "default" if keyed else "default_insert_only"
            run(self.source_conninfo, f"select pglogical.replication_set_add_table('{into}', '{table}')")
        source = sql.Literal(self.source_conninfo).as_string(None)
        run(self.target_conninfo, f"select pglogical.create_subscription('bench', {source})")
        done = "select status = 'replicating' from pglogical.show_subscription_status('bench')"
        until(lambda: run(self.target_conninfo, done) == [(True,)], "pglogical's subscription")
        run(self.target_conninfo, "select pglogical.wait_for_subscription_sync_complete('bench')")
        self._stop()

    @contextlib.contextmanager
    def following(self, *, durable: bool = False) -> Iterator[None]:
        if durable:
            raise SystemExit("whether pglogical flushes is a setting of the whole server")
        run(self.target_conninfo, "select pglogical.alter_subscription_enable('bench', true)")
        try:
            yield
        finally:
            self._stop()

    def began(self) -> bool:
        return bool(run(self.pair.primary.conninfo(), _SENT.format(self.slot)))

    def take_down(self) -> None:
        run(self.target_conninfo, "select pglogical.drop_subscription('bench')")

    def _stop(self) -> None:
        run(self.target_conninfo, "select pglogical.alter_subscription_disable('bench', true)")
        released = f"select 1 from pg_replication_slots where slot_name = '{self.slot}' and not active"
        until(lambda: bool(run(self.pair.primary.conninfo(), released)), f"slot {self.slot} to be free")


class Process:
    """A command of logship's. Its clock starts at the line by which it says that it is streaming."""

    def __init__(self, log: Path, *arguments: str | Path) -> None:
        self._log = log
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None
        self._cpu_s = 0.0
        self._peak = 0
        self._from = 0

    def start(self) -> None:
        self._from = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "logship", *self._arguments], stdout=out, stderr=out,
                env=environment(), cwd=self._log.parent,
            )  # fmt: skip

    def stop(self) -> None:
        if self._process is None:
            return
        self._measure()
        self._process.send_signal(signal.SIGTERM)
        if self._process.wait(30) != 0:
            raise SystemExit(self._log.read_text())
        self._process = None

    @property
    def streaming(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise SystemExit(self._log.read_text())
        with self._log.open("rb") as log:
            log.seek(self._from)
            return b"streaming " in log.read()

    @property
    def cpu_s(self) -> float:
        self._measure()
        return self._cpu_s

    @property
    def peak_bytes(self) -> int:
        self._measure()
        return self._peak

    def _measure(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._cpu_s = cpu_of([self._process.pid])
            self._peak = max(self._peak, peak_bytes(self._process.pid))


class _Logship(Peer):
    """`logship init`, and a directory for journals and logs."""

    memory = "off"

    def __init__(self, pair: Pair, database: str, number: int = 1) -> None:
        super().__init__(pair, database, number)
        self._directory = tempfile.TemporaryDirectory(prefix="logship-bench-")
        self.directory = Path(self._directory.name)

    @property
    def standby(self) -> str:
        return "logship"

    def copy(self) -> None:
        initialise(self.source_conninfo, self.target_conninfo, self.target, exclude=["pglogical.*"])

    def take_down(self) -> None:
        for (slot,) in run(
            self.source_conninfo,
            "select slot_name from pg_replication_slots where database = current_database() and not active "
            "and slot_name like 'logship%'",
        ):
            run(self.source_conninfo, f"select pg_drop_replication_slot('{slot}')")
        self._directory.cleanup()


class Run(_Logship):
    """Both halves in one process, which receives the log from the walsender as built-in replication does."""

    name = "logship run"

    def __init__(self, pair: Pair, database: str, number: int = 1) -> None:
        super().__init__(pair, database, number)
        self._process = Process(
            self.directory / "log", "run", "--primary", self.source_conninfo, "--secondary", self.target_conninfo,
            "--journal", self.directory / "journal", "--name", self.target, "--memory", self.memory,
        )  # fmt: skip

    @contextlib.contextmanager
    def following(self, *, durable: bool = False) -> Iterator[None]:
        self._process.start()
        try:
            yield
        finally:
            self._process.stop()

    def began(self) -> bool:
        return self._process.streaming

    def cpu_s(self) -> float:
        return self._process.cpu_s

    def memory_bytes(self) -> int:
        return self._process.peak_bytes


class Replay(_Logship):
    """A replayer that drains the shipper's journal, which holds the log already when the clock starts.

    Several of one database have the first one's shipper.
    """

    name = "logship replay"

    def __init__(
        self, pair: Pair, database: str, number: int = 1, *, shipper: Replay | None = None, synchronous: bool = False
    ) -> None:  # fmt: skip
        super().__init__(pair, database, number)
        self._shipper = shipper
        self.socket_port = shipper.socket_port if shipper else _free_port()
        self._synchronous = synchronous
        policy = ("--synchronous", f"FIRST 1 ({self.target})") if synchronous else ()
        self.ship = Process(
            self.directory / "ship.log", "ship", "--primary", self.source_conninfo, "--journal",
            self.directory / "shipper", "--listen", f"127.0.0.1:{self.socket_port}", "--auth", "trust", *policy,
        )  # fmt: skip
        self._process = Process(
            self.directory / "log", "replay", "--shipper", f"host=127.0.0.1 port={self.socket_port} user=bench",
            "--secondary", self.target_conninfo, "--journal", self.directory / "journal", "--name", self.target,
            "--memory", self.memory,
        )  # fmt: skip
        self._shipping = False

    def load_ended(self) -> None:
        """Until the shipper's journal holds the log."""
        if self._shipper is None:
            self._ship()
            upto = self.pair.flushed()
            held = (
                f"select confirmed_flush_lsn >= '{upto}'::pg_lsn from pg_replication_slots "
                "where database = current_database() and slot_name like 'logship%'"
            )
            until(lambda: run(self.source_conninfo, held) == [(True,)], "the shipper")

    @contextlib.contextmanager
    def following(self, *, durable: bool = False) -> Iterator[None]:
        if self._shipper is None:
            self._ship()
        self._process.start()
        try:
            yield
        finally:
            self._process.stop()

    def began(self) -> bool:
        return self._process.streaming

    def cpu_s(self) -> float:
        return self._process.cpu_s + (self.ship.cpu_s if self._shipping else 0.0)

    def memory_bytes(self) -> int:
        return self._process.peak_bytes

    def take_down(self) -> None:
        if self._shipping:
            self.ship.stop()
            self._shipping = False
        if self._shipper is None:
            super().take_down()

    def _ship(self) -> None:
        if not self._shipping:
            self.ship.start()
            self._shipping = True
            until(lambda: self.ship.streaming, "the shipper to start")


def _free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])
