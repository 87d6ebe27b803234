"""Rows: what goes in comes out, and the forms in which columns leave read back as the same cells."""

from __future__ import annotations

import struct
from types import ModuleType

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logship.kernel import UNCHANGED, Cell

texts = st.none() | st.binary(max_size=12)
carried = st.integers(0, 4).flatmap(lambda n: st.lists(st.lists(texts, min_size=n, max_size=n), max_size=9))
cells = texts | st.just(UNCHANGED)
tables = st.integers(0, 4).flatmap(
    lambda n: st.tuples(st.just(n), st.lists(st.lists(cells, min_size=n, max_size=n), max_size=9))
)
Table = tuple[int, list[list[Cell]]]


def width_of(rows: list[list[bytes | None]]) -> int:
    return len(rows[0]) if rows else 3


@given(tables)
@settings(deadline=None)
def test_rows_are_a_sequence_of_what_they_were_made_of(kernel: ModuleType, table: Table) -> None:
    width, given_rows = table
    rows = kernel.Rows.of(width, given_rows)
    assert rows == given_rows
    assert list(rows) == given_rows
    assert [rows[index] for index in range(-len(rows), len(rows))] == given_rows * 2
    assert rows.size_bytes() == sum(len(c) for row in given_rows for c in row if isinstance(c, bytes))
    assert rows.unchanged_as_null() == [[None if c is UNCHANGED else c for c in row] for row in given_rows]


@given(tables, st.slices(12), st.data())
@settings(deadline=None)
def test_parts_of_rows(kernel: ModuleType, table: Table, part: slice, data: st.DataObject) -> None:
    width, given_rows = table
    rows = kernel.Rows.of(width, given_rows)
    assert rows[part] == given_rows[part]
    indexes = st.lists(st.integers(0, max(len(rows) - 1, 0)), max_size=9 if len(rows) else 0)
    taken = data.draw(indexes)
    assert rows.take(taken) == [given_rows[index] for index in taken]
    columns = data.draw(st.lists(st.integers(0, max(width - 1, 0)), max_size=6 if width else 0))
    assert rows.project(columns) == [[row[column] for column in columns] for row in given_rows]
    assert [rows.column(c) for c in columns] == [[row[c] for row in given_rows] for c in columns]
    assert kernel.Rows.joined(width, [rows, rows[part], rows[:0]]) == given_rows + given_rows[part]


@given(tables, st.integers(1, 4), st.integers(1, 20))
@settings(deadline=None)
def test_chunks_are_as_large_as_they_may_be(
    kernel: ModuleType, table: Table, most_rows: int, most_bytes: int
) -> None:
    width, given_rows = table
    rows = kernel.Rows.of(width, given_rows)
    parts = list(rows.chunks(most_rows, most_bytes))
    assert kernel.Rows.joined(width, parts) == given_rows
    for part, following in zip(parts, [*parts[1:], None][: len(parts)], strict=True):
        assert 1 <= len(part) <= most_rows
        assert len(part) == 1 or part.size_bytes() <= most_bytes
        if following is not None:
            more = part.size_bytes() + following[:1].size_bytes()
            assert len(part) == most_rows or more > most_bytes


@given(tables)
@settings(deadline=None)
def test_masks_say_what_each_row_lacks(kernel: ModuleType, table: Table) -> None:
    width, given_rows = table
    masks, groups = kernel.Rows.of(width, given_rows).masks()
    found = [frozenset(i for i, cell in enumerate(row) if cell is UNCHANGED) for row in given_rows]
    assert [masks[group] for group in groups] == found
    assert masks == list(dict.fromkeys(found))


def test_equality_and_what_is_refused(kernel: ModuleType) -> None:
    rows = kernel.Rows.of(2, [[b"1", None], [b"2", UNCHANGED]])
    assert rows == kernel.Rows.of(2, [(b"1", None), (b"2", UNCHANGED)])
    assert rows == [(b"1", None), [b"2", UNCHANGED]]
    assert rows != [[b"1", None]]
    assert rows != kernel.Rows.of(2, [[b"1", None], [b"2", None]])
    assert rows != kernel.Rows.of(2, [[b"1", None], [b"2", b""]])
    assert rows != [[b"1", None], 7]
    assert rows != 7
    assert kernel.Rows.of(0, [[], []]) != kernel.Rows.of(0, [[]])
    assert repr(rows) == "<2 rows of 2 columns>", "no cells"
    with pytest.raises(TypeError):
        hash(rows)
    for wrong in ([[b"1"]], [[b"1", b"2", b"3"]]):
        with pytest.raises(ValueError, match="columns"):
            kernel.Rows.of(2, wrong)
    with pytest.raises(ValueError, match="columns"):
        kernel.Rows.joined(1, [rows])
    for index in (2, -3):
        with pytest.raises(IndexError):
            rows[index]
    for column in (2, -1):
        with pytest.raises(IndexError):
            rows.column(column)
        with pytest.raises(IndexError):
            rows.project([column])
        with pytest.raises(IndexError):
            rows.text_array(column)
        with pytest.raises(IndexError):
            rows.copy_text([column])
        with pytest.raises(IndexError):
            rows.copy_binary([column], "t")
        with pytest.raises(IndexError):
            rows.since_2000(column, False)
        with pytest.raises(IndexError):
            rows.take([column])


