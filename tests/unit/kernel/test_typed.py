"""Typed columns hold what DuckDB's guarded casts make of the same texts, and refuse what isn't held exactly."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from types import ModuleType
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from logship.kernel.choice import CYTHON, PYTHON, implementation, is_built
from logship.replay.memory.cells import exact
from logship.replay.memory.types import memory_type
from tests.kernels import WHY

Texts = list[bytes | None]

DATE, TIME, TIMESTAMP, TIMESTAMPTZ, BYTEA, FLOAT4, FLOAT8, NUMERIC = (
    1082, 1083, 1114, 1184, 17, 700, 701, 1700,
)  # fmt: skip
TYPES = [(oid, -1) for oid in (DATE, TIME, TIMESTAMP, TIMESTAMPTZ, BYTEA, FLOAT4, FLOAT8)]
NUMERICS = [
    (NUMERIC, (p << 16 | s) + 4) for p, s in ((12, 2), (1, 0), (5, 5), (19, 0), (20, 1), (38, 0), (38, 37))
]

WORDS = """
2024-02-29 2023-02-29 1900-02-29 2000-02-29 0001-01-01 0000-01-01 9999-12-31 10000-01-01 1969-12-31 1970-01-01
2024-00-01 2024-13-01 2024-01-00 2024-01-32 2024-04-31 2024-1-01 infinity -infinity 20240101 2024/01/01 2024-01-0a
00:00:00 23:59:59 23:59:59.999999 24:00:00 23:60:00 23:59:60 12:00 12:00:00. 12:00:00.1 12:00:00.10 12:00:00.000001
12:00:00.0000001 12:00:00.1234567 1:00:00 12:00:00+00 12:00:00.a -1:00:00 12-00-00 12:00:00,5 12:00:00.000000
0 -0 0.0 1 -1 00 01 +1 1. .5 0.5 0.50 -0.5 1e5 1e+15 1e+16 999999999999999 9999999999999999 123456789012345.5 0.0001
0.00001 1e-05 0.00012345678901234 0.000123456789012345 0.1 0.2 0.3 0.30000000000000004 3.4028235e+38 NaN
Infinity -Infinity
999999 1000000 1e+06 123456 1234567 16777216 16777217 0.0001234 0.1234567 100000 123456.7 1.5e-45 9007199254740993
0.00 -0.00 0.01 -0.01 9999999999.99 -9999999999.99 10000000000.00 1.005 1.5 -9 10 00.10 1.0.0 1-1 1a .00 0.12345
9223372036854775807 9223372036854775808 9999999999999999999
99999999999999999999999999999999999999 -1234567890123456789.5
18446744073709551616 -18446744073709551616 36893488147419103232
-99999999999999999999999999999999999999 1234567890123456789.5
100000000000000000000000000000000000000
1.2345678901234567890123456789012345678 -9.9999999999999999999999999999999999999
\\x \\xdeadbeef \\xDEADBEEF \\xabc \\xag \\x00 deadbeef \\ \\xffff x \\x0\\x
"""
HARD = WORDS.split()
HARD += [
    f"{day} {at}{zone}"
    for day in (
        "2024-02-29",
        "2023-02-29",
        "0001-01-01",
        "9999-12-31",
        "10000-01-01",
        "0044-03-15",
        "1969-12-31",
    )
    for at in ("00:00:00", "23:59:59.999999", "24:00:00", "12:30:00.5", "12:30:00.50", "12:30")
    for zone in ("", "+00", "-00", "+01", "+00:00", " BC", "+00 BC", "Z")
] + [
    "",
    " ",
    "2024-01-01T00:00:00",
    "2024-01-01  00:00:00",
    "\u0662\u0660\u0662\u0664-01-01",
    "0.\u0665",
    "\u0661",
]


def numerals(whole: int, behind: int) -> st.SearchStrategy[str]:
    return st.from_regex(rf"-?(0|[1-9][0-9]{{0,{whole}}})(\.[0-9]{{1,{behind}}})?", fullmatch=True)


def iso(value: date | time | datetime) -> str:
    """As PostgreSQL writes it."""
    text = value.isoformat(" ") if isinstance(value, datetime) else value.isoformat()
    return text.rstrip("0") if "." in text else text


texts = st.one_of(
    st.sampled_from(HARD), st.text("0123456789-:.+ \\xaef", max_size=24), numerals(18, 17), numerals(37, 37),
    numerals(5, 5), st.dates().map(iso), st.times().map(iso), st.datetimes().map(iso),
    st.datetimes().map(lambda value: iso(value) + "+00"), st.uuids().map(str),
    st.binary(max_size=9).map(lambda octets: "\\x" + octets.hex()),
    st.floats().map(repr), st.floats(width=32).map(str), st.integers(-(2**127), 2**127).map(str),
)  # fmt: skip


@pytest.fixture(scope="module")
def cast() -> Iterator[Callable[[int, int, Texts], Any]]:
    """What memory's cast in DuckDB makes of the texts, NULL where it is a miss."""
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'").fetchall()

        def casting(oid: int, typmod: int, cells: Texts) -> Any:
            connection.register("t", pa.table({"v": pa.array(cells, pa.binary()).cast(pa.string())}))
            found = connection.sql(f"select {memory_type(oid, typmod).cast_of('v')} from t")
            return found.to_arrow_table().column(0).combine_chunks()

        yield casting


