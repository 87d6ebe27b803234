"""Which tables of the secondary may be filled with the rights of the user who runs init.

In: a connection to the secondary and a table. Out: `Destination`. COPY evaluates checks, generated
columns, defaults, index and partition expressions, domains and ALWAYS triggers with the rights of
whoever copies. So it is used only where nothing of the kind stands, where all of it is made of
PostgreSQL's own immutable functions (which do nothing but compute), or where the owner has those
rights anyway. Not only functions that users wrote are dangerous: ``check (lo_export(…) = 1)`` uses
PostgreSQL's own. Every other table is filled through its owner's writer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg import sql

from logship.errors import SecondaryError
from logship.snapshot.relations import BINARY_TYPES, OURS, Source, TableName

# Node trees hold the functions they call as oids, and nodes whose functions are chosen elsewhere
# (a cast through a type's input, a domain, a row comparison). Source: nodes/primnodes.h.
_EXPRESSION_IS_HARMLESS: Final = r"""
  (%(tree)s !~ '\{(COERCETODOMAIN|ROWCOMPARE|NEXTVALUEEXPR|COERCEVIAIO|SUBLINK|MINMAX|XMLEXPR|JSON)'
   and not exists (
     select from pg_catalog.regexp_matches(%(tree)s, ':[a-z]*func(?:id)? ([0-9]+)', 'g') as m (f)
       left join pg_catalog.pg_proc p on p.oid = (m.f)[1]::pg_catalog.oid
      where (m.f)[1] <> '0' and (p.oid is null or p.oid >= 16384 or p.provolatile <> 'i')
   )
   -- an operator whose function isn't looked up yet
   and %(tree)s !~ ':opfuncid 0[ )}]')
"""


def _harmless(tree: str) -> str:
    return _EXPRESSION_IS_HARMLESS.replace("%(tree)s", f"({tree})::pg_catalog.text")


_RISKS: Final = f"""
with recursive related (oid) as (
  select relid::pg_catalog.oid from pg_catalog.pg_partition_tree(%(oid)s::pg_catalog.oid::pg_catalog.regclass)
  union select relid::pg_catalog.oid
          from pg_catalog.pg_partition_ancestors(%(oid)s::pg_catalog.oid::pg_catalog.regclass)
  union select %(oid)s::pg_catalog.oid
), types (oid) as (
  select a.atttypid from related r join pg_catalog.pg_attribute a on a.attrelid = r.oid
   where a.attnum > 0 and not a.attisdropped
  union
  select u.oid from types s join pg_catalog.pg_type t on t.oid = s.oid
   cross join lateral (
     select t.typelem union all select t.typbasetype
     union all select g.rngsubtype from pg_catalog.pg_range g where t.oid in (g.rngtypid, g.rngmultitypid)
     union all select a.atttypid from pg_catalog.pg_attribute a
                where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
   ) as u (oid)
   where u.oid <> 0
)
select 'a check' from pg_catalog.pg_constraint k join related r on r.oid = k.conrelid
 where k.contype = 'c' and not {_harmless("k.conbin")}
union all
select 'a default or generated column' from pg_catalog.pg_attrdef d join related r on r.oid = d.adrelid
  join pg_catalog.pg_attribute a on a.attrelid = d.adrelid and a.attnum = d.adnum
 where (a.attgenerated <> '' or a.attname <> all (%(copied)s)) and not {_harmless("d.adbin")}
union all
select 'an index expression' from pg_catalog.pg_index i join related r on r.oid = i.indrelid
 where i.indexprs is not null and not {_harmless("i.indexprs")}
    or i.indpred is not null and not {_harmless("i.indpred")}
union all
select 'an exclusion constraint' from pg_catalog.pg_constraint k join related r on r.oid = k.conrelid
 where k.contype = 'x' and exists (select from pg_catalog.unnest(k.conexclop) o (oid) where o.oid >= 16384)
union all
select 'a partition key' from pg_catalog.pg_partitioned_table p join related r on r.oid = p.partrelid
 where p.partexprs is not null and not {_harmless("p.partexprs")}
union all
select 'a trigger' from pg_catalog.pg_trigger t join related r on r.oid = t.tgrelid
 where t.tgenabled in ('A', 'R') and not t.tgisinternal
