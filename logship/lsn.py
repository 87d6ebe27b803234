"""Log sequence numbers: PostgreSQL's 64-bit position in its write-ahead log.

In: integers from the wire, or PostgreSQL's text form. Out: `Lsn`, which orders and subtracts like
the integer it is and prints as PostgreSQL prints it. Nothing here does I/O.

Source: PostgreSQL documentation, "pg_lsn Type".
"""

from __future__ import annotations

import re
from typing import Final, Self

from logship.errors import MalformedLsn

_TEXT: Final = re.compile(r"\A([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})\Z")
_MAX: Final = 2**64 - 1


class Lsn(int):
    """A byte position in the WAL of one primary; `Lsn(0)` is PostgreSQL's invalid LSN."""

    __slots__ = ()

    def __new__(cls, value: int = 0) -> Self:
        if not 0 <= value <= _MAX:
            raise MalformedLsn(hex(value))
        return super().__new__(cls, value)

    @classmethod
    def parse(cls, text: str) -> Self:
        """The LSN that PostgreSQL writes as ``text`` (``0/16B3748``); `MalformedLsn` otherwise."""
        match = _TEXT.match(text)
        if match is None:
            raise MalformedLsn(text)
        return cls(int(match[1], 16) << 32 | int(match[2], 16))

    def __str__(self) -> str:
        return f"{self >> 32:X}/{self & 0xFFFFFFFF:X}"

    def __repr__(self) -> str:
        return f"Lsn({self!s})"

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)


INVALID: Final = Lsn(0)
