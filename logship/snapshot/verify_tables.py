"""What there is to compare: each published table as both sides have it, and the key its rows are found by.

In: connections to both, in the transactions whose snapshots are compared. Out: `Pair`s, and for
tables that can't be compared the reason. Columns are matched by name, in the primary's order; what
only the secondary has is left aside. Catalogs are only read.

A key is *ordered* when both servers surely sort it alike: built-in types, and texts only where both
have the same version of the same collation. Only then may a range of keys stand for a set of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import psycopg

from logship.snapshot.relations import TableName

_CHAR: Final = 18

# ``orders``: '' when no collation is asked; else which, and in what version (null: nobody knows).
_TABLE: Final = """
select c.oid::pg_catalog.int8, c.relkind::pg_catalog.text, pg_catalog.pg_relation_size(c.oid),
       c.reltuples::pg_catalog.float8, pg_catalog.current_setting('block_size')::pg_catalog.int4,
       coalesce((
         select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
           'name', a.attname, 'type', pg_catalog.format_type(a.atttypid, a.atttypmod),
           'oid', a.atttypid::pg_catalog.int8, 'attnum', a.attnum, 'not_null', a.attnotnull,
           'base', b.oid::pg_catalog.int8, 'base_type', pg_catalog.format_type(b.oid, -1),
           'plain', b.typtype = 'b' and b.oid < 10000 and b.typcategory <> 'A' and b.typname <> 'jsonb',
           'orders', case
             when a.attcollation = 0 then ''
             when l.collname in ('C', 'POSIX') and l.collnamespace = 'pg_catalog'::pg_catalog.regnamespace then ''
             when l.oid = 100 then (
               select case when d.datlocprovider = 'c' and d.datcollate in ('C', 'POSIX') then ''
                 else pg_catalog.concat_ws('/', d.datlocprovider,
                   coalesce(pg_catalog.to_jsonb(d) ->> 'datlocale', pg_catalog.to_jsonb(d) ->> 'daticulocale',
                            d.datcollate::pg_catalog.text))
                   || '/' || pg_catalog.pg_database_collation_actual_version(d.oid) end
                 from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())
             else pg_catalog.concat_ws('/', l.collprovider,
               coalesce(pg_catalog.to_jsonb(l) ->> 'colllocale', pg_catalog.to_jsonb(l) ->> 'colliculocale',
                        l.collcollate::pg_catalog.text), pg_catalog.to_jsonb(l) ->> 'collicurules')
               || '/' || pg_catalog.pg_collation_actual_version(l.oid) end
         ) order by a.attnum)
           from pg_catalog.pg_attribute a
           join pg_catalog.pg_type t on t.oid = a.atttypid
           left join pg_catalog.pg_collation l on l.oid = a.attcollation
          cross join lateral (
            with recursive base (oid, typtype, typbasetype) as (
              select t.oid, t.typtype, t.typbasetype
              union all
              select d.oid, d.typtype, d.typbasetype
                from base join pg_catalog.pg_type d on d.oid = base.typbasetype
               where base.typtype = 'd')
            select bt.* from base join pg_catalog.pg_type bt on bt.oid = base.oid
             where base.typtype <> 'd') b
          where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped), '[]'),
       coalesce((
         select pg_catalog.jsonb_agg((i.indkey::pg_catalog.int2[])[0 : i.indnkeyatts - 1]
                                     order by i.indisprimary desc, i.indisreplident desc, i.indnkeyatts, i.indexrelid)
           from pg_catalog.pg_index i
           join pg_catalog.pg_class x on x.oid = i.indexrelid
           join pg_catalog.pg_am m on m.oid = x.relam and m.amname = 'btree'
          where i.indrelid = c.oid and i.indisunique and i.indimmediate and i.indisvalid and i.indpred is null
            and not 0 = any ((i.indkey::pg_catalog.int2[])[0 : i.indnkeyatts - 1])), '[]')
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where n.nspname = %s and c.relname = %s and c.relkind in ('r', 'p')
"""


@dataclass(frozen=True, slots=True)
class Column:
    """``base_type`` is what a key's text is cast to: a domain's checks would be code of users'."""

    name: str
    base_type: str
    as_number: bool  # "char": servers before 16 print its upper half differently


@dataclass(frozen=True, slots=True)
class Table:
    """One side's table: what a query needs beyond the columns."""

    kind: str  # pg_class.relkind
    blocks: int
    rows: int  # an estimate


@dataclass(frozen=True, slots=True)
class Pair:
    """A table of both sides. ``key``: places in ``columns``; empty: rows are told apart by all they hold."""

    table: TableName
    columns: tuple[Column, ...]
    key: tuple[int, ...]
    ordered: bool
    primary: Table
    secondary: Table

    @property
    def key_columns(self) -> tuple[Column, ...]:
        return tuple(self.columns[place] for place in self.key)


@dataclass(frozen=True, slots=True)
class Incomparable:
    table: TableName
    reason: str


def pair(primary: psycopg.Connection, secondary: psycopg.Connection, table: TableName) -> Pair | Incomparable:
    """The table on both sides, or why it can't be compared."""
    here = primary.execute(_TABLE, [table.schema, table.name]).fetchone()
    there = secondary.execute(_TABLE, [table.schema, table.name]).fetchone()
    if here is None:
        return Incomparable(table, "it is gone from the primary")
    if there is None:
        return Incomparable(table, "the secondary has no such table")
    by_name = {column["name"]: column for column in there[5]}
    for column in here[5]:
        other = by_name.get(column["name"])
        if other is None:
            return Incomparable(table, f'the secondary lacks column "{column["name"]}"')
        if other["type"] != column["type"]:
            return Incomparable(
                table,
                f'column "{column["name"]}" is {column["type"]} on the primary and {other["type"]} on the secondary',
            )
    key = _key(here[5], here[6])
    return Pair(
        table,
        tuple(Column(c["name"], c["base_type"], c["base"] == _CHAR) for c in here[5]),
        key,
        all(_ordered(here[5][place], by_name[here[5][place]["name"]]) for place in key),
        _side(here),
        _side(there),
    )


def _side(row: Sequence[Any]) -> Table:
    _, kind, size, estimate, block = row[:5]
    rows = int(estimate) if estimate > 0 else size // 64
    return Table(kind, -(-size // block), rows)


def _key(columns: Sequence[Any], indexes: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """The first unique index whose columns can't be null: the primary key, if there is one."""
    place = {column["attnum"]: number for number, column in enumerate(columns)}
    for index in indexes:
        if all(columns[place[attnum]]["not_null"] for attnum in index):
            return tuple(place[attnum] for attnum in index)
    return ()


def _ordered(here: Any, there: Any) -> bool:
    return (
        here["plain"] and here["base"] != _CHAR and here["orders"] is not None
        and here["orders"] == there["orders"]
    )  # fmt: skip
