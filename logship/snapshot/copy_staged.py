"""Fills a table on which code that users wrote stands, through its owner's writer.

In: a COPY … TO STDOUT in text, rows of it at a time. Out: rows, written by the owner's function from a
temporary table of texts that is emptied again and again. Nothing that users wrote runs with our rights.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from typing import Final

import psycopg
from psycopg import sql

from logship.connection import Side
from logship.snapshot.copy_stream import Order, Stopped
from logship.snapshot.failures import of_server
from logship.snapshot.guard import Destination

_BLOCK_BYTES: Final = 2**16
_STAGE_BYTES: Final = 16 * 2**20  # what a staged table gathers before its writer takes it
_STAGE: Final = sql.Identifier("pg_temp", "logship_stage")


def staged(
    primary: psycopg.Connection,
    secondary: psycopg.Connection,
    order: Order,
    *,
    destination: Destination,
    columns: Sequence[str],
    writer: str,
) -> int:
    """Rows copied, inside the caller's transaction."""
    names = [sql.Identifier(f"c{number}") for number in range(1, len(columns) + 1)]
    texts = sql.SQL(", ").join(sql.SQL("{} pg_catalog.text").format(name) for name in names)
    owner = sql.Identifier(destination.owner_name)
    secondary.execute(sql.SQL("create temporary table {} ({}) on commit drop").format(_STAGE, texts))
    secondary.execute(sql.SQL("grant select on table {} to {}").format(_STAGE, owner))
    insert = sql.SQL("insert into {} ({}) overriding system value select {} from {} s").format(
        destination.table.identifier(),
        sql.SQL(", ").join(sql.Identifier(name) for name in columns),
        sql.SQL(", ").join(
            sql.SQL("s.{}::{}").format(name, sql.SQL(type_sql))  # format_type()'s own text
            for name, type_sql in zip(names, destination.types, strict=True)
        ),
        _STAGE,
    )
    write = call(writer, insert, secondary)
    rows = 0
    with closing(_blocks(primary, order)) as blocks:
        while True:
            more = _fill(blocks, secondary)
            if not more:
                return rows
            row = secondary.execute(write).fetchone()
            rows += int(row[0]) if row else 0
            secondary.execute(sql.SQL("truncate table {}").format(_STAGE))


def call(writer: str, statement: sql.Composable, secondary: psycopg.Connection) -> sql.Composed:
    """``statement`` run by the owner's function ``writer``."""
    return sql.SQL("select {}({}::pg_catalog.text)").format(
        sql.SQL(writer), sql.Literal(statement.as_string(secondary))
    )


def _blocks(primary: psycopg.Connection, order: Order) -> Generator[bytes, None, None]:
    """Whole rows, gathered so that they go in few messages."""
    gathered, rows = bytearray(), 0
    try:
        with primary.cursor() as cursor, cursor.copy(order.copy_out) as copy:
            for data in copy:
                if order.stopping():
                    raise Stopped
                rows += 1
                gathered += data
                if len(gathered) >= _BLOCK_BYTES:
                    order.tell(rows, len(gathered))
                    yield bytes(gathered)
                    gathered, rows = bytearray(), 0
            if gathered:
                order.tell(rows, len(gathered))
                yield bytes(gathered)
    except psycopg.Error as error:
        raise of_server(
            Side.PRIMARY, order.doing, error.sqlstate, error.diag.message_primary or ""
        ) from error


def _fill(rows: Generator[bytes, None, None], secondary: psycopg.Connection) -> bool:
    """As many rows as a stage holds; False when there was none left."""
    size = 0
    with secondary.cursor() as cursor, cursor.copy(sql.SQL("copy {} from stdin").format(_STAGE)) as sink:
        for row in rows:
            sink.write(row)
            size += len(row)
            if size >= _STAGE_BYTES:
                break
    return size > 0
