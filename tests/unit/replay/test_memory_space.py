"""Space that merges leave, and segments that readers join with a part of the delta."""

from __future__ import annotations

import duckdb
import pytest

from logship.change import Row
from logship.lsn import Lsn
from logship.replay.memory import merge as merging
from logship.replay.memory.main import Writing
from logship.replay.memory.merge import Merger
from logship.replay.memory.resident import Residence
from logship.replay.memory.store import Store
from tests.unit.replay.memory_objects import ONE, SMALL, Objects, filled, gone, objects, sizes


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
        filled(world, 40)
        merger = Merger(store, lambda: 0.0)
        for numbers, given in ((range(0, 40, 2), 2), ((1, 3), 3)):  # only the first makes a segment wasteful
            gone(world, *numbers)
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


def _apart(world: Objects) -> list[tuple[int, int, int]]:
    """How many segments are joined with which keys of the delta."""
    return [(one.span.low, one.span.high, len(one.numbers)) for one in world.known["one"].parts.apart]


APART = {**SMALL, "SEGMENT_ROWS": 10, "DELTA_ROWS": 100, "_APART_ROWS": 2, "_TOGETHER_ROWS": 1}


def test_segments_are_joined_with_the_entries_that_their_keys_may_have() -> None:
    with sizes(**APART), objects(ONE) as world:
        filled(world, 48)
        assert _apart(world) == []
        gone(world, 5)
        assert _apart(world) == []
        gone(world, 15, 25, 35, 45)  # each in another segment, one in the last
        assert _apart(world) == [(0, 9, 1), (10, 19, 1), (20, 29, 1), (30, 39, 1)]
        reader = world.store.reader()
        plan = reader.execute("explain select count(*) from public.one").fetchall()[0][1]
        assert plan.count("ANTI") == 5
        reader.close()
        world.judge()
        world.rows["one"].append([b"100", b"beyond", None])  # the last segment's keys are any
        world.say(lambda c: c.table(ONE).insert([b"100", b"beyond", None]))
        world.replay(world.coalescer.take())
        gone(world, 100, 47)
        world.judge()
        world.write("one", Writing.merge_all)
        world.judge()


def test_segments_share_a_join_where_they_are_many() -> None:
    with sizes(**APART, _MOST_APART=2), objects(ONE) as world:
        filled(world, 58)
        gone(world, 5, 15, 25)
        assert _apart(world) == [(0, 29, 3), (30, 49, 2)]
        world.judge()


def test_a_segment_of_keys_from_everywhere_is_joined_with_all_entries() -> None:
    with sizes(**APART, _NARROW=1), objects(ONE) as world:
        filled(world, 38)
        gone(world, *range(0, 30, 3))
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
        gone(world, 4, 5, 13, 202)
        numbers = {number for one in world.known["one"].parts.apart for number in one.numbers}
        spans = {one.number: one.span for one in world.known["one"].parts.segments}
        assert numbers
        assert set(spans) - numbers
        assert all(span is not None and span.narrow for at, span in spans.items() if at in numbers)
        world.judge()


def test_keys_that_became_text_lie_in_no_span() -> None:
    with sizes(**APART), objects(ONE) as world:
        filled(world, 38)
        world.convert("one", ["id"])
        gone(world, 5, 15, 25)
        reader = world.store.reader()
        plan = reader.execute("explain select count(*) from public.one").fetchall()[0][1]
        assert plan.count("ANTI") == 1
        reader.close()
        world.judge()
