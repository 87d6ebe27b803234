"""Rows of one width, in plain Python: the reference that every other implementation must equal.

In: cells as the log has them. Out: lists of cells, and whole columns in the forms in which they leave the
process: PostgreSQL's binary text[], lines of COPY, Arrow buffers. Nothing here knows what a column means;
bytes are not looked at unless a form asks for it. What a form can't hold raises `ValueError`.

Sources: PostgreSQL documentation, "COPY" (text format); src/backend/utils/adt/arrayfuncs.c (array_recv);
Arrow columnar format (validity bitmap, variable-size binary, fixed-size primitive: least significant bit first,
little endian).
"""

from __future__ import annotations

import re
import struct
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, overload

from logship.kernel._python_binary import KINDS, copy_tuples, microseconds
from logship.kernel._python_messages import binary_text_array
from logship.kernel._python_typed import (
    dates,
    decimals,
    floats,
    integer,
    times,
    timestamps,
    unhexed,
)
from logship.kernel.cell import UNCHANGED, Cell

_ESCAPED: Final = re.compile(rb"[\x08\t\n\x0b\x0c\r\\]")
_ESCAPES: Final = {
    b"\b": rb"\b", b"\t": rb"\t", b"\n": rb"\n", b"\v": rb"\v", b"\f": rb"\f", b"\r": rb"\r", b"\\": rb"\\",
}  # fmt: skip
_MOST: Final = 2**31 - 1  # bytes of one Arrow column
_FORMATS: Final = {16: "h", 32: "i", 64: "q"}


