"""Schema changes arrive among the rows of their own transactions, on both servers' catalogs alike."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from logship.catalog import ddl
from tests.conftest import Pair
from tests.follow import Follower


@pytest.fixture
def following(pair: Pair, tmp_path: Path) -> Iterator[Follower]:
    pair.primary.execute("create table t (id int primary key, v text); insert into t values (1, 'one')")
    with Follower(*pair, tmp_path) as follower:
        with pair.primary.connect() as primary, pair.secondary.connect() as secondary:
            ddl.start_capture(primary)
            ddl.hand_over(primary, secondary)
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
