"""What a name in a query stands for on the secondary, and whether a role may read all of it.

In: a connection of the replayer, the role whose rights count, the schemas that it looks through. Out: the
relation, its columns with what decides how they compare, and the reason why memory may not answer for it. The
rules are the server's own: has_table_privilege and has_schema_privilege, asked for that role. A right to some
columns only, row level security, a view: all that is left to the server itself, as the role that asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import psycopg

_RELATION = """
select c.oid::bigint, n.nspname, c.relname,
       case when not (pg_catalog.has_schema_privilege(%(role)s, n.oid, 'usage')
                      and pg_catalog.has_table_privilege(%(role)s, c.oid, 'select'))
            then 'isn''t wholly readable for the role that asks'
            when c.relkind = 'p' then 'is a partitioned table: its partitions are kept, each by itself'
            when c.relkind <> 'r' then 'is no ordinary table'
            when c.relrowsecurity then 'has row level security'
            when c.relhassubclass then 'has tables that inherit from it'
       end
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where c.relname = %(name)s and n.nspname = any(%(schemas)s)
 order by pg_catalog.array_position(%(schemas)s, n.nspname::text)
 limit 1
"""

# Texts compare by their bytes under C and POSIX, and under the builtin provider's collations, in UTF-8 all alike.
_DEFAULT = """
select d.provider = 'b' or (d.provider = 'c' and d.datcollate in ('C', 'POSIX')) as ordered
  from (select pg_catalog.to_jsonb(b) ->> 'datlocprovider' as provider, b.datcollate
          from pg_catalog.pg_database b where b.datname = pg_catalog.current_database()) d
"""
# A composite type, and a domain of one, has the category C.
_COLUMNS = f"""
select a.attname, a.atttypid::bigint, a.atttypmod, pg_catalog.format_type(a.atttypid, a.atttypmod),
       coalesce(co.collisdeterministic, true),
       coalesce(pg_catalog.getdatabaseencoding() = 'UTF8' and case co.collprovider
                when 'd' then ({_DEFAULT})
                when 'c' then co.collcollate in ('C', 'POSIX')
                else co.collprovider = 'b' end, true),
       t.typcategory = 'C'
  from pg_catalog.pg_attribute a
  join pg_catalog.pg_type t on t.oid = a.atttypid
  left join pg_catalog.pg_collation co on co.oid = a.attcollation
 where a.attrelid = %s and a.attnum > 0 and not a.attisdropped
 order by a.attnum
"""


@dataclass(frozen=True, slots=True)
class ReadableColumn:
    """``equal``: different bytes are different texts; ``ordered``: texts come in the order of their bytes; ``row``: it
    is composite."""

    name: str
    type_oid: int
    typmod: int
    type_name: str
    equal: bool
    ordered: bool
    row: bool


@dataclass(frozen=True, slots=True)
class Readable:
    schema: str
    name: str
    why_not: str
    columns: tuple[ReadableColumn, ...]


def readable(secondary: psycopg.Connection, role: str, schemas: Sequence[str], name: str) -> Readable | None:
    """The first relation of that name in ``schemas``. None: there is none."""
    row = secondary.execute(_RELATION, {"role": role, "name": name, "schemas": list(schemas)}).fetchone()
    if row is None:
        return None
    oid, schema, relname, why_not = row
    columns = () if why_not else secondary.execute(_COLUMNS, [oid]).fetchall()
    return Readable(schema, relname, why_not or "", tuple(ReadableColumn(*column) for column in columns))


def orders_by_bytes(secondary: psycopg.Connection) -> bool:
    """Whether texts under the database's own collation come in the order of their bytes."""
    query = f"select pg_catalog.getdatabaseencoding() = 'UTF8' and ({_DEFAULT})"
    row = secondary.execute(query.encode()).fetchone()
    return row is not None and bool(row[0])


# Types of arguments that memory's own functions may have, and the polymorphic ones.
_ARGUMENTS: Final = (
    16, 17, 19, 20, 21, 23, 25, 700, 701, 705, 1042, 1043, 1082, 1083,
    1114, 1184, 1700, 2276, 2283, 2776, 2950, 5077,
)  # fmt: skip


def takes_the_place(
    secondary: psycopg.Connection, schemas: Sequence[str], functions: Iterable[str], operators: Iterable[str]
) -> str | None:
    """A function or an operator of somebody's own, found in ``schemas`` under one of these names, which PostgreSQL may
    call where it has one of that name itself: for a varchar, length(varchar) comes before length(text)."""
    row = secondary.execute(
        """
        select pg_catalog.format('%%s.%%s', n.nspname, p.proname)
          from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
         where p.proname = any(%(functions)s) and n.nspname = any(%(schemas)s) and n.nspname <> 'pg_catalog'
           and p.proargtypes::pg_catalog.oid[] <@ %(types)s::pg_catalog.oid[]
        union all
        select pg_catalog.format('%%s.%%s', n.nspname, o.oprname)
          from pg_catalog.pg_operator o join pg_catalog.pg_namespace n on n.oid = o.oprnamespace
         where o.oprname = any(%(operators)s) and n.nspname = any(%(schemas)s) and n.nspname <> 'pg_catalog'
           and o.oprright = any(%(types)s::pg_catalog.oid[])
           and (o.oprleft = 0 or o.oprleft = any(%(types)s::pg_catalog.oid[]))
         limit 1
        """,
        {
            "functions": sorted(functions),
            "operators": sorted(operators),
            "schemas": list(schemas),
            "types": list(_ARGUMENTS),
        },
    ).fetchone()
    return None if row is None else str(row[0])