def test_each_column_of_a_tuple_has_a_kind(kernel: ModuleType) -> None:
    rows = kernel.Rows.of(2, [[b"7", b"t"], [None, b"f"]])
    assert rows.copy_binary([1, 0], "b4") == (b"\0\2\0\0\0\1\1\0\0\0\4\0\0\0\7\0\2\0\0\0\1\0\xff\xff\xff\xff")
    assert rows.copy_binary([], "") == b"\0\0\0\0"
    for kinds in ("b", "b44", "b?", "B4"):
        with pytest.raises(ValueError, match="of the kinds"):
            rows.copy_binary([1, 0], kinds)


def test_microseconds_since_2000(kernel: ModuleType) -> None:
    texts = [b"2000-01-01 00:00:00.000001", None, b"1999-12-31 23:59:59.5", b"2285-01-01 00:00:00"]
    made = kernel.Rows.of(1, [[text] for text in texts]).since_2000(0, False)
    assert made == kernel.binary_text_array([b"1", None, b"-500000", b"8993808000000000"])
    assert kernel.Rows.of(1, [[b"2000-01-01 00:00:00+00"]]).since_2000(0, True) == kernel.binary_text_array(
        [b"0"]
    )
    assert kernel.Rows(1).since_2000(0, False) == kernel.binary_text_array([])
    for text in (b"infinity", b"2286-01-01 00:00:00", b"1714-01-01 00:00:00", b"0044-03-15 12:00:00 BC"):
        with pytest.raises(ValueError, match="exactly"):
            kernel.Rows.of(1, [[text]]).since_2000(0, False)


keys = st.lists(st.lists(st.none() | st.binary(max_size=2), min_size=2, max_size=2), max_size=5)


@given(keys, keys, keys)
@settings(deadline=None)
def test_sets_of_keys_meet_when_they_share_one(
    kernel: ModuleType,
    one: list[list[bytes | None]],
    more: list[list[bytes | None]],
    other: list[list[bytes | None]],
) -> None:
    rows = [kernel.Rows.of(2, table) for table in (one, more, other)]
    mine = kernel.KeySet([(rows[0], [1, 0]), (rows[1], range(2))])
    theirs = kernel.KeySet([(rows[2], [0, 1])])
    share = {(b, a) for a, b in one} | {(a, b) for a, b in more}
    assert mine.meets(theirs) == theirs.meets(mine) == any((a, b) in share for a, b in other)
    assert not kernel.KeySet().meets(mine)
    with pytest.raises(IndexError):
        kernel.KeySet([(rows[0], [2])])


def test_what_the_log_does_not_carry_never_leaves(kernel: ModuleType) -> None:
    rows = kernel.Rows.of(1, [[b"1"], [UNCHANGED]])
    for form in (
        lambda: rows.text_array(0),
        lambda: rows.copy_text([0]),
        lambda: rows.copy_binary([0], "t"),
        lambda: rows.since_2000(0, True),
        lambda: rows.arrow_text(0),
        lambda: rows.arrow_int(0, 32),
        lambda: rows.arrow_bool(0),
    ):
        with pytest.raises(ValueError, match="does not carry"):
            form()


@given(carried)
@settings(deadline=None)
def test_text_arrays_hold_one_column_or_several(kernel: ModuleType, table: list[list[bytes | None]]) -> None:
    width = width_of(table)
    rows = kernel.Rows.of(width, table)
    columns = [[row[i] for row in table] for i in range(width)]
    assert [rows.text_array(i) for i in range(width)] == [
        kernel.binary_text_array(column) for column in columns
    ]
    assert rows.text_array(*range(width)) == kernel.binary_text_array(
        [cell for column in columns for cell in column]
    )


