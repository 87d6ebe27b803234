"""What is compiled does what the reference does: the same results, and the same refusals of what is malformed."""

from __future__ import annotations

import struct
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logship.kernel import UNCHANGED, Cell
from logship.kernel.choice import CYTHON, PYTHON, implementation, is_built
from tests.kernels import WHY

pytestmark = pytest.mark.skipif(not is_built(), reason=WHY)

WIDTH = 3
cells: st.SearchStrategy[Cell] = st.sampled_from(
    [b"", b"1", b"2", b"3", b"eight by", b"longer than 8", None, UNCHANGED]
)
rows = st.lists(cells, min_size=WIDTH, max_size=WIDTH)


def tuple_data(row: list[Cell]) -> bytes:
    parts = [struct.pack(">H", len(row))]
    for cell in row:
        if isinstance(cell, bytes):
            parts.append(b"t" + struct.pack(">I", len(cell)) + cell)
        else:
            parts.append(b"n" if cell is None else b"u")
    return b"".join(parts)


@st.composite
def row_messages(draw: st.DrawFn) -> bytes:
    oid = struct.pack(">I", draw(st.sampled_from([1, 2, 2, 2, 3, 3, 4])))
    wide = draw(rows)
    new, old = tuple_data(wide), tuple_data(draw(rows))
    kind = draw(st.sampled_from([b"I", b"I", b"U", b"UK", b"UO", b"DK", b"DO"]))
    if kind == b"I":
        return b"I" + oid + b"N" + new
    if kind == b"U":
        return b"U" + oid + b"N" + new
    if kind[:1] == b"U":
        return b"U" + oid + kind[1:] + old + b"N" + new
    return b"D" + oid + kind[1:] + old


other_messages = st.sampled_from([b"B0", b"C1", b"O2", b"R3", b"T4", b"M", b"", b"x", b"I", b"U\0\0\0\2"])


@st.composite
def runs(draw: st.DrawFn) -> bytes:
    messages = draw(
        st.lists(st.one_of(row_messages(), row_messages(), row_messages(), other_messages), max_size=25)
    )
    run = b"".join(struct.pack(">I", len(message)) + message for message in messages)
    for place, byte in draw(st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), max_size=2)):
        run = run[:place] + bytes([byte]) + run[place + 1 :] if place < len(run) else run
    return run[: draw(st.sampled_from([len(run), len(run), len(run), max(0, len(run) - 3)]))]


def outcome(call: Callable[..., Any], *arguments: Any) -> Any:
    """What ``call`` gives, or that it refuses."""
    try:
        return call(*arguments)
    except ValueError:
        return ValueError


def plain(taken: Any) -> Any:
    """A net change or operations, rows as lists."""
    if isinstance(taken, list):
        return [plain(one) for one in taken]
    if hasattr(taken, "masks"):
        return ("rows", taken.width, list(taken))
    return tuple(map(plain, taken)) if isinstance(taken, tuple) else taken


def replayed(kernel: ModuleType, given_runs: list[bytes], key: tuple[int, ...]) -> list[Any]:
    """All that is there to be seen when runs are taken in, each behind the others."""
    seen: list[Any] = []
    whole, loose = kernel.Keyed(WIDTH, key), kernel.Keyless(WIDTH)
    for run in given_runs:
        tables = {1: None, 2: kernel.Keyed(WIDTH, key), 3: kernel.Keyless(WIDTH)}
        offset = 0
        while offset < len(run):
            fed = kernel.feed(run, offset, tables)
            seen.append((fed, len(tables[2]), len(tables[3])))
            following = outcome(kernel.message_at, run, fed[0])
            seen.append(following)
            if following is ValueError:
                break
            seen.append(outcome(kernel.row_change, following[0]))
            offset = following[1]
        net, operations = tables[2].take(), tables[3].take()
        seen += [plain(net), plain(operations), len(tables[2]), len(tables[3])]
        whole.absorb(net)
        loose.absorb(operations)
    seen += [len(whole), len(loose), plain(whole.take()), plain(loose.take())]
    return seen


@given(st.lists(runs(), max_size=3), st.sampled_from([(0,), (1, 0), (0, 1, 2)]))
@settings(deadline=None)
def test_runs_are_taken_in_alike(given_runs: list[bytes], key: tuple[int, ...]) -> None:
    python, cython = implementation(PYTHON), implementation(CYTHON)
    assert replayed(cython, given_runs, key) == replayed(python, given_runs, key)


changes = st.lists(
    st.tuples(st.sampled_from(["insert", "update", "delete"]), st.none() | rows, st.booleans(), rows),
    max_size=30,
)


@given(changes, st.booleans())
@settings(deadline=None)
def test_changes_of_cells_are_taken_in_alike(given_changes: list[Any], keyed: bool) -> None:
    results = []
    for kernel in (implementation(PYTHON), implementation(CYTHON)):
        table = kernel.Keyed(WIDTH, (0,)) if keyed else kernel.Keyless(WIDTH)
        said: list[Any] = []
        for kind, old, old_is_key, new in given_changes:
            if kind == "update":
                said.append(outcome(table.update, old, old_is_key, new))
            else:
                said.append(outcome(table.insert if kind == "insert" else table.delete, new))
        results.append((said, len(table), plain(table.take())))
    assert results[0] == results[1]


