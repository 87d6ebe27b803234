"""Roles of the primary that have another name on the secondary: `--map-role`, kept in `logship.role_map`.

In: what an operator gave, connections to both sides. Out: the secondary's name by the primary's; rows, so that the
replayer and every later command know them. A map that would give a role more than it has on the primary, or make
one of two, is `RefusedAsUnsafe`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

import psycopg

from logship.catalog.selection import split
from logship.errors import RefusedAsUnsafe, UsageError

_NAME: Final = r'"(?:[^"]|"")+"|[^"=\s](?:[^"=]*[^"=\s])?'
_PAIR: Final = re.compile(rf"({_NAME})\s*=\s*({_NAME})\Z")
_TARGETS: Final = """
select t.name, r.oid is not null, coalesce(r.rolsuper, false),
       exists (select from pg_catalog.pg_roles s
                where r.oid is not null and s.rolsuper and pg_catalog.pg_has_role(r.oid, s.oid, 'member')),
       coalesce((select pg_catalog.min(o.rolname::pg_catalog.text) from pg_catalog.pg_roles o
                  where r.oid is not null and pg_catalog.pg_has_role(r.oid, o.oid, 'member')
                    and (o.rolname in (%(replayer)s, current_user)
                         or o.oid in (select n.nspowner from pg_catalog.pg_namespace n where n.nspname = 'logship'))),
                '')
  from pg_catalog.unnest(%(names)s::pg_catalog.text[]) t (name)
  left join pg_catalog.pg_roles r on r.rolname = t.name
"""


def parse(given: Sequence[str]) -> dict[str, str]:
    """``app=app_replica``, several with commas; a name with other signs stands in double quotes. `UsageError`."""
    found: dict[str, str] = {}
    for text in [*(one for one in given if one.count('"') % 2), *split(given)]:
        pair = _PAIR.match(text)
        if pair is None:
            raise UsageError(
                f"--map-role: {text!r} is not a pair of roles",
                hint="write the primary's role and the secondary's: app=app_replica; a name with a space, a comma or "
                "an equals sign in double quotes",
            )
        one, two = (_plain(name) for name in pair.groups())
        if found.get(one, two) != two:
            raise UsageError(
                f'--map-role gives "{one}" two names: "{found[one]}" and "{two}"', hint="leave one of them"
            )
        found[one] = two
    return found


def read(secondary: psycopg.Connection, replica: str | None = None) -> dict[str, str]:
    """Of a replica; of all replicas in this database. Empty where logship's schema isn't there yet."""
    there = secondary.execute("select pg_catalog.to_regclass('logship.role_map') is not null").fetchone()
    if not there or not there[0]:
        return {}
    rows = secondary.execute(
        "select m.primary_role, m.secondary_role from logship.role_map m "
        "where %(replica)s::pg_catalog.text is null or m.replica = %(replica)s",
        {"replica": replica},
    ).fetchall()
    return dict(rows)


def together(known: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """What holds: ``given`` comes before what is ``known``, and a role that is given its own name has that again."""
    return {one: two for one, two in {**known, **given}.items() if one != two}


def store(secondary: psycopg.Connection, replica: str, roles: Mapping[str, str]) -> None:
    with secondary.transaction():
        secondary.execute("delete from logship.role_map where replica = %s", [replica])
        with secondary.cursor() as cursor:
            cursor.executemany(
                "insert into logship.role_map (replica, primary_role, secondary_role) values (%s, %s, %s)",
                [(replica, one, two) for one, two in roles.items()],
            )


def require_safe(
    primary: psycopg.Connection,
    secondary: psycopg.Connection,
    roles: Mapping[str, str],
    *,
    given: Mapping[str, str],
    used: Sequence[str],
    replayer: str,
) -> None:
    """`RefusedAsUnsafe`, `UsageError`. ``used``: roles that own or may use the primary's objects."""
    here: dict[str, bool] = dict(
        primary.execute("select r.rolname, r.rolsuper from pg_catalog.pg_roles r").fetchall()
    )
    for role in given:
        if role not in here:
            raise UsageError(
                f'--map-role names a role "{role}", which the primary doesn\'t have',
                hint="the primary's role comes first: --map-role app=app_replica",
            )
    _require_one_each(roles, used)
    rows = secondary.execute(_TARGETS, {"names": list(roles.values()), "replayer": replayer}).fetchall()
    facts = {row[0]: row[1:] for row in rows}
    for one, two in roles.items():
        _, superuser, like_one, own = facts[two]
        if here.get(one, False) and superuser and two != replayer:
            continue  # it can do everything on either side
        if superuser or like_one:
            raise _unsafe(one, two, "is a superuser" if superuser else "is a member of a superuser")
        if two == replayer or own:
            who = "is" if own in ("", two) else f'is a member of "{own}", which is'
            raise _unsafe(one, two, f"{who} logship's own: it may write as every owner")
        if two.startswith("pg_"):
            raise _unsafe(one, two, "is one of PostgreSQL's own roles")


def _require_one_each(roles: Mapping[str, str], used: Sequence[str]) -> None:
    names: dict[str, str] = {}
    for role in dict.fromkeys([*roles, *used]):
        there = roles.get(role, role)
        other = names.setdefault(there, role)
        if other != role:
            raise RefusedAsUnsafe(
                f'roles "{other}" and "{role}" of the primary would both be "{there}" on the secondary: each would '
                "have the rights of the other there",
                hint=f"give each a name of its own: --map-role {other}=… or --map-role {role}=…",
            )


def _unsafe(one: str, two: str, why: str) -> RefusedAsUnsafe:
    return RefusedAsUnsafe(
        f'--map-role {one}={two}: "{two}" of the secondary {why}; what "{one}" may do on the primary would be done '
        "with these rights there",
        hint=f'name a role of the secondary that is nothing but "{one}" there: create role {one}_replica nologin',
    )


def _plain(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
