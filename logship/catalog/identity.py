"""Which tables of the primary init gave REPLICA IDENTITY FULL, so that it can be taken back.

In: connections to a primary that has logship's schema. Out: rows of `logship.identity_set`, and what
they say undone. A table that somebody has changed since is left as it is.
"""

from __future__ import annotations

from collections.abc import Iterable

import psycopg
from psycopg import sql

# An index that was the identity and is gone can't be one again: the same as nothing.
_NOTE = """
insert into logship.identity_set (schemaname, relname, before)
select n.nspname, c.relname, case c.relreplident when 'd' then 'default' else 'nothing' end
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where n.nspname = %s and c.relname = %s and c.relreplident <> 'f'
on conflict do nothing
"""

_SET = """
select i.schemaname, i.relname, i.before
  from logship.identity_set i
  join pg_catalog.pg_namespace n on n.nspname = i.schemaname
  join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = i.relname
 where c.relreplident = 'f'
 order by 1, 2
"""


def note(primary: psycopg.Connection, tables: Iterable[tuple[str, str]]) -> None:
    """To be committed before the tables are changed; ``tables`` are (schema, name)."""
    with primary.cursor() as cursor:
        cursor.executemany(_NOTE, list(tables))


def noted(primary: psycopg.Connection) -> list[str]:
    """The statements that give these tables back what they had."""
    return [
        sql.SQL("alter table only {} replica identity {}")
        .format(sql.Identifier(schema, name), sql.SQL(before))
        .as_string(primary)
        for schema, name, before in primary.execute(_SET).fetchall()
    ]
