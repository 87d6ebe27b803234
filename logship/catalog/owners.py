"""Whose schema changes may come, and what those roles may make on either side.

In: connections to both databases. Out: roles of the secondary, by oid, that own something there or may come to
own something; rights to make things that a role has on the primary and lacks on the secondary. Reads only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import psycopg
from psycopg import sql

_SAME: Final[Mapping[str, str]] = MappingProxyType({})
# Owners of whatever can be altered, those who may make something, and superusers. What initdb made is left
# aside, but for the schema public: its owner is whoever owns the database.
_OWNERS: Final = """
with ours (oid) as (
  select n.oid from pg_catalog.pg_namespace n
   where n.nspname in ('logship', 'logship_writers', 'pg_toast', 'information_schema') or n.nspname ~ '^pg_temp_'),
owned (owner) as (
  select c.relowner from pg_catalog.pg_class c where c.oid >= 16384 and c.relnamespace not in (table ours)
  union select p.proowner from pg_catalog.pg_proc p where p.oid >= 16384 and p.pronamespace not in (table ours)
  union select t.typowner from pg_catalog.pg_type t where t.oid >= 16384 and t.typnamespace not in (table ours)
  union select n.nspowner from pg_catalog.pg_namespace n
         where (n.oid >= 16384 or n.nspname = 'public') and n.oid not in (table ours)
  union select o.oprowner from pg_catalog.pg_operator o where o.oid >= 16384
  union select o.opcowner from pg_catalog.pg_opclass o where o.oid >= 16384
  union select o.opfowner from pg_catalog.pg_opfamily o where o.oid >= 16384
  union select c.collowner from pg_catalog.pg_collation c where c.oid >= 16384
  union select c.conowner from pg_catalog.pg_conversion c where c.oid >= 16384
  union select c.cfgowner from pg_catalog.pg_ts_config c where c.oid >= 16384
  union select d.dictowner from pg_catalog.pg_ts_dict d where d.oid >= 16384
  union select s.stxowner from pg_catalog.pg_statistic_ext s
  union select l.lanowner from pg_catalog.pg_language l where l.oid >= 16384
  union select e.extowner from pg_catalog.pg_extension e where e.oid >= 16384
  union select w.fdwowner from pg_catalog.pg_foreign_data_wrapper w
  union select s.srvowner from pg_catalog.pg_foreign_server s
  union select d.datdba from pg_catalog.pg_database d where d.datname = pg_catalog.current_database()),
granted (role) as (
  select a.grantee from pg_catalog.pg_namespace n, pg_catalog.aclexplode(n.nspacl) a
   where a.privilege_type = 'CREATE' and a.grantee <> 0 and n.nspname !~ '^pg_' and n.oid not in (table ours)
  union select a.grantee from pg_catalog.pg_database d, pg_catalog.aclexplode(d.datacl) a
   where a.privilege_type = 'CREATE' and a.grantee <> 0 and d.datname = pg_catalog.current_database())
select r.oid::pg_catalog.int8, r.rolname, r.oid in (select owner from owned)
  from pg_catalog.pg_roles r
 where r.oid in (select owner from owned)
    or r.rolname !~ '^pg_' and (r.rolsuper and (select me.rolsuper from pg_catalog.pg_roles me
                                                where me.rolname = current_user)
         or not r.rolsuper and exists (select from granted g where pg_catalog.pg_has_role(r.oid, g.role, 'usage')))
"""
# NULL for a schema: the database itself.
_MAKERS: Final = """
select r.rolname, null from pg_catalog.pg_roles r
 where not r.rolsuper and r.rolname !~ '^pg_'
   and pg_catalog.has_database_privilege(r.oid, pg_catalog.current_database(), 'create')
union all
select r.rolname, n.nspname from pg_catalog.pg_roles r, pg_catalog.pg_namespace n
 where not r.rolsuper and r.rolname !~ '^pg_'
   and n.nspname !~ '^pg_' and n.nspname not in ('logship', 'logship_writers', 'information_schema')
   and pg_catalog.has_schema_privilege(r.oid, n.oid, 'create')
"""


@dataclass(frozen=True, slots=True)
class Owner:
    """``owns``: it owns something already; otherwise it may come to."""

    oid: int
    name: str
    owns: bool


def owners(
    secondary: psycopg.Connection, primary: psycopg.Connection | None = None, roles: Mapping[str, str] = _SAME
) -> list[Owner]:
    """Of the secondary; with the primary also its roles of those names (``roles``: of another) that own something
    there, so that what comes next can be run. Superusers only for who is one: nobody else could give them one."""
    found = [Owner(oid, name, owns) for oid, name, owns in secondary.execute(_OWNERS).fetchall()]
    if primary is not None:
        known = {owner.name for owner in found}
        theirs = {roles.get(name, name) for _, name, owns in primary.execute(_OWNERS).fetchall() if owns}
        rows = secondary.execute(
            "select r.oid::pg_catalog.int8, r.rolname from pg_catalog.pg_roles r where r.rolname = any (%s)",
            [sorted(theirs - known)],
        ).fetchall()
        found += [Owner(oid, name, True) for oid, name in rows]
    return found


def may_not_make(
    primary: psycopg.Connection, secondary: psycopg.Connection, renamed: Mapping[str, str] = _SAME
) -> list[str]:
    """GRANT statements for what roles of both sides may make on the primary, and not on the secondary."""
    theirs = set(secondary.execute(_MAKERS).fetchall())
    roles = {
        name
        for (name,) in secondary.execute(
            "select r.rolname from pg_catalog.pg_roles r where not r.rolsuper"
        ).fetchall()
    }
    schemas = {
        name for (name,) in secondary.execute("select n.nspname from pg_catalog.pg_namespace n").fetchall()
    }
    makers = [(renamed.get(role, role), schema) for role, schema in primary.execute(_MAKERS).fetchall()]
    wanted = [
        (role, schema)
        for role, schema in makers
        if (role, schema) not in theirs and role in roles and (schema is None or schema in schemas)
    ]
    return [
        _grant(secondary.info.dbname, role, schema)
        for role, schema in sorted(wanted, key=lambda one: (one[0], one[1] or ""))
    ]


def _grant(database: str, role: str, schema: str | None) -> str:
    kind, name = ("database", database) if schema is None else ("schema", schema)
    return (
        sql.SQL("grant create on {} {} to {}")
        .format(sql.SQL(kind), sql.Identifier(name), sql.Identifier(role))
        .as_string(None)
    )