union all
select 'a type' from types s join pg_catalog.pg_type t on t.oid = s.oid
 where t.oid >= 16384
   and (exists (select from pg_catalog.pg_constraint k
                 where k.contypid = t.oid and k.contype = 'c' and not {_harmless("k.conbin")})
        or t.typtype = 'd' and t.typdefaultbin is not null
        or t.typtype in ('b', 'r', 'm') and t.typcategory <> 'A'
           and not exists (select from pg_catalog.pg_depend d
                            where d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass
                              and d.objid = t.oid and d.deptype = 'e'))
union all
select 'an operator class' from pg_catalog.pg_index i join related r on r.oid = i.indrelid
 cross join pg_catalog.unnest(i.indclass::pg_catalog.oid[]) c (oid)
 where c.oid >= 16384
   and not exists (select from pg_catalog.pg_depend d
                    where d.classid = 'pg_catalog.pg_opclass'::pg_catalog.regclass
                      and d.objid = c.oid and d.deptype = 'e')
limit 1
"""


@dataclass(frozen=True, slots=True)
class Destination:
    """A table of the secondary, ready to be filled. ``types`` are those of the source's columns, as SQL.

    ``risk`` names what of the users' would run; empty: COPY may be used.
    """

    table: TableName
    oid: int
    kind: str
    owner: int
    owner_name: str
    types: tuple[str, ...]
    risk: str
    binary: tuple[int, ...] = ()  # as `logship.snapshot.relations.Source` has it


def destination(connection: psycopg.Connection, source: Source) -> Destination:
    """`SecondaryError` when the secondary has no such table, or not all of its columns."""
    row = connection.execute(
        """
        select c.oid::pg_catalog.int8, c.relkind::pg_catalog.text, c.relowner::pg_catalog.int8, r.rolname,
               r.rolsuper or r.rolname = current_user
          from pg_catalog.pg_class c
          join pg_catalog.pg_namespace n on n.oid = c.relnamespace
          join pg_catalog.pg_roles r on r.oid = c.relowner
         where n.nspname = %s and c.relname = %s and c.relkind in ('r', 'p')
        """,
        [source.table.schema, source.table.name],
    ).fetchone()
    if row is None:
        raise SecondaryError(
            f"table {source.table} does not exist on the secondary",
            hint="make it there, or, if it is partitioned differently there, pass --partitions root",
        )
    oid, kind, owner, owner_name, trusted = row
    types = _types(connection, oid, source)
    risk = "" if trusted else _risk(connection, oid, source.columns)
    binary = _binary(connection, oid, source.columns)
    return Destination(source.table, oid, kind, owner, owner_name, types, risk, binary)


def _types(connection: psycopg.Connection, oid: int, source: Source) -> tuple[str, ...]:
    rows = connection.execute(
        "select a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod) from pg_catalog.pg_attribute a "
        "where a.attrelid = %s and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''",
        [oid],
    ).fetchall()
    have: dict[str, str] = dict(rows)
    lacking = [name for name in source.columns if name not in have]
    if lacking:
        names = ", ".join(sql.Identifier(name).as_string(None) for name in lacking)
        raise SecondaryError(
            f"table {source.table} has no column {names} on the secondary that could be written",
            hint="add what is missing: the secondary may have more columns than the primary, not fewer",
        )
    return tuple(have[name] for name in source.columns)


def _binary(connection: psycopg.Connection, oid: int, columns: tuple[str, ...]) -> tuple[int, ...]:
    types = BINARY_TYPES.format(
        order="pg_catalog.array_position(%(columns)s::pg_catalog.text[], a.attname::pg_catalog.text)",
        only="and a.attname = any (%(columns)s::pg_catalog.text[])",
    )
    row = connection.execute(
        f"select {types} from pg_catalog.pg_class c where c.oid = %(oid)s".encode(),
        {"oid": oid, "columns": list(columns)},
    ).fetchone()
    return tuple(row[0]) if row and row[0] else ()


def _risk(connection: psycopg.Connection, oid: int, columns: tuple[str, ...]) -> str:
    row = connection.execute(_RISKS.encode(), {"oid": oid, "copied": list(columns)}).fetchone()
    return str(row[0]) if row else ""


def owners(connection: psycopg.Connection) -> set[int]:
    """Who owns tables here, logship's own left aside."""
    rows = connection.execute(
        "select distinct c.relowner::pg_catalog.int8 from pg_catalog.pg_class c "
        "join pg_catalog.pg_namespace n on n.oid = c.relnamespace "
        "where c.relkind in ('r', 'p') and c.relpersistence = 'p' and n.nspname <> all (%s) "
        "and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname !~ '^pg_toast'",
        [list(OURS)],
    ).fetchall()
    return {owner for (owner,) in rows}