def unescaped(line: bytes) -> list[bytes | None]:
    letters = {b"b": b"\b", b"t": b"\t", b"n": b"\n", b"v": b"\v", b"f": b"\f", b"r": b"\r", b"\\": b"\\"}

    def cell(text: bytes) -> bytes | None:
        if text == rb"\N":
            return None
        first, *rest = text.replace(b"\\\\", b"\\x5c").split(b"\\")
        return first + b"".join(b"\\" + p[3:] if p[:3] == b"x5c" else letters[p[:1]] + p[1:] for p in rest)

    return [cell(text) for text in line.split(b"\t")]


NASTY = st.none() | st.lists(st.sampled_from([b"\\", b"\t", b"\n", b"N", b".", b"x", b"\r\x0b\x0c\x08"])).map(
    b"".join
)


@given(carried | st.lists(st.lists(NASTY, min_size=2, max_size=2), max_size=6))
@settings(deadline=None)
def test_lines_of_copy_read_back(kernel: ModuleType, table: list[list[bytes | None]]) -> None:
    width = width_of(table)
    text = kernel.Rows.of(width, table).copy_text(range(width))
    lines = text.split(b"\n")
    assert lines.pop() == b""
    if width:
        assert [unescaped(line) for line in lines] == table
    else:
        assert lines == [b""] * len(table)
    assert not set(text) & set(b"\b\v\f\r")


@given(carried)
@settings(deadline=None)
def test_arrow_reads_texts(kernel: ModuleType, table: list[list[bytes | None]]) -> None:
    rows = kernel.Rows.of(width_of(table), table)
    for column in range(rows.width):
        buffers = [None if part is None else pa.py_buffer(part) for part in rows.arrow_text(column)]
        array = pa.Array.from_buffers(pa.binary(), len(rows), buffers)
        array.validate(full=True)
        assert array.to_pylist() == [row[column] for row in table]


@given(st.sampled_from([16, 32, 64]), st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), max_size=20))
@settings(deadline=None)
def test_arrow_reads_integers(kernel: ModuleType, bits: int, numbers: list[int | None]) -> None:
    fitting = [n if n is None or -(2 ** (bits - 1)) <= n < 2 ** (bits - 1) else n >> 48 for n in numbers]
    rows = kernel.Rows.of(1, [[None if n is None else b"%d" % n] for n in fitting])
    types = {16: pa.int16(), 32: pa.int32(), 64: pa.int64()}
    buffers = [None if part is None else pa.py_buffer(part) for part in rows.arrow_int(0, bits)]
    array = pa.Array.from_buffers(types[bits], len(rows), buffers)
    array.validate(full=True)
    assert array.to_pylist() == fitting


@pytest.mark.parametrize("bits", [16, 32, 64])
def test_what_is_no_integer_of_that_size_is_refused(kernel: ModuleType, bits: int) -> None:
    most = 2 ** (bits - 1)
    for number in (most - 1, -most, 0):
        _, values = kernel.Rows.of(1, [[b"%d" % number]]).arrow_int(0, bits)
        assert struct.unpack({16: "<h", 32: "<i", 64: "<q"}[bits], values) == (number,)
    wrong = [b"%d" % most, b"%d" % (-most - 1), b"", b"-", b"-0", b"00", b"01", b"+1", b" 1", b"1 ", b"1_0", b"1.0",
             b"x", b"9" * 19, b"9" * 20, b"1" * 400, b"\xd9\xa1", b"--1", b"1\0"]  # fmt: skip
    for text in wrong:
        with pytest.raises(ValueError, match="no integer"):
            kernel.Rows.of(1, [[text]]).arrow_int(0, bits)
    with pytest.raises(ValueError, match="bits"):
        kernel.Rows.of(1, []).arrow_int(0, 8)


@given(st.lists(st.sampled_from([None, b"t", b"f"]), max_size=40))
@settings(deadline=None)
def test_arrow_reads_booleans(kernel: ModuleType, given_cells: list[bytes | None]) -> None:
    rows = kernel.Rows.of(1, [[cell] for cell in given_cells])
    buffers = [None if part is None else pa.py_buffer(part) for part in rows.arrow_bool(0)]
    array = pa.Array.from_buffers(pa.bool_(), len(rows), buffers)
    array.validate(full=True)
    assert array.to_pylist() == [None if cell is None else cell == b"t" for cell in given_cells]
    with pytest.raises(ValueError, match="no boolean"):
        kernel.Rows.of(1, [[b"true"]]).arrow_bool(0)
