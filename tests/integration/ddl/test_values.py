"""What the primary chose when a table was altered, or a view refreshed, is what the secondary has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from logship.config import ReplayBounds
from logship.errors import ReplayError
from logship.service.demo.servers import Server
from tests.conftest import Pair, create_database
from tests.follow import Follower

_TABLES = """
create table t (id int primary key, v text); insert into t select g, g from generate_series(1, 20) g;
create table child (id int primary key, t int references t);
insert into child select g, g from generate_series(1, 5) g;
create table bare (a int); insert into bare values (1), (1), (2);
create table parted (id int, v int, primary key (id)) partition by range (id);
create table low partition of parted for values from (0) to (100);
create table high partition of parted for values from (100) to (200);
insert into parted select g, g from generate_series(95, 105) g;
create unlogged table quiet (id int primary key, v text); insert into quiet values (1, 'x');
"""
# Each on tables as above, one after the other; all in rows that were there before.
_MISSING = (
    "alter table t add column a timestamptz not null default now()",
    "alter table t add b timestamptz default now() + interval '1 day' check (b > '2000-01-01'), add c int default 3",
    "alter table t add column if not exists d timestamptz default current_timestamp, add column if not exists a int",
    "alter table t drop column c, add column c text default 'it''s \\ ' || now()::text collate \"C\"",
    "alter table t add e date default 'today', add f time default localtime, "
    "add g text[] default array['x', now()::text]",
    "alter table parted add column a timestamptz default now()",
    "do $$ begin for n in 1..2 loop "
    "execute format('alter table t add z%s timestamptz default now()', n); end loop; end $$",
    "create domain stamped as timestamptz default now(); alter table t add h stamped",
    "begin; alter table bare add column s timestamptz default transaction_timestamp(); "
    "insert into bare values (9); commit",
)
_REWRITTEN = (
    "alter table t add column r float default random(), add column n timestamptz default now()",
    "alter table t alter column v type text using v || clock_timestamp()",
    "alter table child add column s serial",
    "alter table bare add column id serial primary key",
    "alter table bare add column u uuid default gen_random_uuid()",
    "alter table parted add column r float default random()",
    "alter table quiet set logged; insert into quiet values (2, 'y')",
    "create table keyless (a int); insert into keyless values (1), (2); "
    "alter table keyless add g int generated always as identity",
    "begin; alter table t add column w float default random(); update t set v = 'w' where id < 5; "
    "alter table t add column x float default random(); insert into t (id, v) values (100, 'x'); commit",
    "begin; savepoint s; alter table t add column gone float default random(); rollback to s; commit",
)
_PROVEN = (
    "alter table t alter column id type bigint",
    "alter table child alter column t type bigint using t * 10 / 10, alter column id type numeric",
    "alter table t add column generated int generated always as (id * 2) stored",
    "alter table t alter column v type varchar(200)",
)
_VIEWS = (
    "create materialized view made as select count(*) as n, max(v) as v from t with data",
    "insert into t (id, v) values (200, 'z'); refresh materialized view made",
    "create materialized view later as select id from t with no data; create unique index on later (id)",
    "refresh materialized view later; insert into t (id, v) values (201, 'zz'); "
    "refresh materialized view concurrently later",
)


@pytest.fixture(scope="module")
def following(
    primary_server: Server, secondary_server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Follower]:
    primary, secondary = (
        create_database(primary_server, "values"),
        create_database(secondary_server, "values"),
    )
    with Follower(primary, secondary, tmp_path_factory.mktemp("values")) as follower:
        yield follower
    primary.drop()
    secondary.drop()


@pytest.fixture
def tables(following: Follower) -> Iterator[Follower]:
    """The tables, in a schema that goes."""
    primary = following.primary
    primary.execute("create schema if not exists public; " + _TABLES)
    yield following
    if following.error is None:
        primary.execute("drop schema public cascade")
        primary.execute("update logship.ddl_setting set rewrite_echo_bytes = 16777216")


def test_one_value_for_the_rows_of_before(tables: Follower) -> None:
    for statement in _MISSING:
        tables.primary.execute(statement)
    tables.assert_equal()
    # Nothing was rewritten for it, but where the default is the type's.
    missing = (
        "select attrelid::regclass::text, attname, attmissingval::text from pg_attribute "
        "where atthasmissing and attname <> 'h' order by 1, 2"
    )
    assert tables.secondary.execute(missing) == tables.primary.execute(missing)


def test_rows_follow_what_rewrites_them(tables: Follower) -> None:
    for statement in _REWRITTEN:
        tables.primary.execute(statement)
    tables.assert_equal()


def test_what_comes_out_alike_needs_no_rows(tables: Follower) -> None:
    tables.primary.execute("update logship.ddl_setting set rewrite_echo_bytes = 0")
    for statement in _PROVEN:
        tables.primary.execute(statement)
    tables.assert_equal()


def test_materialized_views(tables: Follower) -> None:
    primary, secondary = tables.primary, tables.secondary
    for statement in _VIEWS:
        primary.execute(statement)
        tables.catch_up()
        for view in ("made", "later"):
            if primary.value("select relispopulated from pg_class where relname = %s", [view]):
                query = f"select * from {view} order by 1"
                assert secondary.execute(query) == primary.execute(query), statement


def test_materialized_views_that_are_left(pair: Pair, tmp_path: Path) -> None:
    """As they were first filled; the rest of what is said of them holds."""
    primary, secondary = pair
    primary.execute("create table t (id int primary key); insert into t values (1)")
    bounds = ReplayBounds(refresh_views=False)
    with Follower(*pair, tmp_path, memory=False, settings={"replay_bounds": bounds}) as following:
        primary.execute(
            "create materialized view seen as select id from t; "
            "create materialized view later as select id from t with no data; refresh materialized view later"
        )
        primary.execute(
            "insert into t values (2); refresh materialized view seen; refresh materialized view later; "
            "comment on materialized view later is 'left'; create index on later (id)"
        )
        following.assert_equal()
        counts = "select (select count(*) from seen), (select count(*) from later)"
        assert (primary.execute(counts), secondary.execute(counts)) == ([(2, 2)], [(1, 1)])
        primary.execute("refresh materialized view seen with no data")
        following.catch_up()
        assert secondary.value("select relispopulated from pg_class where relname = 'seen'") is False
    refreshed = "select made_from from logship.stat_ddl where tag like 'REFRESH %' order by lsn, replayed_at"
    assert secondary.execute(refreshed) == [("text",), ("skipped",), ("skipped",), ("text",)]


def test_where_rows_cant_follow_it_is_refused(tables: Follower) -> None:
    """On the primary, when it is known there; nothing of users' runs with more than their rights."""
    primary = tables.primary
    primary.execute(
        "create function evil() returns trigger language plpgsql as $$ begin "
        "alter role current_user superuser; return new; end $$;"
        "create trigger evil before update or insert on t for each row execute function evil();"
        "alter table t enable always trigger evil"
    )
    with pytest.raises(psycopg.DatabaseError, match="triggers or rules that fire in replicas"):
        primary.execute("alter table t add column r float default random()")
    primary.execute(
        "create function f(int) returns bool language sql immutable return true;"
        "create table by_function (id int primary key check (f(id))); insert into by_function values (1);"
        "create table by_query (id int primary key, "
        "check (query_to_xml('select public.f(1)', true, true, 'x') is not null));"
        "insert into by_query values (1);"
        "create table by_index (id int primary key); create index on by_index (f(id));"
        "insert into by_index values (1)"
    )
    for table in ("by_function", "by_query", "by_index"):
        with pytest.raises(psycopg.DatabaseError, match="may call functions of users"):
            primary.execute(f"alter table {table} add column r float default random()")
    primary.execute("update logship.ddl_setting set rewrite_echo_bytes = 1")
    with pytest.raises(psycopg.DatabaseError, match="rewrite_echo_bytes = 1"):
        primary.execute("alter table bare add column r float default random()")
    primary.execute("create table empty (id int); alter table empty add column r float default random()")
    tables.assert_equal()


def test_the_replica_stops_where_only_it_can_know(pair: Pair, tmp_path: Path) -> None:
    pair.primary.execute("create table t (id int primary key, v text); insert into t values (1, 'x')")
    follower = Follower(*pair, tmp_path, memory=False)
    try:
        pair.primary.execute("update logship.ddl_setting set rewrite_echo_bytes = 0")
        pair.primary.execute("alter table t alter column v type text using v || clock_timestamp()")
        error = follower.failed()
    finally:
        follower.stop()
    assert isinstance(error, ReplayError)
    assert "its rows are not in the log" in str(error)
    assert "rewrite_echo_bytes" in error.hint
