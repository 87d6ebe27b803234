"""Whatever an ordinary role's schema changes run on the secondary, it runs with that role's rights and no more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Pair
from tests.follow import Follower

# Runs on either side; what it finds out on the secondary goes into a table that is not replicated.
_CURIOUS = """
create function logged(t text) returns void language plpgsql as $f$
begin
  if to_regclass('public.found_out') is not null then
    execute format('insert into public.found_out values (%L)', t);
  end if;
end $f$;
create function tries() returns void language plpgsql as $f$
begin
  if current_setting('session_replication_role') = 'replica' then
    begin
      execute 'alter role rights_eve superuser';
      perform public.logged('rose');
    exception when insufficient_privilege then
      null;
    end;
    begin
      execute 'reset session authorization';
      execute 'alter role rights_eve superuser';
      perform public.logged('rose after reset');
    exception when others then
      null;
    end;
    perform public.logged(current_user);
  end if;
end $f$;
create function curious(v int) returns int language plpgsql immutable as $f$
begin
  perform public.tries();  -- what is immutable may write nothing itself
  return v;
end $f$;
"""
_TRIES = (
    "create table rows_of_hers (id int primary key, n int)",
    "insert into rows_of_hers values (1, 1), (2, 2)",
    "create table tried (id int primary key, n int default curious(1), g int generated always as (curious(id)) stored, "
    "check (curious(id) > 0))",
    "insert into tried values (1)",
    "alter table rows_of_hers add check (curious(n) > 0)",
    "create index on rows_of_hers (curious(n))",
    "create materialized view seen as select curious(n::int) as c from rows_of_hers",
    "refresh materialized view seen",
    "create table copied as select id, curious(n::int) as c from rows_of_hers",
    "create domain odd as int check (curious(value) > 0)",
    "alter table rows_of_hers add column o odd",
    "create statistics s on (curious(n::int)), id from rows_of_hers",
    "set search_path = hers, pg_catalog, public; create table in_hers (id int primary key, check (id = 1)); "
    "reset search_path",
    "do $$ begin create table nested (id int primary key default curious(1), check (curious(id) > 0)); end $$",
    "alter table nested rename to nested_no_more",
)
_FORBIDDEN = """
create function not_permitted(v int) returns int language plpgsql as $f$
begin
  if current_setting('session_replication_role') = 'replica' then
    execute 'alter role rights_eve superuser';  -- not permitted to her: as if she asked for more rights
  end if;
  return v;
end $f$;
create function validate(options text[], catalog oid) returns boolean language plpgsql as $f$
begin
  return options = '{}' or public.not_permitted(1) = 1;
end $f$;
"""


@pytest.fixture
def eves(pair: Pair, tmp_path: Path) -> Iterator[Follower]:
    """A replica of a database where eve owns tables, and so does a superuser: there are functions for both."""
    for database in pair:
        database.execute("create role rights_eve login; grant create on schema public to rights_eve")
        database.execute(
            "do $$ begin execute format('grant create on database %I to rights_eve', current_database()); end $$"
        )
    pair.primary.execute(
        "create table of_root (id int primary key); create table of_eve (id int primary key); "
        "alter table of_eve owner to rights_eve"
    )
    with Follower(*pair, tmp_path, memory=False) as follower:
        yield follower


def _run(follower: Follower, *statements: str) -> None:
    with follower.primary.connect("rights_eve") as eve:
        for statement in statements:
            cursor = eve.execute(statement.encode())
            while cursor.nextset():
                pass


def _is_superuser(follower: Follower) -> bool:
    return bool(follower.secondary.value("select rolsuper from pg_roles where rolname = 'rights_eve'"))


def test_code_in_her_schema_changes_runs_as_her(eves: Follower) -> None:
    eves.secondary.execute("create table found_out (what text); grant insert on found_out to public")
    _run(
        eves,
        _CURIOUS,
        # An operator of her own stands in front of PostgreSQL's, in the path that she has.
        "create schema hers; create function hers.eq(int, int) returns boolean language sql immutable "
        "as 'select public.curious($1) is not null'; "
        "create operator hers.= (leftarg = int, rightarg = int, function = hers.eq)",
        *_TRIES,
    )
    eves.catch_up()
    found = {what for (what,) in eves.secondary.execute("select what from found_out")}
    assert found == {"rights_eve"}
    assert not _is_superuser(eves)
    owners = eves.secondary.execute("select distinct owner from logship.ddl_replayed where statement <> ''")
    assert owners == [("rights_eve",)]


@pytest.mark.parametrize(
    "attempt",
    [
        "create table tried (id int primary key); insert into tried values (1); "
        "alter table tried add check (not_permitted(id) > 0)",
        "create server tried foreign data wrapper watched options (password 'sesame')",
    ],
    ids=["check", "validator"],
)
def test_asking_for_more_rights_gets_none(eves: Follower, attempt: str) -> None:
    _run(eves, _FORBIDDEN)
    eves.primary.execute(
        "create foreign data wrapper watched validator validate; "
        "grant usage on foreign data wrapper watched to rights_eve"
    )
    eves.catch_up()
    _run(eves, attempt)
    error = eves.failed()
    assert not _is_superuser(eves)
    assert "sesame" not in str(error)
    kept = eves.secondary.execute("select statement from logship.ddl_replayed")
    assert not any("tried" in statement for (statement,) in kept)


def test_what_the_superuser_does_to_hers_is_done(eves: Follower) -> None:
    """More than her rights, where PostgreSQL asks for them and no code of hers runs."""
    eves.primary.execute("alter table of_eve owner to postgres; alter table of_eve owner to rights_eve")
    eves.primary.execute("create foreign data wrapper far; create server far foreign data wrapper far")
    eves.primary.execute("alter server far owner to rights_eve")
    eves.primary.execute(
        "create user mapping for rights_eve server far options (user 'u', password 'sesame')"
    )
    _run(eves, "alter user mapping for rights_eve server far options (set password 'open')")
    eves.catch_up()
    options = eves.secondary.value("select umoptions from pg_user_mappings where srvname = 'far'")
    assert options == ["user=u", "password=open"]
    kept = " ".join(text for (text,) in eves.secondary.execute("select statement from logship.ddl_replayed"))
    assert "(user '***', password '***')" in kept
    assert "sesame" not in kept
    assert "open" not in kept
