"""The functions, aggregates, operators and casts that DuckDB computes as PostgreSQL does, and how they are written.

In: names and typed arguments. Out: a typed expression in DuckDB's SQL, or `Elsewhere`. What isn't in these
tables isn't known to be equal, and memory doesn't answer it. Why something is missing stands beside what is
there; docs/memory.md lists it for readers. No I/O.

Source: PostgreSQL documentation, chapter "Functions and Operators"; DuckDB was asked (tests/unit/replay/query).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from logship.replay.query.kinds import (
    BOOL,
    FLOAT8,
    FLOATS,
    INT4,
    INT8,
    INTEGERS,
    MOST_DIGITS,
    Elsewhere,
    Kind,
    Type,
    as_numeric,
    common,
    numeric,
    plain,
)

_EXACT_DOUBLE: Final = 15  # so many digits make the nearest double by one division


@dataclass(frozen=True, slots=True)
class Typed:
    """An expression in DuckDB's SQL. ``literal``: the text in quotes, while it has no type yet.

    ``computed``: a float that arithmetic made, which DuckDB lets overflow where PostgreSQL raises an error.
    ``constant``: the number, where it is written as one.
    """

    sql: str
    type: Type
    literal: str | None = None
    is_null: bool = False
    computed: bool = False
    constant: int | None = None


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


# Only what both read alike: PostgreSQL takes 'today', 'Jan 8', '2020-1-8' and much more.
_LITERALS: Final = {
    Kind.BOOL: r"t|f|true|false",
    Kind.INT2: r"-?[0-9]{1,5}",
    Kind.INT4: r"-?[0-9]{1,10}",
    Kind.INT8: r"-?[0-9]{1,19}",
    Kind.DATE: r"[0-9]{4}-[0-9]{2}-[0-9]{2}",
    Kind.TIMESTAMP: r"[0-9]{4}-[0-9]{2}-[0-9]{2}( [0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?)?",
    Kind.TIMESTAMPTZ: r"[0-9]{4}-[0-9]{2}-[0-9]{2}( [0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?)?"
    r"([+-][0-9]{2}(:[0-9]{2})?)?",
    Kind.UUID: r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}",
}  # fmt: skip
_DECIMAL: Final = re.compile(r"(-?)([0-9]+)(?:\.([0-9]*))?")


def number(text: str) -> Typed:
    """A literal without quotes that is no int4: int8, or numeric with the scale that it is written with."""
    found = _DECIMAL.fullmatch(text)
    if found is None:
        raise Elsewhere(f"it writes a number as {text[:20]}")
    sign, whole, part = found[1], found[2], found[3] or ""
    if "." not in text and int(text) < 2**63:
        return Typed(f"cast({text} as BIGINT)", INT8)
    kind = numeric(len(whole) + len(part), len(part))
    return Typed(f"cast('{sign}{whole}.{part or 0}' as {kind.duckdb})", kind)


def as_type(given: Typed, wanted: Type) -> Typed:
    """``given`` where a ``wanted`` is needed: a literal takes that type, a number becomes the wider one."""
    if given.is_null:
        return Typed(f"cast(null as {wanted.duckdb})", wanted, is_null=True)
    if given.literal is not None:
        return _literal(given.literal, wanted)
    if given.type == wanted or (given.type.kind is wanted.kind is Kind.TEXT):
        return given
    if common(given.type, wanted) != wanted:
        raise Elsewhere(f"it uses {given.type.shown} as {wanted.shown}")
    return Typed(f"cast({given.sql} as {wanted.duckdb})", wanted, computed=given.computed)


def _literal(text: str, wanted: Type) -> Typed:
    if wanted.kind is Kind.TEXT:
        return Typed(quoted(text), wanted)
    if wanted.kind is Kind.NUMERIC and _DECIMAL.fullmatch(text):
        return as_type(number(text if "." in text else text + "."), wanted)
    pattern = _LITERALS.get(wanted.kind)
    if pattern is None or not re.fullmatch(pattern, text):
        raise Elsewhere(f"it writes a {wanted.shown} in a way that only PostgreSQL reads")
    return Typed(f"cast({quoted(text)} as {wanted.duckdb})", wanted)


def unified(given: Sequence[Typed]) -> tuple[list[Typed], Type]:
    """All as one type, as CASE, COALESCE, IN and comparisons need it. See `one_scale` for where values pass on."""
    known = [each for each in given if each.type.kind is not Kind.UNKNOWN]
    if not known:
        raise Elsewhere("it compares literals that have no type")
    wanted = known[0].type
    for each in known[1:]:
        wanted = common(wanted, each.type)
    literals = [each.literal for each in given if each.literal is not None]
    if wanted.kind is Kind.NUMERIC:
        for text in literals:
            found = _DECIMAL.fullmatch(text)
            if found is not None:
                wanted = common(wanted, numeric(len(found[2]) + len(found[3] or ""), len(found[3] or "")))
    return [as_type(each, wanted) for each in given], wanted


def one_scale(given: Sequence[Typed]) -> None:
    """Where a value is passed on: PostgreSQL leaves each numeric the scale it has, DuckDB gives all one."""
    scales = {each.type.scale for each in given if each.type.kind is Kind.NUMERIC}
    mixed = scales and any(each.type.kind in INTEGERS for each in given)
    if len(scales) > 1 or (mixed and scales != {0}) or (scales and any(each.literal for each in given)):
        raise Elsewhere("it mixes numbers of different scale, which PostgreSQL leaves as they are")


# -- operators ---------------------------------------------------------------------------------------

EQUALITY: Final = ("=", "<>")
ORDER: Final = ("<", "<=", ">", ">=")
_ARITHMETIC: Final = ("+", "-", "*", "/", "%")


def require_equality(kind: Type) -> None:
    if kind.kind in (Kind.OPAQUE, Kind.UNKNOWN):
        raise Elsewhere(f"it compares values of {kind.shown}")
    if not kind.equal:
        raise Elsewhere("it compares texts under a collation in which different texts can be equal")


def require_order(kind: Type) -> None:
    require_equality(kind)
    if not kind.ordered:
        raise Elsewhere("it puts texts in the order of a collation other than C")


def comparison(operator: str, left: Typed, right: Typed) -> Typed:
    """``operator`` is one of `EQUALITY` and `ORDER`, or IS [NOT] DISTINCT FROM."""
    _keep_doubles_apart(left, right)
    if {left.type.kind, right.type.kind} & set(FLOATS) and Kind.NUMERIC in (left.type.kind, right.type.kind):
        left, right = cast(left, FLOAT8), cast(right, FLOAT8)
    (one, other), kind = unified([left, right])
    if operator in ORDER:
        require_order(kind)
    else:
        require_equality(kind)
    return Typed(f"({one.sql} {operator} {other.sql})", BOOL)


def membership(value: Typed, given: Sequence[Typed]) -> Typed:
    """IN over a list. Each is compared by itself, as PostgreSQL does where types differ: a list would give the value
    one type for all of them. Where none changes the value's type, it is a list in DuckDB too."""
    kinds = {each.type.kind for each in (value, *given)}
    if len(given) > 1 and Kind.FLOAT4 in kinds and kinds != {Kind.FLOAT4}:
        raise Elsewhere("it looks for real among other numbers, which PostgreSQL makes real first")
    compared = [comparison("=", value, each) for each in given]
    pairs = [] if value.type.kind in FLOATS else [unified([value, each])[0] for each in given]
    if pairs and all(one.sql == value.sql for one, _ in pairs):
        return Typed(f"({value.sql} in ({', '.join(other.sql for _, other in pairs)}))", BOOL)
    return Typed(f"({' or '.join(each.sql for each in compared)})", BOOL)


