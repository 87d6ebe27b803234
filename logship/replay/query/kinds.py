"""The types of a query's expressions, as far as memory and PostgreSQL are known to agree about them.

In: type OIDs of columns. Out: `Type`s, and what two of them become together (PostgreSQL documentation,
"Type Conversion"). A type that isn't known exactly is opaque: such a value can be shown, counted and
asked whether it is NULL, and nothing else. No I/O.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from logship.replay.memory.types import memory_type

MOST_DIGITS: Final = 38  # of DuckDB's DECIMAL


class Elsewhere(Exception):
    """Memory can't answer this as PostgreSQL would; ``reason`` says why, in words for whoever asked."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Kind(enum.Enum):
    BOOL = "boolean"
    INT2 = "smallint"
    INT4 = "integer"
    INT8 = "bigint"
    NUMERIC = "numeric"
    FLOAT4 = "real"
    FLOAT8 = "double precision"
    TEXT = "text"
    DATE = "date"
    TIME = "time"
    TIMESTAMP = "timestamp without time zone"
    TIMESTAMPTZ = "timestamp with time zone"
    UUID = "uuid"
    BYTEA = "bytea"
    UNKNOWN = "unknown"  # a literal in quotes, or NULL: it takes its neighbour's type
    OPAQUE = "opaque"


@dataclass(frozen=True, slots=True)
class Type:
    """``digits`` and ``scale`` are of numeric alone: no value has more. ``equal``: equality of texts is that
    of their bytes; ``ordered``: so is their order. ``row``: it is NULL where all its fields are."""

    kind: Kind
    oid: int
    digits: int = 0
    scale: int = 0
    equal: bool = True
    ordered: bool = True
    name: str = ""  # of an opaque one
    row: bool = False

    @property
    def duckdb(self) -> str:
        if self.kind is Kind.NUMERIC:
            return f"DECIMAL({self.digits},{self.scale})"
        return _DUCKDB[self.kind]

    @property
    def shown(self) -> str:
        return self.name or self.kind.value


_OIDS: Final[dict[int, Kind]] = {
    16: Kind.BOOL,
    17: Kind.BYTEA,
    20: Kind.INT8,
    21: Kind.INT2,
    23: Kind.INT4,
    25: Kind.TEXT,
    700: Kind.FLOAT4,
    701: Kind.FLOAT8,
    1043: Kind.TEXT,
    1082: Kind.DATE,
    1083: Kind.TIME,
    1114: Kind.TIMESTAMP,
    1184: Kind.TIMESTAMPTZ,
    1700: Kind.NUMERIC,
    2950: Kind.UUID,
}
_OID_OF: Final = {kind: oid for oid, kind in reversed(_OIDS.items())} | {Kind.TEXT: 25}
_DUCKDB: Final = {
    kind: memory_type(oid).duckdb for kind, oid in _OID_OF.items() if kind is not Kind.NUMERIC
} | {Kind.OPAQUE: "VARCHAR", Kind.UNKNOWN: "VARCHAR"}

INTEGERS: Final = (Kind.INT2, Kind.INT4, Kind.INT8)
FLOATS: Final = (Kind.FLOAT4, Kind.FLOAT8)
_INTEGER_DIGITS: Final = {Kind.INT2: 5, Kind.INT4: 10, Kind.INT8: 19}


def plain(kind: Kind) -> Type:
    """The type without more to say of it: of everything but numeric."""
    return Type(kind, _OID_OF.get(kind, 0))


UNKNOWN: Final = Type(Kind.UNKNOWN, 705)
BOOL: Final = plain(Kind.BOOL)
INT4: Final = plain(Kind.INT4)
INT8: Final = plain(Kind.INT8)
FLOAT8: Final = plain(Kind.FLOAT8)


def numeric(digits: int, scale: int) -> Type:
    """`Elsewhere` when DuckDB's DECIMAL has no room for so many digits."""
    if digits > MOST_DIGITS or scale > MOST_DIGITS:
        raise Elsewhere("its numbers may have more than 38 digits")
    return Type(Kind.NUMERIC, 1700, digits, scale)


def column_type(
    oid: int, typmod: int, *, equal: bool, ordered: bool, name: str = "", row: bool = False
) -> Type:
    """The type of a table's column; opaque for what is text in memory and isn't text in PostgreSQL."""
    kind = _OIDS.get(oid)
    if kind is None:
        return Type(Kind.OPAQUE, oid, name=name, row=row)
    if kind is Kind.NUMERIC:
        held = memory_type(oid, typmod)
        if held.is_text:
            return Type(Kind.OPAQUE, oid, name="numeric without fixed precision")
        digits, scale = held.duckdb.removeprefix("DECIMAL(").removesuffix(")").split(",")
        return Type(kind, oid, int(digits), int(scale))
    if kind is Kind.TEXT:
        return Type(kind, oid, equal=equal, ordered=ordered)
    return Type(kind, oid)


def as_numeric(given: Type) -> Type:
    """What an integer or a numeric is as a numeric."""
    return given if given.kind is Kind.NUMERIC else numeric(_INTEGER_DIGITS[given.kind], 0)


def common(one: Type, other: Type) -> Type:
    """What both are turned into to be compared, or to stand in one column. `Elsewhere` when that isn't known."""
    if one.kind is Kind.TEXT and other.kind is Kind.TEXT:
        return Type(Kind.TEXT, 25, equal=one.equal and other.equal, ordered=one.ordered and other.ordered)
    if one.kind is other.kind and one.kind not in (Kind.NUMERIC, Kind.OPAQUE):
        return one
    kinds = {one.kind, other.kind}
    if kinds <= set(INTEGERS):
        return plain(max(kinds, key=INTEGERS.index))
    if kinds <= {*INTEGERS, Kind.NUMERIC}:
        left, right = as_numeric(one), as_numeric(other)
        scale = max(left.scale, right.scale)
        return numeric(max(left.digits - left.scale, right.digits - right.scale) + scale, scale)
    if kinds <= {*INTEGERS, *FLOATS}:
        return FLOAT8
    if kinds == {Kind.DATE, Kind.TIMESTAMP}:
        return plain(Kind.TIMESTAMP)
    raise Elsewhere(f"it brings {one.shown} and {other.shown} together")
