"""Results as Arrow: from PostgreSQL's texts with the types that memory would give them, and back to those texts.

In: columns of texts as PostgreSQL writes them under `logship.connection.PINNED`, and their type OIDs and
modifiers; or a typed table. Out: a table in which no value is altered: a column with one that its type can't
hold exactly stays text. A numeric without precision becomes a decimal when all its values have one scale.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from contextlib import closing
from typing import Any, Final, TypeAlias

import duckdb
import pyarrow as pa

from logship.replay.memory.types import memory_type, text_of

Table: TypeAlias = Any  # pyarrow.Table; pyarrow has no types

_NUMERIC: Final = 1700
_MOST_DIGITS: Final = 38
_making: Final = threading.Lock()
_NAME: Final = b"postgresql"  # of a field's metadata: what PostgreSQL calls the type


def typed(texts: Table, types: Sequence[tuple[int, int]]) -> Table:
    """``texts`` has the columns c0, c1, … of strings; ``types`` their OIDs and modifiers."""
    columns = list(texts.columns)
    with closing(_connection()) as connection:
        connection.register("texts", texts)
        for nth, (oid, typmod) in enumerate(types):
            if oid == _NUMERIC and typmod < 0:
                typmod = _one_scale(texts.column(nth))  # noqa: PLW2901
            kind = memory_type(oid, typmod)
            if kind.is_text:
                continue
            cast = connection.sql(f"select {kind.cast_of(f'c{nth}')}::{kind.duckdb} as v from texts")
            found = cast.to_arrow_table().column("v")
            if found.null_count == columns[nth].null_count:
                columns[nth] = found
    return pa.table(columns, names=texts.column_names)


def _one_scale(column: Any) -> int:
    """The type modifier of a numeric that holds all of the column's values as they are written, or -1."""
    texts = [text for text in column.to_pylist() if text is not None]
    scales = {len(text.partition(".")[2]) for text in texts}
    digits = max((len(text.lstrip("-").replace(".", "")) for text in texts), default=1)
    plain = all(text.lstrip("-").replace(".", "").isdigit() for text in texts)
    if len(scales) > 1 or digits > _MOST_DIGITS or not plain:
        return -1
    scale = scales.pop() if scales else 0
    return -1 if scale >= _MOST_DIGITS else numeric_typmod(_MOST_DIGITS, scale)


def numeric_typmod(precision: int, scale: int) -> int:
    """Source: PostgreSQL src/backend/utils/adt/numeric.c, make_numeric_typmod."""
    return (precision << 16 | scale & 0x7FF) + 4


def as_described(table: Table, types: Sequence[tuple[int, int]]) -> Table:
    """Memory's result with the types that `typed` gives: a numeric that was computed has 38 digits, and what is
    text in memory is of its own type where all values of this result are."""
    columns = [
        column.cast(pa.decimal128(_MOST_DIGITS, column.type.scale))
        if oid == _NUMERIC and typmod < 0 and pa.types.is_decimal(column.type)
        else column
        for column, (oid, typmod) in zip(table.columns, types, strict=True)
    ]
    for nth, (oid, typmod) in enumerate(types):
        if pa.types.is_string(columns[nth].type) and (
            oid == _NUMERIC or not memory_type(oid, typmod).is_text
        ):
            columns[nth] = typed(pa.table([columns[nth]], names=["c0"]), [(oid, typmod)]).column(0)
    return pa.table(columns, names=table.column_names)


def named(table: Table, names: Sequence[str], types: Sequence[str]) -> Table:
    """The query's own names of the columns, and in each field's metadata what PostgreSQL calls its type."""
    fields = [
        pa.field(name, column.type, metadata={_NAME: kind.encode()})
        for name, kind, column in zip(names, types, table.columns, strict=True)
    ]
    return pa.table(table.columns, schema=pa.schema(fields))


def type_names(table: Table) -> list[str]:
    return [(field.metadata or {}).get(_NAME, b"").decode() for field in table.schema]


def texts(table: Table) -> list[list[str | None]]:
    """Every row as PostgreSQL would write it."""
    numbered = table.rename_columns([f"c{nth}" for nth in range(table.num_columns)])
    with closing(_connection()) as connection:
        relation = connection.from_arrow(numbered)
        cells = ", ".join(text_of(str(kind), f"c{nth}") for nth, kind in enumerate(relation.types))
        return [list(row) for row in relation.project(cells).fetchall()]


@functools.cache
def _database() -> duckdb.DuckDBPyConnection:
    """An empty one for casts, for as long as the process: to make one takes longer than most queries."""
    return duckdb.connect(config={"enable_external_access": False, "temp_directory": "", "threads": 1})


def _connection() -> duckdb.DuckDBPyConnection:
    with _making:
        connection = _database().cursor()
    connection.execute("set TimeZone = 'UTC'").fetchall()
    return connection