def null_if(value: Typed, other: Typed) -> Typed:
    """``value`` with the type that the comparison gives it, as PostgreSQL has it."""
    if value.literal is not None and other.type.kind is not Kind.UNKNOWN:
        value = as_type(value, other.type)
    equal = comparison("=", value, other).sql
    kinds = (value.type.kind, other.type.kind)
    stays = (
        len(set(kinds) - {Kind.UNKNOWN}) == 1
        or any(set(kinds) <= set(alike) for alike in (INTEGERS, FLOATS, (Kind.DATE, Kind.TIMESTAMP)))
        or (kinds[0] is Kind.NUMERIC and kinds[1] in INTEGERS)
        or (kinds[0] is Kind.FLOAT8 and kinds[1] in (*INTEGERS, Kind.NUMERIC))
    )
    if not stays:
        raise Elsewhere(f"it uses NULLIF of {value.type.shown} and {other.type.shown}")
    text = f"case when {equal} then null else {value.sql} end"
    return Typed(text, value.type, is_null=value.is_null, computed=value.computed)


def _keep_doubles_apart(left: Typed, right: Typed) -> None:
    """A bigint beside a double: PostgreSQL rounds it to a double too. A literal takes the float's type: refuse."""
    for one, other in ((left, right), (right, left)):
        if one.type.kind in FLOATS and other.literal is not None:
            raise Elsewhere(f"it writes a {one.type.shown} in quotes")


