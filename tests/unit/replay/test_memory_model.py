"""Whatever the batches, wherever persistence stands: memory holds what the log says, at the LSN it names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from logship.change import UNCHANGED, Row
from logship.replay.batch import Truncation
from logship.replay.coalesce import Coalescer
from logship.replay.memory.memory import Memory
from logship.replay.memory.resident import Residence
from tests.unit.replay.memory_model import (
    FLOAT8,
    INT4,
    MONEY,
    NUMERIC,
    TEXT,
    TIMESTAMP,
    ModelPersistence,
    Rows,
    apply,
    batch,
    contents,
    memory_of,
    ordered,
    target,
)  # fmt: skip

KEYED = target("keyed", ("id", INT4), ("note", TEXT), ("amount", NUMERIC, MONEY), ("at", TIMESTAMP))
LOOSE = target("loose", ("a", TEXT), ("b", FLOAT8), key=())

_notes = st.sampled_from([None, b"", b"x", 'ü,"\n'.encode(), b"y" * 40])
_amounts = st.sampled_from([None, b"0.00", b"-0.05", b"12.50", b"NaN"])
_times = st.sampled_from(
    [None, b"2020-02-29 12:00:00.5", b"infinity", b"2020-02-29 12:00:00"]
) | st.sampled_from([b"0044-03-15 00:00:00 BC"])
_ids = st.integers(0, 5).map(lambda number: b"%d" % number)
_texts = st.sampled_from([None, b"a", b""])
_floats = st.sampled_from([None, b"0", b"-0", b"NaN", b"1e+15", b"0.1"])


@dataclass
class World:
    """The primary: changes its rows one by one and says what pgoutput would."""

    rows: Rows = field(default_factory=lambda: {"keyed": [], "loose": []})
    coalescer: Coalescer = field(default_factory=Coalescer)

    def keyed(self, row_id: bytes) -> Row | None:
        return next((row for row in self.rows["keyed"] if row[0] == row_id), None)

    def say(self, change: Callable[[Coalescer], object]) -> None:
        if change(self.coalescer) is False:
            self.coalescer.close_step()
            assert change(self.coalescer) is not False


def change(world: World, draw: st.DrawFn) -> None:
    kind = draw(
        st.sampled_from(
            ["put", "put", "put", "move", "delete", "loose", "loose", "unloose", "reloose", "empty"]
        )
    )
    if kind == "put":
        row_id, known = (row_id := draw(_ids)), world.keyed(row_id)
        new: Row = [row_id, draw(_notes), draw(_amounts), draw(_times)]
        if known is None:
            world.rows["keyed"].append(new)
            world.say(lambda c: c.table(KEYED).insert(list(new)))
        else:
            told = [new[0], UNCHANGED if draw(st.booleans()) else new[1], new[2], new[3]]
            world.rows["keyed"].remove(known)
            world.rows["keyed"].append([known[1] if told[1] is UNCHANGED else told[1], *new[2:]])
            world.rows["keyed"][-1].insert(0, row_id)
            world.say(lambda c: c.table(KEYED).update(None, False, list(told)))
    elif kind == "move":
        old, new_id = world.keyed(draw(_ids)), draw(_ids)
        if old is not None and world.keyed(new_id) is None:
            identity: Row = [old[0], None, None, None]
            moved: Row = [new_id, UNCHANGED, *old[2:]]
            world.rows["keyed"].remove(old)
            world.rows["keyed"].append([new_id, *old[1:]])
            world.say(lambda c: c.table(KEYED).update(identity, True, list(moved)))
    elif kind == "delete":
        gone = world.keyed(draw(_ids))
        if gone is not None:
            world.rows["keyed"].remove(gone)
            world.say(lambda c: c.table(KEYED).delete([gone[0], None, None, None]))
    elif kind == "loose":
        loose: Row = [draw(_texts), draw(_floats)]
        world.rows["loose"].append(loose)
        world.say(lambda c: c.table(LOOSE).insert(list(loose)))
    elif kind in ("unloose", "reloose") and world.rows["loose"]:
        taken = draw(st.sampled_from(world.rows["loose"]))
        world.rows["loose"].remove(taken)
        if kind == "unloose":
            world.say(lambda c: c.table(LOOSE).delete(list(taken)))
        else:
            other: Row = [draw(_texts), draw(_floats)]
            world.rows["loose"].append(other)
            world.say(lambda c: c.table(LOOSE).update(list(taken), False, list(other)))
    elif kind == "empty":
        which = draw(st.sampled_from([(KEYED,), (LOOSE,), (KEYED, LOOSE)]))
        for one in which:
            world.rows[one.name] = []
        world.say(lambda c: c.truncate(which, False))


def judge(memory: Memory, persistence: ModelPersistence) -> None:
    for state in memory.objects():
        if state.residence is Residence.RESIDENT:
            rows, lsn = contents(memory, state.relname)
            assert rows == ordered(persistence.history[lsn][state.relname])
            assert state.rows == len(rows)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(st.data())
def test_memory_holds_what_the_log_says(data: st.DataObject) -> None:
    world = World()
    draw = data.draw
    persistence = ModelPersistence(world.rows)
    memory = memory_of(persistence)
    told = []
    lsn = 1
    for _ in range(draw(st.integers(1, 7))):
        before = lsn
        lsn += 10
        pieces = []
        for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
            for _ in range(draw(st.integers(0, 5))):
                change(world, draw)
            pieces.append(world.coalescer.take())
        told.append((before, lsn, pieces))
        persistence.reach(lsn, world.rows)
    try:
        for before, end, pieces in told:
            # Persistence is behind, level or ahead of memory, wherever it likes.
            ahead = draw(st.sampled_from([0, 0, 1, 2])) * 10
            persistence.lsn = max(persistence.lsn, min(lsn, before + ahead))
            if draw(st.booleans()) and len(pieces) > 1:
                apply(memory, batch(before, pieces[0], complete=False))
                memory.abandon()
            if draw(st.integers(0, 9)) == 0:
                for name in ("keyed", "loose"):
                    memory.evict("public", name)
            for steps in pieces[:-1]:
                apply(memory, batch(before, steps, complete=False))
                judge(memory, persistence)
                assert memory.memory_lsn == before
            apply(memory, batch(end, pieces[-1]))
            assert memory.memory_lsn == end
            judge(memory, persistence)
        changed = [step for _, _, pieces in told for steps in pieces for step in steps]
        if all(isinstance(step, Truncation) for step in changed):
            assert not persistence.loads
    finally:
        memory.close()