def taken(kernel: ModuleType, oid: int, typmod: int, cells: Texts) -> Any:
    """The column as the kernel types it; None: it refuses."""
    try:
        array = exact(kernel.Rows.of(1, [[cell] for cell in cells]), 0, memory_type(oid, typmod).duckdb)
    except ValueError:
        return None
    if array is not None:
        array.validate(full=True)
    return array


@pytest.mark.parametrize(("oid", "typmod"), TYPES + NUMERICS)
def test_hard_values_are_what_the_cast_makes_of_them(
    kernel: ModuleType, cast: Callable[[int, int, Texts], Any], oid: int, typmod: int
) -> None:
    cells = [text.encode() for text in HARD]
    for cell, expected in zip(cells, cast(oid, typmod, list(cells)), strict=True):
        array = taken(kernel, oid, typmod, [cell])
        if array is not None:
            assert expected.is_valid, cell
            assert array.type == expected.type
            assert pa.array([expected], expected.type).equals(array), cell
            assert taken(kernel, oid, typmod, [None, cell, cell, None]).to_pylist() == [
                None, *array.to_pylist() * 2, None,
            ]  # fmt: skip


@given(st.lists(texts, min_size=1, max_size=12), st.sampled_from(TYPES + NUMERICS))
@settings(deadline=None)
@example(["0.1", "0.2"], (FLOAT4, -1))
def test_random_values_are_what_the_cast_makes_of_them(
    kernel: ModuleType, cast: Callable[[int, int, Texts], Any], given_texts: list[str], kind: tuple[int, int]
) -> None:
    cells: Texts = [text.encode() for text in given_texts]
    expected = cast(*kind, cells)
    fitting: Texts = []
    for cell, value in zip(cells, expected, strict=True):
        array = taken(kernel, *kind, [cell])
        assert array is None or value.is_valid, cell
        if array is not None:
            fitting.append(cell)
    assert (taken(kernel, *kind, cells) is not None) == (len(fitting) == len(cells))
    if fitting:
        assert taken(kernel, *kind, fitting).equals(cast(*kind, fitting))


@pytest.mark.skipif(not is_built(), reason=WHY)
@given(
    st.lists(texts.map(str.encode) | st.binary(max_size=40) | st.none(), max_size=3),
    st.sampled_from("tjb248dmszuynfg"),
)
@settings(deadline=None)
def test_binary_forms_are_made_or_refused_alike(cells: Texts, kind: str) -> None:
    made = [implementation(name).Rows.of(1, [[cell] for cell in cells]) for name in (PYTHON, CYTHON)]
    for form in (lambda rows: rows.copy_binary([0], kind), lambda rows: rows.since_2000(0, kind == "z")):
        found = []
        for rows in made:
            try:
                found.append(form(rows))
            except ValueError:
                found.append(ValueError)
        assert found[0] == found[1]