def arithmetic(operator: str, left: Typed, right: Typed) -> Typed:
    if operator not in _ARITHMETIC:
        raise Elsewhere(f"it uses the operator {operator}")
    kinds = {left.type.kind, right.type.kind}
    if kinds == {Kind.UNKNOWN} or not kinds <= {*INTEGERS, *FLOATS, Kind.NUMERIC, Kind.UNKNOWN}:
        return _days(operator, left, right)
    if Kind.UNKNOWN in kinds:
        raise Elsewhere("it calculates with a literal in quotes")
    if kinds <= set(INTEGERS):
        (one, other), kind = unified([left, right])
        sign = "//" if operator == "/" else operator  # both cut off towards zero
        return Typed(f"cast(({one.sql} {sign} {other.sql}) as {kind.duckdb})", kind)
    if kinds & set(FLOATS):
        return _float_arithmetic(operator, left, right)
    return _numeric_arithmetic(operator, left, right)


def _float_arithmetic(operator: str, left: Typed, right: Typed) -> Typed:
    if Kind.NUMERIC in (left.type.kind, right.type.kind):
        left, right = cast(left, FLOAT8), cast(right, FLOAT8)
    if operator == "%":
        raise Elsewhere("it uses % on floats, which PostgreSQL doesn't have")
    (one, other), kind = unified([left, right])
    divisor = other.sql
    if operator == "/":  # DuckDB gives Infinity
        divisor = f"case when {other.sql} = 0 then error('division by zero') else {other.sql} end"
    return Typed(f"({one.sql} {operator} {divisor})", kind, computed=True)


def _numeric_arithmetic(operator: str, left: Typed, right: Typed) -> Typed:
    one, other = (replace(each, type=as_numeric(each.type), sql=_decimal(each)) for each in (left, right))
    if operator == "*":
        kind = numeric(one.type.digits + other.type.digits, one.type.scale + other.type.scale)
        return Typed(f"cast(({one.sql} * {other.sql}) as {kind.duckdb})", kind)
    if operator not in ("+", "-"):
        raise Elsewhere(f"it uses {operator} on numeric, whose scale PostgreSQL finds from the values")
    wide = common(one.type, other.type)
    kind = numeric(wide.digits + 1, wide.scale)
    return Typed(
        f"(cast({one.sql} as {kind.duckdb}) {operator} cast({other.sql} as {kind.duckdb}))::{kind.duckdb}",
        kind,
    )


def _decimal(given: Typed) -> str:
    return f"cast({given.sql} as {as_numeric(given.type).duckdb})"


