"""Two batches meet exactly when they touch a row under the same key; what may go beside others, and what not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logship.change import Column, Relation
from logship.lsn import Lsn
from logship.replay.batch import Batch, NetChanges, OrderedChanges, PassedOver, Rows, Step, Truncation
from logship.replay.ddl.message import SequenceState
from logship.replay.footprint import Footprint, plain
from logship.replay.shape import SecondaryColumn, SecondaryTarget


def target(
    oid: int = 1, *, key: tuple[int, ...] = (0,), runs_nothing: bool = True, indexed: bool = True
) -> SecondaryTarget:
    columns = tuple(Column(name, 23, -1, place in key) for place, name in enumerate("abc"))
    return SecondaryTarget(
        relation=Relation(oid, "public", f"t{oid}", "d", columns), oid=oid, kind="r", owner_oid=10, owner="o",
        columns=tuple(
            SecondaryColumn(column.name, "int4", 23, -1, not_null=True, identity="", generated="", has_equality=True)
            for column in columns
        ),
        key=key, key_indexed=indexed, runs_nothing=runs_nothing,
    )  # fmt: skip


def batch(*steps: Step, complete: bool = True, sequences: tuple[SequenceState, ...] = ()) -> Batch:
    return Batch(Lsn(1), 1, complete, steps, 1, 1, 1, 1, (), {}, frozenset(), sequences)


ONE, TWO = target(1), target(2, key=(0, 1))
cell = st.sampled_from([b"1", b"2", b"3", b"4", b"5", b"6"])
row = st.tuples(cell, cell, cell)


@st.composite
def changes(draw: st.DrawFn) -> NetChanges:
    of = draw(st.sampled_from([ONE, TWO]))
    width = len(of.key)
    key = st.tuples(*[cell] * width)
    some = st.lists(key, max_size=2)
    return NetChanges.of(
        of,
        deletes=draw(some),
        updates=[((0, 1, 2), [(one[:width]) for one in rows], rows) for rows in [draw(st.lists(row, max_size=2))]],
        moves=draw(st.lists(st.tuples(key, row), max_size=2)),
        inserts=draw(st.lists(row, max_size=2)),
    )  # fmt: skip


def touched(of: Batch) -> set[tuple[int, tuple[object, ...]]]:
    """Every key that a row is found by or left under, one by one."""
    found: set[tuple[int, tuple[object, ...]]] = set()
    for step in of.steps:
        assert isinstance(step, Rows)
        for net in step.tables:
            assert isinstance(net, NetChanges)
            oid, key = net.target.oid, net.target.key
            keys = [*net.deletes, *net.move_keys, *(key for group in net.updates for key in group.keys)]
            found |= {(oid, tuple(each)) for each in keys}
            found |= {(oid, tuple(each[i] for i in key)) for each in [*net.move_rows, *net.inserts]}
    return found


batches = st.lists(st.lists(changes(), max_size=2), max_size=2).map(
    lambda steps: batch(*(Rows(list(tables)) for tables in steps))
)


@settings(max_examples=120)
@given(batches, batches)
def test_they_meet_where_a_row_is_the_same(one: Batch, other: Batch) -> None:
    expected = bool(touched(one) & touched(other))
    assert Footprint.of(one).meets(Footprint.of(other)) == expected
    assert Footprint.of(other).meets(Footprint.of(one)) == expected


def rows_of(of: SecondaryTarget) -> Rows:
    return Rows([NetChanges.of(of, inserts=[(b"1", b"2", b"3")])])


def test_rows_found_by_an_index_are_plain() -> None:
    assert plain(batch(rows_of(ONE), rows_of(TWO)))


@pytest.mark.parametrize(
    "other",
    [
        batch(Truncation((ONE,), restart_identity=False)),
        batch(rows_of(ONE), Rows([OrderedChanges(replace(ONE, key=()))])),
        batch(rows_of(target(3, runs_nothing=False))),
        batch(rows_of(target(3, indexed=False))),
        batch(rows_of(ONE), complete=False),
        batch(rows_of(ONE), sequences=(None,)),  # type: ignore[arg-type]
        replace(batch(rows_of(ONE)), passed_over=(PassedOver(Lsn(1), 1),)),
        replace(batch(rows_of(ONE)), alone=True),
        batch(rows_of(target(9))),
    ],
    ids=[
        "truncate", "without-key", "runs-users-code", "without-index", "piece", "sequences", "passed-over",
        "to-stay-alone", "known-to-pass-values",
    ],
)  # fmt: skip
def test_everything_else_goes_alone(other: Batch) -> None:
    assert not plain(other, alone={9})