class Rows:
    """An immutable sequence of rows, or of keys, that are ``width`` columns wide."""

    __slots__ = ("_rows", "width")
    __hash__ = None  # type: ignore[assignment]
    width: int
    _rows: list[list[Cell]]

    def __init__(self, width: int) -> None:
        self.width = width
        self._rows = []

    @staticmethod
    def of(width: int, rows: Iterable[Sequence[Cell]]) -> Rows:
        """Rows of Python's cells. Raises `ValueError` for a row of another width."""
        made = Rows(width)
        made._rows = [list(row) for row in rows]
        for row in made._rows:
            if len(row) != width:
                raise ValueError(f"a row of {len(row)} columns among rows of {width}")
        return made

    @staticmethod
    def joined(width: int, parts: Iterable[Rows]) -> Rows:
        """All rows of ``parts``, one part after the other."""
        rows: list[list[Cell]] = []
        for part in parts:
            if part.width != width:
                raise ValueError(f"rows of {part.width} columns among rows of {width}")
            rows += part._rows
        return adopt(width, rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[list[Cell]]:
        return map(list, self._rows)

    @overload
    def __getitem__(self, index: int) -> list[Cell]: ...
    @overload
    def __getitem__(self, index: slice) -> Rows: ...
    def __getitem__(self, index: int | slice) -> list[Cell] | Rows:
        if isinstance(index, slice):
            return adopt(self.width, self._rows[index])
        return list(self._rows[index])

    def __eq__(self, other: object) -> bool:
        """Equal cells in the same order; a list of rows may be compared, too."""
        if isinstance(other, Rows):
            return self._rows == other._rows
        if isinstance(other, list):
            return len(self) == len(other) and all(
                isinstance(row, list | tuple) and mine == list(row)
                for mine, row in zip(self._rows, other, strict=True)
            )
        return NotImplemented

    def __repr__(self) -> str:
        """Without cells: these never stand in logs or errors."""
        return f"<{len(self)} rows of {self.width} columns>"

    def size_bytes(self) -> int:
        """Of all cells' texts."""
        return sum(map(_size, self._rows))

    def column(self, column: int) -> list[Cell]:
        """The cells of one column."""
        self._check(column)
        return [row[column] for row in self._rows]

    def project(self, columns: Sequence[int]) -> Rows:
        """Rows of these columns, in this order."""
        for column in columns:
            self._check(column)
        return adopt(len(columns), [[row[column] for column in columns] for row in self._rows])

    def take(self, indexes: Iterable[int]) -> Rows:
        """The rows at ``indexes``, in this order."""
        count = len(self)
        picked = []
        for index in indexes:
            if not 0 <= index < count:
                raise IndexError(f"row {index} of {count}")
            picked.append(self._rows[index])
        return adopt(self.width, picked)

    def chunks(self, max_rows: int, max_bytes: int) -> Iterator[Rows]:
        """All rows in order, as parts of at most so many rows and bytes; a row that is larger is a part of its own."""
        start, size_bytes = 0, 0
        for end, row in enumerate(self._rows):
            added = _size(row)
            if end > start and (end - start >= max_rows or size_bytes + added > max_bytes):
                yield self[start:end]
                start, size_bytes = end, 0
            size_bytes += added
        if start < len(self):
            yield self[start:]

    def masks(self) -> tuple[list[frozenset[int]], array[int]]:
        """The distinct sets of columns that are UNCHANGED in a row, as they first come, and for each row
        which of them it has (unsigned 32-bit numbers)."""
        known: dict[frozenset[int], int] = {}
        groups = array("I")
        for row in self._rows:
            missing = (
                frozenset([i for i, cell in enumerate(row) if cell is UNCHANGED])
                if UNCHANGED in row
                else _NONE
            )
            groups.append(known.setdefault(missing, len(known)))
        return list(known), groups

    def unchanged_as_null(self) -> Rows:
        """The same rows with NULL where the log carries nothing."""
        return adopt(
            self.width, [[None if cell is UNCHANGED else cell for cell in row] for row in self._rows]
        )

    # -- what leaves the process: `ValueError` where a cell is UNCHANGED -------------------------------

    def text_array(self, *columns: int) -> bytes:
        """One column, or several end to end, as ``text[]`` in binary format."""
        return binary_text_array([cell for column in columns for cell in self._carried(column)])

    def copy_text(self, columns: Sequence[int]) -> bytes:
        """Lines for COPY … FROM STDIN, text format, of these columns in this order."""
        escaped = [[_escaped(cell) for cell in self._carried(column)] for column in columns]
        if not escaped:
            return b"\n" * len(self)
        return b"".join([b"\t".join(cells) + b"\n" for cells in zip(*escaped, strict=True)])

    def copy_binary(self, columns: Sequence[int], kinds: str) -> bytes:
        """Tuples for COPY … FROM STDIN, binary format, without header and trailer, of these columns in this order.
        ``kinds``: a letter for each, see `logship.kernel._python_binary`. `ValueError` where a text isn't the very
        text of a value."""
        if len(kinds) != len(columns) or not KINDS.issuperset(kinds):
            raise ValueError(f"{len(columns)} columns of the kinds {kinds}")
        return copy_tuples([self._carried(column) for column in columns], kinds, len(self))

    def since_2000(self, column: int, zone: bool) -> bytes:
        """A column of timestamps as ``text[]``, in binary format, of microseconds since 2000; ``zone``: UTC stands
        behind. `ValueError` where a text isn't the very text of one, or a double doesn't hold the number."""
        return microseconds(self._carried(column), zone)

    def arrow_text(self, column: int) -> tuple[bytes | None, bytes, bytes]:
        """Validity (None: no NULLs), offsets (int32) and data of an Arrow string or binary array. Whether
        it is UTF-8 isn't checked."""
        return _texts(self._carried(column))

    def arrow_int(self, column: int, bits: int) -> tuple[bytes | None, bytes]:
        """Validity and values of an Arrow int16, int32 or int64 array. `ValueError` for a text that such a number
        doesn't have in PostgreSQL."""
        if bits not in _FORMATS:
            raise ValueError(f"integers of {bits} bits")
        cells = self._carried(column)
        values = [0 if cell is None else integer(cell, bits) for cell in cells]
        return _validity(cells), struct.pack(f"<{len(values)}{_FORMATS[bits]}", *values)

    def arrow_bool(self, column: int) -> tuple[bytes | None, bytes]:
        """Validity and values (a bitmap) of an Arrow bool array: of the texts t and f."""
        cells = self._carried(column)
        if not {b"t", b"f", None}.issuperset(cells):
            raise ValueError("a text that is no boolean")
        return _validity(cells), _bitmap([cell == b"t" for cell in cells])

    # -- values, where each text is the very text of one that the form holds; else `ValueError` --------

    def arrow_date(self, column: int) -> tuple[bytes | None, bytes]:
        """Validity and values of an Arrow date32 array; of years 1 to 9999."""
        cells = self._carried(column)
        return _validity(cells), dates(cells)

    def arrow_time(self, column: int) -> tuple[bytes | None, bytes]:
        """Validity and values of an Arrow time64[us] array; before 24:00:00."""
        cells = self._carried(column)
        return _validity(cells), times(cells)

    def arrow_timestamp(self, column: int, zone: bool) -> tuple[bytes | None, bytes]:
        """Validity and values of an Arrow timestamp[us] array, of years 1 to 9999; ``zone``: UTC stands behind."""
        cells = self._carried(column)
        return _validity(cells), timestamps(cells, zone)

    def arrow_decimal(self, column: int, precision: int, scale: int) -> tuple[bytes | None, bytes]:
        """Validity and values of an Arrow decimal128 array, of texts with ``scale`` digits behind the point."""
        cells = self._carried(column)
        return _validity(cells), decimals(cells, precision, scale)

    def arrow_float(self, column: int, bits: int) -> tuple[bytes | None, bytes]:
        """Validity and values of an Arrow float or double array, of numbers with few figures."""
        cells = self._carried(column)
        return _validity(cells), floats(cells, bits)

    def arrow_bytea(self, column: int) -> tuple[bytes | None, bytes, bytes]:
        """Validity, offsets and data of an Arrow binary array, of what bytea's hex means."""
        return _texts(unhexed(self._carried(column)))

    def _check(self, column: int) -> None:
        if not 0 <= column < self.width:
            raise IndexError(f"column {column} of {self.width}")

    def _carried(self, column: int) -> list[bytes | None]:
        self._check(column)
        cells: list[bytes | None] = []
        for row in self._rows:
            cell = row[column]
            if cell is UNCHANGED:
                raise ValueError("a cell that the log does not carry can't be written")
            cells.append(cell)
        return cells


_NONE: Final[frozenset[int]] = frozenset()


def adopt(width: int, rows: list[list[Cell]]) -> Rows:
    """Without a copy: ``rows`` are not touched by anybody else from here on."""
    made = Rows(width)
    made._rows = rows
    return made


def _size(row: Sequence[Cell]) -> int:
    return sum([len(cell) for cell in row if cell is not None and cell is not UNCHANGED])


def _escaped(cell: bytes | None) -> bytes:
    return rb"\N" if cell is None else _ESCAPED.sub(lambda found: _ESCAPES[found[0]], cell)


def _texts(cells: Sequence[bytes | None]) -> tuple[bytes | None, bytes, bytes]:
    offsets = array("i", [0])
    end = 0
    for cell in cells:
        end += 0 if cell is None else len(cell)
        if end > _MOST:
            raise ValueError("a column of more than 2 GB")
        offsets.append(end)
    return _validity(cells), offsets.tobytes(), b"".join([cell for cell in cells if cell is not None])


def _validity(cells: Sequence[bytes | None]) -> bytes | None:
    return _bitmap([cell is not None for cell in cells]) if None in cells else None


def _bitmap(bits: Sequence[bool]) -> bytes:
    packed = bytearray(-(-len(bits) // 8))
    for index, bit in enumerate(bits):
        packed[index >> 3] |= bit << (index & 7)
    return bytes(packed)