@pytest.mark.skipif(not is_built(), reason=WHY)
@given(
    st.lists(texts.map(str.encode) | st.binary(max_size=40) | st.none(), max_size=3),
    st.sampled_from([*(memory_type(*kind).duckdb for kind in TYPES + NUMERICS), "VARCHAR"]),
)
@settings(deadline=None)
def test_columns_are_typed_or_refused_alike(cells: Texts, kind: str) -> None:
    found = []
    for name in (PYTHON, CYTHON):
        try:
            array = exact(implementation(name).Rows.of(1, [[cell] for cell in cells]), 0, kind)
            found.append(
                None
                if array is None
                else [
                    array.type,
                    [b if b is None else b.to_pybytes() for b in array.buffers()],
                    array.null_count,
                ]
            )
        except ValueError:
            found.append(ValueError)
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("oid", "typmod", "usual"),
    [
        (DATE, -1, ["0001-01-01", "2024-02-29", "9999-12-31"]),
        (TIME, -1, ["00:00:00", "23:59:59.999999", "12:30:00.5"]),
        (TIMESTAMP, -1, ["0001-01-01 00:00:00", "1969-12-31 23:59:59.999999"]),
        (TIMESTAMPTZ, -1, ["2024-02-29 12:00:00.000001+00", "9999-12-31 23:59:59+00"]),
        (BYTEA, -1, ["\\x", "\\x00ff"]),
        (FLOAT4, -1, ["0", "0.0001", "-123.456", "999999"]),
        (FLOAT8, -1, ["0", "-0.0001", "0.000123456789012345", "123456789012.345", "999999999999999"]),
        (NUMERIC, NUMERICS[0][1], ["0.00", "-0.01", "9999999999.99"]),
        (NUMERIC, NUMERICS[5][1], ["9" * 38, "-" + "9" * 38, str(2**64), str(-(2**64)), str(10**19)]),
    ],
)
def test_usual_values_are_taken(
    kernel: ModuleType, cast: Callable[[int, int, Texts], Any], oid: int, typmod: int, usual: list[str]
) -> None:
    cells: Texts = [None, *(text.encode() for text in usual)]
    array = taken(kernel, oid, typmod, cells)
    assert array is not None
    assert array.equals(cast(oid, typmod, cells))


def test_every_day_of_the_calendar_turns_up_once(kernel: ModuleType) -> None:
    first = date(1895, 12, 25)
    days = [first + timedelta(days=n) for n in range(0, 80_000, 3)]
    _, values = kernel.Rows.of(1, [[day.isoformat().encode()] for day in days]).arrow_date(0)
    start = (first - date(1970, 1, 1)).days
    assert list(struct.unpack(f"<{len(days)}i", values)) == list(range(start, start + 80_000, 3))
    moment = datetime(9999, 12, 31, 23, 59, 59, 999999, UTC)
    _, values = kernel.Rows.of(1, [[b"9999-12-31 23:59:59.999999+00"]]).arrow_timestamp(0, True)
    assert struct.unpack("<q", values)[0] == (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(
        microseconds=1
    )


def test_forms_that_are_none_are_refused(kernel: ModuleType) -> None:
    rows = kernel.Rows.of(1, [[None]])
    for precision, scale in ((39, 0), (0, 0), (2, 2), (2, -1), (-1, -2)):
        with pytest.raises(ValueError, match="decimals of"):
            rows.arrow_decimal(0, precision, scale)
    with pytest.raises(ValueError, match="floats of"):
        rows.arrow_float(0, 16)
    for form in (rows.arrow_date, rows.arrow_time, rows.arrow_bytea):
        with pytest.raises(IndexError):
            form(1)
