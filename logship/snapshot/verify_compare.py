"""Compares one table of two servers, and narrows a difference down to keys.

In: a `Pair`, and a session on either server inside the snapshot to compare. Out: `TableResult`. When the
table is equal each row is read once on either side; the rows of a chunk that differs are read once more.
Memory holds the keys of a chunk, the sums of the buckets, and what was found, which is bounded.

A table with an ordered key is read in ranges of it: the primary says where each ends. Any other is
read as it lies on disk, in blocks, each row summed into a bucket by the hash of its key (or of the
whole row): the sums don't depend on where a row lies or how keys sort.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg

from logship.connection import Side
from logship.snapshot import verify_rows as rows
from logship.snapshot.failures import failure
from logship.snapshot.verify_rows import Blocks, Bound, Query
from logship.snapshot.verify_tables import Pair, Table

_BLOCKS: Final = 4096  # 32 MB at PostgreSQL's usual size
MOST_BUCKETS: Final = 65_536
_FETCH: Final = 2_000
# How rows are read: along the key's index, or as they lie.
_BY_INDEX: Final = "set enable_seqscan = off; set enable_bitmapscan = off"
_AS_THEY_LIE: Final = "set enable_seqscan = on; set enable_bitmapscan = on"
SETTINGS: Final = {"jit": "off", "max_parallel_workers_per_gather": "0"}


class Stopped(Exception):
    """Another table failed, or the program ends."""


@dataclass(frozen=True, slots=True)
class Sums:
    rows: int = 0
    high: int = 0
    low: int = 0
    size_bytes: int = field(default=0, compare=False)  # in the server's encoding

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            self.rows + other.rows, self.high + other.high, self.low + other.low,
            self.size_bytes + other.size_bytes,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Found:
    """A row that isn't the same. ``key``: the texts of its key; without one, the hash of the row.

    ``primary`` and ``secondary``: how often it is there, with that content. ``values``: when asked for, the
    column's text on both sides, for those that differ.
    """

    key: Bound
    primary: int
    secondary: int
    differs: bool = False
    values: Mapping[str, tuple[str | None, str | None]] | None = None

    @property
    def kind(self) -> str:
        if self.differs:
            return "differs"
        return "missing" if self.primary > self.secondary else "extra"


@dataclass(slots=True)
class TableResult:
    """``more``: not every difference is in ``found``. ``reason``: why the table could not be compared."""

    table: str
    schemaname: str
    relname: str
    key: tuple[str, ...] = ()
    primary_rows: int = 0
    secondary_rows: int = 0
    size_bytes: int = 0  # of the primary's rows as text
    found: list[Found] = field(default_factory=list)
    more: bool = False
    reason: str = ""

    @property
    def equal(self) -> bool:
        return not (self.found or self.more or self.reason)


class Throttle:
    """Lets ``bytes_per_s`` of rows pass, for all tables together. None: any number."""

    def __init__(self, bytes_per_s: int | None) -> None:
        self._bytes_per_s = bytes_per_s
        self._lock = threading.Lock()
        self._free_at = 0.0

    def pay(self, size_bytes: int, stop: threading.Event) -> None:
        if self._bytes_per_s is None:
            return
        with self._lock:
            start = max(self._free_at, time.monotonic())
            self._free_at = start + size_bytes / self._bytes_per_s
        stop.wait(max(0.0, self._free_at - time.monotonic()))


@dataclass(frozen=True, slots=True)
class How:
    """``chunk``: rows of a range, or of a bucket about. ``limit``: differences listed for each table."""

    chunk: int = 10_000
    limit: int = 1_000
    show_values: bool = False


class Comparison:
    """One table. `run` in a thread of its own; the secondary works meanwhile, in another."""

    def __init__(
        self,
        pair: Pair,
        primary: psycopg.Connection,
        secondary: psycopg.Connection,
        how: How,
        *,
        throttle: Throttle,
        stop: threading.Event,
        progress: Callable[[TableResult], None],
    ) -> None:
        self._pair = pair
        self._links = {Side.PRIMARY: primary, Side.SECONDARY: secondary}
        self._how = how
        self._throttle = throttle
        self._stop = stop
        self._progress = progress
        self.result = TableResult(
            str(pair.table), pair.table.schema, pair.table.name, tuple(c.name for c in pair.key_columns)
        )

    def run(self) -> TableResult:
        """`PrimaryError`, `SecondaryError` when a side can't be read."""
        by_index = bool(self._pair.key) and self._pair.ordered
        with ThreadPoolExecutor(1) as beside:
            if by_index:
                self._ranges(beside)
            else:
                self._buckets(beside)
        if self._how.show_values and self.result.found:
            self._add_values()
        return self.result

    # -- along the key ---------------------------------------------------------------------------

    def _ranges(self, beside: ThreadPoolExecutor) -> None:
        self._set(_BY_INDEX)
        under_way: deque[tuple[Bound | None, Bound | None, Sums, Future[Sums]]] = deque()
        after: Bound | None = None
        while True:
            row = self._row(Side.PRIMARY, rows.next_range(self._pair, after, self._how.chunk))
            sums, last = _sums(row), row[4:]
            upto = tuple(last) if sums.rows == self._how.chunk else None
            query = rows.range_sums(self._pair, self._pair.secondary, after, upto)
            under_way.append((after, upto, sums, beside.submit(self._range_sums, query)))
            self._throttle.pay(sums.size_bytes, self._stop)
            while under_way and (len(under_way) > 1 or upto is None):
                self._judge(*under_way.popleft())
            if upto is None:
                return
            after = upto

    def _range_sums(self, query: Query) -> Sums:
        return _sums(self._row(Side.SECONDARY, query))

    def _judge(self, after: Bound | None, upto: Bound | None, sums: Sums, theirs: Future[Sums]) -> None:
        other = theirs.result()
        self._count(sums, other)
        if sums != other:
            self._narrow(
                rows.range_rows(self._pair, self._pair.primary, after, upto),
                rows.range_rows(self._pair, self._pair.secondary, after, upto),
            )

    # -- as it lies ------------------------------------------------------------------------------

    def _buckets(self, beside: ThreadPoolExecutor) -> None:
        self._set(_AS_THEY_LIE)
        pair = self._pair
        buckets = max(1, min(MOST_BUCKETS, max(pair.primary.rows, pair.secondary.rows) // self._how.chunk))
        theirs = beside.submit(self._bucket_sums, Side.SECONDARY, pair.secondary, buckets)
        ours = self._bucket_sums(Side.PRIMARY, pair.primary, buckets)
        other = theirs.result()
        differing = sorted(n for n in ours.keys() | other.keys() if ours[n] != other[n])
        while differing:
            # As many buckets at a time as fit into memory.
            group: list[int] = []
            size = 0
            while differing and (not group or size < 4 * self._how.chunk):
                number = differing.pop()
                group.append(number)
                size += ours[number].rows
            self._narrow(
                rows.bucket_rows(pair, pair.primary, buckets, group),
                rows.bucket_rows(pair, pair.secondary, buckets, group),
            )

    def _bucket_sums(self, side: Side, table: Table, buckets: int) -> defaultdict[int, Sums]:
        found: defaultdict[int, Sums] = defaultdict(Sums)
        for blocks in blocks_of(table):
            size = 0
            for row in self._rows(side, rows.bucket_sums(self._pair, table, blocks, buckets)):
                sums = _sums(row[1:])
                found[row[0]] += sums
                size += sums.size_bytes
                self._count(*((sums, Sums()) if side is Side.PRIMARY else (Sums(), sums)))
            if side is Side.PRIMARY:
                self._throttle.pay(size, self._stop)
        return found

    # -- down to keys ----------------------------------------------------------------------------

    def _narrow(self, ours: Query, theirs: Query) -> None:
        """List both sides' rows of what differs. The primary's are held, the secondary's pass by."""
        if len(self.result.found) >= self._how.limit:
            self.result.more = True
            return
        keyed = bool(self._pair.key)
        with self._stream(Side.PRIMARY, ours) as listed:
            held = {_key(row, keyed): row[-1] for row in listed}
        with self._stream(Side.SECONDARY, theirs) as listed:
            for row in listed:
                key, content = _key(row, keyed), row[-1]
                before = held.pop(key, None)
                if before == content:
                    continue
                if keyed:
                    self._find(Found(key, int(before is not None), 1, differs=before is not None))
                else:
                    self._find(Found(key, before or 0, content))
                if self.result.more:
                    return
        for key, content in held.items():
            self._find(Found(key, 1 if keyed else content, 0))

    def _find(self, found: Found) -> None:
        if len(self.result.found) < self._how.limit:
            self.result.found.append(found)
        else:
            self.result.more = True

    def _add_values(self) -> None:
        pair, found = self._pair, self.result.found
        sides = []
        for side, table in ((Side.PRIMARY, pair.primary), (Side.SECONDARY, pair.secondary)):
            if pair.key:
                got = self._rows(side, rows.rows_by_key(pair, table, [f.key for f in found]))
                sides.append({tuple(row[: len(pair.key)]): row[len(pair.key) + 1 :] for row in got})
            else:
                got = self._rows(side, rows.rows_by_hash(pair, table, [f.key[0] for f in found]))
                sides.append({(row[1],): row[2:] for row in got})
        self.result.found = [
            Found(
                f.key, f.primary, f.secondary, f.differs, self._values(*(side.get(f.key) for side in sides))
            )
            for f in found
        ]

    def _values(
        self, ours: tuple[Any, ...] | None, theirs: tuple[Any, ...] | None
    ) -> dict[str, tuple[str | None, str | None]]:
        shown = {}
        for place, column in enumerate(self._pair.columns):
            both = (ours[place] if ours else None, theirs[place] if theirs else None)
            if ours is None or theirs is None or both[0] != both[1]:
                shown[column.name] = both
        return shown

    # -- reading ---------------------------------------------------------------------------------

    def _count(self, ours: Sums, theirs: Sums) -> None:
        self.result.primary_rows += ours.rows
        self.result.secondary_rows += theirs.rows
        self.result.size_bytes += ours.size_bytes
        self._progress(self.result)

    def _set(self, settings: str) -> None:
        for side, link in self._links.items():
            with self._reading(side):
                link.execute(settings)

    def _row(self, side: Side, query: Query) -> Any:
        return self._rows(side, query)[0]

    def _rows(self, side: Side, query: Query) -> list[Any]:
        with self._reading(side):
            found: list[Any] = self._links[side].execute(query.statement, query.parameters).fetchall()
            return found

    @contextmanager
    def _stream(self, side: Side, query: Query) -> Iterator[Iterator[Any]]:
        with self._reading(side), self._links[side].cursor(name="logship_rows") as cursor:
            cursor.itersize = _FETCH
            cursor.execute(query.statement, query.parameters)
            yield iter(cursor)

    @contextmanager
    def _reading(self, side: Side) -> Iterator[None]:
        if self._stop.is_set():
            raise Stopped
        try:
            yield
        except psycopg.Error as error:
            if self._stop.is_set():
                raise Stopped from error
            raise failure(
                side, f"read {self._pair.table}", error,
                hint=f"the user needs SELECT on it on the {side.value}, and BYPASSRLS where it has row security",
            ) from error  # fmt: skip


def _sums(row: Any) -> Sums:
    return Sums(int(row[0]), int(row[1]), int(row[2]), int(row[3]))


def _key(row: Any, keyed: bool) -> Bound:
    return tuple(row[:-1]) if keyed else (row[0],)


def blocks_of(table: Table) -> Iterator[Blocks | None]:
    """The last portion is open: the file may have grown since it was measured. A partitioned table is one."""
    if table.kind == "p":
        yield None
        return
    last = max(0, table.blocks - 1) // _BLOCKS * _BLOCKS
    for start in range(0, last, _BLOCKS):
        yield Blocks(start, start + _BLOCKS)
    yield Blocks(last, None)
