"""Three ways to carry out one batch, each slower and surer than the one before.

In: a `Batch`. Out: statements, in order. `Rung.NET` is the batch as it was coalesced. `Rung.REPLACE`
takes all changed rows of a table out before it puts any back, for unique values that pass from
row to row. `Rung.LOG` goes by the log, message by message. No I/O.

What no rung can do: a constraint that only the secondary has may be violated in between even
one by one. Deferrable constraints are not checked at all in a session that replicates, as in
PostgreSQL's own logical replication, so they need no rung.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence

from logship import kernel, pgoutput
from logship.change import UNCHANGED, Delete, Insert, Row, Truncate, Update
from logship.errors import InternalError, ReplayError
from logship.kernel import split_run
from logship.replay import statements
from logship.replay.batch import (
    Batch,
    Cells,
    DeleteOne,
    InsertRun,
    NetChanges,
    OrderedChanges,
    Rows,
    SchemaChange,
    Truncation,
    UpdateOne,
    Updates,
)
from logship.replay.shape import SecondaryTarget
from logship.replay.statements import CHUNK_BYTES, CHUNK_ROWS, COPY_ROWS, BulkInsert, Statement
from logship.replay.target import Target


class Rung(enum.IntEnum):
    NET = 1
    REPLACE = 2
    LOG = 3


def climb(batch: Batch, rung: Rung) -> Iterator[Statement | BulkInsert | Truncation | SchemaChange]:
    """The statements of ``batch``. What becomes of a `Truncation` depends on the secondary's catalog."""
    if batch.schema_change is not None:
        yield batch.schema_change
        return
    if rung is Rung.LOG:
        yield from _by_the_log(batch)
        return
    for step in batch.steps:
        if not isinstance(step, Rows):
            yield step
            continue
        for table in step.tables:
            if isinstance(table, OrderedChanges):
                yield from _ordered(table)
            elif rung is Rung.NET:
                yield from _net(table)
            else:
                yield from _replaced(table)


def secondary(target: Target) -> SecondaryTarget:
    if not isinstance(target, SecondaryTarget):
        raise InternalError(f"the target of {target} does not come from the secondary's catalog")
    return target


def _net(changes: NetChanges) -> Iterator[Statement | BulkInsert]:
    target = secondary(changes.target)
    again: list[Updates] = []
    yield from _deletes(target, changes)
    for group in changes.updates:
        if not statements.can_update(target, group.columns):
            again.append(group)
            continue
        start = 0
        for rows in group.rows.chunks(CHUNK_ROWS, CHUNK_BYTES):
            keys = group.keys[start : start + len(rows)]
            start += len(rows)
            statement = statements.update(target, group.columns, keys, rows)
            if statement is not None:
                yield statement
    yield from _replace(target, changes, again)
    yield from _inserts(target, changes.inserts)


def _replaced(changes: NetChanges) -> Iterator[Statement | BulkInsert]:
    target = secondary(changes.target)
    yield from _deletes(target, changes)
    yield from _replace(target, changes, changes.updates)
    yield from _inserts(target, changes.inserts)


def _replace(target: SecondaryTarget, changes: NetChanges, updates: Sequence[Updates]) -> Iterator[Statement]:
    """The moves, and ``updates`` along with them."""
    keys = kernel.Rows.joined(len(target.key), [changes.move_keys, *(group.keys for group in updates)])
    if len(keys):
        parts = [changes.move_rows, *(group.rows for group in updates)]
        yield statements.replace(target, keys, kernel.Rows.joined(len(target.columns), parts))


def _deletes(target: SecondaryTarget, changes: NetChanges) -> Iterator[Statement]:
    for part in changes.deletes.chunks(CHUNK_ROWS, CHUNK_BYTES):
        yield statements.delete(target, part)


def _inserts(target: SecondaryTarget, rows: kernel.Rows) -> Iterator[Statement | BulkInsert]:
    if target.copyable and len(rows) >= COPY_ROWS:
        yield BulkInsert(target, rows)
    else:
        yield from statements.inserts(target, rows)


def _ordered(changes: OrderedChanges) -> Iterator[Statement | BulkInsert]:
    target = secondary(changes.target)
    for operation in changes.operations:
        if isinstance(operation, InsertRun):
            yield from _inserts(target, operation.rows)
        elif isinstance(operation, DeleteOne):
            yield statements.delete_one(target, operation.old)
        else:
            statement = statements.update_one(target, operation.old, operation.new)
            if statement is not None:
                yield statement


# -- by the log ----------------------------------------------------------------------------------


def _by_the_log(batch: Batch) -> Iterator[Statement | BulkInsert | Truncation]:
    for run in batch.runs:
        for message in split_run(run):
            event = pgoutput.decode(message)
            if isinstance(event, Truncate):
                targets = [_target(batch, oid) for oid in event.relation_oids]
                kept = tuple(target for target in targets if target is not None)
                if kept:
                    yield Truncation(kept, event.restart_identity)
            elif isinstance(event, Insert | Update | Delete):
                target = _target(batch, event.relation_oid)
                if target is not None:
                    yield from _one(target, event)


def _target(batch: Batch, oid: int) -> SecondaryTarget | None:
    if oid in batch.left_out:
        return None
    if oid not in batch.targets:
        raise ReplayError(
            f"the log changes a relation with oid {oid} that it has not described",
            hint="the journal is not whole: run `logship journal verify` on its directory",
        )
    return secondary(batch.targets[oid])


def _one(target: SecondaryTarget, event: Insert | Update | Delete) -> Iterator[Statement | BulkInsert]:
    if isinstance(event, Insert):
        yield statements.insert(target, _row(event.new))
    elif isinstance(event, Delete):
        if target.key:
            yield statements.delete(target, _row(target.key_of(event.old)))
        else:
            yield statements.delete_one(target, event.old)
    else:
        yield from _one_update(target, event)


def _row(cells: Cells) -> kernel.Rows:
    return kernel.Rows.of(len(cells), [cells])


def _one_update(target: SecondaryTarget, event: Update) -> Iterator[Statement | BulkInsert]:
    new = _filled(event, target)
    if not target.key:
        if event.old is None or event.old_is_key:
            raise ReplayError(
                f"an UPDATE of {target} carries no whole old row, and the table has no key",
                hint="on the primary: alter table … replica identity full; what was written before it is "
                "mended by copying the table anew",
            )
        yield from _ordered(OrderedChanges(target, [UpdateOne(event.old, new)]))
        return
    key = target.key_of(new if event.old is None else event.old)
    carried = [i for i, cell in enumerate(new) if cell is not UNCHANGED]
    if key != target.key_of(new) or not statements.can_update(target, carried):
        yield statements.replace(target, _row(key), _row(new))
        return
    statement = statements.update(target, carried, _row(key), _row(new))
    if statement is not None:
        yield statement


def _filled(event: Update, target: SecondaryTarget) -> Row:
    """The new row, with those unchanged cells that the old one has: a TOASTed key comes only there."""
    if event.old is None or UNCHANGED not in event.new:
        return event.new
    known = set(target.key) if event.old_is_key else range(len(event.old))
    return [event.old[i] if cell is UNCHANGED and i in known else cell for i, cell in enumerate(event.new)]
