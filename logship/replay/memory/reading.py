"""Reads objects for memory, beside the replay: each load has a thread and a connection of its own.

In: `Order`s; persistence, to wait for; snapshots of the secondary. Out: for each order a `Reading`, from which
memory's writer takes what has come: `Opened` with the snapshot's position, `Brought` rows with their
values cast, `Ended`. What is read and not yet taken is bounded by bytes; a reading that is cancelled lets go of
its table at once. Nothing here writes, in either store.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeAlias

import duckdb
import psycopg
import pyarrow as pa

from logship.change import Relation, TypeName
from logship.errors import LogshipError, SecondaryError
from logship.lsn import Lsn
from logship.replay.memory.source import Size, SnapshotSource
from logship.replay.memory.store import Caster
from logship.replay.memory.table import table_of
from logship.replay.target import Target

Table: TypeAlias = Any  # pyarrow.Table; pyarrow has no types

_log: Final = logging.getLogger(__name__)
_AHEAD_BYTES: Final = 8 << 20  # read, and not yet taken by the writer


class CouldNotLoad(SecondaryError):
    """The object stays cold. Not an error of the replica: persistence has it."""


class Cancelled(Exception):
    """Raised inside a reading that nobody wants any more. Never leaves this module but to the ports' own code."""


@dataclass(frozen=True, slots=True)
class Order:
    """``least``: the snapshot must hold everything up to here. ``target`` None: looked up by ``relation``."""

    name: tuple[str, str]
    least: Lsn
    target: Target | None = None
    relation: Relation | None = None
    types: Mapping[int, TypeName] = field(default_factory=dict)
    as_text: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Opened:
    target: Target
    lsn: Lsn
    size: Size


@dataclass(frozen=True, slots=True)
class Brought:
    """Rows; the columns in ``as_text`` hold text: from here on, and those before have to follow."""

    rows: Table
    as_text: frozenset[str]


@dataclass(frozen=True, slots=True)
class Ended:
    """``error`` None: every row has been brought."""

    error: BaseException | None = None


Event: TypeAlias = Opened | Brought | Ended
# Returns once persistence has everything up to there, or when the function says that nobody cares any more.
WaitFor: TypeAlias = Callable[[Lsn, Callable[[], bool]], None]


class Reading(Protocol):
    """One load under way."""

    def poll(self) -> Event | None:
        """The next of what has come, in order; None: nothing has since."""
        ...

    def cancel(self) -> None:
        """Nobody wants it any more; the lock on the table goes."""
        ...


class Readers(Protocol):
    """Who reads for memory. ``most``: how many readings there may be at a time."""

    most: int

    def start(self, order: Order, caster: Caster) -> Reading: ...

    def close(self) -> None:
        """Cancel what is under way, and wait for its end."""
        ...


def read(
    order: Order, source: SnapshotSource, caster: Caster, wait: Callable[[Lsn], None]
) -> Generator[Opened | Brought]:
    """What the reading of ``order`` brings, `Ended` left out: its end is that of the iterator."""
    wait(order.least)
    target = order.target
    if target is None:
        assert order.relation is not None
        target = source.describe(order.relation, order.types)
    with source.snapshot(target) as snapshot:
        if snapshot.lsn < order.least:
            raise CouldNotLoad(f"persistence is at {snapshot.lsn}, behind memory at {order.least}")
        yield Opened(target, snapshot.lsn, snapshot.size)
        as_text = order.as_text
        columns = table_of(target, as_text).columns
        for texts in snapshot.tables([column.index for column in columns]):
            typed, misses = caster.typed(texts, columns)
            if misses:
                as_text |= {column.name for column in misses}
                columns = table_of(target, as_text).columns
                typed, _ = caster.typed(texts, columns)
            yield Brought(typed, as_text)


