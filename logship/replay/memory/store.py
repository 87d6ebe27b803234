"""The DuckDB database of memory: how it is opened, and the few things its writer does with it.

In: SQL of `logship.replay.memory.table` and Arrow tables of texts. Out: row counts, Arrow tables of
typed values; snapshots, each with the position that it is true at. One connection writes; readers have others of
their own. The database lives in the process, spills only where it is told to, and reads no file. Never keeps a row
after `close`.

Most batches are a few rows, of which one statement writes all. To begin a transaction, to write a position down and
to commit cost DuckDB twice as much as that statement: so the position stands beside the database, under a lock that a
commit holds and whoever takes a snapshot; and a transaction begins with the second statement only. The first waits
for it, or for the commit, and is a transaction by itself then.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import duckdb
import pyarrow as pa

from logship.lsn import Lsn
from logship.replay.memory.staging import Staging
from logship.replay.memory.table import DATABASE, MemoryColumn, literal, quoted

Table: TypeAlias = Any  # pyarrow.Table; pyarrow has no types

_NEVER: Final = "1000000TB"
_FEW: Final = 1024  # rows that may be written while nobody can take a snapshot


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A statement that has the next transaction's rows."""

    rows: Table
    insert: Callable[[str], str]


class Store:
    def __init__(
        self, *, limit_bytes: int, spill_directory: Path | None, threads: int, start_lsn: Lsn
    ) -> None:
        # DuckDB would read variables of this program as tables.
        settings: dict[str, Any] = {
            "threads": threads,
            "python_enable_replacements": False,
            "immediate_transaction_mode": True,  # BEGIN is what takes a snapshot, not the first read behind it
        }
        self._root = duckdb.connect(":memory:", config=settings)
        self._lock = threading.Lock()
        self.limit_bytes = limit_bytes
        self._limit = f"set memory_limit = '{limit_bytes}B'"
        self._root.execute(self._limit)
        # Unless it is said, DuckDB spills into the working directory.
        self._root.execute(f"set temp_directory = {literal(str(spill_directory or ''))}")
        self._root.execute("set global TimeZone = 'UTC'")
        # DuckDB 2.0.0: a filter that a join pushes down to rowid passes over rows that the same transaction has
        # inserted behind one that it deleted again. Half of the deletes of such rows would miss them.
        self._root.execute("set disabled_optimizers = 'join_filter_pushdown'")
        self._root.execute(f"create schema {DATABASE}.public")
        # As soon as 16 MB have changed it would stop the writer for a second, to compress what hardly pays.
        self._root.execute(f"set checkpoint_threshold = '{_NEVER}'")
        self._root.execute("set enable_external_access = false")
        self._root.execute("set allowed_configs = ['memory_limit']")  # for `give_back`
        self._root.execute("set lock_configuration = true")
        self.writer = self._root.cursor()
        self._staging = Staging(self.writer)
        self._open = False  # a transaction, from `begin` to its end
        self._begun = False  # in DuckDB
        self._waiting: _Waiting | None = None
        self._showing = threading.Lock()  # what readers see, and `_lsn`
        self._lsn = start_lsn

    def snapshot(self) -> tuple[duckdb.DuckDBPyConnection, Lsn]:
        """A read transaction, to be ended by closing it, and the position that it is true at. Any thread."""
        reader = self.reader()
        try:
            with self._showing:
                reader.execute("begin transaction read only").fetchall()
                return reader, self._lsn
        except BaseException:
            reader.close()
            raise

    def reader(self) -> duckdb.DuckDBPyConnection:
        """A connection for another thread; ``public`` is searched as in PostgreSQL. To be closed."""
        with self._lock:
            cursor = self._root.cursor()
        cursor.execute("set search_path = 'public,main'")
        return cursor

    def close(self) -> None:
        self._staging.forget()
        self.writer.close()
        with self._lock:
            self._root.close()

    def begin(self) -> None:
        self._open = True

    def commit(self, lsn: Lsn | None = None) -> None:
        """``lsn`` is the position that readers see from here on, with the rows. What fails here is rolled back. Lack
        of memory is `duckdb.OutOfMemoryException`, as everywhere."""
        begun, waiting = self._begun, self._waiting
        self._open, self._begun, self._waiting = False, False, None
        try:
            with self._showing:
                if begun:
                    self.writer.commit()
                elif waiting is not None:
                    self._put(waiting)
                self._lsn = self._lsn if lsn is None else lsn
        except duckdb.TransactionException as error:
            if "could not allocate" in str(error):
                raise duckdb.OutOfMemoryException("at commit") from error
            raise

    def rollback(self) -> None:
        begun = self._begun
        self._open, self._begun, self._waiting = False, False, None
        if begun:
            self.writer.rollback()
        self._staging.forget()

    def _begin_now(self) -> None:
        """What comes isn't the transaction's only statement."""
        if self._open and not self._begun:
            self.writer.begin()
            self._begun = True
            waiting, self._waiting = self._waiting, None
            if waiting is not None:
                self._put(waiting)

    def execute(self, statement: str) -> None:
        self._begin_now()
        # A result that isn't read to its end keeps the connection busy.
        self.writer.execute(statement).fetchall()

    def count(self, statement: str) -> int:
        """How many rows ``statement`` changed."""
        self._begin_now()
        return int(self.writer.execute(statement).fetchall()[0][0])

    def give_back(self) -> None:
        """Let the system have the space of what was dropped. DuckDB counts it as free at once, but its allocator
        keeps tens of megabytes, and Arrow's too; this takes milliseconds."""
        with suppress(duckdb.OutOfMemoryException):  # a query is failing for lack of memory just now
            self.execute(self._limit)  # setting a limit, the same one too, empties DuckDB's allocator
        pa.default_memory_pool().release_unused()

    def make_schema(self, schema: str) -> None:
        self.execute(f"create schema if not exists {DATABASE}.{quoted(schema)}")

    @contextmanager
    def staged(self, table: Table) -> Iterator[str]:
        """``table`` as a view of the writer's, by the name that is given."""
        self._begin_now()
        with self._staging.staged(table) as view:
            yield view

    def put(self, rows: Table, insert: Callable[[str], str]) -> None:
        """Write ``rows`` by the statement that ``insert`` makes of the name of a view; it reads no other table."""
        if self._open and not self._begun and self._waiting is None and rows.num_rows <= _FEW:
            self._waiting = _Waiting(rows, insert)
            return
        self._begin_now()
        self._put(_Waiting(rows, insert))

    def _put(self, waiting: _Waiting) -> None:
        with self._staging.staged(waiting.rows) as view:
            self._staging.execute(view, waiting.insert(view))

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Few rows: takes half of what `table` does."""
        self._begin_now()
        found: list[tuple[Any, ...]] = self.writer.execute(query).fetchall()
        return found

    def table(self, query: str) -> Table:
        self._begin_now()
        return self.writer.sql(query).to_arrow_table()

    def typed(
        self, texts: Table, columns: Sequence[MemoryColumn], prefix: str = "c"
    ) -> tuple[Table, list[MemoryColumn]]:
        """``texts`` with the cells of ``columns`` cast, and the columns that had a miss."""
        return typed(self._staging, texts, columns, prefix)

    def caster(self) -> Caster:
        """For a thread that reads what will be written. To be closed by it."""
        return Caster(self.reader())


class Caster:
    """Casts texts on a connection of its own, beside the writer."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._staging = Staging(connection)

    def typed(self, texts: Table, columns: Sequence[MemoryColumn]) -> tuple[Table, list[MemoryColumn]]:
        return typed(self._staging, texts, columns)

    def close(self) -> None:
        self._staging.forget()
        self._connection.close()


