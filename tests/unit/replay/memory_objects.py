"""Objects in memory beside plain lists of the rows that they should have, and small sizes for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from logship.change import Row
from logship.lsn import Lsn
from logship.replay.batch import Step
from logship.replay.coalesce import Coalescer
from logship.replay.memory import parts as sizing
from logship.replay.memory.main import Writing
from logship.replay.memory.replay import Misses, OpenTransaction, carry_out, prepare
from logship.replay.memory.resident import MemoryObject
from logship.replay.memory.store import Store
from logship.replay.memory.table import table_of
from logship.replay.target import Target
from tests.unit.replay.memory_model import INT4, INT8, MONEY, NUMERIC, TEXT, UUID, batch, ordered, target

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


def filled(world: Objects, count: int) -> None:
    """``ONE`` with rows 0 to ``count``, all in main."""
    for number in range(count):
        row: Row = [b"%d" % number, b"x", None]
        world.rows["one"].append(row)
        world.say(lambda c, row=row: c.table(ONE).insert(list(row)))  # type: ignore[misc]
    world.replay(world.coalescer.take())


def gone(world: Objects, *numbers: int) -> None:
    for number in numbers:
        world.say(lambda c, n=number: c.table(ONE).delete([b"%d" % n, None, None]))  # type: ignore[misc]
    world.rows["one"] = [row for row in world.rows["one"] if row[0] not in [b"%d" % n for n in numbers]]
    world.replay(world.coalescer.take())
