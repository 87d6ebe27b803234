"""Whether two databases have the same schema, by what logship's own facts say of every object.

In: conninfos of two databases that have the schema ``logship`` (init makes it). Out: a line for each difference,
in the words that stop a replica whose catalog came out otherwise. Left out: what logship made, members of
extensions, publications and event triggers. Assumes that nobody changes either schema meanwhile.
"""

from __future__ import annotations

from typing import Any, Final

import psycopg

from logship.connection import Side, connect
from logship.replay.ddl.facts import compare

__all__ = ["between", "catalog", "differences", "tables"]

Facts = dict[tuple[Any, ...], dict[str, Any]]

_CLASSES: Final = (
    "pg_class", "pg_type", "pg_proc", "pg_trigger", "pg_rewrite", "pg_policy", "pg_namespace",
    "pg_operator", "pg_opclass", "pg_opfamily", "pg_cast", "pg_collation", "pg_conversion", "pg_ts_config",
    "pg_ts_dict", "pg_ts_parser", "pg_ts_template", "pg_statistic_ext", "pg_extension", "pg_language",
    "pg_foreign_data_wrapper", "pg_foreign_server", "pg_user_mapping", "pg_default_acl", "pg_transform",
    "pg_am",
)  # fmt: skip
# What belongs to another row of the same catalog, and is a part of its facts.
_ROW_OF: Final = {
    "pg_class": "x.relkind not in ('t', 'c') and x.relpersistence <> 't'",
    "pg_type": "x.typelem = 0 and x.typtype <> 'p' and (x.typrelid = 0 or exists "
    "(select from pg_catalog.pg_class c where c.oid = x.typrelid and c.relkind = 'c'))",
    "pg_trigger": "not x.tgisinternal",
    "pg_rewrite": "x.rulename <> '_RETURN'",
}
_NOT_USERS: Final = ("logship", "logship_writers", "information_schema")
# Nothing else says which schema these are in.
_BEGIN_WITH_SCHEMA: Final = ("schema", "trigger", "rule", "policy")
_FIRST_OF_USERS: Final = 16384  # FirstNormalObjectId, access/transam.h
_OBJECTS: Final = """
select logship.ddl_object(o.class, o.oid, 0)
  from ({rows}) o (class, oid)
 where not exists (select from pg_catalog.pg_depend d
                    where d.classid = o.class and d.objid = o.oid and d.deptype = 'e')
"""
_TABLES: Final = """
select n.nspname || '.' || c.relname
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where c.relkind = 'r' and c.relpersistence = 'p' and n.nspname !~ '^pg_' and n.nspname <> all (%s)
 order by 1
"""


def differences(primary: str, secondary: str) -> list[str]:
    """A line for each object that only one side has, and for each fact that differs."""
    with connect(primary, Side.PRIMARY) as ours, connect(secondary, Side.SECONDARY) as theirs:
        return between(ours, theirs)


def between(primary: psycopg.Connection, secondary: psycopg.Connection) -> list[str]:
    """The same, for who asks often: a session's first look takes much longer than those that follow."""
    same_version = _major(primary) == _major(secondary)
    one, two = catalog(primary), catalog(secondary)
    lines = [f"{_name(key)}: only on the primary" for key in one.keys() - two.keys()]
    lines += [f"{_name(key)}: only on the secondary" for key in two.keys() - one.keys()]
    for key in one.keys() & two.keys():
        lines += [f"{_name(key)}: {line}" for line in compare(one[key], two[key], same_version=same_version)]
    return sorted(lines)


def catalog(connection: psycopg.Connection) -> Facts:
    """The facts of everything that users made, by its address: type, names, arguments."""
    rows = " union all ".join(
        f"select 'pg_catalog.{name}'::pg_catalog.regclass::oid, x.oid from pg_catalog.{name} x "
        f"where {'true' if name == 'pg_namespace' else f'x.oid >= {_FIRST_OF_USERS}'} and {_ROW_OF.get(name, 'true')}"
        for name in _CLASSES
    )
    found = connection.execute(_OBJECTS.format(rows=rows).encode()).fetchall()
    objects = [one for (one,) in found if one is not None and _of_users(one)]
    return {(one["type"], *one["names"], *(one["args"] or ())): one["facts"] for one in objects}


def tables(connection: psycopg.Connection) -> list[str]:
    """``schema.name`` of the tables that users made and that hold rows of their own, partitions among them."""
    return [str(name) for (name,) in connection.execute(_TABLES, [list(_NOT_USERS)]).fetchall()]


def _of_users(one: dict[str, Any]) -> bool:
    first = (one["names"] or [""])[0]
    schema = first if one["type"] in _BEGIN_WITH_SCHEMA else one["schema"] or ""
    return schema not in _NOT_USERS and first not in _NOT_USERS and not schema.startswith("pg_")


def _name(key: tuple[Any, ...]) -> str:
    kind, *names = key
    return f"{kind} {'.'.join(names)}"


def _major(connection: psycopg.Connection) -> int:
    return connection.info.server_version // 10_000
