"""Carries a schema change out on one object in memory, inside the writer's open transaction.

In: the object's table and parts, and what `follow` made of the change. Out: the parts afterwards. The
delta is merged first, so that there is one place that holds rows; readers see the object as it was until the
transaction commits. What DuckDB raises is the caller's: the transaction has to be rolled back then.
"""

from __future__ import annotations

from dataclasses import replace

from logship.lsn import Lsn
from logship.replay.memory.follow import Followed
from logship.replay.memory.main import Writing
from logship.replay.memory.parts import Parts
from logship.replay.memory.store import Store
from logship.replay.memory.table import MemoryTable


def reshape(store: Store, table: MemoryTable, parts: Parts, followed: Followed, lsn: Lsn) -> Parts:
    """``lsn`` is for errors."""
    writing = Writing(store, table, parts, lsn)
    writing.merge_all()
    parts, made = writing.parts.without_spans(), followed.table  # the key may be another
    store.execute(table.hide())
    for segment in parts.segments:
        for verb, action in followed.actions:
            store.execute(f"{verb} {table.segment(segment.number)} {action}")
    if made.space != table.space:
        _move(store, table, made, parts)
    else:
        store.execute(f"drop table {table.delta(parts.delta)}")
    parts = replace(
        parts, delta=parts.next_number, next_number=parts.next_number + 1, delta_rows=0, delta_bytes=0
    )
    store.execute(made.create_delta(parts.delta))
    store.execute(made.show(parts))
    return parts


def _move(store: Store, table: MemoryTable, made: MemoryTable, parts: Parts) -> None:
    """DuckDB moves no table to another schema, and a name is one: the rows are copied."""
    store.make_schema(made.target.schema)
    store.execute(made.create_space())
    for segment in parts.segments:
        store.execute(f"create table {made.segment(segment.number)} as from {table.segment(segment.number)}")
    take_out(store, table, parts)


def take_out(store: Store, table: MemoryTable, parts: Parts) -> None:
    """Table by table: DuckDB can't commit DROP SCHEMA … CASCADE behind an INSERT of the same transaction."""
    store.execute(table.hide())
    for segment in parts.segments:
        store.execute(f"drop table {table.segment(segment.number)}")
    store.execute(f"drop table {table.delta(parts.delta)}")
    store.execute(table.drop())
