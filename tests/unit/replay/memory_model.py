"""A database as plain lists, its history of batches, and persistence that stands anywhere in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from logship.change import Cell, Column, Relation, Row, TypeName
from logship.lsn import Lsn
from logship.replay.batch import Batch, Step
from logship.replay.coalesce import Coalescer
from logship.replay.memory.memory import Memory
from logship.replay.memory.reading import Brought, Ended, Event, Opened, Order, Reading, read
from logship.replay.memory.source import Size
from logship.replay.memory.store import Caster
from logship.replay.target import Target, TargetColumn

INT4, INT8, TEXT, NUMERIC, FLOAT8, TIMESTAMP, UUID, BYTEA = 23, 20, 25, 1700, 701, 1114, 2950, 17
MONEY = (12 << 16 | 2) + 4  # numeric(12,2)

Rows = dict[str, list[Row]]


def target(
    name: str, *columns: tuple[str, int] | tuple[str, int, int], key: tuple[int, ...] = (0,), oid: int = 0
) -> Target:
    shapes = [(column[0], column[1], column[2] if len(column) > 2 else -1) for column in columns]
    relation = Relation(
        oid or sum(name.encode()) + 20_000, "public", name, "d",
        tuple(Column(label, type_oid, typmod, index in key) for index, (label, type_oid, typmod) in enumerate(shapes)),
    )  # fmt: skip
    held = tuple(
        TargetColumn(label, "", type_oid, typmod, False, "", "", True) for label, type_oid, typmod in shapes
    )
    return Target(relation, relation.oid, "r", 10, "owner", held, key)


def batch(end: int, steps: Sequence[Step] = (), *, complete: bool = True) -> Batch:
    return Batch(Lsn(end), 0, complete, tuple(steps), 1, 1, 1, 1, (), {}, frozenset())


def coalesced(*changes: Callable[[Coalescer], object]) -> tuple[Step, ...]:
    coalescer = Coalescer()
    for change in changes:
        assert change(coalescer) is not False
    return coalescer.take()


def insert(into: Target, *cells: Cell) -> Callable[[Coalescer], object]:
    return lambda coalescer: coalescer.table(into).insert(list(cells))


def update(of: Target, old: Row | None, new: Row) -> Callable[[Coalescer], object]:
    return lambda coalescer: coalescer.table(of).update(old, False, new)


def delete(of: Target, *cells: Cell) -> Callable[[Coalescer], object]:
    return lambda coalescer: coalescer.table(of).delete(list(cells))


def truncate(*targets: Target) -> Callable[[Coalescer], object]:
    return lambda coalescer: coalescer.truncate(targets, False)


class ModelPersistence:
    """What persistence holds at each position; it stands at ``lsn``. The source that memory loads from."""

    def __init__(self, rows: Rows, lsn: int = 1, *, size_bytes: int = 0) -> None:
        self.history: dict[int, Rows] = {lsn: {name: list(held) for name, held in rows.items()}}
        self.lsn = lsn
        self.size_bytes = size_bytes
        self.waits: list[Lsn] = []
        self.loads: list[str] = []
        self.fails: Exception | None = None
        self.breaks: Exception | None = None  # in the middle of a table
        self.targets: dict[str, Target] = {}
        self.on_read: Callable[[], None] = lambda: None

    def reach(self, lsn: int, rows: Rows) -> None:
        self.history[lsn] = {name: list(held) for name, held in rows.items()}

    def wait(self, lsn: Lsn) -> None:
        self.waits.append(lsn)
        self.lsn = max(self.lsn, int(lsn))

    def reached(self, lsn: Lsn) -> bool:
        return self.lsn >= lsn

    @contextmanager
    def snapshot(self, wanted: Target) -> Iterator[Any]:
        if self.fails is not None:
            raise self.fails
        self.loads.append(wanted.name)
        self.on_read()
        yield _ModelSnapshot(self, wanted)

    def describe(self, relation: Relation, types: Mapping[int, TypeName]) -> Target:
        if self.fails is not None:
            raise self.fails
        return self.targets[relation.name]

    def interrupt(self) -> None:
        pass

    def close(self) -> None:
        pass


class InTurn:
    """Reads when it is asked to, in the writer's own thread: ``steps`` more events; None: without end."""

    def __init__(self, persistence: ModelPersistence, most: int = 2) -> None:
        self.most = most
        self.steps: int | None = None
        self._persistence = persistence
        self.cancelled = 0

    def start(self, order: Order, caster: Caster) -> Reading:
        return _Read(self, read(order, self._persistence, caster, self._persistence.wait), caster)

    def close(self) -> None:
        pass


class _Read:
    def __init__(self, readers: InTurn, events: Iterator[Opened | Brought], caster: Caster) -> None:
        self._readers = readers
        self._events = events
        self._caster = caster
        self._ended = False

    def poll(self) -> Event | None:
        if self._ended or self._readers.steps == 0:
            return None
        if self._readers.steps is not None:
            self._readers.steps -= 1
        try:
            return next(self._events)
        except StopIteration:
            return self._end(None)
        except Exception as error:  # noqa: BLE001 - the writer says what it means
            return self._end(error)

    def cancel(self) -> None:
        self._readers.cancelled += 1
        if not self._ended:
            self._end(None)

    def _end(self, error: Exception | None) -> Ended:
        self._ended = True
        self._events = iter(())
        self._caster.close()
        return Ended(error)


class _ModelSnapshot:
    def __init__(self, persistence: ModelPersistence, wanted: Target) -> None:
        self.lsn = Lsn(persistence.lsn)
        self.rows = persistence.history[persistence.lsn][wanted.name]
        self.size = Size(persistence.size_bytes, len(self.rows))
        self.persistence = persistence

    def tables(self, columns: Sequence[int]) -> Iterator[Any]:
        step = max(3, len(self.rows) // 4)
        for start in range(0, len(self.rows), step):
            if self.persistence.breaks is not None:
                raise self.persistence.breaks
            chunk = self.rows[start : start + step]
            yield pa.table(
                {
                    f"c{index}": pa.array([row[index] for row in chunk], pa.binary()).cast(pa.string())
                    for index in columns
                }
            )


def memory_of(persistence: ModelPersistence, **settings: Any) -> Memory:
    settings.setdefault("budget_bytes", 64 << 20)
    settings.setdefault("readers", InTurn(persistence))
    return Memory(start_lsn=Lsn(persistence.lsn), behind=persistence, threads=1, **settings)


def apply(memory: Memory, *batches: Batch) -> None:
    """Replay, and let what was to be loaded be loaded."""
    memory.replay(batches)
    settle(memory)


def settle(memory: Memory) -> None:
    while memory.serve():
        pass


def contents(memory: Memory, name: str) -> tuple[list[Row], Lsn]:
    """The rows as PostgreSQL's text, sorted, and the LSN they are true at."""
    table, lsn = memory.query(f'select * from public."{name}"', as_text=True)
    columns = [column.to_pylist() for column in table.columns]
    rows: list[Row] = [
        [None if cell is None else cell.encode() for cell in row] for row in zip(*columns, strict=True)
    ]
    return ordered(rows), lsn


def ordered(rows: Sequence[Row]) -> list[Row]:
    return sorted(
        (list(row) for row in rows), key=lambda row: [(cell is not None, cell or b"") for cell in row]
    )
