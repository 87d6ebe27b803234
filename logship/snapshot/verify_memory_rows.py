"""The SQL that sums up and lists rows of the secondary as the replayer's memory does (`logship.replay.memory.pin`).

In: a table's name, and the names of its columns and of its key's, as memory holds them. Out: statements
for psycopg's raw cursors. Pure: no I/O.

A row's text is its cells' texts, made by output functions, with ``\\`` before each backslash and comma, or ``\\N``
for NULL, and commas between. Unlike the text of a row value it doesn't depend on what the server's locale takes for a
blank, so that memory can make it too. Hashes, buckets and sums: see there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from logship.snapshot.verify_rows import Blocks, Query, in_blocks


@dataclass(frozen=True, slots=True)
class MemoryTable:
    """A table in memory. ``key`` empty: rows are told apart by all they hold."""

    schemaname: str
    relname: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    rows: int


def sums(table: MemoryTable, kind: str, blocks: Blocks | None, buckets: int) -> Query:
    """Bucket, rows, the sums of both halves of their hashes, the bytes of their texts. ``kind``: pg_class.relkind."""
    statement = sql.SQL(
        "select {bucket}, pg_catalog.count(*), "
        "pg_catalog.sum(('x' || pg_catalog.left(r.m, 16))::bit(64)::pg_catalog.int8), "
        "pg_catalog.sum(('x' || pg_catalog.right(r.m, 16))::bit(64)::pg_catalog.int8), "
        "pg_catalog.sum(r.b)::pg_catalog.int8 from ({hashed}) r group by 1"
    ).format(bucket=_bucket(buckets), hashed=_hashed(table, kind, blocks))
    return Query(statement)


def rows(table: MemoryTable, kind: str, buckets: int, wanted: Sequence[int]) -> Query:
    """The key's texts, the hash of the row, how often it is there; without key the hash and how often."""
    keys = sql.SQL("").join(sql.SQL("r.{}, ").format(_k(number)) for number in range(len(table.key)))
    statement = sql.SQL(
        "select {keys}r.m, pg_catalog.count(*) from ({hashed}) r "
        "where {bucket} = any ($1::pg_catalog.int8[]) group by {keys}r.m"
    ).format(keys=keys, hashed=_hashed(table, kind, None), bucket=_bucket(buckets))
    return Query(statement, [list(wanted)])


def _hashed(table: MemoryTable, kind: str, blocks: Blocks | None) -> sql.Composed:
    """The row's hash ``m``, its text's bytes ``b``, the key's hash ``k`` and texts ``k0`` …

    ``offset 0`` keeps the planner from working out a text once for each time it is named.
    """
    places = [table.columns.index(name) for name in table.key]
    keys = [sql.SQL(", {}").format(_k(number)) for number in range(len(places))]
    texts = sql.SQL("select {row} as t, {key} as kt{keys} from ({cells}) c offset 0").format(
        row=_text(range(len(table.columns))),
        key=_text(places) if places else sql.SQL("null"),
        keys=sql.SQL("").join(
            sql.SQL(", c.{} as {}").format(_c(place), _k(number)) for number, place in enumerate(places)
        ),
        cells=_cells(table, kind, blocks),
    )
    return sql.SQL(
        "select h.m, h.b, coalesce(h.km, h.m) as k{keys} from (select {row} as m, {key} as km, "
        "pg_catalog.octet_length(u.t) as b{keys} from ({texts}) u offset 0) h"
    ).format(row=_md5("t"), key=_md5("kt"), keys=sql.SQL("").join(keys), texts=texts)


def _cells(table: MemoryTable, kind: str, blocks: Blocks | None) -> sql.Composed:
    """Each column's text, NULL when it is: also of a row of NULLs, which IS NULL takes for one."""
    cells = [
        sql.SQL(
            "case when pg_catalog.num_nulls(x.{column}) = 0 then pg_catalog.format('%s', x.{column}) end as {name}"
        ).format(column=sql.Identifier(name), name=_c(number))
        for number, name in enumerate(table.columns)
    ]
    return sql.SQL("select {cells} from {only}{table} x{where} offset 0").format(
        cells=sql.SQL(", ").join(cells),
        only=sql.SQL("" if kind == "p" else "only "),
        table=sql.Identifier(table.schemaname, table.relname),
        where=in_blocks(blocks),
    )


def _text(places: Sequence[int]) -> sql.Composed:
    return sql.SQL(" || ',' || ").join(
        sql.SQL(r"coalesce(pg_catalog.replace(pg_catalog.replace(c.{}, '\', '\\'), ',', '\,'), '\N')").format(
            _c(place)
        )
        for place in places
    )


def _md5(text: str) -> sql.Composed:
    return sql.SQL("pg_catalog.md5(pg_catalog.convert_to(u.{}, 'UTF8'))").format(sql.Identifier(text))


def _bucket(buckets: int) -> sql.Composed:
    return sql.SQL("pg_catalog.mod(('x' || pg_catalog.left(r.k, 8))::bit(32)::pg_catalog.int8, {})").format(
        sql.Literal(buckets)
    )


def _c(number: int) -> sql.Identifier:
    return sql.Identifier(f"c{number}")


def _k(number: int) -> sql.Identifier:
    return sql.Identifier(f"k{number}")
