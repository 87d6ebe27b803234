"""The relations of either side, as far as it matters for following them: what they are, who owns them.

In: a connection to either side. Out: `RelationFacts`, a row each, and their columns. logship's own schemas
and the system's are never among them. Only reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg import sql

_RELATIONS: Final = """
select n.nspname, c.relname, c.relkind::pg_catalog.text, c.relpersistence::pg_catalog.text, c.relispartition,
       r.rolname, r.rolsuper, r.rolsuper or r.rolbypassrls, c.relrowsecurity, c.relforcerowsecurity,
       c.relkind = 'r' and not c.relispartition
         and exists (select from pg_catalog.pg_inherits i where i.inhrelid = c.oid),
       exists (select from pg_catalog.pg_depend d
                where d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                  and d.objid = c.oid and d.deptype = 'e'),
       pg_catalog.pg_has_role(c.relowner, 'usage'),
       pg_catalog.has_schema_privilege(n.oid, 'usage')
         and case c.relkind when 'S' then pg_catalog.has_sequence_privilege(c.oid, 'select')
             else pg_catalog.has_table_privilege(c.oid, 'select') end,
       case when c.relkind in ('r', 'm') then pg_catalog.pg_table_size(c.oid) else 0 end,
       coalesce((select pg_catalog.array_agg(t.tgname::pg_catalog.text order by t.tgname)
                   from pg_catalog.pg_trigger t
                  where t.tgrelid = c.oid and t.tgenabled in ('A', 'R') and not t.tgisinternal), '{}'),
       pg_catalog.has_schema_privilege(c.relowner, n.oid, 'usage')
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  join pg_catalog.pg_roles r on r.oid = c.relowner
 where c.relkind in ('r', 'p', 'v', 'm', 'S', 'f') and c.relpersistence <> 't'
   and n.nspname not in ('pg_catalog', 'information_schema', 'logship', 'logship_writers')
   and n.nspname !~ '^pg_(toast|temp)'
 order by 1, 2
"""

_COLUMNS: Final = """
select n.nspname, c.relname, a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod)
  from pg_catalog.pg_attribute a
  join pg_catalog.pg_class c on c.oid = a.attrelid and c.relkind in ('r', 'p')
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
   and n.nspname not in ('pg_catalog', 'information_schema', 'logship', 'logship_writers')
   and n.nspname !~ '^pg_(toast|temp)'
 order by 1, 2, a.attnum
"""

_KEYS: Final = """
select n.nspname, c.relname, pg_catalog.pg_get_constraintdef(k.oid)
  from pg_catalog.pg_constraint k
  join pg_catalog.pg_class c on c.oid = k.conrelid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where k.contype = 'p'
"""

Name = tuple[str, str]  # schema and relation


@dataclass(frozen=True, slots=True)
class RelationFacts:
    schema: str
    name: str
    kind: str  # pg_class.relkind
    persistence: str
    partition: bool
    owner: str
    owner_superuser: bool
    owner_bypasses_rls: bool
    rls: bool
    forced_rls: bool
    inherits: bool
    of_extension: bool
    may_own: bool  # the user has its owner's rights
    may_read: bool
    size_bytes: int
    always_triggers: tuple[str, ...]
    owner_may_enter: bool  # its owner has USAGE on its schema

    @property
    def key(self) -> Name:
        return (self.schema, self.name)

    @property
    def quoted(self) -> str:
        return quoted(self.schema, self.name)

    @property
    def table(self) -> bool:
        return self.kind in {"r", "p"}


def relations(connection: psycopg.Connection) -> tuple[RelationFacts, ...]:
    rows = connection.execute(_RELATIONS).fetchall()
    return tuple(RelationFacts(*(*row[:-2], tuple(row[-2]), row[-1])) for row in rows)


def columns(connection: psycopg.Connection) -> dict[Name, dict[str, str]]:
    """Of every table: its columns that are written, in their order, and their types as SQL."""
    found: dict[Name, dict[str, str]] = {}
    for schema, name, column, type_sql in connection.execute(_COLUMNS).fetchall():
        found.setdefault((schema, name), {})[column] = type_sql
    return found


def primary_keys(connection: psycopg.Connection) -> dict[Name, str]:
    """`PRIMARY KEY (…)` of the tables that have one."""
    return {(schema, name): text for schema, name, text in connection.execute(_KEYS).fetchall()}


def quoted(*names: str) -> str:
    return sql.Identifier(*names).as_string(None)
