"""A replica that follows while a test works on the primary: init, then `Run` in a thread of this process."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from psycopg import sql

from logship.cli.run import memory_of
from logship.config import MIB, Intervals, JournalBounds, MemorySettings, ReplayBounds
from logship.lsn import Lsn
from logship.replay.memory.resident import SHOWN, ObjectState
from logship.service.initial.init import initialise
from logship.service.run import Outcome, Run, RunSettings
from logship.service.watch.probe import flushed_position
from tests.servers import Database, eventually

_TABLES = """
select n.nspname, c.relname
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where c.relkind = 'r' and c.relpersistence = 'p'
   and n.nspname !~ '^pg_' and n.nspname not in ('information_schema', 'logship', 'logship_writers')
 order by 1, 2
"""


def tables(database: Database) -> list[tuple[str, str]]:
    return [(schema, name) for schema, name in database.execute(_TABLES)]


def columns(database: Database, table: tuple[str, str]) -> list[str]:
    rows = database.execute(
        "select a.attname from pg_attribute a join pg_class c on c.oid = a.attrelid "
        "join pg_namespace n on n.oid = c.relnamespace where n.nspname = %s and c.relname = %s "
        "and a.attnum > 0 and not a.attisdropped order by a.attname",
        table,
    )
    return [row[0] for row in rows]


def content(database: Database, table: tuple[str, str], names: list[str]) -> list[tuple[Any, ...]]:
    """Every row as texts, in an order of their own: duplicates count."""
    selected = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(name)) for name in names)
    query = sql.SQL("select {} from only {}").format(selected, sql.Identifier(*table))
    with database.connect() as connection:
        for setting in (
            "timezone = 'UTC'",
            "datestyle = 'ISO'",
            "intervalstyle = 'postgres'",
            "bytea_output = 'hex'",
        ):
            connection.execute(f"set {setting}".encode())
        rows = connection.execute(query).fetchall()
    return sorted(rows, key=lambda row: tuple((cell is None, cell or "") for cell in row))


def assert_equal(primary: Database, secondary: Database, *, without: set[str] = frozenset()) -> None:  # type: ignore[assignment]
    """Every table of the primary is on the secondary, with the same rows (in the primary's columns)."""
    names = [table for table in tables(primary) if table[1] not in without]
    for table in names:
        shown = columns(primary, table)
        assert content(secondary, table, shown) == content(primary, table, shown), f"{table} differs"


def _select(table: tuple[str, str]) -> str:
    return sql.SQL("select * from {}").format(sql.Identifier(*table)).as_string(None)


class Follower:
    """Use it in a ``with`` block: an error that stopped the replica is raised at its end."""

    def __init__(
        self,
        primary: Database,
        secondary: Database,
        directory: Path,
        *,
        memory: bool | MemorySettings = True,
        batch_bytes: int = 4 * MIB,
        initialised: bool = False,
        settings: dict[str, Any] | None = None,
        **init: Any,
    ) -> None:
        self.primary = primary
        self.secondary = secondary
        if not initialised:
            initialise(primary.conninfo, secondary.conninfo, **init)
        self.settings = RunSettings(
            primary=primary.conninfo,
            secondary=secondary.conninfo,
            journal=directory / "journal",
            memory=memory_of(MemorySettings(256 * MIB) if memory is True else memory) if memory else None,
            journal_bounds=JournalBounds(segment_bytes=4 * MIB),
            replay_bounds=ReplayBounds(batch_bytes=batch_bytes),
            intervals=Intervals(report_s=0.2, position_s=0.02),
        )
        self.settings = dataclasses.replace(self.settings, **(settings or {}))
        self.error: BaseException | None = None
        self.outcome: Outcome | None = None
        self._start()

    def _start(self) -> None:
        self.run = Run(self.settings)
        self.error = None
        self._thread = threading.Thread(target=self._work, name="follower", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            self.outcome = self.run.run()
        except BaseException as error:  # noqa: BLE001 - kept, and raised by whoever waits
            self.error = error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if kind is None and self.error is not None:
            raise self.error

    def stop(self) -> None:
        self.run.stop()
        self._thread.join(30)
        assert not self._thread.is_alive(), "the replica did not stop"

    def restart(self) -> None:
        self.stop()
        if self.error is not None:
            raise self.error
        self._start()

    def failed(self, deadline_s: float = 30.0) -> BaseException:
        """Wait until the replica stops with an error; the error, which is then done with."""
        eventually(lambda: not self._thread.is_alive(), deadline_s, what="the replica stops")
        error, self.error = self.error, None
        assert error is not None
        return error

    @property
    def position(self) -> Lsn:
        return Lsn.parse(self.secondary.value("select replay_lsn::text from logship.position"))

    def catch_up(self, deadline_s: float = 60.0) -> Lsn:
        """Wait until all that the primary has committed by now is committed on the secondary."""
        lsn = flushed_position(self.primary.conninfo)

        def there() -> bool:
            if self.error is not None:
                raise self.error
            return self.position >= lsn

        eventually(there, deadline_s, what=f"the secondary reaches {lsn}")
        return lsn

    def assert_equal(self, *, without: set[str] = frozenset()) -> None:  # type: ignore[assignment]
        """Primary, secondary and memory agree, once the replica has caught up."""
        lsn = self.catch_up()
        assert_equal(self.primary, self.secondary, without=without)
        memory = self.run.memory
        if memory is not None:
            eventually(lambda: memory.memory_lsn >= lsn and not memory.busy, what="memory catches up")
            self._assert_memory_equal()

    def objects(self) -> list[ObjectState]:
        """What memory knows, once nothing is being loaded."""

        def settled() -> bool:
            memory = self.run.memory
            return memory is not None and not memory.busy

        eventually(settled, what="loads end")
        memory = self.run.memory
        assert memory is not None
        return memory.objects()

    def _assert_memory_equal(self) -> None:
        memory = self.run.memory
        assert memory is not None
        for state in memory.objects():
            if state.residence not in SHOWN:
                continue
            table = (state.schemaname, state.relname)
            held, _ = memory.query(_select(table), as_text=True)
            names = [name for name in columns(self.primary, table) if name in held.column_names]
            rows = list(zip(*(held.column(name).to_pylist() for name in names), strict=True))
            rows.sort(key=lambda row: tuple((cell is None, cell or "") for cell in row))
            assert rows == content(self.primary, table, names), f"{table} differs in memory"
