"""Rows from the primary to the secondary, at one snapshot, by several workers.

In: the tables (largest first), an exported snapshot that stays alive meanwhile, and what they are on
the secondary. Out: rows and bytes copied; each table is one transaction of the secondary, with
whatever the caller's ``done`` writes in it. Assumes the destinations empty. Rows are streamed:
memory holds a block of one table for each worker. Nothing that users wrote runs with our rights
(`logship.snapshot.guard`).
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg import sql

from logship.connection import Side, connect
from logship.errors import RefusedAsUnsafe
from logship.snapshot.failures import failure
from logship.snapshot.guard import Destination, rows_in
from logship.snapshot.relations import Source

_BLOCK_BYTES: Final = 2**16
_STAGE_BYTES: Final = 16 * 2**20  # what a staged table gathers before its writer takes it
_STAGE: Final = sql.Identifier("pg_temp", "logship_stage")


@dataclass(frozen=True, slots=True)
class Work:
    """A table to copy. ``writer`` is the owner's writing function, as SQL; used when there is a risk."""

    source: Source
    destination: Destination
    writer: str


@dataclass(frozen=True, slots=True)
class Copied:
    work: Work
    rows: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Ends:
    """Where from and where to: conninfo of both, and the snapshot to read at."""

    primary: str
    secondary: str
    snapshot: str


def copy_all(
    ends: Ends,
    work: Sequence[Work],
    *,
    jobs: int,
    done: Callable[[psycopg.Connection, Copied], None],
    progress: Callable[[Copied], None],
) -> list[Copied]:
    """Copy every table; the first error stops the others and is raised.

    ``done`` is called inside the transaction that filled the table, before it commits; ``progress``
    after, in the thread of the caller.
    """
    todo: queue.SimpleQueue[Work] = queue.SimpleQueue()
    for item in work:
        todo.put(item)
    finished: queue.SimpleQueue[Copied | BaseException | None] = queue.SimpleQueue()
    stop = threading.Event()
    count = max(1, min(jobs, len(work)))
    threads = [
        threading.Thread(target=_worker, args=(ends, todo, finished, stop, done), name=f"copy-{number}")
        for number in range(count)
    ]
    for thread in threads:
        thread.start()
    try:
        return _gather(finished, count, stop, progress)
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _gather(
    finished: queue.SimpleQueue[Copied | BaseException | None],
    workers: int,
    stop: threading.Event,
    progress: Callable[[Copied], None],
) -> list[Copied]:
    copied: list[Copied] = []
    error: BaseException | None = None
    while workers:
        message = finished.get()
        if message is None:
            workers -= 1
        elif isinstance(message, Copied):
            copied.append(message)
            progress(message)
        else:
            error = error or message
            stop.set()
    if error is not None:
        raise error
    return copied


def _worker(
    ends: Ends,
    todo: queue.SimpleQueue[Work],
    finished: queue.SimpleQueue[Copied | BaseException | None],
    stop: threading.Event,
    done: Callable[[psycopg.Connection, Copied], None],
) -> None:
    try:
        with (
            connect(ends.primary, Side.PRIMARY, application_name="logship init") as primary,
            connect(
                ends.secondary, Side.SECONDARY, application_name="logship init",
                settings={"session_replication_role": "replica"},
            ) as secondary,
        ):  # fmt: skip
            # Users' code runs in this session: it could replace a statement that is prepared by name.
            secondary.prepare_threshold = None
            primary.execute("begin transaction isolation level repeatable read, read only")
            primary.execute(sql.SQL("set transaction snapshot {}").format(sql.Literal(ends.snapshot)))
            while not stop.is_set():
                try:
                    item = todo.get_nowait()
                except queue.Empty:
                    break
                finished.put(_table(primary, secondary, item, stop, done))
    except _Stopped:
        pass  # another worker has failed, and said why
    except BaseException as error:  # noqa: BLE001  handed to the caller's thread, which raises it
        finished.put(error)
    finally:
        finished.put(None)


class _Stopped(Exception):
    """Another worker failed: what this one did is rolled back."""


