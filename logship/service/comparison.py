"""Whether two databases hold the same rows, table by table.

In: two conninfos and the tables' names, on databases that nobody writes to meanwhile. Out: for each
table the number of rows on both sides, and whether their texts are the same. Rows are compared as a
whole, in the order of their text, duplicates included; columns must stand in the same order on both sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
    ours = _fingerprints(primary, Side.PRIMARY, tables)
    theirs = _fingerprints(secondary, Side.SECONDARY, tables)
    return [
        Compared(table, ours[table][0], theirs[table][0], ours[table] == theirs[table]) for table in tables
    ]


def _fingerprints(conninfo: str, side: Side, tables: Sequence[str]) -> dict[str, tuple[int, str | None]]:
    found: dict[str, tuple[int, str | None]] = {}
    with connect(conninfo, side, application_name="logship compare") as connection:
        for table in tables:
            row = connection.execute(
                sql.SQL(_FINGERPRINT).format(sql.Identifier(*table.split(".", 1)))
            ).fetchone()
            found[table] = (row[0], row[1]) if row else (0, None)
    return found
