"""What there is to copy: the primary's tables, their columns, their replica identity; and sequences.

In: a connection to the primary. Out: frozen descriptions. Catalogs are only read here. Tables of
logship's own schemas and of the system are never among them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg import sql

OURS: Final = ("logship", "logship_writers")

_USERS_OWN: Final = """
  n.nspname not in ('pg_catalog', 'information_schema', 'logship', 'logship_writers')
  and n.nspname !~ '^pg_(toast|temp)'
"""

_KEYLESS: Final = f"""
select n.nspname, c.relname
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where c.relkind in ('r', 'p') and c.relpersistence = 'p' and {_USERS_OWN}
   and (%(publication)s::pg_catalog.text is null
        or pg_catalog.pg_relation_is_publishable(c.oid) and exists (
             select from pg_catalog.pg_publication_tables t
              where t.pubname = %(publication)s and t.schemaname = n.nspname and t.tablename = c.relname))
   and not exists (select from pg_catalog.pg_depend d
                    where d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                      and d.objid = c.oid and d.deptype = 'e')
   and case c.relreplident
         when 'f' then false
         when 'n' then true
         when 'd' then not exists (select from pg_catalog.pg_index i
                                    where i.indrelid = c.oid and i.indisprimary and i.indislive
                                      and i.indimmediate)  -- a deferrable key identifies no row
         else not exists (select from pg_catalog.pg_index i
                           where i.indrelid = c.oid and i.indisreplident and i.indislive)
       end
 order by 1, 2
"""

# PostgreSQL's own types whose binary form is the same in every database: none with an oid in it (reg…),
# none made by users, and xml not, which carries an encoding.
BINARY_TYPES: Final = """
       (select case when pg_catalog.bool_and(
                 y.oid < 16384 and y.typtype in ('b', 'r', 'm') and y.typsend <> 0 and y.typreceive <> 0
                 and coalesce(e.oid, y.oid) <> 142 and coalesce(e.typname, y.typname) !~ '^(reg|aclitem|xml)')
               then pg_catalog.array_agg(a.atttypid::pg_catalog.int8 order by {order}) end
          from pg_catalog.pg_attribute a
          join pg_catalog.pg_type y on y.oid = a.atttypid
          left join pg_catalog.pg_type e on e.oid = y.typelem and y.typelem <> 0
         where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = '' {only})
"""

_PUBLISHED: Final = f"""
select c.oid::pg_catalog.int8, n.nspname, c.relname, c.relkind::pg_catalog.text,
       case c.relkind when 'p' then (
         select coalesce(sum(pg_catalog.pg_table_size(t.relid)), 0)
           from pg_catalog.pg_partition_tree(c.oid) t where t.isleaf)
       else pg_catalog.pg_table_size(c.oid) end::pg_catalog.int8,
       (select pg_catalog.array_agg(a.attname::pg_catalog.text order by a.attnum)
          from pg_catalog.pg_attribute a
         where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''),
       case when c.relkind = 'r' and m.amname = 'heap'
            then pg_catalog.pg_relation_size(c.oid)
                 / pg_catalog.current_setting('block_size')::pg_catalog.int8 else 0 end,
       {BINARY_TYPES.format(order="a.attnum", only="")}
  from pg_catalog.pg_publication_tables t
  join pg_catalog.pg_namespace n on n.nspname = t.schemaname
  join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = t.tablename
  left join pg_catalog.pg_am m on m.oid = c.relam
 where t.pubname = %s and {_USERS_OWN}
 order by 5 desc, 2, 3
"""

_NOT_COPIED: Final = f"""
select n.nspname, c.relname, case c.relkind when 'f' then 'foreign table' else 'unlogged' end
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where (c.relkind = 'f' or c.relkind = 'r' and c.relpersistence = 'u') and {_USERS_OWN}
 order by 1, 2
"""

_SEQUENCES: Final = f"""
select n.nspname, c.relname
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where c.relkind = 'S' and c.relpersistence <> 't' and {_USERS_OWN}
 order by 1, 2
"""


@dataclass(frozen=True, slots=True)
class TableName:
    schema: str
    name: str

    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)

    def __str__(self) -> str:
        return self.identifier().as_string(None)


@dataclass(frozen=True, slots=True)
class Source:
    """A published table of the primary. ``columns``: those that are written, not generated ones."""

    oid: int
    table: TableName
    kind: str  # pg_class.relkind: r, or p when the publication publishes through the partition root
    size_bytes: int
    columns: tuple[str, ...]
    pages: int = 0  # of a heap that can be read in ranges of them; 0: it can't
    binary: tuple[int, ...] = ()  # the columns' types, where binary means the same everywhere; or nothing


@dataclass(frozen=True, slots=True)
class Sequence:
    table: TableName
    last_value: int
    is_called: bool


def keyless(connection: psycopg.Connection, publication: str | None = None) -> list[TableName]:
    """Tables without replica identity: PostgreSQL refuses UPDATE and DELETE on them once they are published.

    Of ``publication``, or of the whole database.
    """
    rows = connection.execute(_KEYLESS, {"publication": publication}).fetchall()
    return [TableName(schema, name) for schema, name in rows]


def published(connection: psycopg.Connection, publication: str) -> list[Source]:
    """The publication's tables, largest first."""
    rows = connection.execute(_PUBLISHED, [publication]).fetchall()
    return [
        Source(oid, TableName(schema, name), kind, size, tuple(columns or ()), pages, tuple(binary or ()))
        for oid, schema, name, kind, size, columns, pages, binary in rows
    ]


def hold_shape(connection: psycopg.Connection, tables: list[Source]) -> None:
    """Lock the tables as SELECT does, until the transaction ends: nobody alters them meanwhile."""
    for source in tables:
        connection.execute(
            sql.SQL("lock table only {} in access share mode").format(source.table.identifier())
        )


def not_copied(connection: psycopg.Connection) -> dict[TableName, str]:
    """Tables whose rows PostgreSQL never publishes, and why."""
    rows = connection.execute(_NOT_COPIED).fetchall()
    return {TableName(schema, name): why for schema, name, why in rows}


def large_objects(connection: psycopg.Connection) -> int:
    """How many there are: the log doesn't carry them."""
    row = connection.execute("select pg_catalog.count(*) from pg_catalog.pg_largeobject_metadata").fetchone()
    return int(row[0]) if row else 0


def sequences(connection: psycopg.Connection) -> list[Sequence]:
    """Every sequence as it stands now: their values aren't part of a snapshot."""
    found = []
    for schema, name in connection.execute(_SEQUENCES).fetchall():
        table = TableName(schema, name)
        row = connection.execute(
            sql.SQL("select s.last_value, s.is_called from {} s").format(table.identifier())
        ).fetchone()
        if row is not None:
            found.append(Sequence(table, row[0], row[1]))
    return found


def set_sequences(connection: psycopg.Connection, values: list[Sequence]) -> list[TableName]:
    """Set the secondary's sequences; those that it doesn't have are returned."""
    missing = []
    for sequence in values:
        row = connection.execute(
            "select pg_catalog.setval(c.oid::pg_catalog.regclass, %s, %s) from pg_catalog.pg_class c "
            "join pg_catalog.pg_namespace n on n.oid = c.relnamespace "
            "where c.relkind = 'S' and n.nspname = %s and c.relname = %s",
            [sequence.last_value, sequence.is_called, sequence.table.schema, sequence.table.name],
        ).fetchone()
        if row is None:
            missing.append(sequence.table)
    return missing
