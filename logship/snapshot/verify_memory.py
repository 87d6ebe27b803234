"""Compares a table in the replayer's memory with the secondary, and narrows a difference down to keys.

In: a session of the secondary inside the snapshot that is as old as memory's, and a `MemorySide` that
answers for memory. Out: `MemoryResult`. Both sides sum up their rows by the same rule in buckets of about a
chunk; only the rows of buckets that differ are listed, a few buckets at a time. When the table is equal each
row is read once. The two sides work at the same time.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import psycopg

from logship.connection import Side
from logship.snapshot import verify_memory_rows as sides
from logship.snapshot.failures import failure
from logship.snapshot.verify_compare import MOST_BUCKETS, How, Throttle, blocks_of
from logship.snapshot.verify_memory_rows import MemoryTable
from logship.snapshot.verify_rows import Bound, Query
from logship.snapshot.verify_tables import Table

_MODULUS: Final = 2**64
_TABLE: Final = """
select c.relkind::pg_catalog.text, pg_catalog.pg_relation_size(c.oid),
       pg_catalog.current_setting('block_size')::pg_catalog.int4
  from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where n.nspname = $1 and c.relname = $2
"""

BucketSums = dict[int, tuple[int, int, int]]  # rows, and the sums of both halves of their hashes


class MemorySide(Protocol):
    """Called from one thread at a time."""

    def sums(self, table: MemoryTable, buckets: int) -> BucketSums: ...

    def rows(self, table: MemoryTable, buckets: int, wanted: Sequence[int]) -> list[Sequence[Any]]:
        """The texts of the key (without key nothing), the row's hash, and how often it is there."""
        ...


@dataclass(frozen=True, slots=True)
class MemoryFound:
    """A row that isn't the same: the texts of its key, without one its hash; how often either side has it.

    ``differs``: a row with this key is on both sides, with another content.
    """

    key: Bound
    secondary: int
    memory: int
    differs: bool = False

    @property
    def kind(self) -> str:
        """As seen from memory, which is a copy."""
        if self.differs:
            return "differs"
        return "missing" if self.secondary > self.memory else "extra"


@dataclass(slots=True)
class MemoryResult:
    """``more``: not every difference is in ``found``. ``reason``: why the table could not be compared."""

    table: MemoryTable
    secondary_rows: int = 0
    memory_rows: int = 0
    found: list[MemoryFound] = field(default_factory=list)
    more: bool = False
    reason: str = ""

    @property
    def equal(self) -> bool:
        return not (self.found or self.more or self.reason)


def compare(
    secondary: psycopg.Connection,
    memory: MemorySide,
    table: MemoryTable,
    how: How,
    throttle: Throttle,
) -> MemoryResult:
    """`SecondaryError` when the secondary can't be read; what ``memory`` raises goes through."""
    return _Comparison(secondary, memory, table, how, throttle).run()


class _Comparison:
    def __init__(
        self,
        secondary: psycopg.Connection,
        memory: MemorySide,
        table: MemoryTable,
        how: How,
        throttle: Throttle,
    ) -> None:
        self._secondary = secondary
        self._memory = memory
        self._table = table
        self._how = how
        self._throttle = throttle
        self._result = MemoryResult(table)

    def run(self) -> MemoryResult:
        found = self._rows(Query(_TABLE, [self._table.schemaname, self._table.relname]))  # type: ignore[arg-type]
        if not found:
            self._result.reason = "the secondary has no such table"
            return self._result
        kind, size, block = found[0]
        there = Table(kind, -(-size // block), self._table.rows)
        buckets = max(1, min(MOST_BUCKETS, self._table.rows // self._how.chunk))
        with ThreadPoolExecutor(1) as beside:
            asked = beside.submit(self._memory.sums, self._table, buckets)
            ours = self._sums(there, buckets)
            held = asked.result()
        self._result.secondary_rows = sum(rows for rows, _, _ in ours.values())
        self._result.memory_rows = sum(rows for rows, _, _ in held.values())
        differing = sorted(n for n in ours.keys() | held.keys() if ours.get(n) != held.get(n))
        self._narrow(there, buckets, differing, {n: ours.get(n, (0,))[0] for n in differing})
        return self._result

    def _sums(self, there: Table, buckets: int) -> BucketSums:
        found: defaultdict[int, tuple[int, int, int]] = defaultdict(lambda: (0, 0, 0))
        for blocks in blocks_of(there):
            size = 0
            for bucket, rows, high, low, texts in self._rows(
                sides.sums(self._table, there.kind, blocks, buckets)
            ):
                before = found[bucket]
                found[bucket] = (
                    before[0] + rows, (before[1] + int(high)) % _MODULUS, (before[2] + int(low)) % _MODULUS,
                )  # fmt: skip
                size += texts
            self._throttle.pay(size, threading.Event())
        return found

    def _narrow(self, there: Table, buckets: int, differing: list[int], sizes: dict[int, int]) -> None:
        """As many buckets at a time as fit into memory."""
        while differing and not self._result.more:
            if len(self._result.found) >= self._how.limit:
                self._result.more = True
                return
            group: list[int] = []
            size = 0
            while differing and (not group or size < 4 * self._how.chunk):
                group.append(differing.pop())
                size += sizes[group[-1]]
            with ThreadPoolExecutor(1) as beside:
                asked = beside.submit(self._memory.rows, self._table, buckets, group)
                ours = _by_key(self._rows(sides.rows(self._table, there.kind, buckets, group)))
                held = _by_key(asked.result())
            for key in sorted(ours.keys() | held.keys()):
                self._judge(key, ours.get(key, Counter()), held.get(key, Counter()))

    def _judge(self, key: Bound, ours: Counter[str], held: Counter[str]) -> None:
        if ours == held or self._result.more:
            return
        if len(self._result.found) >= self._how.limit:
            self._result.more = True
            return
        ours_rows, held_rows = ours.total(), held.total()
        self._result.found.append(MemoryFound(key, ours_rows, held_rows, differs=ours_rows == held_rows))

    def _rows(self, query: Query) -> list[Any]:
        try:
            found: list[Any] = self._secondary.execute(query.statement, query.parameters).fetchall()
        except psycopg.Error as error:
            name = f'"{self._table.schemaname}"."{self._table.relname}"'
            raise failure(
                Side.SECONDARY, f"read {name}", error,
                hint="the user needs SELECT on it on the secondary, and BYPASSRLS where it has row security",
            ) from error  # fmt: skip
        return found


def _by_key(rows: Iterable[Sequence[Any]]) -> dict[Bound, Counter[str]]:
    """The hashes of the rows under each key, and how often; a row without key is its own key."""
    found: dict[Bound, Counter[str]] = {}
    for row in rows:
        *key, content, count = row
        found.setdefault(tuple(key) or (content,), Counter())[content] += count
    return found
