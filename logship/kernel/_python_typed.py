"""Cells as the values that their texts are, in plain Python: the reference that every other implementation must equal.

In: the cells of a column, none of them UNCHANGED, as a server with the settings of `logship.connection.PINNED`
writes them. Out: the bytes of an Arrow buffer. A text counts only where it is *the* text of the value that is
made of it: rendered again it is the same. Anything else is a `ValueError`: what PostgreSQL doesn't write, and what
it writes and isn't taken here (BC, infinity, years from 10000 on, 24:00:00, NaN, floats of many figures).

A float is taken with up to 15 figures (float4: 6), and without an exponent. No two such numbers are the same float,
so none has a shorter text; its figures and the power of ten below them are exact floats, so one division rounds
correctly.

Sources: PostgreSQL src/backend/utils/adt/datetime.c (EncodeDateTime), numeric.c (get_str_from_var), src/common/d2s.c;
Arrow columnar format (date32, time64, timestamp, decimal128: little endian).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from datetime import date
from typing import Final

_DATE: Final = rb"([0-9]{4})-([0-9]{2})-([0-9]{2})"
_TIME: Final = rb"([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9])(?:\.([0-9]{0,5}[1-9]))?"
_DATE_ALONE: Final = re.compile(_DATE)
_TIME_ALONE: Final = re.compile(_TIME)
_TIMESTAMP: Final = re.compile(_DATE + b" " + _TIME)
_TIMESTAMPTZ: Final = re.compile(_DATE + b" " + _TIME + rb"\+00")
_BYTEA: Final = re.compile(rb"\\x(?:[0-9a-f]{2})*")
_DECIMAL: Final = re.compile(rb"-?(0|[1-9][0-9]*)(?:\.([0-9]+))?")
_FLOAT: Final = re.compile(rb"-?(0|[1-9][0-9]*)(?:\.([0-9]*[1-9]))?")
_EPOCH: Final = date(1970, 1, 1).toordinal()
_DAY: Final = 86_400_000_000  # microseconds
_FIGURES: Final = {32: 6, 64: 15}
MAX_PRECISION: Final = 38


def integer(cell: bytes, bits: int) -> int:
    """The number, without a sign in front of 0, without zeros in front, and within ``bits`` bits."""
    digits = cell[1:] if cell[:1] == b"-" else cell
    if digits.isdigit() and len(digits) <= 19:
        value = int(cell)
        if b"%d" % value == cell and -(2 ** (bits - 1)) <= value < 2 ** (bits - 1):
            return value
    raise ValueError(f"a text that is no integer of {bits} bits")


def dates(cells: Sequence[bytes | None]) -> bytes:
    return _packed("i", cells, _date)


def times(cells: Sequence[bytes | None]) -> bytes:
    return _packed("q", cells, lambda cell: _time(_found(_TIME_ALONE, cell).groups()))


def timestamps(cells: Sequence[bytes | None], zone: bool) -> bytes:
    return _packed("q", cells, lambda cell: _timestamp(_found(_TIMESTAMPTZ if zone else _TIMESTAMP, cell)))


def decimals(cells: Sequence[bytes | None], precision: int, scale: int) -> bytes:
    if not 0 <= scale < precision <= MAX_PRECISION:
        raise ValueError(f"decimals of {precision} and {scale} digits")
    made = [0 if cell is None else _decimal(cell, precision, scale) for cell in cells]
    return b"".join([value.to_bytes(16, "little", signed=True) for value in made])


def floats(cells: Sequence[bytes | None], bits: int) -> bytes:
    if bits not in _FIGURES:
        raise ValueError(f"floats of {bits} bits")
    return _packed("f" if bits == 32 else "d", cells, lambda cell: _float(cell, _FIGURES[bits]))


def unhexed(cells: Sequence[bytes | None]) -> list[bytes | None]:
    return [
        None if cell is None else bytes.fromhex(_found(_BYTEA, cell)[0][2:].decode("ascii")) for cell in cells
    ]


def _packed(
    kind: str, cells: Sequence[bytes | None], value: Callable[[bytes], int] | Callable[[bytes], float]
) -> bytes:
    return struct.pack(f"<{len(cells)}{kind}", *[0 if cell is None else value(cell) for cell in cells])


def _found(pattern: re.Pattern[bytes], cell: bytes) -> re.Match[bytes]:
    found = pattern.fullmatch(cell)
    if found is None:
        raise ValueError("a text that isn't held exactly")
    return found


def _days(year: bytes, month: bytes, day: bytes) -> int:
    try:
        return date(int(year), int(month), int(day)).toordinal() - _EPOCH
    except ValueError:
        raise ValueError("a text that isn't held exactly") from None


def _date(cell: bytes) -> int:
    return _days(*_found(_DATE_ALONE, cell).groups())


def _time(parts: Sequence[bytes | None]) -> int:
    hours, minutes, seconds, fraction = parts
    assert hours is not None and minutes is not None and seconds is not None
    whole = (int(hours) * 60 + int(minutes)) * 60 + int(seconds)
    return whole * 1_000_000 + (0 if fraction is None else int(fraction.ljust(6, b"0")))


def _timestamp(found: re.Match[bytes]) -> int:
    parts = found.groups()
    return _days(*parts[:3]) * _DAY + _time(parts[3:])


def _decimal(cell: bytes, precision: int, scale: int) -> int:
    whole, fraction = _found(_DECIMAL, cell).groups(b"")
    value = int(whole + fraction) if len(fraction) == scale and len(whole) <= precision - scale else None
    if value is None or (value == 0 and cell[:1] == b"-"):
        raise ValueError("a text that isn't held exactly")
    return -value if cell[:1] == b"-" else value


def _float(cell: bytes, figures: int) -> float:
    whole, fraction = _found(_FLOAT, cell).groups(b"")
    digits = (whole + fraction).lstrip(b"0")
    far = whole == b"0" and fraction[:4] == b"0000"
    if len(digits) > figures or far or (not digits and cell[:1] == b"-"):
        raise ValueError("a text that isn't held exactly")
    value: float = int(digits or b"0") / 10 ** len(fraction)
    return -value if cell[:1] == b"-" else value
