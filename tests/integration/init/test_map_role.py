"""`--map-role`: roles of the primary that have another name on the secondary, from the copy on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from logship.connection import Side, connect
from logship.errors import LogshipError, RefusedAsUnsafe, UsageError
from logship.replay.ddl.roles import RoleTaken
from logship.service.initial.init import initialise
from tests.conftest import Pair
from tests.follow import Follower
from tests.servers import Database, Logship

ROLES = {"map app": "app_there", "map_reader": "Reader, there"}
_PRIMARY = """
create role "map app" login; create role map_reader;
create schema theirs authorization "map app"; grant usage on schema theirs to map_reader;
grant create on schema public to "map app";
do $$ begin execute format('grant create on database %I to "map app"', current_database()); end $$;
set role "map app";
create table t (id int primary key, v text default 'map app'); insert into t values (1, 'x');
create table theirs.odd (id int primary key, n int default random() * 5); insert into theirs.odd values (1);
grant select on t to map_reader; grant update (v) on t to map_reader with grant option;
create policy p on t to "map app", map_reader using (v <> 'map app');
create function f() returns int language sql security definer set role to 'map app' return 1;
alter default privileges in schema theirs grant select on tables to map_reader;
set role map_reader; grant update (v) on t to public; reset role;
create table of_reader (id int primary key); alter table of_reader owner to map_reader
"""
_SECONDARY = 'create role app_there; create role "Reader, there"'
# As whoever is logged in.
_CHANGES = (
    'set role "map app"; create table theirs.n (id int primary key); insert into theirs.n values (1); reset role',
    "insert into t values (2, 'y')",
    'create table late (id int primary key); alter table late owner to "map app"',
    'alter table late add column v int; set role "map app"; '
    'grant select on late to map_reader granted by "map app"; reset role',
    "create policy q on late to map_reader using (true); alter policy q on late to public, map_reader",
    'create schema authorization "map app"; alter schema "map app" rename to renamed',
    'alter default privileges for role "map app" revoke execute on functions from public',
    "do $$ begin execute 'grant insert on t to map_reader'; end $$; revoke select on t from \"map_reader\"",
    'do $$ begin create table nested (id int primary key); alter table nested owner to "map app"; end $$',
    "create table made as select 1 as id; alter table made owner to map_reader; drop owned by map_reader",
    'create view seen as select * from late; alter view seen owner to "map app"; alter view seen owner to postgres',
)
_OWNERS = """
select c.relname::text, r.rolname::text from pg_class c join pg_roles r on r.oid = c.relowner
  join pg_namespace n on n.oid = c.relnamespace
 where n.nspname !~ '^pg_' and n.nspname not in ('information_schema', 'logship', 'logship_writers')
   and c.relkind in ('r', 'v') order by 1
"""
_RIGHTS = """
select 'acl', c.relname::text, coalesce(c.relacl::text, '') from pg_class c where c.relname in ('t', 'late')
union all select 'acl', c.relname || '.' || a.attname, a.attacl::text from pg_attribute a
  join pg_class c on c.oid = a.attrelid where c.relname = 't' and a.attacl is not null
union all select 'policy', p.policyname, p.roles::text from pg_policies p
union all select 'default', d.defaclobjtype::text, d.defaclrole::regrole::text || d.defaclacl::text
  from pg_default_acl d
union all select 'function', p.proname, p.proowner::regrole::text || coalesce(p.proconfig::text, '') from pg_proc p
  where p.proname = 'f'
union all select 'schema', n.nspname, n.nspowner::regrole::text from pg_namespace n
  where n.nspname in ('theirs', 'renamed')
order by 1, 2, 3
"""


@pytest.fixture
def roles(pair: Pair) -> Pair:
    pair.primary.execute(_PRIMARY)
    pair.secondary.execute(_SECONDARY)
    return pair


def _renamed(text: str) -> str:
    """The primary's words as the secondary has them; aclitems and arrays write names in their own ways."""
    for name, there in (('\\"map app\\"', "app_there"), ('"map app"', "app_there"), ("map app", "app_there")):
        text = text.replace(name, there)
    return text.replace("map_reader", "Reader, there")


def _bare(text: str) -> str:
    return text.replace("\\", "").replace('"', "")


