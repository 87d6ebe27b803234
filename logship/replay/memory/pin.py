"""Memory as it is at one moment, for as long as somebody reads it: sums of rows, and rows where sums differ.

In: a snapshot of a store, and the objects of that moment, from a time when no batch is under way. Out: the
LSN, the objects, and for one of them checksums that the secondary's server computes alike (below). One
read transaction of DuckDB: replay goes on meanwhile, and rows it changes are kept twice until `close`.
One thread asks; `interrupt` may come from another.

A row's text is its cells' texts, each as PostgreSQL writes it, with ``\\`` before each backslash and comma, or
``\\N`` for NULL, and commas between; its hash is the MD5 of that in UTF-8. A row stands in the bucket that the
first 32 bits of its key's hash give (without key: of its own). A bucket is summed up by its rows' number
and the sums of both halves of the hashes, modulo 2**64. The same is in `logship.snapshot.verify_memory_rows`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import duckdb

from logship.errors import ReplayError, UsageError
from logship.lsn import Lsn
from logship.replay.memory.resident import SHOWN, MemoryObject, Name, ObjectState
from logship.replay.memory.table import MemoryColumn, MemoryTable, quoted

_MODULUS: Final = 2**64


class CanNotSay(ReplayError):
    """Memory can't answer this question now. Replay isn't concerned."""


@dataclass(frozen=True, slots=True)
class PinnedObject:
    """``columns`` and ``key``: names, in the order they are hashed in; none while it isn't resident."""

    state: ObjectState
    columns: tuple[str, ...] = ()
    key: tuple[str, ...] = ()


class Pinned:
    def __init__(self, reader: duckdb.DuckDBPyConnection, lsn: Lsn, objects: Iterable[MemoryObject]) -> None:
        self._reader = reader
        self.lsn = lsn
        self._tables: dict[Name, MemoryTable] = {}
        self.objects: list[PinnedObject] = []
        for known in objects:
            table, state = known.table, known.state()
            if state.residence not in SHOWN or table is None:
                self.objects.append(PinnedObject(state))
                continue
            self._tables[known.name] = table
            self.objects.append(
                PinnedObject(
                    state,
                    tuple(column.name for column in table.columns),
                    tuple(column.name for column in table.key),
                )
            )

    def sums(self, schema: str, name: str, buckets: int) -> list[tuple[int, int, int, int]]:
        """Bucket, rows, and the sums of both halves of their hashes; buckets without rows are left out."""
        table = self._table(schema, name)
        rows = self._fetch(
            f"select {_bucket(buckets)}, count(*), sum(('0x' || left(m, 16))::ubigint),"
            f" sum(('0x' || right(m, 16))::ubigint) from ({_hashed(table)}) r group by 1"
        )
        return [(bucket, count, high % _MODULUS, low % _MODULUS) for bucket, count, high, low in rows]

    def rows(
        self, schema: str, name: str, buckets: int, wanted: Sequence[int], limit: int
    ) -> list[list[Any]]:
        """What stands in these buckets: the texts of the key (without key nothing), the hash, and how often.
        `CanNotSay` when they are more than ``limit``."""
        table = self._table(schema, name)
        keys = ", ".join(f"c{column.index}" for column in table.key)
        shown = f"{keys}, m" if keys else "m"
        numbers = ", ".join(str(int(number)) for number in wanted)
        found = self._fetch(
            f"select {shown}, count(*) from ({_hashed(table)}) r where {_bucket(buckets)} in ({numbers})"
            f" group by all limit {int(limit) + 1}"
        )
        if len(found) > limit:
            raise CanNotSay(
                "the rows that may differ are too many to list at a time",
                hint="compare with a smaller --chunk",
            )
        return [list(row) for row in found]

    def interrupt(self) -> None:
        """End what is being computed: its caller gets `CanNotSay`. From any thread."""
        with suppress(duckdb.ConnectionException):  # it is closed already
            self._reader.interrupt()

    def close(self) -> None:
        self._reader.close()  # ends the transaction too

    def _table(self, schema: str, name: str) -> MemoryTable:
        table = self._tables.get((schema, name))
        if table is None:
            raise UsageError(f"{schema}.{name} is not in memory", hint="ask for what was said to be resident")
        return table

    def _fetch(self, query: str) -> list[tuple[Any, ...]]:
        try:
            found: list[tuple[Any, ...]] = self._reader.execute(query).fetchall()
        except duckdb.OutOfMemoryException as error:
            raise CanNotSay(
                "memory hasn't enough room to compute checksums",
                hint="raise --memory-budget, or compare tables one at a time with --tables",
            ) from error
        except duckdb.Error as error:  # its words may quote a value
            raise CanNotSay(
                f"memory can't compute checksums: {type(error).__name__}", hint="is the replayer ending?"
            ) from error
        return found


def _hashed(table: MemoryTable) -> str:
    """The cells' texts (``c`` and the column's index), the key's hash ``k``, the row's hash ``m``."""
    cells = ", ".join(
        f"{column.type.text_of(quoted(column.name))} as c{column.index}" for column in table.columns
    )
    row = f"md5({_text(table.columns)})"
    key = f"md5({_text(table.key)})" if table.key else row
    keys = "".join(f", c{column.index}" for column in table.key)
    return f"select {row} as m, {key} as k{keys} from (select {cells} from {table.qualified}) t"


def _text(columns: Sequence[MemoryColumn]) -> str:
    return " || ',' || ".join(
        rf"coalesce(replace(replace(c{column.index}, '\', '\\'), ',', '\,'), '\N')" for column in columns
    )


def _bucket(buckets: int) -> str:
    return f"(('0x' || left(k, 8))::ubigint % {int(buckets)})"
