"""Rows from the primary to the secondary, at one snapshot, by several workers.

In: the tables (largest first), an exported snapshot that stays alive meanwhile, and what they are on
the secondary. Out: rows copied. A table is one transaction of the secondary, or one for each range of
its pages; each leaves its transaction id with `Ledger.part`, so that rows of somebody else can be told
from ours, and `Ledger.filled` is in the last of them. Assumes the destinations empty. Memory holds a
block for each worker. Nothing that users wrote runs with our rights (`logship.snapshot.guard`).

Failpoints: copy.part (a range is committed, others aren't), copy.filled (a table is).
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Final, Protocol

import psycopg
from psycopg import sql

from logship.connection import Side, connect
from logship.errors import RefusedAsUnsafe
from logship.failpoints import hit
from logship.snapshot.copy_staged import staged
from logship.snapshot.copy_stream import Order, Stopped, by_libpq, by_socket, is_plain
from logship.snapshot.failures import failure
from logship.snapshot.guard import Destination, rows_in
from logship.snapshot.progress import Meter
from logship.snapshot.ranges import Unit
from logship.snapshot.relations import Source

_WORTH_A_SESSION: Final = 4 * 2**20  # a session of its own costs some milliseconds
_TICK_S: Final = 0.25
# A commit needn't wait for the disk: rows and the note of them are lost together, and the caller's last commit,
# which does wait, has all the log before it flushed too.
NOT_FLUSHED: Final = {"synchronous_commit": "off"}


class Ledger(Protocol):
    """What is written down on the secondary, in the transactions that put the rows there."""

    def begin(self, link: psycopg.Connection) -> None: ...
    def part(self, link: psycopg.Connection, source: Source) -> None: ...
    def filled(self, link: psycopg.Connection, source: Source, rows: int) -> None: ...


@dataclass(slots=True)
class Work:
    """A table to copy. ``writer`` is the owner's writing function, as SQL; used when there is a risk.

    ``frozen``: nobody can see the table yet, so its rows may be written as VACUUM FREEZE leaves them.
    """

    source: Source
    destination: Destination
    writer: str
    units: list[Unit]
    frozen: bool = False
    rows: int = 0
    left: int = field(init=False)

    def __post_init__(self) -> None:
        self.left = len(self.units)


@dataclass(frozen=True, slots=True)
class Copied:
    source: Source
    rows: int


@dataclass(frozen=True, slots=True)
class Ends:
    """Where from and where to: conninfo of both, and the snapshot to read at."""

    primary: str
    secondary: str
    snapshot: str
    same_major: bool


def copy_all(
    ends: Ends,
    work: Sequence[Work],
    *,
    jobs: int,
    ledger: Ledger,
    meter: Meter,
    progress: Callable[[Copied | None], None],
) -> None:
    """Copy every table; the first error stops the others and is raised.

    ``progress`` is called in the thread of the caller: with each table that is done, and with None
    several times a second.
    """
    crew = _Workers(ends, work, ledger, meter)
    threads = [
        threading.Thread(target=crew.work, name=f"copy-{number}", daemon=True)
        for number in range(max(1, min(jobs, crew.todo.qsize())))
    ]
    for thread in threads:
        thread.start()
    try:
        crew.gather(len(threads), progress)
    finally:
        crew.stop.set()
        for thread in threads:
            thread.join()


def copy_into(
    ends: Ends,
    secondary: psycopg.Connection,
    work: Sequence[Work],
    meter: Meter,
    progress: Callable[[Copied | None], None],
) -> list[int]:
    """The rows of each table, all copied inside the transaction that is open in ``secondary``, one by one."""
    crew = _Workers(ends, work, _Unnoted(), meter)
    rows = []
    with closing(crew.source()) as primary:
        plain = is_plain(primary) and is_plain(secondary)
        for item in work:
            for unit in item.units:
                rows.append(crew.rows(primary, secondary, item, unit, plain))
                meter.unit_done(id(unit), unit.size_bytes)
            meter.table_done()
            progress(Copied(item.source, rows[-1]))
    return rows


class _Unnoted:
    """One transaction for all needs nothing written down on the way."""

    def begin(self, link: psycopg.Connection) -> None: ...
    def part(self, link: psycopg.Connection, source: Source) -> None: ...
    def filled(self, link: psycopg.Connection, source: Source, rows: int) -> None: ...


class _Workers:
    def __init__(self, ends: Ends, work: Sequence[Work], ledger: Ledger, meter: Meter) -> None:
        self.ends = ends
        self.ledger = ledger
        self.meter = meter
        self.stop = threading.Event()
        self.todo: queue.SimpleQueue[tuple[Work, Unit]] = queue.SimpleQueue()
        self.told: queue.SimpleQueue[Copied | BaseException | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        for item in work:
            for unit in item.units:
                self.todo.put((item, unit))

    def gather(self, workers: int, progress: Callable[[Copied | None], None]) -> None:
        error: BaseException | None = None
        while workers:
            try:
                message = self.told.get(timeout=_TICK_S)
            except queue.Empty:
                progress(None)
                continue
            if message is None:
                workers -= 1
            elif isinstance(message, Copied):
                progress(message)
            else:
                error = error or message
                self.stop.set()
        if error is not None:
            raise error

    # -- in a worker's thread --------------------------------------------------------------------

    def work(self) -> None:
        try:
            with (
                self.source() as primary,
                connect(
                    self.ends.secondary, Side.SECONDARY, application_name="logship init",
                    settings={"session_replication_role": "replica", "client_min_messages": "error"}
                    | NOT_FLUSHED,
                ) as secondary,
            ):  # fmt: skip
                # Users' code runs in this session: it could replace a statement that is prepared by name.
                secondary.prepare_threshold = None
                self.ledger.begin(secondary)
                plain = is_plain(primary) and is_plain(secondary)
                while not self.stop.is_set():
                    try:
                        work, unit = self.todo.get_nowait()
                    except queue.Empty:
                        break
                    self._unit(primary, secondary, work, unit, plain)
        except Stopped:
            pass  # another worker has failed, and said why
        except BaseException as error:  # noqa: BLE001  handed to the caller's thread, which raises it
            self.told.put(error)
        finally:
            self.told.put(None)

    def source(self) -> psycopg.Connection:
        """A session of the primary that sees the snapshot."""
        primary = connect(
            self.ends.primary, Side.PRIMARY, application_name="logship init",
            settings={"client_min_messages": "error"},
        )  # fmt: skip
        try:
            primary.execute("begin transaction isolation level repeatable read, read only")
            primary.execute(sql.SQL("set transaction snapshot {}").format(sql.Literal(self.ends.snapshot)))
        except BaseException:
            primary.close()
            raise
        return primary

    def _unit(
        self,
        primary: psycopg.Connection,
        secondary: psycopg.Connection,
        work: Work,
        unit: Unit,
        plain: bool,
    ) -> None:
        try:
            with secondary.transaction():
                if unit.whole:
                    self._claim(secondary, work)
                self.ledger.part(secondary, work.source)
                rows = self.rows(primary, secondary, work, unit, plain)
                if unit.whole:
                    self.ledger.filled(secondary, work.source, rows)
            self.meter.unit_done(id(unit), unit.size_bytes)
            self._done(secondary, work, unit, rows)
        except psycopg.Error as error:
            raise failure(
                Side.SECONDARY, f"fill {work.destination.table}", error, hint=_hint(error)
            ) from error

    def _claim(self, secondary: psycopg.Connection, work: Work) -> None:
        table = work.destination.table
        if work.frozen:
            secondary.execute(
                sql.SQL("lock table only {} in access exclusive mode").format(table.identifier())
            )
        if rows_in(secondary, table):
            raise RefusedAsUnsafe(
                f"table {table} of the secondary holds rows",
                hint="something wrote to it while init ran; empty it and run init again",
            )
        if work.frozen:  # COPY FREEZE wants it made or truncated in the same transaction
            secondary.execute(sql.SQL("truncate table only {}").format(table.identifier()))

    def _done(self, secondary: psycopg.Connection, work: Work, unit: Unit, rows: int) -> None:
        with self._lock:
            work.rows += rows
            work.left -= 1
            last = work.left == 0
        if not last:
            hit("copy.part")
            return
        if not unit.whole:
            with secondary.transaction():
                self.ledger.filled(secondary, work.source, work.rows)
        hit("copy.filled")
        self.meter.table_done()
        self.told.put(Copied(work.source, work.rows))

    def rows(
        self,
        primary: psycopg.Connection,
        secondary: psycopg.Connection,
        work: Work,
        unit: Unit,
        plain: bool,
    ) -> int:
        def tell(rows: int, size_bytes: int) -> None:
            self.meter.add(id(unit), unit.size_bytes, rows, size_bytes)

        source, target = work.source, work.destination
        same = source.binary == target.binary
        binary = self.ends.same_major and bool(source.binary) and same and not target.risk
        order = Order(
            copy_out(unit, binary=binary), copy_in(work, binary=binary), self.stop.is_set, tell,
            f"read {source.table}",
        )  # fmt: skip
        if target.risk:
            return staged(
                primary, secondary, order,
                destination=target, columns=source.columns, writer=work.writer,
            )  # fmt: skip
        if not plain or unit.size_bytes < _WORTH_A_SESSION:
            return by_libpq(primary, secondary, order)
        with closing(self.source()) as once:  # it knows nothing of what was asked over its socket
            return by_socket(once, secondary, order)


def _hint(error: psycopg.Error) -> str:
    state = error.sqlstate or ""
    if state.startswith("53") or state == "58030":
        return "make room on the secondary (or raise its limit), and run init again: finished tables stay"
    return "" if state else "run init again: finished tables stay"


def copy_out(unit: Unit, *, binary: bool) -> bytes:
    """The primary's statement."""
    source = unit.source
    columns = sql.SQL(", ").join(sql.Identifier(name) for name in source.columns)
    table = source.table.identifier()
    if source.kind == "p":  # COPY of a partitioned table itself is refused
        what: sql.Composable = sql.SQL("(select {} from {})").format(columns, table)
    elif not unit.whole:
        bounds = [sql.SQL("ctid >= {}").format(sql.Literal(f"({unit.first},0)"))]
        if unit.behind is not None:
            bounds.append(sql.SQL("ctid < {}").format(sql.Literal(f"({unit.behind},0)")))
        where = sql.SQL(" and ").join(bounds)
        what = sql.SQL("(select {} from only {} where {})").format(columns, table, where)
    elif source.columns:
        what = sql.SQL("{} ({})").format(table, columns)
    else:
        what = sql.SQL("(select from only {})").format(table)
    return sql.SQL("copy {} to stdout (format {})").format(what, _format(binary)).as_string(None).encode()


def copy_in(work: Work, *, binary: bool) -> bytes:
    """The secondary's."""
    table = work.destination.table.identifier()
    columns = sql.SQL(", ").join(sql.Identifier(name) for name in work.source.columns)
    what = sql.SQL("{} ({})").format(table, columns) if work.source.columns else table
    frozen = sql.SQL(", freeze" if work.frozen else "")
    statement = sql.SQL("copy {} from stdin (format {}{})").format(what, _format(binary), frozen)
    return statement.as_string(None).encode()


def _format(binary: bool) -> sql.SQL:
    return sql.SQL("binary" if binary else "text")
