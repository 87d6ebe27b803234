"""Whatever the batches, and whenever merges come between them: main and delta hold what a plain list of rows holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from logship.change import UNCHANGED, Row
from logship.lsn import Lsn
from logship.replay.memory import parts as sizing
from logship.replay.memory.keys import FEW
from logship.replay.memory.main import MemoryDiffers, Writing
from logship.replay.memory.merge import Merger
from logship.replay.memory.resident import Residence
from logship.replay.target import Target
from tests.unit.replay.memory_objects import (
    COST,
    KEYED,
    LOOSE,
    MARK,
    ONE,
    SMALL,
    TWO,
    WORD,
    Objects,
    filled,
    gone,
    objects,
    sizes,
)

Draw: TypeAlias = Callable[..., Any]  # of Hypothesis, by whichever name

_numbers = st.integers(0, 6).map(lambda number: b"%d" % number)
_labels = st.sampled_from([b"", b"a", b"b", "ü\\,'".encode()])
_notes = st.sampled_from([None, b"", b"x", b"y" * 30])
_marks = st.sampled_from([b"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1%d" % number for number in range(5)])
_costs = st.sampled_from([b"%d.50" % number for number in range(-2, 3)])
_amounts = st.sampled_from([None, b"0.00", b"-1.50", b"1.50"])


def _row(draw: Draw, of: Target) -> Row:
    if of is ONE:
        return [draw(_numbers), draw(_notes), draw(_amounts)]
    if of is TWO:
        return [draw(_numbers), draw(_labels), draw(_notes)]
    if of in (MARK, COST):
        return [draw(_marks if of is MARK else _costs), draw(_numbers), draw(_notes)]
    return [draw(_labels), draw(_numbers), draw(_notes)] if of is WORD else [draw(_labels), draw(_numbers)]


def _change(world: Objects, draw: Draw) -> None:
    of = draw(st.sampled_from([*KEYED, *KEYED, LOOSE]))
    rows = world.rows[of.name]
    what = draw(st.sampled_from(["put", "put", "put", "move", "delete", "delete", "empty"]))
    new = _row(draw, of)
    if what == "empty":
        if draw(st.integers(0, 3)) == 0:
            rows.clear()
            world.say(lambda c: c.truncate([of], False))
    elif of is LOOSE:
        if what == "put" or not rows:
            rows.append(new)
            world.say(lambda c: c.table(of).insert(list(new)))
        else:
            old = draw(st.sampled_from(rows))
            rows.remove(old)
            if what == "move":
                rows.append(new)
                world.say(lambda c: c.table(of).update(list(old), False, list(new)))
            else:
                world.say(lambda c: c.table(of).delete(list(old)))
    else:
        key = of.key_of(new)
        there = next((row for row in rows if of.key_of(row) == key), None)
        if what == "put" and there is None:
            rows.append(new)
            world.say(lambda c: c.table(of).insert(list(new)))
        elif what == "put" and there is not None:
            _update(world, draw, of, there, new, moved=False)
        elif what == "move" and there is None and rows:
            _update(world, draw, of, draw(st.sampled_from(rows)), new, moved=True)
        elif what == "delete" and there is not None:
            rows.remove(there)
            world.say(lambda c: c.table(of).delete(list(there)))


def _update(world: Objects, draw: Draw, of: Target, old: Row, new: Row, *, moved: bool) -> None:
    told = list(new)
    if draw(st.booleans()):
        told[-1] = UNCHANGED
    rows = world.rows[of.name]
    rows.remove(old)
    rows.append([before if cell is UNCHANGED else cell for before, cell in zip(old, told, strict=True)])
    identity: Row = [cell if index in of.key else None for index, cell in enumerate(old)]
    world.say(lambda c: c.table(of).update(identity if moved else None, moved, list(told)))


def _merge(world: Objects, draw: Draw) -> None:
    name = draw(st.sampled_from([one.name for one in KEYED]))
    parts = world.known[name].parts
    if parts.delta_rows and draw(st.booleans()):
        whole = draw(st.integers(0, 4)) == 0
        world.write(name, Writing.merge_all if whole else Writing.merge_some)
    elif parts.wasteful is not None:
        segment = parts.wasteful
        world.write(name, lambda writing: writing.rewrite(segment))


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(st.data())
def test_any_batches_and_merges_equal_plain_rows(data: st.DataObject) -> None:
    draw = data.draw
    small = {
        **SMALL, "_LOOKED_THROUGH": draw(st.integers(0, 1)),
        "_APART_ROWS": draw(st.integers(1, 4)), "_MOST_APART": draw(st.integers(1, 4)),
        "_TOGETHER_ROWS": 1, "_NARROW": draw(st.integers(1, 2)),
    }  # fmt: skip
    with sizes(**small), objects(*KEYED, LOOSE) as world:
        for _ in range(draw(st.integers(1, 12))):
            for _ in range(draw(st.integers(0, 4))):
                _merge(world, draw)
            before = {name: list(rows) for name, rows in world.rows.items()}
            for _ in range(draw(st.integers(1, 8))):
                _change(world, draw)
            steps = world.coalescer.take()
            commit = draw(st.integers(0, 5)) > 0
            world.replay(steps, commit=commit)
            if not commit:
                world.rows = before
            if draw(st.integers(0, 9)) == 0:
                name = draw(st.sampled_from(["one", "two"]))
                column = {"one": "amount", "two": "n"}[name]
                if column not in world.known[name].as_text:
                    world.convert(name, [column])
            world.judge()
        for one in KEYED:
            world.write(one.name, Writing.merge_all)
            assert world.known[one.name].parts.delta_rows == 0
        world.judge()


def test_a_row_that_main_does_not_have_is_found_out_when_the_delta_is_merged() -> None:
    with sizes(**SMALL), objects(ONE) as world:
        filled(world, 9)
        gone(world, 3, 77)
        with pytest.raises(MemoryDiffers) as caught:
            world.write("one", Writing.merge_all)
        assert (caught.value.expected, caught.value.found) == (2, 1)


def test_a_change_that_contradicts_the_delta_is_found_out_at_once() -> None:
    with sizes(**SMALL), objects(ONE) as world:
        filled(world, 9)
        gone(world, 3)
        world.judge()
        with pytest.raises(MemoryDiffers):
            gone(world, 3)


def test_what_a_rolled_back_batch_told_of_keys_is_forgotten() -> None:
    with sizes(**SMALL), objects(ONE) as world:
        filled(world, 9)
        gone(world, 3)
        before = list(world.rows["one"])
        world.say(lambda c: c.table(ONE).insert([b"3", b"again", None]))
        world.replay(world.coalescer.take(), commit=False)
        world.rows["one"] = before
        world.judge()
        world.say(lambda c: c.table(ONE).insert([b"3", b"once more", None]))
        world.replay(world.coalescer.take())
        world.rows["one"].append([b"3", b"once more", None])
        world.judge()


def test_more_keys_than_are_listed_are_joined() -> None:
    with sizes(_SMALL_ROWS=0, _LOOKED_THROUGH=0), objects(ONE) as world:
        filled(world, FEW + 10)
        for text in (b"first", b"second"):  # the second finds the first in the delta
            for row in world.rows["one"]:
                row[1] = text
                world.say(lambda c, row=row: c.table(ONE).update(None, False, list(row)))  # type: ignore[misc]
            world.replay(world.coalescer.take())
            world.judge()
        assert world.known["one"].parts.delta_rows == 2 * (FEW + 10)
        world.write("one", Writing.merge_all)
        world.judge()


def test_many_rows_at_a_time_are_cut_into_segments() -> None:
    with sizes(**{**SMALL, "SEGMENT_ROWS": 40}), objects(ONE) as world:
        filled(world, 130)
        assert [segment.rows for segment in world.known["one"].parts.segments] == [40, 40, 50]
        world.judge()


def test_new_rows_go_behind_main_and_not_through_the_delta() -> None:
    with sizes(**SMALL), objects(ONE) as world:
        filled(world, 9)
        gone(world, 3)
        before = world.known["one"].parts.delta_rows
        world.rows["one"].append([b"100", b"new", None])
        world.say(lambda c: c.table(ONE).insert([b"100", b"new", None]))
        world.replay(world.coalescer.take())
        assert world.known["one"].parts.delta_rows == before
        world.judge()


def test_readers_see_the_same_rows_while_a_merge_is_half_done() -> None:
    with sizes(**SMALL), objects(ONE) as world:
        filled(world, 9)
        gone(world, 1, 5)
        before = world.store.reader()
        before.execute("begin transaction read only").fetchall()
        seen = before.execute("select count(*) from public.one").fetchall()
        while not (world.known["one"].parts.merge is None and world.known["one"].parts.delta_rows == 0):
            world.write("one", Writing.merge_some)
            world.judge()
        assert before.execute("select count(*) from public.one").fetchall() == seen
        before.close()


def test_the_space_of_dead_rows_comes_back() -> None:
    with sizes(**{**SMALL, "SEGMENT_ROWS": 100}), objects(ONE) as world:
        filled(world, 40)
        full = world.known["one"].size_bytes
        gone(world, *range(0, 40, 2))
        world.write("one", Writing.merge_all)
        assert world.known["one"].size_bytes >= full  # nobody has it back yet
        segment = world.known["one"].parts.wasteful
        assert segment is not None
        world.write("one", lambda writing: writing.rewrite(segment))
        assert world.known["one"].size_bytes <= full * 0.6
        assert world.known["one"].parts.wasteful is None
        world.judge()


def test_an_object_is_not_said_to_grow_when_its_rows_are_changed_again_and_again() -> None:
    with sizes(**{**SMALL, "SEGMENT_ROWS": 100}), objects(ONE) as world:
        filled(world, 40)
        full = world.known["one"].size_bytes
        for turn in range(12):
            for number in range(turn % 2, 40, 2):
                row = [b"%d" % number, *world.rows["one"][number][1:]]
                world.say(lambda c, row=row: c.table(ONE).update(None, False, row))  # type: ignore[misc]
            world.replay(world.coalescer.take())
            assert world.known["one"].parts.delta_rows
            world.write("one", Writing.merge_all)
            while (segment := world.known["one"].parts.wasteful) is not None:
                world.write("one", lambda writing, segment=segment: writing.rewrite(segment))  # type: ignore[misc]
        assert world.known["one"].size_bytes <= full * 1.5
        world.judge()


def test_what_is_merged_when_nobody_writes_is_merged_after_a_while() -> None:
    now = [0.0]
    with sizes(_SMALL_ROWS=0, _LOOKED_THROUGH=1), objects(ONE) as world:
        known = world.known["one"]
        known.residence = Residence.RESIDENT
        filled(world, 9)
        merger = Merger(world.store, lambda: now[0])
        gone(world, 4)
        assert merger.pending([known])
        assert not merger.step([known], Lsn(2))
        now[0] = sizing.IDLE_DELTA_S
        while merger.step([known], Lsn(2)):
            pass
        assert known.parts.delta_rows == 0
        assert known.merges == 1
        assert not merger.pending([known])
        world.judge()