def typed(
    staging: Staging, texts: Table, columns: Sequence[MemoryColumn], prefix: str = "c"
) -> tuple[Table, list[MemoryColumn]]:
    """``texts`` with the cells of ``columns`` cast, and the columns that had a miss."""
    # The log's integers come typed already.
    native = [
        column
        for column in columns
        if not column.type.is_text and pa.types.is_string(texts.schema.field(f"{prefix}{column.index}").type)
    ]
    if not native:
        return texts, []
    cells = ", ".join(
        f"{column.type.cast_of(f'{prefix}{column.index}')} as {prefix}{column.index}" for column in native
    )
    with staging.staged(texts) as view:
        cast = staging.table(view, f"select {cells} from {view}")
    misses: list[MemoryColumn] = []
    for column in native:
        name = f"{prefix}{column.index}"
        place = texts.schema.get_field_index(name)
        if cast.column(name).null_count != texts.column(place).null_count:
            misses.append(column)
        texts = texts.set_column(place, name, cast.column(name))
    return texts, misses


def size_of(table: Table, columns: Sequence[MemoryColumn]) -> int:
    """About what DuckDB needs for the rows of a staged table: Arrow's size, and 12 bytes more for a text."""
    texts = sum(1 for column in columns if column.type.duckdb in ("VARCHAR", "BLOB"))
    uuids = sum(1 for column in columns if column.type.duckdb == "UUID")
    return int(table.nbytes + table.num_rows * (12 * texts - 24 * uuids)) if table.num_rows else 0
