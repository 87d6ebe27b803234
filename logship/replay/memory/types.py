"""Which type a column of PostgreSQL has in memory, and how its values get there and back.

In: a type's OID and type modifier. Out: `MemoryType`: the DuckDB type, the expression that makes a
value of it from PostgreSQL's text output, and the one that gives that text again. Assumes the
session settings of `logship.connection.PINNED`: ISO dates, UTC, hex bytea, shortest floats.

A value that the DuckDB type can't hold exactly is a *miss*: the cast gives NULL where the text
wasn't NULL, and the column goes on as text. Temporal types, numeric, uuid and bytea prove each value by
rendering it again; nothing is ever altered silently. What isn't in the table is text. No I/O.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_MAX_PRECISION: Final = 38  # of DuckDB's DECIMAL
_NUMERIC: Final = 1700

# What DuckDB's own cast to text is when it already equals PostgreSQL's.
_PLAIN: Final = "cast({0} as varchar)"


@dataclass(frozen=True, slots=True)
class MemoryType:
    """Expressions are templates: ``{0}`` is the column reference they are about."""

    duckdb: str
    cast: str  # from PostgreSQL's text; NULL on a miss
    text: str  # to PostgreSQL's text
    identical: str = "{0}"  # equal exactly when the texts are equal

    @property
    def is_text(self) -> bool:
        return self.duckdb == "VARCHAR"

    def cast_of(self, reference: str) -> str:
        return self.cast.format(reference)

    def text_of(self, reference: str) -> str:
        return self.text.format(reference)

    def identical_of(self, reference: str) -> str:
        return self.identical.format(reference)


def text_of(duckdb_type: str, reference: str) -> str:
    """The expression that renders ``reference`` of ``duckdb_type`` as PostgreSQL would."""
    return _TEXT.get(duckdb_type, _PLAIN).format(reference)


def memory_type(type_oid: int, typmod: int = -1) -> MemoryType:
    """The type in memory of PostgreSQL's type ``type_oid`` with ``typmod`` (pg_attribute.atttypmod)."""
    if type_oid == _NUMERIC:
        return _numeric(typmod)
    return _BY_OID.get(type_oid, TEXT)


# PostgreSQL writes the fewest figures that lie nearer to the value than to any other float, and an
# exponent from DBL_DIG (FLT_DIG) whole digits on, DuckDB from 16 on. A number halfway between two
# floats is read back as one of them, but PostgreSQL doesn't rely on that.
# Source: PostgreSQL src/common/d2s.c and f2s.c (acceptBounds is false; to_chars).

_SHORTEST: Final = "cast({0} as varchar)"
_NOT_FINITE: Final = (
    "when isnan({0}) then 'NaN' when isinf({0}) then case when {0} > 0 then 'Infinity' else '-Infinity' end"
)


def _double_text() -> str:
    """DuckDB's own figures are the fewest; halfway ones are whole numbers from 2**53 on, exact in HUGEINT."""
    halfway = " or ".join(
        f"cast({_SHORTEST} as hugeint) - cast({{0}} as hugeint)"
        f" = cast(nextafter({{0}}, {side}) as hugeint) - cast({_SHORTEST} as hugeint)"
        for side in ("'infinity'::double", "'-infinity'::double")
    )
    sixteen = "format('{{:.15e}}', {0})"  # where fewer are halfway
    whole = f"split_part({_SHORTEST}, '.', 1)"  # 16 digits
    rest = f"right({whole}, 15) || split_part({_SHORTEST}, '.', 2)"
    scientific = f"regexp_replace(left({whole}, -15) || '.' || {rest}, '\\.?0*$', '') || 'e+15'"
    return (
        f"case {_NOT_FINITE}"
        f" when abs({{0}}) >= {2**53} and abs({{0}}) < 1e38 and ({halfway})"
        f" then case when cast({sixteen} as double) = {{0}}"
        f" and cast({sixteen} as hugeint) <> cast({_SHORTEST} as hugeint)"
        f" then {sixteen} else format('{{{{:.16e}}}}', {{0}}) end"
        f" when contains({_SHORTEST}, 'e') then {_SHORTEST}"
        f" when abs({{0}}) >= 1e15 then {scientific}"
        f" else regexp_replace({_SHORTEST}, '\\.0$', '') end"
    )


