"""Whatever the batches, and whenever merges come between them: main and delta hold what a plain list of rows holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from logship.change import UNCHANGED, Row
from logship.lsn import Lsn
from logship.replay.batch import Step
from logship.replay.coalesce import Coalescer
from logship.replay.memory import merge as merging
from logship.replay.memory import parts as sizing
from logship.replay.memory.keys import FEW
from logship.replay.memory.main import MemoryDiffers, Writing
from logship.replay.memory.merge import Merger
from logship.replay.memory.replay import Misses, OpenTransaction, carry_out, prepare
from logship.replay.memory.resident import MemoryObject, Residence
from logship.replay.memory.store import Store
from logship.replay.memory.table import table_of
from logship.replay.target import Target
from tests.unit.replay.memory_model import INT4, INT8, MONEY, NUMERIC, TEXT, UUID, batch, ordered, target

Draw: TypeAlias = Callable[..., Any]  # of Hypothesis, by whichever name

ONE = target("one", ("id", INT4), ("note", TEXT), ("amount", NUMERIC, MONEY))
TWO = target("two", ("n", INT8), ("label", TEXT), ("note", TEXT), key=(0, 1))
WORD = target("word", ("label", TEXT), ("n", INT8), ("note", TEXT))
LOOSE = target("loose", ("label", TEXT), ("n", INT8), key=())
MARK = target("mark", ("id", UUID), ("n", INT8), ("note", TEXT))
COST = target(
    "cost", ("amount", NUMERIC, MONEY), ("n", INT8), ("note", TEXT)
)  # its keys are known to DuckDB alone
KEYED = (ONE, TWO, WORD, MARK, COST)

# Small enough for a handful of rows to fill segments and deltas.
SMALL = {"SEGMENT_ROWS": 4, "DELTA_ROWS": 3, "_SMALL_ROWS": 0, "_LOOKED_THROUGH": 1, "_FEW_DEAD": 1}


@contextmanager
def sizes(**given: int) -> Iterator[None]:
    before = {name: getattr(sizing, name) for name in given}
    try:
        for name, value in given.items():
            setattr(sizing, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(sizing, name, value)


@dataclass
class Objects:
    """Objects in memory, shown to readers, and the rows that they should have."""

    store: Store
    known: dict[str, MemoryObject] = field(default_factory=dict)
    rows: dict[str, list[Row]] = field(default_factory=dict)
    coalescer: Coalescer = field(default_factory=Coalescer)

    def make(self, *targets: Target) -> None:
        for one in targets:
            known = MemoryObject(one)
            known.table = table_of(one, frozenset())
            writing = Writing(self.store, known.held, known.parts, Lsn(1))
            writing.create()
            known.lay_out(replace(writing.parts, shown=True))
            self.store.execute(known.held.show(known.parts))
            self.known[one.name], self.rows[one.name] = known, []

    def say(self, change: Callable[[Coalescer], object]) -> None:
        if change(self.coalescer) is False:
            self.coalescer.close_step()
            assert change(self.coalescer) is not False

    def replay(self, steps: Sequence[Step], *, commit: bool = True) -> None:
        opened = OpenTransaction()
        while True:
            try:
                told = batch(2, steps)
                prepared = prepare(told, self.store, lambda name: self.known.get(name[1]))
                break
            except Misses as misses:
                for (_, name), columns in misses.columns.items():
                    self.convert(name, [column.name for column in columns])
        self.store.begin()
        try:
            carry_out(prepared, opened, self.store, Lsn(2))
        except BaseException:
            self.store.rollback()
            raise
        if not commit:
            self.store.rollback()
            return
        self.store.commit()
        opened.add(prepared)
        for (_, name), change in opened.changes.items():
            self.known[name].rows += change.rows
            assert change.parts is not None
            self.known[name].lay_out(change.parts)

    def convert(self, name: str, columns: Sequence[str]) -> None:
        known = self.known[name]
        going = [column for column in known.held.columns if column.name in columns]
        Writing(self.store, known.held, known.parts, Lsn(2)).to_text(going)
        known.as_text |= {column.name for column in going}
        known.table = table_of(known.target, known.as_text)
        self.store.execute(known.table.show(known.parts))

    def write(self, name: str, work: Callable[[Writing], object]) -> None:
        """``work`` in a transaction of its own."""
        known = self.known[name]
        self.store.begin()
        writing = Writing(self.store, known.held, known.parts, Lsn(2))
        try:
            work(writing)
        except BaseException:
            self.store.rollback()
            raise
        self.store.commit()
        known.lay_out(writing.parts)

    def judge(self) -> None:
        for name, known in self.known.items():
            cells = ", ".join(
                f'{column.type.text_of(f""""{column.name}" """)}' for column in known.held.columns
            )
            reader = self.store.reader()
            found = reader.execute(f"select {cells} from {known.held.qualified}").fetchall()
            reader.close()
            texts = [[None if cell is None else cell.encode() for cell in row] for row in found]
            assert ordered(texts) == ordered(self.rows[name])
            assert known.rows == len(self.rows[name])
            assert known.size_bytes >= 0
            in_main = self.store.count(f"select count(*) from ({known.held.main(known.parts)})")
            assert sum(segment.rows for segment in known.parts.segments) == in_main


@contextmanager
def objects(*targets: Target) -> Iterator[Objects]:
    store = Store(limit_bytes=1 << 28, spill_directory=None, threads=1, start_lsn=Lsn(1))
    try:
        made = Objects(store)
        made.make(*targets)
        yield made
    finally:
        store.close()


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


def _filled(world: Objects, count: int) -> None:
    """``ONE`` with rows 0 to ``count``, all in main."""
    for number in range(count):
        row: Row = [b"%d" % number, b"x", None]
        world.rows["one"].append(row)
        world.say(lambda c, row=row: c.table(ONE).insert(list(row)))  # type: ignore[misc]
    world.replay(world.coalescer.take())


def _gone(world: Objects, *numbers: int) -> None:
    for number in numbers:
        world.say(lambda c, n=number: c.table(ONE).delete([b"%d" % n, None, None]))  # type: ignore[misc]
    world.rows["one"] = [row for row in world.rows["one"] if row[0] not in [b"%d" % n for n in numbers]]
    world.replay(world.coalescer.take())


def test_a_row_that_main_does_not_have_is_found_out_when_the_delta_is_merged() -> None:
    with sizes(**SMALL), objects(ONE) as world:
        _filled(world, 9)
        _gone(world, 3, 77)
        with pytest.raises(MemoryDiffers) as caught:
            world.write("one", Writing.merge_all)
        assert (caught.value.expected, caught.value.found) == (2, 1)


def test_a_change_that_contradicts_the_delta_is_found_out_at_once() -> None:
    with sizes(**SMALL), objects(ONE) as world:
        _filled(world, 9)
        _gone(world, 3)
        world.judge()
        with pytest.raises(MemoryDiffers):
            _gone(world, 3)


def test_what_a_rolled_back_batch_told_of_keys_is_forgotten() -> None:
    with sizes(**SMALL), objects(ONE) as world:
        _filled(world, 9)
        _gone(world, 3)
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
        _filled(world, FEW + 10)
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
        _filled(world, 130)
        assert [segment.rows for segment in world.known["one"].parts.segments] == [40, 40, 50]
        world.judge()


def _apart(world: Objects) -> list[tuple[int, int, int]]:
    """How many segments are joined with which keys of the delta."""
    return [(one.span.low, one.span.high, len(one.numbers)) for one in world.known["one"].parts.apart]


APART = {**SMALL, "SEGMENT_ROWS": 10, "DELTA_ROWS": 100, "_APART_ROWS": 2, "_TOGETHER_ROWS": 1}


def test_segments_are_joined_with_the_entries_that_their_keys_may_have() -> None:
    with sizes(**APART), objects(ONE) as world:
        _filled(world, 48)
        assert _apart(world) == []
        _gone(world, 5)
        assert _apart(world) == []
        _gone(world, 15, 25, 35, 45)  # each in another segment, one in the last
        assert _apart(world) == [(0, 9, 1), (10, 19, 1), (20, 29, 1), (30, 39, 1)]
        reader = world.store.reader()
        plan = reader.execute("explain select count(*) from public.one").fetchall()[0][1]
        assert plan.count("ANTI") == 5
        reader.close()
        world.judge()
        world.rows["one"].append([b"100", b"beyond", None])  # the last segment's keys are any
        world.say(lambda c: c.table(ONE).insert([b"100", b"beyond", None]))
        world.replay(world.coalescer.take())
        _gone(world, 100, 47)
        world.judge()
        world.write("one", Writing.merge_all)
        world.judge()


def test_segments_share_a_join_where_they_are_many() -> None:
    with sizes(**APART, _MOST_APART=2), objects(ONE) as world:
        _filled(world, 58)
        _gone(world, 5, 15, 25)
        assert _apart(world) == [(0, 29, 3), (30, 49, 2)]
        world.judge()


def test_a_segment_of_keys_from_everywhere_is_joined_with_all_entries() -> None:
    with sizes(**APART, _NARROW=1), objects(ONE) as world:
        _filled(world, 38)
        _gone(world, *range(0, 30, 3))
        for number in (1, 5, 13, 17, 25, 29, 37):
            row: Row = [b"%d" % number, b"changed", None]
            world.rows["one"] = [row, *(one for one in world.rows["one"] if one[0] != row[0])]
            world.say(lambda c, row=row: c.table(ONE).update(None, False, row))  # type: ignore[misc]
        world.replay(world.coalescer.take())
        world.write("one", Writing.merge_all)  # those stand behind main now
        for number in range(200, 210):
            new: Row = [b"%d" % number, b"new", None]
            world.rows["one"].append(new)
            world.say(lambda c, row=new: c.table(ONE).insert(list(row)))  # type: ignore[misc]
        world.replay(world.coalescer.take())
        _gone(world, 4, 5, 13, 202)
        numbers = {number for one in world.known["one"].parts.apart for number in one.numbers}
        spans = {one.number: one.span for one in world.known["one"].parts.segments}
        assert numbers
        assert set(spans) - numbers
        assert all(span is not None and span.narrow for at, span in spans.items() if at in numbers)
        world.judge()


def test_keys_that_became_text_lie_in_no_span() -> None:
    with sizes(**APART), objects(ONE) as world:
        _filled(world, 38)
        world.convert("one", ["id"])
        _gone(world, 5, 15, 25)
        reader = world.store.reader()
        plan = reader.execute("explain select count(*) from public.one").fetchall()[0][1]
        assert plan.count("ANTI") == 1
        reader.close()
        world.judge()


def test_new_rows_go_behind_main_and_not_through_the_delta() -> None:
    with sizes(**SMALL), objects(ONE) as world:
        _filled(world, 9)
        _gone(world, 3)
        before = world.known["one"].parts.delta_rows
        world.rows["one"].append([b"100", b"new", None])
        world.say(lambda c: c.table(ONE).insert([b"100", b"new", None]))
        world.replay(world.coalescer.take())
        assert world.known["one"].parts.delta_rows == before
        world.judge()


def test_readers_see_the_same_rows_while_a_merge_is_half_done() -> None:
    with sizes(**SMALL), objects(ONE) as world:
        _filled(world, 9)
        _gone(world, 1, 5)
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
        _filled(world, 40)
        full = world.known["one"].size_bytes
        _gone(world, *range(0, 40, 2))
        world.write("one", Writing.merge_all)
        assert world.known["one"].size_bytes >= full  # nobody has it back yet
        segment = world.known["one"].parts.wasteful
        assert segment is not None
        world.write("one", lambda writing: writing.rewrite(segment))
        assert world.known["one"].size_bytes <= full * 0.6
        assert world.known["one"].parts.wasteful is None
        world.judge()


class _Giving(Store):
    given = 0

    def give_back(self) -> None:
        self.given += 1
        super().give_back()


def test_the_system_gets_what_a_merge_and_a_rewritten_segment_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging, "_KEPT_SHARE", 1 << 60)
    store = _Giving(limit_bytes=1 << 28, spill_directory=None, threads=1, start_lsn=Lsn(1))
    with sizes(**{**SMALL, "SEGMENT_ROWS": 100}):
        world = Objects(store)
        world.make(ONE)
        known = world.known["one"]
        known.residence = Residence.RESIDENT
        _filled(world, 40)
        merger = Merger(store, lambda: 0.0)
        for numbers, given in ((range(0, 40, 2), 2), ((1, 3), 3)):  # only the first makes a segment wasteful
            _gone(world, *numbers)
            while known.parts.delta_rows:
                merger.merge(known, Lsn(2))
            while merger.step([known], Lsn(2)):
                pass
            assert store.given == given
            assert not merger.pending([known])
        world.judge()
    store.close()


def test_giving_space_back_changes_no_setting_and_needs_no_end_of_a_transaction() -> None:
    with objects(ONE) as world:
        reader = world.store.reader()
        limit = "select current_setting('memory_limit')"
        before = reader.execute(limit).fetchall()
        world.store.begin()
        world.store.give_back()
        world.store.rollback()
        world.store.give_back()
        assert reader.execute(limit).fetchall() == before
        with pytest.raises(duckdb.InvalidInputException, match="locked"):
            reader.execute("set threads = 7")
        reader.close()


def test_an_object_is_not_said_to_grow_when_its_rows_are_changed_again_and_again() -> None:
    with sizes(**{**SMALL, "SEGMENT_ROWS": 100}), objects(ONE) as world:
        _filled(world, 40)
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
        _filled(world, 9)
        merger = Merger(world.store, lambda: now[0])
        _gone(world, 4)
        assert merger.pending([known])
        assert not merger.step([known], Lsn(2))
        now[0] = sizing.IDLE_DELTA_S
        while merger.step([known], Lsn(2)):
            pass
        assert known.parts.delta_rows == 0
        assert known.merges == 1
        assert not merger.pending([known])
        world.judge()