def _days(operator: str, left: Typed, right: Typed) -> Typed:
    """A date and days. Beyond the calendar both raise an error; intervals differ and aren't here."""
    if left.type.kind is Kind.DATE and right.type.kind in (Kind.INT2, Kind.INT4) and operator in ("+", "-"):
        return Typed(f"cast(({_finite(left)} {operator} cast({right.sql} as INTEGER)) as DATE)", left.type)
    if left.type.kind is right.type.kind is Kind.DATE and operator == "-":
        return Typed(f"cast(({_finite(left)} - {_finite(right)}) as INTEGER)", INT4)
    raise Elsewhere(f"it uses {operator} on {left.type.shown} and {right.type.shown}")


def _finite(date: Typed) -> str:
    return f"case when isfinite({date.sql}) then {date.sql} when {date.sql} is not null then error('infinity') end"


def like(operator: str, value: Typed, pattern: Typed) -> Typed:
    """PostgreSQL's escape is a backslash, DuckDB has none unless told: patterns with one go elsewhere."""
    if value.type.kind is not Kind.TEXT or pattern.literal is None or "\\" in pattern.literal:
        raise Elsewhere("it uses LIKE with more than a plain pattern on text")
    require_equality(value.type)
    return Typed(f"({value.sql} {operator} {quoted(pattern.literal)})", BOOL)


def concatenation(left: Typed, right: Typed) -> Typed:
    known = [each for each in (left, right) if each.type.kind is Kind.TEXT]
    if not known or any(each.type.kind not in (Kind.TEXT, Kind.UNKNOWN) for each in (left, right)):
        raise Elsewhere("it uses || on more than texts")
    (one, other), kind = unified([left, right])
    return Typed(f"({one.sql} || {other.sql})", replace(kind, oid=25))


# -- casts -------------------------------------------------------------------------------------------


def cast(given: Typed, wanted: Type) -> Typed:
    """An explicit cast, where both cut, round and refuse alike. Text is read by PostgreSQL alone."""
    if given.literal is not None or given.is_null:
        return as_type(given, wanted)
    source, target = given.type.kind, wanted.kind
    if source is target and source is not Kind.NUMERIC and source is not Kind.OPAQUE:
        return given
    whole = {*INTEGERS}
    allowed = (
        (source in whole and target in {*whole, *FLOATS})
        or (source in FLOATS and target in {*whole, Kind.FLOAT8} and source is not target)
        or (source is Kind.NUMERIC and target in whole)
        or (source is Kind.NUMERIC and target is Kind.FLOAT8 and given.type.digits <= _EXACT_DOUBLE)
        or (source in whole and target is Kind.TEXT)
        or (source is Kind.DATE and target is Kind.TIMESTAMP)
        or (source in (Kind.TIMESTAMP, Kind.TIMESTAMPTZ) and target is Kind.DATE)
        or (source in {*whole, Kind.NUMERIC} and target is Kind.NUMERIC and wanted.digits)
    )
    if not allowed:
        raise Elsewhere(f"it casts {given.type.shown} to {wanted.shown}")
    return Typed(f"cast({given.sql} as {wanted.duckdb})", wanted, computed=given.computed)


# -- functions ---------------------------------------------------------------------------------------

_FIELDS: Final = ("year", "quarter", "month", "week", "day", "hour", "minute", "dow", "isodow", "doy")
_OF_DATE: Final = ("year", "quarter", "month", "week", "day", "dow", "isodow", "doy")
_UNITS: Final = ("second", "minute", "hour", "day", "week", "month", "quarter", "year")


