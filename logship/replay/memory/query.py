"""Reads memory: one SELECT, in one snapshot, with the LSN that is true for it.

In: SQL in DuckDB's dialect, from any thread. Out: an Arrow table and the `Lsn` up to which exactly
it holds the primary's transactions: `Store.snapshot` gives both at once. Never writes, never reads a file.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, TypeAlias

import duckdb
import pyarrow as pa

from logship.errors import UsageError
from logship.lsn import Lsn
from logship.replay.memory.resident import ObjectState, Residence
from logship.replay.memory.store import Store
from logship.replay.memory.table import DATABASE, quoted, relation_of
from logship.replay.memory.types import text_of

Table: TypeAlias = Any  # pyarrow.Table; pyarrow has no types

_BATCH_ROWS: Final = 16_384
_REMEMBERED: Final = 256  # queries, of so many characters each
_SHORT_CHARACTERS: Final = 16_384
_MISSING_TABLE: Final = re.compile(r'Table with name "?(.+?)"? does not exist')


class QueryRefused(UsageError):
    """Memory doesn't answer this; nothing happened."""


class MemoryClosed(Exception):
    """The store that was to be read is there no more: the replay began anew, or ends."""


def snapshot_of(store: Store) -> tuple[duckdb.DuckDBPyConnection, Lsn]:
    """A read transaction, to be closed, and what it is true at; `MemoryClosed`."""
    try:
        return store.snapshot()
    except duckdb.ConnectionException:
        raise MemoryClosed from None


class TablesRead:
    """The names of the tables that a query reads, as its text says; those of the latest queries are remembered, since
    DuckDB plans a query to tell. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[str, frozenset[str]] = OrderedDict()

    def of(self, reader: duckdb.DuckDBPyConnection, query: str) -> frozenset[str]:
        with self._lock:
            names = self._known.get(query)
            if names is not None:
                self._known.move_to_end(query)
                return names
        names = frozenset(relation_of(name) for name in reader.get_table_names(query, qualified=True))
        if len(query) <= _SHORT_CHARACTERS:
            with self._lock:
                self._known[query] = names
                if len(self._known) > _REMEMBERED:
                    self._known.popitem(last=False)
        return names


def answer(
    store: Store,
    query: str,
    objects: Sequence[ObjectState],
    tables_read: TablesRead,
    *,
    as_text: bool,
    limit_bytes: int,
) -> tuple[Table, Lsn, frozenset[str]]:
    """The result, its LSN, and the names of the tables that were read."""
    reader, lsn = snapshot_of(store)
    try:
        _require_read(reader, query)
        table = _run(reader, query, as_text, limit_bytes)
        names = tables_read.of(reader, query)
    except duckdb.OutOfMemoryException as error:
        raise QueryRefused(
            "the query needs more memory than there is",
            hint="ask for fewer rows or groups, or raise the memory budget, or name a directory to spill to",
        ) from error
    except duckdb.Error as error:
        raise _refusal(error, objects) from error
    else:
        return table, lsn, names
    finally:
        reader.close()  # ends the transaction too


class CouldNotRead(Exception):
    """DuckDB doesn't take the query, or has failed to compute it. The words of its error may quote a value."""


class Reading:
    """One read transaction of DuckDB. One thread asks; `interrupt` may come from another."""

    def __init__(self, reader: duckdb.DuckDBPyConnection, lsn: Lsn) -> None:
        """``reader`` is in the transaction, true at ``lsn``."""
        self._reader = reader
        self.lsn = lsn

    def columns(self, schema: str, name: str) -> dict[str, str] | None:
        """DuckDB's type of each column; None: there is no such table in memory."""
        try:
            relation = self._reader.sql(f"select * from {DATABASE}.{quoted(schema)}.{quoted(name)} limit 0")
        except duckdb.CatalogException:
            return None
        return dict(zip(relation.columns, map(str, relation.types), strict=True))

    def table(self, query: str, limit_bytes: int) -> Table:
        """The result, in columns c0, c1, … `CouldNotRead`; `QueryRefused` for one that is too large."""
        try:
            return _run(self._reader, query, False, limit_bytes)
        except duckdb.Error as error:
            raise CouldNotRead(type(error).__name__.removesuffix("Exception")) from error

    def interrupt(self) -> None:
        with suppress(duckdb.ConnectionException):  # it is closed already
            self._reader.interrupt()

    def close(self) -> None:
        self._reader.close()  # ends the transaction too


def _require_read(reader: duckdb.DuckDBPyConnection, query: str) -> None:
    statements = reader.extract_statements(query)
    reads = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)
    if len(statements) != 1 or statements[0].type not in reads:
        raise QueryRefused(
            "memory answers one SELECT at a time and nothing else",
            hint="memory changes only by replay: write on the primary",
        )


def _run(reader: duckdb.DuckDBPyConnection, query: str, as_text: bool, limit_bytes: int) -> Table:
    relation = reader.sql(query)
    names: list[str] = relation.columns
    if as_text:
        columns = [f"c{nth}" for nth in range(len(names))]
        cells = ", ".join(
            text_of(str(kind), column) + f" as {column}"
            for column, kind in zip(columns, relation.types, strict=True)
        )
        inner = query.strip().rstrip(";")
        relation = reader.sql(f"select {cells} from (\n{inner}\n) as q({', '.join(columns)})")
    batches = []
    size = 0
    stream = relation.to_arrow_reader(_BATCH_ROWS)
    for batch in stream:
        size += batch.nbytes
        if size > limit_bytes:
            raise QueryRefused(
                f"the result is larger than {limit_bytes} bytes", hint="add a LIMIT, or aggregate"
            )
        batches.append(batch)
    return pa.Table.from_batches(batches, stream.schema).rename_columns(names)


def _refusal(error: duckdb.Error, objects: Sequence[ObjectState]) -> QueryRefused:
    first = str(error).splitlines()[0]
    missing = _MISSING_TABLE.search(first)
    if missing is not None:
        return _not_there(missing[1], objects)
    if isinstance(error, (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException)):
        return QueryRefused(first, hint="memory speaks DuckDB's SQL; see docs/memory.md")
    # Other errors may quote a value.
    return QueryRefused(
        f"the query failed in memory: {type(error).__name__}",
        hint="memory speaks DuckDB's SQL; see docs/memory.md",
    )


def _not_there(name: str, objects: Sequence[ObjectState]) -> QueryRefused:
    for state in objects:
        known = (f"{state.schemaname}.{state.relname}".lower(), state.relname.lower())
        if name.lower() in known and state.residence in (Residence.COLD, Residence.LOADING):
            why = f": {state.reason}" if state.reason else ""
            return QueryRefused(
                f"{state.schemaname}.{state.relname} is {state.residence.value}, not in memory{why}",
                hint="ask the secondary for it, or wait until a change has loaded it",
            )
    return QueryRefused(
        f"{name} is not in memory: it isn't replicated, or nothing has changed it yet",
        hint="a table is loaded at its first change; the secondary has it in any case",
    )
