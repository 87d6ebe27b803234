"""Finds, on the secondary, the table that a relation's rows belong to.

In: a connection to the secondary, with the settings that `logship.connection` pins, and relations of
the log. Out: targets (`logship.replay.shape`), looked up by name in one round trip each, or
`RelationMissing` or `ShapeDiffers`. Remembers nothing: a Relation message asks anew. Never writes.
`Targets` sees what is committed; `catalog_query` and `target_of` are for a session that has more to see.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import psycopg

from logship.change import Relation, TypeName
from logship.replay.copying import MAY_INSERT, RUNS_NOTHING_OF_USERS
from logship.replay.failures import RelationMissing
from logship.replay.session import TEXT, Command
from logship.replay.shape import SecondaryTable, SecondaryTarget, fit

_KINDS: Final = {"v": "a view", "m": "a materialized view", "f": "a foreign table", "S": "a sequence"}

# ``hijacked``: a cast from text runs a function of a user's, or regclass's own that takes no oids, in
# place of the input function. ``operator``: the type's own default equality, also when it is that of
# the type it is stored as (varchar: text) or of all arrays, enums, ranges.
_TABLE: Final = (
    """
select pg_catalog.jsonb_build_array(c.oid::pg_catalog.int8, c.relkind, c.relowner::pg_catalog.int8,
       pg_catalog.pg_get_userbyid(c.relowner)::pg_catalog.text,
       coalesce((
         select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
           'attnum', a.attnum, 'name', a.attname, 'type_oid', a.atttypid::pg_catalog.int8,
           'typmod', a.atttypmod,
           'type_sql', pg_catalog.format_type(a.atttypid, a.atttypmod),
           'type_name', pg_catalog.jsonb_build_array(tn.nspname, t.typname),
           'not_null', a.attnotnull or t.typnotnull, 'has_default', a.atthasdef or t.typdefault is not null,
           'identity', a.attidentity, 'generated', a.attgenerated, 'is_domain', t.typtype = 'd',
           'base_oid', b.oid::pg_catalog.int8,
           'base_name', pg_catalog.jsonb_build_array(b.nspname, b.typname),
           'array_sql', case when t.typarray <> 0 then pg_catalog.format_type(t.typarray, a.atttypmod) end,
           'hijacked', exists (
             select from pg_catalog.pg_cast h
              where h.castsource = 'pg_catalog.text'::pg_catalog.regtype and h.casttarget = b.oid
                and h.castmethod = 'f'
                and (h.castfunc >= 16384 or b.oid = 'pg_catalog.regclass'::pg_catalog.regtype)),
           'operator', case when b.is_array then pg_catalog.jsonb_build_array('pg_catalog', '=')
                       else eq.operator end,
           'has_equality', eq.operator is not null and b.typtype <> 'c'
         ) order by a.attnum)
           from pg_catalog.pg_attribute a
           join pg_catalog.pg_type t on t.oid = a.atttypid
           join pg_catalog.pg_namespace tn on tn.oid = t.typnamespace
          cross join lateral (
            with recursive base (oid, typtype, typbasetype) as (
              select t.oid, t.typtype, t.typbasetype
              union all
              select d.oid, d.typtype, d.typbasetype
                from base join pg_catalog.pg_type d on d.oid = base.typbasetype
               where base.typtype = 'd')
            select bt.oid, bt.typname, bn.nspname, bt.typtype, bt.typelem,
                   bt.typcategory = 'A' and bt.typelem <> 0 as is_array
              from base join pg_catalog.pg_type bt on bt.oid = base.oid
              join pg_catalog.pg_namespace bn on bn.oid = bt.typnamespace
             where base.typtype <> 'd') b
          cross join lateral (
            select e.oid, e.typtype from pg_catalog.pg_type e
             where e.oid = case when b.is_array then b.typelem else b.oid end) e
           left join lateral (
            select pg_catalog.jsonb_build_array(n.nspname, o.oprname) as operator
              from pg_catalog.pg_opclass k
              join pg_catalog.pg_amop m on m.amopfamily = k.opcfamily and m.amoplefttype = k.opcintype
               and m.amoprighttype = k.opcintype
               and m.amopstrategy = case k.opcmethod when 403 then 3 else 1 end
              join pg_catalog.pg_operator o on o.oid = m.amopopr
              join pg_catalog.pg_namespace n on n.oid = o.oprnamespace
             where k.opcdefault and k.opcmethod in (403, 405)
               and (k.opcintype = e.oid
                    or k.opcintype = case e.typtype when 'e' then 3500 when 'r' then 3831 when 'm' then 4537
                                                    when 'c' then 2249 end::pg_catalog.oid
                    or exists (select from pg_catalog.pg_cast x
                                where x.castsource = e.oid and x.casttarget = k.opcintype
                                  and x.castmethod = 'b' and x.castcontext = 'i'))
             order by k.opcmethod, k.opcintype <> e.oid, k.opcintype
             limit 1) eq on true
          where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped), '[]'),
       coalesce((
         select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
           'unique', i.indisunique, 'primary', i.indisprimary, 'immediate', i.indimmediate,
           'columns', (i.indkey::pg_catalog.int2[])[0 : i.indnkeyatts - 1]))
           from pg_catalog.pg_index i
           join pg_catalog.pg_class x on x.oid = i.indexrelid
           join pg_catalog.pg_am m on m.oid = x.relam and m.amname in ('btree', 'hash')
          where i.indrelid = c.oid and i.indisvalid and i.indpred is null
            and not 0 = any ((i.indkey::pg_catalog.int2[])[0 : i.indnkeyatts - 1])), '[]'),
       """
    + f"{RUNS_NOTHING_OF_USERS}, {MAY_INSERT}"
    + """)
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where n.nspname = $1 and c.relname = $2 and c.relkind not in ('i', 'I', 't', 'c')
"""
)


class Targets:
    """Looks tables up over ``connection``, which nobody else may use meanwhile."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._cursor = psycopg.RawCursor(connection)

    def resolve(self, relation: Relation, types: Mapping[int, TypeName]) -> SecondaryTarget:
        """The table of ``relation``'s name. Raises `RelationMissing`, `ShapeDiffers`."""
        row = self._cursor.execute(_TABLE, [relation.schema, relation.name]).fetchone()
        return _target(relation, types, row[0] if row else None)


def catalog_query(relation: Relation) -> Command:
    """What `target_of` needs: one cell, none when there is no such relation."""
    return Command(_TABLE.encode(), [relation.schema.encode(), relation.name.encode()], [TEXT, TEXT])


def target_of(relation: Relation, types: Mapping[int, TypeName], cell: bytes | None) -> SecondaryTarget:
    """Raises `RelationMissing`, `ShapeDiffers`."""
    return _target(relation, types, json.loads(cell) if cell is not None else None)


def _target(relation: Relation, types: Mapping[int, TypeName], row: Sequence[Any] | None) -> SecondaryTarget:
    if row is None:
        raise RelationMissing(str(relation))
    table = SecondaryTable(*row)
    if table.kind not in ("r", "p"):
        raise RelationMissing(str(relation), f"is {_KINDS.get(table.kind, 'no table')}, not a table,")
    return fit(relation, types, table)