def assert_mapped(primary: Database, secondary: Database) -> None:
    assert secondary.execute(_OWNERS) == [
        (table, _renamed(owner)) for table, owner in primary.execute(_OWNERS)
    ]
    here = sorted(
        (kind, name, _parts(_bare(_renamed(text)))) for kind, name, text in primary.execute(_RIGHTS)
    )
    there = sorted((kind, name, _parts(_bare(text))) for kind, name, text in secondary.execute(_RIGHTS))
    if _knows_maintain(secondary) and not _knows_maintain(primary):
        there = [(kind, name, [_without_maintain(part) for part in parts]) for kind, name, parts in there]
    assert there == here


def _knows_maintain(database: Database) -> bool:
    return int(database.value("show server_version_num")) >= 170000


def _without_maintain(part: str) -> str:
    """The owner has it by default, where there is such a right."""
    role, given, rights = part.partition("=")
    privileges, by, grantor = rights.partition("/")
    return part if not by else f"{role}{given}{privileges.replace('m', '')}{by}{grantor}"


def _parts(text: str) -> list[str]:
    """Roles of a policy stand in the order of their oids."""
    return sorted(text.strip("{}").replace("Reader, there", "Reader").split(","))


def test_everything_of_a_role_is_the_other_ones(roles: Pair, tmp_path: Path, logship: Logship) -> None:
    with Follower(*roles, tmp_path, map_roles=ROLES) as following:
        assert_mapped(*roles)
        for statement in _CHANGES:
            roles.primary.execute(statement)
            following.catch_up()
            assert_mapped(*roles)
        following.assert_equal()
        names = "select rolname from pg_roles where rolname in ('map app', 'map_reader')"
        assert roles.secondary.execute(names) == []
        # check knows it, by what init has written down.
        sides = ("--primary", roles.primary.conninfo, "--secondary", roles.secondary.conninfo)
        found = json.loads(logship.run("check", *sides, "--json").stdout)["findings"]
        mine = {
            one["id"]: one
            for one in found
            if one["id"] in ("roles", "role-map", "schema-owners", "schema-makers")
        }
        assert mine.keys() == {"role-map"}, mine
        assert mine["role-map"]["objects"] == ["map app is app_there", "map_reader is Reader, there"]
        # A role whose name is taken there would be one with another.
        roles.primary.execute('create role "Reader, there"; grant select on t to "Reader, there"')
        error = following.failed()
        assert isinstance(error, RoleTaken)
        assert "--map-role" in error.hint
        # Named anew; and a later init keeps what it isn't told.
        both = (roles.primary.conninfo, roles.secondary.conninfo)
        again = initialise(*both, map_roles={"Reader, there": "map_reader"}, roles="create-nologin")
        assert again.roles_mapped == {**ROLES, "Reader, there": "map_reader"}
        assert initialise(*both).roles_mapped == again.roles_mapped
        following.restart()
        following.assert_equal()


def test_a_role_that_would_gain_is_refused(roles: Pair, logship: Logship) -> None:
    primary, secondary = roles
    secondary.execute(
        "create role map_strong superuser; create role map_like_one; grant map_strong to map_like_one;"
        "create role map_plain"
    )
    sides = ("--primary", primary.conninfo, "--secondary", secondary.conninfo)

    def refused(one: str, two: str, kind: type[LogshipError] = RefusedAsUnsafe) -> str:
        with pytest.raises(kind) as info:
            initialise(primary.conninfo, secondary.conninfo, map_roles={one: two})
        return info.value.message

    replayer = f"logship_replayer_{secondary.name}"
    assert "is a superuser" in refused("map app", "map_strong")
    assert "member of a superuser" in refused("map_reader", "map_like_one")
    secondary.execute(f'create role "{replayer}"; grant "{replayer}" to map_plain')
    assert "may write as every owner" in refused("map_reader", replayer)
    assert "is a member of" in refused("map_reader", "map_plain")
    assert "PostgreSQL's own" in refused("map_reader", "pg_read_all_data")
    assert 'would both be "map_reader"' in refused("map app", "map_reader")
    assert "the primary doesn't have" in refused("nobody", "map_plain", UsageError)
    init = logship.run("init", *sides, "--map-role", '"map app"=map_strong')
    assert init.exit_code == 6 and "map_strong" in init.stderr, init.stderr
    looked = logship.run("check", *sides, "--map-role", '"map app"=map_strong', "--json")
    blocks = {one["id"] for one in json.loads(looked.stdout)["findings"] if one["severity"] == "blocks"}
    assert "role-map" in blocks
    with connect(secondary.conninfo, Side.SECONDARY) as link:
        assert link.execute("select to_regnamespace('logship')").fetchone() == (None,)
