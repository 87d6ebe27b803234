"""Schema changes arrive among the rows of their own transactions, on both servers' catalogs alike."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from logship.config import MIB, MemorySettings
from logship.service.initial.init import initialise
from tests.conftest import Pair
from tests.follow import Follower
from tests.integration.check.test_grants import As
from tests.servers import eventually


@pytest.fixture
def following(pair: Pair, tmp_path: Path) -> Iterator[Follower]:
    pair.primary.execute("create table t (id int primary key, v text); insert into t values (1, 'one')")
    with Follower(*pair, tmp_path) as follower:
        yield follower


def test_a_column_among_rows(following: Follower) -> None:
    primary = following.primary
    primary.execute("update t set v = 'two'")
    primary.execute("alter table t add column w int default 7")
    primary.execute("insert into t values (2, 'b', 8)")
    primary.execute(
        "begin; insert into t values (3, 'c', 9); alter table t drop column v; insert into t values (4, 10); commit"
    )
    following.catch_up()
    following.assert_equal()


FOLLOWED = (
    "alter table t add column w int default 7, add column at timestamptz default now(), add n numeric(6,2)",
    "alter table t rename column v to vv",
    "alter table t alter column w type bigint, alter column n type numeric(9,3)",
    "alter table t add constraint small check (id < 1000), alter column vv set default 'x'",
    "alter table t drop column at",
    "alter table t rename to u",
    "create schema s; alter table u set schema s",
    "create index on s.u (w); comment on column s.u.w is 'w'",
    "alter table s.u add column r float8 default random()",
    "alter table s.u set schema public; alter table u rename to t",
)


def test_memory_follows_what_it_can(following: Follower) -> None:
    """A resident object stays, and is altered in the transaction of the rows; stat_ddl says where."""
    primary = following.primary
    primary.execute("update t set v = 'two'")
    following.assert_equal()
    for number, change in enumerate(FOLLOWED):
        table = "s.u" if "s.u" in change or "set schema s" in change else "u" if "to u" in change else "t"
        after = "t" if change.endswith("to t") else table
        primary.execute(f"begin; {change}; insert into {after} (id) values ({number + 10}); commit")
        primary.execute(f"update {after} set id = id + 100 where id = {number + 9}")
        following.assert_equal()
        (known,) = [one for one in following.objects() if one.relname in ("t", "u")]
        assert (known.loads, known.evictions, known.residence.value) == (1, 0, "resident"), change
    targets = following.secondary.execute(
        "select target, count(*) from logship.stat_ddl group by 1 order by 1"
    )
    assert targets == [("both", 9), ("persistence", 4)]


def test_what_memory_can_not_follow_goes_and_comes_back(following: Follower) -> None:
    primary = following.primary
    primary.execute("update t set v = 'two'")
    following.assert_equal()
    primary.execute(
        "begin; insert into t values (2, '5'); alter table t alter column v type int using 3; commit"
    )
    following.assert_equal()
    primary.execute("insert into t values (3, 6)")
    following.assert_equal()
    assert following.secondary.execute("select target from logship.stat_ddl") == [("persistence",)]


def test_a_table_made_and_filled_in_one_transaction(following: Follower) -> None:
    primary = following.primary
    primary.execute(
        "begin; create table n (id int primary key, v text); insert into n values (1, 'x'); commit"
    )
    primary.execute("insert into n values (2, 'y')")
    primary.execute("create table made as select g as id, g::text as v from generate_series(1, 100) g")
    primary.execute("select 1 as a, 'b'::text as b into into_made")
    primary.execute("alter table made rename to renamed; drop table into_made")
    following.catch_up()
    following.assert_equal()


def test_several_in_one_string_and_in_functions(following: Follower) -> None:
    primary = following.primary
    primary.execute(
        "create schema s; create table s.a (id int primary key); create index on s.a (id); insert into s.a values (1)"
    )
    primary.execute("do $$ begin create table s.b (id int primary key); insert into s.b values (1); end $$")
    primary.execute(
        "create type mood as enum ('good', 'bad'); create table m (id serial primary key, m mood)"
    )
    primary.execute("insert into m (m) values ('good')")
    primary.execute("alter type mood add value 'fine'")
    primary.execute("insert into m (m) values ('fine')")
    following.catch_up()
    following.assert_equal()
    assert following.secondary.execute("select count(*) from logship.stat_ddl")[0][0] >= 7


def test_new_tables_without_key_can_be_updated_at_once(following: Follower) -> None:
    primary = following.primary
    primary.execute(
        "begin; create table bare (a int); insert into bare values (1), (1); update bare set a = 2; commit;"
        "create table part (a int) partition by range (a); create table low partition of part default;"
        "insert into part values (1); update part set a = 2; delete from part where a = 3;"
        "create table later (a int); insert into later values (1)"
    )
    assert primary.value("select relreplident::text from pg_class where relname = 'bare'") == "f"
    primary.execute("alter table later add primary key (a); update later set a = 2")
    assert primary.value("select relreplident::text from pg_class where relname = 'later'") == "d"
    primary.execute("alter table t drop constraint t_pkey; update t set v = 'keyless'")
    following.assert_equal()
    names = "select relname from logship.identity_set order by 1"
    assert primary.execute(names) == [("bare",), ("low",), ("part",), ("t",)]


def test_an_owner_that_is_new(following: Follower) -> None:
    """It stops the replica, which says what to do; init makes the role, and what runs with its rights."""
    primary = following.primary
    primary.execute(
        "create role newcomer; create schema theirs authorization newcomer; set role newcomer;"
        "create table theirs.t (id int primary key); insert into theirs.t values (1)"
    )
    error = following.failed()
    assert "newcomer" in str(error)
    again = initialise(primary.conninfo, following.secondary.conninfo, roles="create-nologin")
    assert (again.already, again.roles_made) == (True, ["newcomer"])
    following.restart()
    following.assert_equal()
    owner = "select tableowner from pg_tables where schemaname = 'theirs'"
    assert following.secondary.value(owner) == "newcomer"
    assert following.secondary.value("select rolcanlogin from pg_roles where rolname = 'newcomer'") is False


def test_tables_that_are_left_out_stay_out(pair: Pair, tmp_path: Path) -> None:
    """By --exclude, and by --keyless leave-out, also after the process was started anew."""
    primary, secondary = pair
    primary.execute("create table out_before (id int primary key); create table t (id int primary key)")
    with Follower(*pair, tmp_path, exclude=["public.out_*"], keyless="leave-out") as following:
        primary.execute(
            "create table out_new (id serial primary key); alter table out_new add column v text;"
            "create index on out_new (v); insert into out_new (v) values ('x'); alter table out_before add v text;"
            "create table bare (a int); insert into bare values (1); update bare set a = 2;"
            "create table made as select 1 as a; comment on table made is 'none';"
            "create table kept (id int primary key); insert into kept values (1)"
        )
        following.assert_equal(without={"out_before", "out_new", "bare", "made"})
        following.restart()
        primary.execute("update bare set a = 3; alter table bare add column b int; drop table out_new, made")
        primary.execute("insert into t values (1)")
        following.assert_equal(without={"out_before", "bare"})
    tables = "select relname from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r' order by 1"
    assert secondary.execute(tables) == [("kept",), ("out_before",), ("t",)]
    left_out = secondary.execute("select relname from logship.left_out order by 1")
    assert left_out == [("bare",), ("made",)]


def test_a_replayer_with_the_least_rights(pair: Pair, tmp_path: Path) -> None:
    """What the replayer's role has is enough for everybody's schema changes, also to leave tables out."""
    for side in pair:
        side.execute("create role alice login; grant create on schema public to alice")
    pair.secondary.execute("create role carrier login")
    result = initialise(pair.primary.conninfo, pair.secondary.conninfo, keyless="leave-out")
    pair.secondary.execute(f"grant {result.replayer_role} to carrier")
    carrier = As(pair.secondary, "carrier")
    with Follower(pair.primary, carrier, tmp_path, initialised=True) as following:  # type: ignore[arg-type]
        pair.primary.execute(
            "set role alice; create table a (id int primary key); insert into a values (1); create table bare (x int);"
            "grant select on a to public; reset role; create schema s; create table s.t (id int primary key);"
            "insert into s.t values (1); alter table a owner to postgres; insert into bare values (1)"
        )
        following.assert_equal(without={"bare"})
    owners = "select tablename, tableowner from pg_tables where schemaname in ('public', 's') order by 1"
    assert pair.secondary.execute(owners) == [("a", "postgres"), ("t", "postgres")]


def test_what_is_pinned_is_there_before_its_first_change_after_a_restart(pair: Pair, tmp_path: Path) -> None:
    """The journal has described it; a partition, too, that its parent's schema change takes out of memory."""
    pair.primary.execute(
        "create table t (id int primary key, v text); insert into t values (1, 'one');"
        "create table p (id int primary key, v text) partition by range (id);"
        "create table low partition of p for values from (0) to (100)"
    )
    with Follower(*pair, tmp_path, memory=MemorySettings(256 * MIB, pinned=("public.t",))) as following:
        pair.primary.execute("update t set v = 'two'; insert into p values (1, 'x')")
        following.assert_equal()
        pair.primary.execute("alter table p add column w int default 3")
        following.assert_equal()
        following.restart()
        eventually(
            lambda: any(one.residence.value == "pinned" for one in following.objects()), what="t comes back"
        )
        (known,) = following.objects()
        assert (known.relname, known.rows, known.dml_memory) == ("t", 1, 0)
        pair.primary.execute("alter table t add column n int; update t set n = 5; update p set w = 4")
        following.assert_equal()
        assert {one.relname: one.loads for one in following.objects()} == {"t": 1, "low": 1}


