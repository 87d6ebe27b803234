"""Two batches meet exactly when they touch a row under the same key; what may go beside others, and what not."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias

import pytest
from hypothesis import HealthCheck, given, settings
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
Change: TypeAlias = tuple[str, SecondaryTarget, int, int]
change = st.tuples(
    st.sampled_from("DUMI"), st.sampled_from([ONE, TWO]), st.integers(0, 24), st.integers(0, 24)
)  # what happens, where, the row that is found, the row that is left; five values in each column


def row(number: int) -> list[bytes]:
    return [b"%d" % (number // 5), b"%d" % (number % 5), b"v"]


def net(what: str, of: SecondaryTarget, found: int, left: int) -> NetChanges:
    key = row(found)[: len(of.key)]
    match what:
        case "D":
            return NetChanges.of(of, deletes=[key])
        case "U":
            return NetChanges.of(of, updates=[((0, 1, 2), [key], [row(found)])])
        case "M":
            return NetChanges.of(of, moves=[(key, row(left))])
        case _:
            return NetChanges.of(of, inserts=[row(left)])


def touched(of: Batch) -> set[tuple[int, tuple[object, ...]]]:
    """Every key that a row is found by or left under, one by one."""
    found: set[tuple[int, tuple[object, ...]]] = set()
    for step in of.steps:
        assert isinstance(step, Rows)
        for table in step.tables:
            assert isinstance(table, NetChanges)
            oid, key = table.target.oid, table.target.key
            keys = [
                *table.deletes,
                *table.move_keys,
                *(each for group in table.updates for each in group.keys),
            ]
            found |= {(oid, tuple(each)) for each in keys}
            found |= {(oid, tuple(each[i] for i in key)) for each in [*table.move_rows, *table.inserts]}
    return found


# Each change in a step of its own: what it is to coalesce is no matter here.
batches = st.lists(change, max_size=6).map(lambda changes: batch(*(Rows([net(*each)]) for each in changes)))


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
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