def _float_text() -> str:
    """DuckDB's own figures aren't always the fewest; halfway numbers are exact in DOUBLE."""
    halves = [
        f"cast({{0}} as double) + cast(nextafter({{0}}, {side}) as double)"
        for side in ("'infinity'::float", "'-infinity'::float")
    ]
    tried = ""
    for figures in (6, 7, 8):
        written = f"format('{{{{:.{figures - 1}e}}}}', {{0}})"
        tried += (
            f" when try_cast({written} as float) = {{0}}"
            f" and 2 * cast({written} as double) not in ({', '.join(halves)}) then {written}"
        )
    fewest = f"case{tried} else format('{{{{:.8e}}}}', {{0}}) end"
    return (
        f"case {_NOT_FINITE}"
        f" when {{0}} = 0 then left({_SHORTEST}, -2)"
        f" when abs({{0}}) < 1.17549435e-38 then {_SHORTEST}"
        f" when abs(cast({fewest} as double)) >= 1e6 or abs(cast({fewest} as double)) < 1e-4"
        f" then regexp_replace({fewest}, '\\.?0*e', 'e')"
        f" else regexp_replace(cast(cast({fewest} as double) as varchar), '\\.0$', '') end"
    )


_TEXT: Final[dict[str, str]] = {
    "BOOLEAN": "case {0} when true then 't' when false then 'f' end",
    "FLOAT": _float_text(),
    "DOUBLE": _double_text(),
    "BLOB": r"'\x' || lower(hex({0}))",
    "VARCHAR": "{0}",
}


def _native(duckdb: str, cast: str = "") -> MemoryType:
    return MemoryType(duckdb, cast or f"try_cast({{0}} as {duckdb})", _TEXT.get(duckdb, _PLAIN))


def _proven(duckdb: str, cast: str = "") -> MemoryType:
    """A value counts only if it gives the same text again: BC timestamps would silently become AD."""
    cast = cast or f"try_cast({{0}} as {duckdb})"
    text = _TEXT.get(duckdb, _PLAIN)
    return MemoryType(duckdb, f"case when {text.replace('{0}', cast)} = {{0}} then {cast} end", text)


def _floating(duckdb: str) -> MemoryType:
    """The number itself is always exact; one whose text DuckDB can't be made to give again is a miss."""
    number = f"try_cast({{0}} as {duckdb})"
    # Where both write the same: no exponent is near, and there are few figures.
    plain = f"regexp_replace(cast({number} as varchar), '\\.0$', '') = {{0}}"
    cheap = f"abs({number}) between 0.001 and 99999 and length({{0}}) < 7 and {plain}"
    same = f"{_TEXT[duckdb].replace('{0}', number)} = {{0}}"
    cast = f"case when {cheap} then {number} when {same} then {number} end"
    # -0 and 0 are equal and their texts aren't; DuckDB's own text tells all values apart.
    return MemoryType(duckdb, cast, _TEXT[duckdb], _SHORTEST)


TEXT: Final = MemoryType("VARCHAR", "{0}", "{0}")

_BY_OID: Final[dict[int, MemoryType]] = {
    16: _native("BOOLEAN", "case {0} when 't' then true when 'f' then false end"),
    17: _proven("BLOB", "try(unhex(substr({0}, 3)))"),  # '\xdeadbeef'::blob would mean 7 other bytes
    20: _native("BIGINT"),
    21: _native("SMALLINT"),
    23: _native("INTEGER"),
    700: _floating("FLOAT"),
    701: _floating("DOUBLE"),
    1082: _proven("DATE"),
    1083: _proven("TIME"),
    1114: _proven("TIMESTAMP"),
    1184: _proven("TIMESTAMP WITH TIME ZONE"),
    2950: _proven("UUID"),
}


def _numeric(typmod: int) -> MemoryType:
    """numeric(p,s), with 0 <= s <= 38 and p <= 38; the scale of others isn't the column's but the value's.

    Source: PostgreSQL src/backend/utils/adt/numeric.c, make_numeric_typmod.
    """
    if typmod < 4:
        return TEXT
    precision = (typmod - 4) >> 16 & 0xFFFF
    scale = ((typmod - 4 & 0x7FF) ^ 0x400) - 0x400
    width = max(precision, scale + 1)  # DECIMAL(2,2) would write .05 for 0.05
    if scale < 0 or width > _MAX_PRECISION:
        return TEXT
    return _proven(f"DECIMAL({width},{scale})")
