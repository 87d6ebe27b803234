"""Cells as PostgreSQL's binary formats have them, in plain Python: the reference that every other implementation must
equal.

In: the cells of columns, none of them UNCHANGED, as a server with the settings of `logship.connection.PINNED` writes
them, and the kind of each column, one letter. Out: tuples for COPY … FROM STDIN (FORMAT binary), without header and
trailer; or microseconds since 2000 as text[]. What a type's receive function makes of a field is the value that its
input function makes of the text. A text counts only where it is *the* text of such a value; anything else is a
`ValueError`, and the caller sends text.

Sources: PostgreSQL documentation, "COPY, Binary Format"; numeric.c (numeric_recv), float.c (float8in_internal: strtod),
timestamp.c, date.c, uuid.c.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Final

from logship.kernel._python_messages import binary_text_array
from logship.kernel._python_typed import dates, integer, times, timestamps, unhexed

_UUID: Final = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_NUMERIC: Final = re.compile(rb"(-?)(0|[1-9][0-9]*)(?:\.([0-9]+))?")
_MOST_NUMERIC: Final = 1000  # bytes of the text
_FLOAT: Final = re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:e[+-][0-9]{2,3})?")
_MOST_FLOAT: Final = 32  # bytes of the text
_NO_NUMBERS: Final = {b"NaN": math.nan, b"Infinity": math.inf, b"-Infinity": -math.inf}
_SINCE_2000_US: Final = 946_684_800_000_000
_SINCE_2000_DAYS: Final = 10_957
_EXACT_US: Final = 1 << 53  # up to there a double holds every whole number
_INFINITE: Final = 0x7F80_0000  # of float4, as a number of 32 bits
_BEHIND_FLOAT4: Final = 2.0**128
_LAST_FLOAT4: Final = 2.0**128 - 2.0**104
_WRONG: Final = "a text that isn't held exactly"


def copy_tuples(columns: Sequence[Sequence[bytes | None]], kinds: str, rows: int) -> bytes:
    fields = [[_field(cell, kind) for cell in cells] for cells, kind in zip(columns, kinds, strict=True)]
    count = struct.pack(">h", len(fields))
    if not fields:
        return count * rows
    return b"".join([part for row in zip(*fields, strict=True) for part in (count, *row)])


def microseconds(cells: Sequence[bytes | None], zone: bool) -> bytes:
    """text[] of microseconds since 2000; those that a double doesn't hold are refused."""
    values = [None if cell is None else _since_2000_us(cell, zone) for cell in cells]
    if any(value is not None and abs(value) > _EXACT_US for value in values):
        raise ValueError(_WRONG)
    return binary_text_array([None if value is None else b"%d" % value for value in values])


def _field(cell: bytes | None, kind: str) -> bytes:
    if cell is None:
        return b"\xff\xff\xff\xff"
    data = _KINDS[kind](cell)
    return struct.pack(">i", len(data)) + data


def _since_2000_us(cell: bytes, zone: bool) -> int:
    (value,) = struct.unpack("<q", timestamps([cell], zone))
    return int(value) - _SINCE_2000_US


def _integer(bits: int) -> Callable[[bytes], bytes]:
    return lambda cell: integer(cell, bits).to_bytes(bits // 8, "big", signed=True)


def _boolean(cell: bytes) -> bytes:
    if cell not in (b"t", b"f"):
        raise ValueError("a text that is no boolean")
    return b"\1" if cell == b"t" else b"\0"


def _date(cell: bytes) -> bytes:
    (days,) = struct.unpack("<i", dates([cell]))
    return struct.pack(">i", days - _SINCE_2000_DAYS)


def _time(cell: bytes) -> bytes:
    return times([cell])[::-1]


def _float8(cell: bytes) -> bytes:
    if cell in _NO_NUMBERS:
        return struct.pack(">d", _NO_NUMBERS[cell])
    value = _floating(cell)
    if math.isinf(value):
        raise ValueError(_WRONG)
    return struct.pack(">d", value)


def _float4(cell: bytes) -> bytes:
    """The nearest, of two as near the even one; rounded once, which by way of a double it is not always."""
    if cell in _NO_NUMBERS:
        return struct.pack(">f", _NO_NUMBERS[cell])
    value, exact = abs(_floating(cell)), abs(Fraction(cell.decode("ascii")))
    if value >= _BEHIND_FLOAT4:
        raise ValueError(_WRONG)
    (near,) = struct.unpack(">I", struct.pack(">f", min(value, _LAST_FLOAT4)))
    bits = min(range(max(0, near - 1), near + 2), key=lambda bits: (abs(_of_float4(bits) - exact), bits & 1))
    if bits == _INFINITE or (bits == 0 and exact):
        raise ValueError(_WRONG)
    return struct.pack(">I", bits | (0x8000_0000 if cell[:1] == b"-" else 0))


def _floating(cell: bytes) -> float:
    if len(cell) > _MOST_FLOAT or _FLOAT.fullmatch(cell) is None:
        raise ValueError(_WRONG)
    value = float(cell)
    if value == 0 and cell.partition(b"e")[0].strip(b"-0."):
        raise ValueError(_WRONG)  # too small: the server refuses it
    return value


def _of_float4(bits: int) -> Fraction:
    """The number of a float4 without a sign; behind the last one, what would follow it."""
    if bits == _INFINITE:
        return Fraction(_BEHIND_FLOAT4)
    (value,) = struct.unpack(">f", struct.pack(">I", bits))
    return Fraction(value)


def _uuid(cell: bytes) -> bytes:
    if _UUID.fullmatch(cell) is None:
        raise ValueError(_WRONG)
    return bytes.fromhex(cell.replace(b"-", b"").decode("ascii"))


def _bytea(cell: bytes) -> bytes:
    (data,) = unhexed([cell])
    assert data is not None
    return data


def _numeric(cell: bytes) -> bytes:
    """Digits of base 10,000, those in front of the point first; no group of zeros at either end."""
    found = _NUMERIC.fullmatch(cell) if len(cell) <= _MOST_NUMERIC else None
    if found is None:
        raise ValueError(_WRONG)
    sign, whole, fraction = found.groups(b"")
    before = whole.rjust(-(-len(whole) // 4) * 4, b"0")
    digits = before + fraction.ljust(-(-len(fraction) // 4) * 4, b"0")
    groups = [int(digits[at : at + 4]) for at in range(0, len(digits), 4)]
    weight = len(before) // 4 - 1
    while groups and groups[0] == 0:
        groups, weight = groups[1:], weight - 1
    while groups and groups[-1] == 0:
        groups = groups[:-1]
    if not groups:
        if sign:
            raise ValueError(_WRONG)
        weight = 0
    head = (len(groups), weight, 0x4000 if sign else 0, len(fraction))
    return struct.pack(f">hhHH{len(groups)}h", *head, *groups)


_KINDS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "t": lambda cell: cell,  # text itself
    "j": lambda cell: b"\1" + cell,  # jsonb: version 1, then its text
    "b": _boolean,
    "2": _integer(16),
    "4": _integer(32),
    "8": _integer(64),
    "d": _date,
    "m": _time,
    "s": lambda cell: struct.pack(">q", _since_2000_us(cell, False)),  # timestamp
    "z": lambda cell: struct.pack(">q", _since_2000_us(cell, True)),  # timestamptz
    "u": _uuid,
    "f": _float4,
    "g": _float8,
    "y": _bytea,
    "n": _numeric,
}
KINDS: Final = frozenset(_KINDS)