def test_types_that_were_renamed_stay_known_when_replay_begins_again(following: Follower) -> None:
    """The walsender's session goes on, and doesn't announce them again; memory holds a table of theirs."""
    primary, secondary = following.primary, following.secondary
    primary.execute(
        "create type mood as enum ('sad', 'glad'); create domain short as mood; create schema s; "
        "create type s.pair as (a int, b int); create table other (id int primary key)"
    )
    primary.execute("create table felt (id int primary key, m mood, ms mood[], d short, p s.pair)")
    primary.execute("insert into felt values (1, 'sad', '{glad}', 'sad', (1, 2))")
    following.assert_equal()
    assert _residence(following, "felt") == "resident"
    primary.execute("alter type mood rename to feeling")
    primary.execute("alter domain short rename to shorter")
    primary.execute("alter schema s rename to s2")
    primary.execute("update felt set m = 'glad', p = (3, 4)")
    primary.execute("insert into felt values (2, 'glad', '{sad}', 'glad', (1, 2))")
    following.assert_equal()
    assert _residence(following, "felt") == "resident"
    primary.execute("alter type feeling rename to felt_so")
    with secondary.connect() as blocker:
        blocker.autocommit = False
        blocker.execute("lock other in share mode")
        primary.execute(
            "begin; create table later (id int primary key); insert into other values (1); "
            "alter table t add column more int; commit"
        )
        waiting = "select pid from pg_stat_activity where wait_event_type = 'Lock' and application_name like 'logship%'"
        eventually(
            lambda: secondary.execute(waiting), what="the transaction that is replayed in pieces waits"
        )
        secondary.execute(f"select pg_terminate_backend(pid) from ({waiting}) w")
        replaying = following.run._replaying
        assert replaying is not None
        replayer = replaying.replayer
        eventually(lambda: replayer.restarts == 1, what="replay begins again")
    primary.execute("insert into felt values (3, 'sad', '{sad}', 'sad', (5, 6))")
    following.assert_equal()
    assert _residence(following, "felt") == "resident"


def _residence(following: Follower, relname: str) -> str:
    (known,) = [one for one in following.objects() if one.relname == relname]
    return known.residence.value