def _table(
    primary: psycopg.Connection,
    secondary: psycopg.Connection,
    work: Work,
    stop: threading.Event,
    done: Callable[[psycopg.Connection, Copied], None],
) -> Copied:
    reading = Reading(primary, work.source, stop)
    try:
        with secondary.transaction():
            if rows_in(secondary, work.destination.table):
                raise RefusedAsUnsafe(
                    f"table {work.destination.table} of the secondary holds rows",
                    hint="something wrote to it while init ran; empty it and run init again",
                )
            if work.destination.risk:
                _staged(reading, secondary, work)
            else:
                _direct(reading, secondary, work)
            copied = Copied(work, reading.rows, reading.size_bytes)
            done(secondary, copied)
            return copied
    except psycopg.Error as error:
        if reading.failed:
            raise failure(Side.PRIMARY, f"read {work.source.table}", error) from error
        raise failure(Side.SECONDARY, f"fill {work.destination.table}", error) from error


class Reading:
    """COPY … TO STDOUT of one table, row by row, counted. ``failed``: the error was the primary's."""

    def __init__(self, primary: psycopg.Connection, source: Source, stop: threading.Event) -> None:
        columns = sql.SQL(", ").join(sql.Identifier(name) for name in source.columns)
        table = source.table.identifier()
        if source.kind == "p":  # COPY of a partitioned table itself is refused
            self._statement = sql.SQL("copy (select {} from {}) to stdout").format(columns, table)
        elif source.columns:
            self._statement = sql.SQL("copy {} ({}) to stdout").format(table, columns)
        else:
            self._statement = sql.SQL("copy (select from only {}) to stdout").format(table)
        self._primary = primary
        self._stop = stop
        self.rows = 0
        self.size_bytes = 0
        self.failed = False

    def blocks(self) -> Generator[bytes, None, None]:
        """Every row, in COPY's text format: whole rows, gathered so that they go in few messages."""
        gathered = bytearray()
        try:
            with self._primary.cursor() as cursor, cursor.copy(self._statement) as copy:
                while data := copy.read():
                    if self._stop.is_set():
                        raise _Stopped
                    self.rows += 1
                    self.size_bytes += len(data)
                    gathered += data
                    if len(gathered) >= _BLOCK_BYTES:
                        yield bytes(gathered)
                        gathered.clear()
                yield bytes(gathered)
        except psycopg.Error:
            self.failed = True
            raise


def _direct(reading: Reading, secondary: psycopg.Connection, work: Work) -> None:
    columns = sql.SQL(", ").join(sql.Identifier(name) for name in work.source.columns)
    statement = sql.SQL("copy {} ({}) from stdin").format(work.destination.table.identifier(), columns)
    if not work.source.columns:
        statement = sql.SQL("copy {} from stdin").format(work.destination.table.identifier())
    with closing(reading.blocks()) as rows, secondary.cursor() as cursor, cursor.copy(statement) as sink:
        for row in rows:
            sink.write(row)


def _staged(reading: Reading, secondary: psycopg.Connection, work: Work) -> None:
    """Text into a temporary table, and from there, by the owner's writer, into the table."""
    names = [sql.Identifier(f"c{number}") for number in range(1, len(work.source.columns) + 1)]
    columns = sql.SQL(", ").join(sql.SQL("{} pg_catalog.text").format(name) for name in names)
    owner = sql.Identifier(work.destination.owner_name)
    secondary.execute(sql.SQL("create temporary table {} ({}) on commit drop").format(_STAGE, columns))
    secondary.execute(sql.SQL("grant select on table {} to {}").format(_STAGE, owner))
    insert = sql.SQL("insert into {} ({}) overriding system value select {} from {} s").format(
        work.destination.table.identifier(),
        sql.SQL(", ").join(sql.Identifier(name) for name in work.source.columns),
        sql.SQL(", ").join(
            sql.SQL("s.{}::{}").format(name, sql.SQL(type_sql))  # format_type()'s own text
            for name, type_sql in zip(names, work.destination.types, strict=True)
        ),
        _STAGE,
    )
    write = sql.SQL("select {}({}::pg_catalog.text)").format(
        sql.SQL(work.writer), sql.Literal(insert.as_string(secondary))
    )
    with closing(reading.blocks()) as rows:
        while _fill_stage(rows, secondary):
            secondary.execute(write)
            secondary.execute(sql.SQL("truncate table {}").format(_STAGE))


def _fill_stage(rows: Generator[bytes, None, None], secondary: psycopg.Connection) -> bool:
    """As many rows as a stage holds; False when there was none left."""
    size = 0
    with secondary.cursor() as cursor, cursor.copy(sql.SQL("copy {} from stdin").format(_STAGE)) as sink:
        for row in rows:
            sink.write(row)
            size += len(row)
            if size >= _STAGE_BYTES:
                break
    return size > 0