def exists(connection: psycopg.Connection, table: TableName) -> bool:
    """Whether the secondary has a relation of this name, of any kind."""
    found = connection.execute(
        "select from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace "
        "where n.nspname = %s and c.relname = %s",
        [table.schema, table.name],
    ).fetchone()
    return found is not None


def rows_in(connection: psycopg.Connection, table: TableName) -> bool:
    """Whether the secondary's table itself (not one that inherits from it) holds any row."""
    kind = connection.execute(
        "select c.relkind = 'p' from pg_catalog.pg_class c "
        "join pg_catalog.pg_namespace n on n.oid = c.relnamespace "
        "where n.nspname = %s and c.relname = %s and c.relkind in ('r', 'p')",
        [table.schema, table.name],
    ).fetchone()
    if kind is None:
        return False
    of = sql.SQL("" if kind[0] else "only ")
    found = connection.execute(
        sql.SQL("select exists (select from {}{} t)").format(of, table.identifier())
    ).fetchone()
    return bool(found and found[0])


def strangers(
    connection: psycopg.Connection, table: TableName, transactions: list[int], rows: int | None
) -> str:
    """What shows that somebody else wrote to a table that only ``transactions`` filled; empty: nothing.

    ``rows``: how many they put there; None: not known, and rows that are missing don't show. Reads the
    whole table.
    """
    row = connection.execute(
        sql.SQL(
            "select pg_catalog.count(*), pg_catalog.count(*) filter (where not t.xmin = any ("
            "select (x.xid & 4294967295)::text::pg_catalog.xid from pg_catalog.unnest(%s::int8[]) x (xid))) "
            "from only {} t"
        ).format(table.identifier()),
        [transactions],
    ).fetchone()
    assert row is not None  # an aggregate always gives a row
    if row[1]:
        return f"{row[1]} rows of {table} were not put there by init"
    if rows is not None and row[0] != rows:
        return f"{table} holds {row[0]} rows, not the {rows} that init put there"
    return ""


def referenced(connection: psycopg.Connection, table: TableName) -> bool:
    """Whether a foreign key of another table points here: TRUNCATE is refused then."""
    row = connection.execute(
        "select exists (select from pg_catalog.pg_constraint k "
        "join pg_catalog.pg_class c on c.oid = k.confrelid "
        "join pg_catalog.pg_namespace n on n.oid = c.relnamespace "
        "where k.contype = 'f' and k.conrelid <> k.confrelid and n.nspname = %s and c.relname = %s)",
        [table.schema, table.name],
    ).fetchone()
    return bool(row and row[0])


def empty_again(connection: psycopg.Connection, tables: list[TableName]) -> None:
    """Truncate what an interrupted init had filled; refused where users' triggers would run."""
    existing = [table for table in tables if _exists_without_truncate_trigger(connection, table)]
    if existing:
        names = sql.SQL(", ").join(
            sql.SQL("{}{}").format(
                sql.SQL("" if is_partitioned(connection, table) else "only "), table.identifier()
            )
            for table in existing
        )
        connection.execute(sql.SQL("truncate table {}").format(names))


def is_partitioned(connection: psycopg.Connection, table: TableName) -> bool:
    row = connection.execute(
        "select c.relkind = 'p' from pg_catalog.pg_class c "
        "join pg_catalog.pg_namespace n on n.oid = c.relnamespace where n.nspname = %s and c.relname = %s",
        [table.schema, table.name],
    ).fetchone()
    return bool(row and row[0])


def _exists_without_truncate_trigger(connection: psycopg.Connection, table: TableName) -> bool:
    row = connection.execute(
        "select c.relkind = 'p', exists (select from pg_catalog.pg_trigger t where t.tgrelid = c.oid "
        "  and t.tgenabled in ('A', 'R') and not t.tgisinternal and t.tgtype & 32 <> 0) "
        "from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace "
        "where n.nspname = %s and c.relname = %s and c.relkind in ('r', 'p')",
        [table.schema, table.name],
    ).fetchone()
    if row is not None and row[1]:
        raise SecondaryError(
            f"{table} has to be emptied, and a TRUNCATE trigger on it would fire",
            hint=f"as its owner: truncate {table}; then run it again",
        )
    return row is not None
