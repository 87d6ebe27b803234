"""One load, as memory's writer sees it: what was read goes into a hidden table, what changed meanwhile on top.

In: what a `Reading` brings, and the batches that change the object while it is read. Out: a table that holds
what the log says up to the end of the last batch, under a name that readers don't ask for; the caller shows it.
Changes up to the snapshot's position are passed over, later ones are kept, bounded by the caller, and
replayed in larger portions the more of them there are. Assumes the writer's thread, and no open transaction
but in `Load.keep`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from logship.lsn import Lsn
from logship.replay.batch import Batch, Rows, Step, Truncation
from logship.replay.memory.main import Writing
from logship.replay.memory.reading import Brought, CouldNotLoad, Opened, Reading
from logship.replay.memory.resident import MemoryObject, Name
from logship.replay.memory.store import Store
from logship.replay.memory.table import MemoryColumn, table_of
from logship.replay.merge import merged

# A batch of one row is 80 bytes of the log, and takes 4 kB: as rows do, about eight times what is counted for it.
_BATCH_BYTES: Final = 512

__all__ = ["CouldNotLoad", "Load", "convert", "truncates"]


@dataclass(frozen=True, slots=True)
class Kept:
    """One batch's changes of the object: they come behind ``start``."""

    start: Lsn
    batch: Batch


@dataclass(slots=True)
class Load:
    known: MemoryObject
    reading: Reading
    lsn: Lsn | None = None  # the snapshot's position
    filled: bool = False  # every row of the snapshot is in the hidden table
    reserved_bytes: int = 0
    kept: deque[Kept] = field(default_factory=deque)
    kept_bytes: int = 0
    pieces: list[Batch] = field(default_factory=list)  # of the transaction that is open
    pieces_start: Lsn | None = None

    # -- changes ---------------------------------------------------------------------------------

    def keep(self, batch: Batch, start: Lsn) -> None:
        """The object's part of ``batch``, which follows ``start``; of a piece until its transaction ends."""
        part = _part(batch, self.known.name)
        if part is not None:
            self.pieces.append(part)
            self.kept_bytes += part.size_bytes
            if self.pieces_start is None:
                self.pieces_start = start
        if batch.complete and self.pieces:
            begun = start if self.pieces_start is None else self.pieces_start
            whole = replace(
                self.pieces[-1], end_lsn=batch.end_lsn, complete=True,
                steps=tuple(step for piece in self.pieces for step in piece.steps),
                size_bytes=sum(piece.size_bytes for piece in self.pieces),
            )  # fmt: skip
            self.kept.append(Kept(begun, whole))
            self.pieces.clear()
            self.pieces_start = None
            self.pass_over()

    def abandon(self) -> None:
        """The open transaction's pieces will come again, or never."""
        self.kept_bytes -= sum(piece.size_bytes for piece in self.pieces)
        self.pieces.clear()
        self.pieces_start = None

    def pass_over(self) -> None:
        """Forget what the snapshot has; `CouldNotLoad` when it can't be told of a batch."""
        while self.lsn is not None and self.kept and self.kept[0].start < self.lsn:
            first = self.kept[0]
            if first.batch.end_lsn > self.lsn:
                raise CouldNotLoad("persistence was inside a batch when it was read")
            self._forget_first()

    def take(self, most_bytes: int) -> list[Batch]:
        """The oldest changes, as few batches: at least one, where there is one."""
        taken: list[Batch] = []
        size = 0
        while self.kept and (not taken or size + self.kept[0].batch.size_bytes <= most_bytes):
            taken.append(self.kept[0].batch)
            size += self._forget_first()
        return list(merged(taken))

    def _forget_first(self) -> int:
        size = self.kept.popleft().batch.size_bytes
        self.kept_bytes -= size
        return size

    # -- rows --------------------------------------------------------------------------------------

    def open(self, store: Store, opened: Opened) -> None:
        """Make the hidden table."""
        known = self.known
        known.target = opened.target
        self.lsn = opened.lsn
        self.pass_over()
        store.make_schema(known.target.schema)
        known.table = table_of(known.target, known.as_text)
        writing = Writing(store, known.held, known.parts, opened.lsn)
        writing.create()
        known.lay_out(writing.parts)

    def fill(self, store: Store, brought: Brought) -> None:
        """Put rows into it, in a transaction of their own."""
        known = self.known
        late = brought.as_text - known.as_text
        if late:
            convert(store, known, [column for column in known.held.columns if column.name in late])
        if brought.rows.num_rows:
            writing = Writing(store, known.held, known.parts, known.last_change_lsn)
            writing.append(brought.rows)
            known.rows += brought.rows.num_rows
            known.lay_out(writing.parts)


def convert(store: Store, known: MemoryObject, columns: Iterable[MemoryColumn]) -> None:
    """Turn ``columns`` of the object's table into text, in a transaction of its own.

    Its values stay what they are (`MemoryType.text` is exact), so nothing has to be loaded again.
    """
    changed = list(columns)
    as_text = known.as_text | {column.name for column in changed}
    table = table_of(known.target, as_text)
    store.begin()
    try:
        Writing(store, known.held, known.parts, known.last_change_lsn).to_text(changed)
        if known.parts.shown:
            store.execute(table.show(known.parts))
        store.commit()
    except BaseException:
        store.rollback()
        raise
    known.as_text, known.table = as_text, table


def truncates(batch: Batch, name: Name) -> bool:
    return any(
        (target.schema, target.name) == name
        for step in batch.steps
        if isinstance(step, Truncation)
        for target in step.targets
    )


def _part(batch: Batch, name: Name) -> Batch | None:
    """What ``batch`` changes of one object; its bytes are estimated by the number of rows, and by what a batch takes
    however small it is: beside a long load each commit may be one of its own."""
    steps: list[Step] = []
    own = every = 0
    for step in batch.steps:
        if not isinstance(step, Rows):
            continue
        every += sum(table.count for table in step.tables)
        tables = [table for table in step.tables if (table.target.schema, table.target.name) == name]
        if tables:
            steps.append(Rows(tables))
            own += sum(table.count for table in tables)
    if not steps:
        return None
    size = _BATCH_BYTES + batch.size_bytes * own // max(every, 1)
    return replace(
        batch, steps=tuple(steps), runs=(), targets={}, left_out=frozenset(), sequences=(), size_bytes=size
    )
