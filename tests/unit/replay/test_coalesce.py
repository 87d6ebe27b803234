"""Coalescing equals replay one by one: the rule that everything else in the stores rests on."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logship.change import UNCHANGED, Cell, Column, Relation, Row
from logship.replay.batch import NetChanges, OrderedChanges, Rows, Step, Truncation
from logship.replay.coalesce import Coalescer
from logship.replay.target import Target, TargetColumn
from tests.kernels import EACH, in_use


@pytest.fixture(scope="module", params=EACH, autouse=True)
def each_kernel(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    yield from in_use(request.param)


def column(name: str) -> TargetColumn:
    return TargetColumn(name, "text", 25, -1, False, "", "", True)


def make_target(name: str = "t", *, key: tuple[int, ...] = (0,), identity: str = "d") -> Target:
    columns = tuple(Column(n, 25, -1, identity == "f" or i in key) for i, n in enumerate(("id", "a", "big")))
    relation = Relation(1000, "public", name, identity, columns)
    return Target(relation, 1, "r", 10, "owner", tuple(column(c.name) for c in columns), key)


Table = dict[Cell, Row]


def carry_out(table: Table, steps: tuple[Step, ...]) -> Table:
    """What a store does with the steps, in the most literal way."""
    table = dict(table)
    for step in steps:
        if isinstance(step, Truncation):
            table = {}
            continue
        for changes in step.tables:
            assert isinstance(changes, NetChanges)
            for (key,) in changes.deletes:
                del table[key]
            for group in changes.updates:
                for (key,), row in zip(group.keys, group.rows, strict=True):
                    assert {i for i, c in enumerate(row) if c is not UNCHANGED} == set(group.columns)
                    table[key] = kept(table[key], row)
            moved = [
                (row, table.pop(old[0]))
                for old, row in zip(changes.move_keys, changes.move_rows, strict=True)
            ]
            for row, before in moved:
                assert row[0] not in table
                table[row[0]] = kept(before, row)
            for row in changes.inserts:
                assert UNCHANGED not in row
                assert row[0] not in table
                table[row[0]] = row
    return table


def kept(before: Row, row: Row) -> Row:
    return [old if cell is UNCHANGED else cell for old, cell in zip(before, row, strict=True)]


KEYS = st.sampled_from([b"1", b"2", b"3", b"4"])
VALUES = st.sampled_from([b"x", b"y", b"", None])
OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["insert", "update", "move", "delete", "truncate", "full"]),
        KEYS,
        KEYS,
        VALUES,
        st.one_of(VALUES, st.just(UNCHANGED)),
    ),
    max_size=40,
)


@given(start=st.sets(KEYS), operations=OPERATIONS, cuts=st.sets(st.integers(0, 40)), together=st.booleans())
@settings(max_examples=400, deadline=None)
def test_equals_replay_one_by_one(
    start: set[bytes], operations: list, cuts: set[int], together: bool
) -> None:
    """Random histories that a primary could have written, cut into batches anywhere, and these carried
    out one after the other or put together again."""
    target = make_target()
    one_by_one: Table = {key: [key, b"old", b"toasted-" + key] for key in sorted(start)}
    net = {key: list(row) for key, row in one_by_one.items()}
    coalescer, steps = Coalescer(), list[Step]()
    for index, (kind, key, other, value, big) in enumerate(operations):
        if index in cuts:
            steps += coalescer.take()
        old_row = one_by_one.get(key)
        if kind == "truncate":
            one_by_one = {}
            coalescer.truncate([target], False)
            continue
        table = coalescer.table(target)
        if kind == "insert" and old_row is None:
            row: Row = [key, value, b"new" if big is UNCHANGED else big]
            one_by_one[key] = row
            ok = table.insert(list(row))
        elif kind == "update" and old_row is not None:
            row = [key, value, big]
            one_by_one[key] = kept(old_row, row)
            ok = table.update(None, False, row)
        elif kind == "full" and old_row is not None:
            row = [key, value, big]
            one_by_one[key] = kept(old_row, row)
            ok = table.update(list(old_row), False, row)
        elif kind == "move" and old_row is not None and (other == key or other not in one_by_one):
            row = [other, value, big]
            one_by_one[other] = kept(one_by_one.pop(key), row)
            ok = table.update([key, None, None], True, row)
        elif kind == "delete" and old_row is not None:
            del one_by_one[key]
            ok = table.delete([key, None, None])
        else:
            continue
        assert ok, "a history of the primary never puts two rows under one key"
    steps += coalescer.take()
    if together:
        whole = Coalescer()
        for step in steps:
            whole.absorb([step])
        steps = list(whole.take())
    assert carry_out(net, tuple(steps)) == one_by_one


def test_hot_row_is_written_once() -> None:
    coalescer = Coalescer()
    for value in range(1000):
        coalescer.table(make_target_cached()).update(None, False, [b"1", str(value).encode(), UNCHANGED])
    (step,) = coalescer.take()
    assert isinstance(step, Rows)
    (changes,) = step.tables
    assert isinstance(changes, NetChanges)
    assert [group.rows for group in changes.updates] == [[[b"1", b"999", UNCHANGED]]]
    assert coalescer.net == 1


_TARGET = make_target()


def make_target_cached() -> Target:
    return _TARGET


def test_inserted_and_deleted_leaves_nothing() -> None:
    coalescer = Coalescer()
    table = coalescer.table(_TARGET)
    assert table.insert([b"1", b"x", b"y"])
    assert table.delete([b"1", None, None])
    assert coalescer.take() == ()


def test_toasted_value_of_an_insert_survives_an_update_in_the_same_batch() -> None:
    coalescer = Coalescer()
    table = coalescer.table(_TARGET)
    table.insert([b"1", b"x", b"toasted"])
    table.update(None, False, [b"1", b"y", UNCHANGED])
    (step,) = coalescer.take()
    assert isinstance(step, Rows)
    changes = step.tables[0]
    assert isinstance(changes, NetChanges)
    assert changes.inserts == [[b"1", b"y", b"toasted"]]


def test_toasted_key_is_taken_from_the_old_tuple() -> None:
    """An UPDATE of a row whose key is TOASTed sends the key in the old tuple only."""
    coalescer = Coalescer()
    coalescer.table(_TARGET).update([b"long", None, None], True, [UNCHANGED, b"y", b"z"])
    (step,) = coalescer.take()
    assert isinstance(step, Rows)
    changes = step.tables[0]
    assert isinstance(changes, NetChanges)
    assert changes.updates[0].keys == [(b"long",)]
    assert changes.updates[0].rows == [[b"long", b"y", b"z"]]


def test_second_row_under_one_key_asks_for_a_new_step() -> None:
    coalescer = Coalescer()
    table = coalescer.table(_TARGET)
    assert table.insert([b"1", b"x", b"y"])
    assert not table.insert([b"1", b"x", b"y"])
    assert table.insert([b"2", b"x", b"y"])
    assert not table.update([b"2", None, None], True, [b"1", b"x", UNCHANGED])


def test_keyless_table_keeps_the_order_of_the_log() -> None:
    target = make_target(key=(), identity="f")
    coalescer = Coalescer()
    table = coalescer.table(target)
    row: Row = [b"1", b"x", b"y"]
    table.insert(row)
    table.insert(row)
    table.delete(row)
    table.update(row, False, [b"1", b"z", UNCHANGED])
    table.insert(row)
    (step,) = coalescer.take()
    assert isinstance(step, Rows)
    changes = step.tables[0]
    assert isinstance(changes, OrderedChanges)
    kinds = [type(operation).__name__ for operation in changes.operations]
    assert kinds == ["InsertRun", "DeleteOne", "UpdateOne", "InsertRun"]
    assert changes.operations[2].new == [b"1", b"z", b"y"]  # type: ignore[union-attr]
    assert coalescer.net == 5


def test_a_table_made_anew_begins_a_new_step() -> None:
    coalescer = Coalescer()
    coalescer.table(make_target()).insert([b"1", b"x", b"y"])
    coalescer.table(make_target()).insert([b"1", b"x", b"y"])
    assert len(coalescer.take()) == 2


def test_truncate_stands_between_what_came_before_and_after() -> None:
    coalescer = Coalescer()
    coalescer.table(_TARGET).insert([b"1", b"x", b"y"])
    coalescer.truncate([_TARGET], True)
    coalescer.table(_TARGET).insert([b"1", b"x", b"y"])
    first, second, third = coalescer.take()
    assert isinstance(first, Rows)
    assert second == Truncation((_TARGET,), True)
    assert isinstance(third, Rows)