class ReaderThreads:
    """``source()`` makes a source for one thread; sources are used again. ``wake()`` is called, from the reading's
    thread, when there is something to take."""

    def __init__(
        self,
        source: Callable[[], SnapshotSource],
        most: int,
        *,
        wait: WaitFor,
        wake: Callable[[], None] = lambda: None,
        ahead_bytes: int = _AHEAD_BYTES,
    ) -> None:
        self.most = most
        self._make_source = source
        self._wait = wait
        self._wake = wake
        self._ahead_bytes = ahead_bytes
        self._lock = threading.Lock()
        self._idle: list[SnapshotSource] = []
        self._running: dict[_ThreadedReading, threading.Thread] = {}
        self._closed = False

    def start(self, order: Order, caster: Caster) -> Reading:
        reading = _ThreadedReading(self._ahead_bytes, self._wake)
        thread = threading.Thread(
            target=self._run, args=(reading, order, caster), name="memory-load", daemon=True
        )
        with self._lock:
            self._running[reading] = thread
        thread.start()
        return reading

    def close(self) -> None:
        with self._lock:
            self._closed = True
            running = dict(self._running)
        for reading in running:
            reading.cancel()
        for thread in running.values():
            thread.join()
        for source in self._idle:
            source.close()

    def _run(self, reading: _ThreadedReading, order: Order, caster: Caster) -> None:
        source = self._taken()
        reading.source = source
        error: BaseException | None = None
        try:
            events = read(order, source, caster, lambda lsn: self._wait_for(lsn, reading))
            for event in events:
                if not reading.put(event):
                    events.close()
                    break
        except BaseException as raised:  # noqa: BLE001 - the writer says what it means
            error = raised
        finally:
            reading.source = None
            caster.close()
            self._give_back(source, reading)
            reading.put(Ended(error))

    def _wait_for(self, lsn: Lsn, reading: _ThreadedReading) -> None:
        self._wait(lsn, lambda: reading.cancelled)
        if reading.cancelled:
            raise Cancelled

    def _taken(self) -> SnapshotSource:
        with self._lock:
            return self._idle.pop() if self._idle else self._make_source()

    def _give_back(self, source: SnapshotSource, reading: _ThreadedReading) -> None:
        with self._lock:
            self._running.pop(reading, None)
            if reading.cancelled or self._closed or len(self._idle) >= self.most:
                source.close()
            else:
                self._idle.append(source)


class _ThreadedReading:
    def __init__(self, ahead_bytes: int, wake: Callable[[], None]) -> None:
        self._ahead_bytes = ahead_bytes
        self._wake = wake
        self._events: deque[tuple[Event, int]] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self.cancelled = False
        self.source: SnapshotSource | None = None

    def put(self, event: Event) -> bool:
        """Waits for room. False: nobody wants it any more."""
        size = int(event.rows.nbytes) if isinstance(event, Brought) else 0
        with self._changed:
            self._changed.wait_for(
                lambda: self.cancelled or not self._bytes or self._bytes + size <= self._ahead_bytes
            )
            if self.cancelled:
                return False
            self._events.append((event, size))
            self._bytes += size
        self._wake()
        return True

    def poll(self) -> Event | None:
        with self._changed:
            if not self._events:
                return None
            event, size = self._events.popleft()
            self._bytes -= size
            self._changed.notify_all()
            return event

    def cancel(self) -> None:
        with self._changed:
            self.cancelled = True
            self._events.clear()
            self._bytes = 0
            self._changed.notify_all()
        source = self.source
        if source is not None:
            source.interrupt()


def reason_of(error: BaseException) -> str | None:
    """Why a load came to nothing, in words that quote no value; None: it is a defect of ours, or the end."""
    if isinstance(error, LogshipError):
        return error.message
    if isinstance(error, psycopg.Error):
        return f"the secondary can't be read: {error.diag.message_primary or 'the connection was lost'}"
    if isinstance(error, pa.ArrowInvalid):
        return "it holds text that isn't UTF-8"
    if isinstance(error, duckdb.OutOfMemoryException):
        return "there is not enough memory for it"
    if isinstance(error, duckdb.Error):
        return f"DuckDB can't hold it ({type(error).__name__})"
    return None
