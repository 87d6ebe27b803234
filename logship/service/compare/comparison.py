"""Whether two databases hold the same rows, table by table.

In: two conninfos and the tables' names, on databases that nobody writes to meanwhile. Out: for each
table the number of rows on both sides, and whether their texts are the same. Rows are compared as a
whole, in the order of their text, duplicates included; columns must stand in the same order on both sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from logship.connection import Side, connect

_FINGERPRINT = """
select pg_catalog.count(*),
       pg_catalog.md5(pg_catalog.string_agg(pg_catalog.md5(r.line), '' order by r.line collate "C"))
  from (select (t.*)::text as line from {} as t) as r
"""


@dataclass(frozen=True, slots=True)
class Compared:
    table: str
    primary_rows: int
    secondary_rows: int
    equal: bool


def compare(primary: str, secondary: str, tables: Sequence[str]) -> list[Compared]:
    """``tables`` are ``schema.name``; a schema with a dot in its name can't be said here."""
    with (
        connect(primary, Side.PRIMARY, application_name="logship compare") as ours,
        connect(secondary, Side.SECONDARY, application_name="logship compare") as theirs,
    ):
        return between(ours, theirs, tables)


def between(
    primary: psycopg.Connection, secondary: psycopg.Connection, tables: Sequence[str]
) -> list[Compared]:
    """The same over connections that are there."""
    found = []
    for table in tables:
        ours, theirs = _fingerprint(primary, table), _fingerprint(secondary, table)
        found.append(Compared(table, ours[0], theirs[0], ours == theirs))
    return found


def _fingerprint(connection: psycopg.Connection, table: str) -> tuple[int, str | None]:
    query = sql.SQL(_FINGERPRINT).format(sql.Identifier(*table.split(".", 1)))
    row = connection.execute(query).fetchone()
    return (row[0], row[1]) if row else (0, None)
