"""What is handed to the stores: whole transactions, reduced to the net change per key.

Made by `logship.replay.coalesce`, read by memory and persistence, changed by neither. A batch's
steps are carried out in their order; inside a step the tables are independent of one another. Rows and
keys travel as `logship.kernel.Rows`, which keep the log's bytes as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from logship import kernel
from logship.change import Cell, Row
from logship.lsn import Lsn
from logship.replay.target import Target

if TYPE_CHECKING:
    from logship.replay.ddl.message import SequenceState, Statement
    from logship.replay.ddl.renames import Renamed
    from logship.replay.ddl.text import Found

Cells: TypeAlias = Sequence[Cell]  # a row, or the cells of a key in the order of `Target.key`


@dataclass(frozen=True, slots=True)
class Updates:
    """Rows of one table whose UPDATEs carry the same columns. ``keys[i]`` finds what ``rows[i]`` becomes."""

    columns: tuple[int, ...]  # indexes of the carried columns; the others are UNCHANGED in every row
    keys: kernel.Rows
    rows: kernel.Rows


@dataclass(frozen=True, slots=True)
class NetChanges:
    """The net change of one table with a key, each row of the table named at most once.

    To be carried out in this order: deletes, updates, moves, inserts. Keys are those at the start
    of the step. A move is an UPDATE that changed the key: ``move_keys[i]`` finds what becomes ``move_rows[i]``,
    whose UNCHANGED cells keep the value of the row at the old key; moves may exchange keys among themselves.
    A key may stand both in ``deletes`` and in ``inserts``: the row was deleted and made anew.
    """

    target: Target
    deletes: kernel.Rows  # keys
    updates: list[Updates]
    move_keys: kernel.Rows
    move_rows: kernel.Rows
    inserts: kernel.Rows

    @staticmethod
    def of(
        target: Target,
        *,
        deletes: Sequence[Cells] = (),
        updates: Sequence[tuple[Sequence[int], Sequence[Cells], Sequence[Cells]]] = (),
        moves: Sequence[tuple[Cells, Cells]] = (),
        inserts: Sequence[Cells] = (),
    ) -> NetChanges:
        """Of cells; ``updates`` are columns, keys and rows."""
        width, key = len(target.columns), len(target.key)
        return NetChanges(
            target,
            deletes=kernel.Rows.of(key, deletes),
            updates=[
                Updates(tuple(columns), kernel.Rows.of(key, keys), kernel.Rows.of(width, rows))
                for columns, keys, rows in updates
            ],
            move_keys=kernel.Rows.of(key, [before for before, _ in moves]),
            move_rows=kernel.Rows.of(width, [row for _, row in moves]),
            inserts=kernel.Rows.of(width, inserts),
        )

    @property
    def count(self) -> int:
        """Rows changed."""
        updated = sum(len(group.rows) for group in self.updates)
        return len(self.deletes) + updated + len(self.move_rows) + len(self.inserts)


@dataclass(frozen=True, slots=True)
class InsertRun:
    rows: kernel.Rows


@dataclass(frozen=True, slots=True)
class UpdateOne:
    """Exactly one row that equals ``old`` in every column becomes ``new`` (no UNCHANGED cells)."""

    old: Row
    new: Row


@dataclass(frozen=True, slots=True)
class DeleteOne:
    """Exactly one row that equals ``old`` in every column goes."""

    old: Row


@dataclass(slots=True)
class OrderedChanges:
    """The changes of one table without key, in the order of the log."""

    target: Target
    operations: list[InsertRun | UpdateOne | DeleteOne] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Rows changed."""
        return sum(
            len(operation.rows) if isinstance(operation, InsertRun) else 1 for operation in self.operations
        )


@dataclass(slots=True)
class Rows:
    tables: list[NetChanges | OrderedChanges]


@dataclass(frozen=True, slots=True)
class Truncation:
    """One TRUNCATE of the primary. It names every replicated table it emptied, cascade included."""

    targets: tuple[Target, ...]
    restart_identity: bool


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """One statement of DDL, proven to come from the capture; alone in its piece of the transaction.

    ``ahead``: the rows that it wrote follow, and then the same statement again with ``done``.
    """

    statement: Statement
    found: Found  # its text, or why there is none
    commit_lsn: Lsn
    ahead: bool = False
    done: bool = False
    in_memory: bool = False  # memory holds what it concerns, and changes with it
    # Tables that it makes and that are not replicated from here on: noted, and nothing is run.
    leaves_out: frozenset[tuple[str, str]] = frozenset()
    renamed: tuple[Renamed, ...] = ()  # types that the log has announced under another name

    @property
    def number(self) -> int:
        """Tells the statements of one transaction apart."""
        return self.statement.last.number


@dataclass(frozen=True, slots=True)
class PassedOver:
    """A transaction that an operator named, and of which nothing is replayed: `logship skip`."""

    lsn: Lsn  # as it was named
    changes: int  # row changes and schema changes that it holds


Step: TypeAlias = Rows | Truncation | SchemaChange


@dataclass(frozen=True, slots=True)
class Batch:
    """Whole transactions, or a piece of one that is larger than the bound.

    ``complete`` False: a piece; what it changes stays uncommitted until a later batch is complete.
    ``end_lsn`` is the end of the last transaction's commit (of a piece: the position before it).
    No steps, complete: only the position moves.
    """

    end_lsn: Lsn
    commit_time_us: int  # of the last transaction, microseconds since 2000-01-01 UTC; 0: none
    complete: bool
    steps: tuple[Step, ...]
    transactions: int  # that changed something replicated
    changes: int  # row changes in the log
    net: int  # row changes left after coalescing
    size_bytes: int  # of the log's messages
    runs: tuple[bytes, ...]  # the log's messages, framed, for replay one by one
    targets: dict[int, Target]  # by the primary's relation oid, for the runs
    left_out: frozenset[int]  # relation oids in the runs that are not replicated
    sequences: tuple[SequenceState, ...] = ()  # to be set behind the steps; the last of each holds
    commit_lsn: Lsn | None = (
        None  # of the one transaction that it changes something for; None: several, or not known
    )
    alone: bool = False  # never merged with others: so that an error names the transaction
    passed_over: tuple[PassedOver, ...] = ()  # of its transactions: noted, nothing else

    def changed(self) -> Iterator[tuple[Target, int]]:
        """Each table that a step changes, and how many rows of it; a TRUNCATE counts as one."""
        for step in self.steps:
            if isinstance(step, Rows):
                yield from ((table.target, table.count) for table in step.tables)
            elif isinstance(step, Truncation):
                yield from ((target, 1) for target in step.targets)

    @property
    def schema_change(self) -> SchemaChange | None:
        """The one that this piece is."""
        step = self.steps[0] if self.steps else None
        return step if isinstance(step, SchemaChange) else None


def groups(batches: Sequence[Batch]) -> Iterator[Sequence[Batch]]:
    """Runs of batches that end in a commit: where a piece follows a whole batch, or at the end."""
    group: list[Batch] = []
    for batch in batches:
        if group and group[-1].complete and not batch.complete:
            yield group
            group = []
        group.append(batch)
    if group:
        yield group


def only_transaction(batches: Sequence[Batch]) -> Lsn | None:
    """The commit LSN of the only transaction that ``batches`` change something for; None: several, or not known."""
    changing = [batch for batch in batches if batch.steps]
    return changing[0].commit_lsn if len(changing) == 1 else None
