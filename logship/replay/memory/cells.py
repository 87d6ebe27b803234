"""One column of the log's rows as an Arrow array: of its type in memory where that can be made exactly, else of texts.

In: `Rows`, and the name of a DuckDB type. Out: the array that DuckDB's guarded cast would give for the same texts
(`types`), or the texts, for that cast to judge: a value that isn't made here needn't be a miss. Assumes UTF-8; anything
else is `pyarrow.ArrowInvalid`. No I/O.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, TypeAlias

import pyarrow as pa

from logship.kernel import IN_USE, Rows
from logship.kernel.choice import PYTHON

Array: TypeAlias = Any  # pyarrow.Array; pyarrow has no types
_Form: TypeAlias = (
    "tuple[Any, Callable[[Rows, int], Sequence[bytes | None]]]"  # Arrow's type, and its buffers
)

# A statement of casts takes as long as this many cells in plain Python; behind that, DuckDB is faster.
_FEW: Final = 1000
_NATIVE: Final = frozenset({"BOOLEAN", "SMALLINT", "INTEGER", "BIGINT"})

_FORMS: Final[dict[str, _Form]] = {
    "BOOLEAN": (pa.bool_(), lambda rows, place: rows.arrow_bool(place)),
    "SMALLINT": (pa.int16(), lambda rows, place: rows.arrow_int(place, 16)),
    "INTEGER": (pa.int32(), lambda rows, place: rows.arrow_int(place, 32)),
    "BIGINT": (pa.int64(), lambda rows, place: rows.arrow_int(place, 64)),
    "FLOAT": (pa.float32(), lambda rows, place: rows.arrow_float(place, 32)),
    "DOUBLE": (pa.float64(), lambda rows, place: rows.arrow_float(place, 64)),
    "DATE": (pa.date32(), lambda rows, place: rows.arrow_date(place)),
    "TIME": (pa.time64("us"), lambda rows, place: rows.arrow_time(place)),
    "TIMESTAMP": (pa.timestamp("us"), lambda rows, place: rows.arrow_timestamp(place, False)),
    "TIMESTAMP WITH TIME ZONE": (
        pa.timestamp("us", "UTC"),
        lambda rows, place: rows.arrow_timestamp(place, True),
    ),
    "BLOB": (pa.binary(), lambda rows, place: rows.arrow_bytea(place)),
}
_DECIMAL: Final = re.compile(r"DECIMAL\((\d+),(\d+)\)")


def column_of(rows: Rows, place: int, duckdb: str) -> Array:
    """The column at ``place``, of the type ``duckdb`` or of texts."""
    array = None
    if IN_USE != PYTHON or len(rows) <= _FEW or duckdb in _NATIVE:
        with suppress(ValueError):  # the cast knows more texts
            array = exact(rows, place, duckdb)
    if array is None:
        array = _made(pa.string(), len(rows), rows.arrow_text(place))
        array.validate(full=True)
    return array


def exact(rows: Rows, place: int, duckdb: str) -> Array | None:
    """None: there is no such form. Raises `ValueError` for a text that it doesn't hold exactly."""
    count = len(rows)
    form = _FORMS.get(duckdb)
    if form is not None:
        kind, buffers = form
        return _made(kind, count, buffers(rows, place))
    decimal = _DECIMAL.fullmatch(duckdb)
    if decimal is not None:
        precision, scale = int(decimal[1]), int(decimal[2])
        return _made(pa.decimal128(precision, scale), count, rows.arrow_decimal(place, precision, scale))
    return None


def _made(kind: Any, count: int, buffers: Sequence[bytes | None]) -> Array:
    return pa.Array.from_buffers(
        kind, count, [None if buffer is None else pa.py_buffer(buffer) for buffer in buffers]
    )