@given(st.binary(max_size=60) | row_messages(), st.integers(-2, 62))
@settings(deadline=None)
def test_bytes_are_read_or_refused_alike(message: bytes, offset: int) -> None:
    python, cython = implementation(PYTHON), implementation(CYTHON)
    for name, arguments in (
        ("tuple_at", (message, offset)),
        ("message_at", (message, offset)),
        ("row_change", (message,)),
        ("split_run", (message,)),
        ("feed", (message, offset, {2: None})),
    ):
        assert outcome(getattr(cython, name), *arguments) == outcome(getattr(python, name), *arguments)
    assert cython.survey([message, message]) == python.survey([message, message])


texts = st.one_of(
    st.none(), st.binary(max_size=8), st.sampled_from([b"t", b"f", b"0", b"-1", b"-0", b"32768", b"\\\t\n"]),
    st.integers(-(2**64), 2**64).map(lambda number: b"%d" % number), st.just(UNCHANGED),
)  # fmt: skip


@given(st.lists(st.lists(texts, min_size=2, max_size=2), max_size=12))
@settings(deadline=None)
def test_columns_leave_alike(table: list[list[Cell]]) -> None:
    one, other = (implementation(name).Rows.of(2, table) for name in (PYTHON, CYTHON))
    for form in (
        lambda made: made.text_array(0),
        lambda made: made.text_array(1, 0, 1),
        lambda made: made.text_array(),
        lambda made: made.copy_text([1, 0]),
        lambda made: made.arrow_text(0),
        lambda made: [outcome(lambda bits=bits: made.arrow_int(0, bits)) for bits in (16, 32, 64)],
        lambda made: made.arrow_bool(1),
        lambda made: made.masks(),
        lambda made: [list(part) for part in made.chunks(3, 20)],
        lambda made: list(made.unchanged_as_null()),
        lambda made: made.size_bytes(),
    ):
        assert outcome(form, other) == outcome(form, one)


def test_as_many_relations_as_there_are() -> None:
    """More than one call remembers, in an order that asks for each again and again."""
    oids = list(range(1, 700)) * 3
    messages = [
        b"I" + struct.pack(">I", oid) + b"N" + tuple_data([b"%d" % n, None, b"x"])
        for n, oid in enumerate(oids)
    ]
    run = b"".join(struct.pack(">I", len(message)) + message for message in messages)
    for name in (PYTHON, CYTHON):
        kernel = implementation(name)
        tables = {oid: kernel.Keyed(WIDTH, (0,)) if oid % 3 else None for oid in range(1, 700)}
        taken = sum(3 for oid in tables if oid % 3)
        assert kernel.feed(run, 0, tables) == (len(run), taken)
        assert sum(len(table) for table in tables.values() if table is not None) == taken


def test_many_rows_come_and_go() -> None:
    """The hash table grows and shrinks; rows move, go, come again."""
    count, results = 20_000, []
    for name in (PYTHON, CYTHON):
        table = implementation(name).Keyed(2, (0,))
        for n in range(count):
            assert table.insert([b"%d" % n, b"x" * (n % 3)])
        for n in range(0, count, 3):
            assert table.delete([b"%d" % n, None])
        for n in range(1, count, 3):
            assert table.update([b"%d" % n, None], True, [b"m%d" % n, UNCHANGED])
        for n in range(2 * count):
            assert table.update(None, False, [b"u%d" % (n % 5000), b"%d" % n])
        results.append(plain(table.take()))
    assert results[0] == results[1]


def test_rows_outlive_what_they_were_made_from() -> None:
    """Cells stand in the run's bytes, which nobody else holds any more."""
    kernel = implementation(CYTHON)
    table = kernel.Keyed(2, (0,))
    messages = [b"I\0\0\0\2N" + tuple_data([b"%d" % n, b"value %d" % n]) for n in range(1000)]
    assert kernel.feed(kernel.frame(messages), 0, {2: table})[1] == 1000
    parts = list(table.take().inserts.chunks(7, 1 << 20))
    again = kernel.Rows.joined(1, [part.project([1]).take(range(len(part))) for part in parts])
    del table, messages, parts
    litter = [bytes(100) * n for n in range(200)]
    assert list(again) == [[b"value %d" % n] for n in range(1000)]
    assert litter


def test_a_table_that_is_at_work_is_left_alone() -> None:
    kernel = implementation(CYTHON)
    table = kernel.Keyed(1, (0,))

    class Row:
        def __iter__(self) -> Any:
            table.insert([b"2"])
            return iter([b"1"])

    with pytest.raises(RuntimeError, match="two threads"):
        table.insert(Row())
    assert len(table) == 0
    assert table.insert([b"1"])


pieces = st.sampled_from(
    [
        struct.pack(">cQqI", b"B", lsn, 5, 7) for lsn in (8, 16)
    ] + [
        struct.pack(">cBQQq", b"C", 0, lsn, lsn + 8, 5) for lsn in (8, 16)
    ] + [b"I\0\0\0\1N", b"U\0\0\0\2N", b"T\0\0\0\1", b"R\0\0\0\1", b"O", b"I", b""]
)  # fmt: skip


@settings(deadline=None)
@given(st.lists(pieces, max_size=12), st.integers(0, 30), st.integers(0, 200), st.integers(0, 3))
def test_runs_are_surveyed_and_cut_alike(messages: list[bytes], after: int, most: int, cut: int) -> None:
    reference, compiled = implementation(PYTHON), implementation(CYTHON)
    run = reference.frame(messages)
    run = run[: len(run) - cut]
    assert outcome(lambda: compiled.relations_of(run)) == outcome(lambda: reference.relations_of(run))
    for end in {len(run), len(run) // 2}:
        given = (run, 0, end, after, most)
        assert compiled.plain_at(*given) == reference.plain_at(*given)
    assert outcome(lambda: compiled.commit_times(run, after)) == outcome(
        lambda: reference.commit_times(run, after)
    )