def function(name: str, given: Sequence[Typed]) -> Typed:  # noqa: PLR0911  (a line per function)
    """Not here, because they differ: lower, upper (collation), round of doubles, extract of seconds and epoch."""
    kinds = [each.type.kind for each in given]
    match name, kinds:
        case "length" | "char_length" | "character_length", [Kind.TEXT]:
            return Typed(f"cast(length({given[0].sql}) as INTEGER)", INT4)
        case "abs", [kind] if kind in {*INTEGERS, *FLOATS, Kind.NUMERIC}:
            return replace(given[0], sql=f"cast(abs({given[0].sql}) as {given[0].type.duckdb})")
        case (("floor" | "ceil" | "ceiling"), [Kind.NUMERIC]):
            whole = numeric(min(given[0].type.digits + 1, MOST_DIGITS), 0)
            return Typed(f"cast({name}({given[0].sql}) as {whole.duckdb})", whole)
        case "round", [Kind.NUMERIC]:
            return _rounded(given[0], 0)
        case "round", [Kind.NUMERIC, Kind.INT4] if given[1].constant is not None:
            return _rounded(given[0], given[1].constant)
        case "date_trunc", [Kind.UNKNOWN, (Kind.TIMESTAMP | Kind.TIMESTAMPTZ)]:
            return _truncated(given[0].literal or "", given[1])
        case "extract" | "date_part", [Kind.UNKNOWN, (Kind.DATE | Kind.TIMESTAMP | Kind.TIMESTAMPTZ)]:
            return _field(name, given[0].literal or "", given[1])
    raise Elsewhere(f"it calls {name}({', '.join(each.type.shown for each in given)})")


def _rounded(value: Typed, scale: int) -> Typed:
    """Half away from zero, in both."""
    if scale < 0:
        raise Elsewhere("it rounds to tens")
    kind = numeric(value.type.digits - value.type.scale + 1 + scale, scale)
    return Typed(f"cast({value.sql} as {kind.duckdb})", kind)


def _truncated(unit: str, value: Typed) -> Typed:
    if unit.lower() not in _UNITS:
        raise Elsewhere(f"it calls date_trunc for {unit[:20]}")
    return Typed(f"cast(date_trunc('{unit.lower()}', {value.sql}) as {value.type.duckdb})", value.type)


def _field(name: str, field: str, value: Typed) -> Typed:
    field = field.lower()
    if field not in (_OF_DATE if value.type.kind is Kind.DATE else _FIELDS):
        raise Elsewhere(f"it extracts {field[:20]}")
    kind = FLOAT8 if name == "date_part" else numeric(10, 0)
    # DuckDB gives NULL of an infinite one.
    return Typed(
        f"case when not isfinite({value.sql}) then error('infinity')"
        f" else cast(extract({field} from {value.sql}) as {kind.duckdb}) end",
        kind,
    )


# -- aggregates --------------------------------------------------------------------------------------

AGGREGATES: Final = ("count", "sum", "min", "max", "avg", "bool_and", "bool_or", "every")


def aggregate(name: str, value: Typed, *, distinct: bool) -> Typed:
    """avg of integers and numeric isn't here: PostgreSQL finds its scale from the values. Nor is sum of real."""
    inner = f"{'distinct ' if distinct else ''}{value.sql}"
    kind = value.type.kind
    if distinct:
        require_equality(value.type)
    if name == "count":
        return Typed(f"count({inner})", INT8)
    if name in ("min", "max") and kind not in (Kind.BOOL, Kind.UUID, Kind.BYTEA, Kind.UNKNOWN, Kind.OPAQUE):
        require_order(value.type)
        return Typed(f"{name}({inner})", value.type, computed=value.computed)
    if name in ("bool_and", "bool_or", "every") and kind is Kind.BOOL:
        return Typed(f"{'bool_and' if name == 'every' else name}({inner})", BOOL)
    if name == "sum" and kind in (Kind.INT2, Kind.INT4):
        return Typed(f"cast(sum({inner}) as BIGINT)", INT8)
    if name == "sum" and kind in (Kind.INT8, Kind.NUMERIC):
        total = numeric(MOST_DIGITS, value.type.scale)
        return Typed(f"cast(sum({inner}) as {total.duckdb})", total)
    if (name, kind) in (("sum", Kind.FLOAT8), ("avg", Kind.FLOAT8), ("avg", Kind.FLOAT4)):
        return Typed(f"{name}({inner})", plain(Kind.FLOAT8), computed=True)
    raise Elsewhere(f"it calls {name}({value.type.shown})")
