"""New tables have their rows from the first one on, in whatever way they come; "
"partitions are tables like others."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from tests.conftest import Pair
from tests.follow import Follower

_START = """
create table part (id int, at int, v text, primary key (id, at)) partition by range (at);
create table part_low partition of part for values from (0) to (10);
create table part_rest partition of part default;
insert into part select g, g, 'v' from generate_series(1, 40) g;
create table filled (id int, at int not null, v text, primary key (id, at));
insert into filled select g, g, 'f' from generate_series(100, 120) g;
create table parent (id int primary key, v text)
"""
# Each a transaction, or several; rows before, among and behind.
_STEPS = (
    # A table that holds rows becomes a partition, with rows of the same transaction; one that is there leaves.
    "begin; update filled set v = 'before'; "
    "delete from part where at between 100 and 200; "
    "alter table part attach partition filled for values from (100) to (200); "
    "update part set v = 'behind' where at = 100; insert into part values (1, 150, 'new'); commit",
    "begin; update part set v = 'low' where at < 10; alter table part detach partition part_low; "
    "insert into part_low values (7, 77, 'alone'); insert into part values (5, 5, 'in the default'); commit",
    "update part_low set v = 'by itself'; delete from part_low where id = 1",
    # The default partition is split: its rows move.
    "begin; create table part_twenty (like part including all); "
    "with moved as (delete from part_rest where at between 20 and 29 returning *) "
    "insert into part_twenty select * from moved; "
    "alter table part attach partition part_twenty for values from (20) to (30); "
    "insert into part values (1000, 25, 'there'); commit",
    # A partition that has partitions, in one string, filled at once; rows move between them.
    "create table part_deep partition of part for values from (300) to (400) partition by hash (id); "
    "create table part_deep_0 partition of part_deep for values with (modulus 2, remainder 0); "
    "create table part_deep_1 partition of part_deep for values with (modulus 2, remainder 1); "
    "insert into part select g, 300 + g, 'deep' from generate_series(1, 20) g",
    "update part set id = id + 1, at = at + 50 where at between 300 and 310",
    "begin; savepoint s; alter table part detach partition part_twenty; "
    "insert into part_twenty values (1, 99, 'gone'); "
    "rollback to s; insert into part values (2, 22, 'kept'); commit",
    "alter table part detach partition part_deep; insert into part_deep values (9, 399, 'x'); "
    "drop table part_deep_0",
    # In other ways.
    "begin; create table child (w int) inherits (parent); insert into child values (1, 'c', 2); "
    "insert into parent values (2, 'p'); commit",
    "create table copy_of (like parent including all); insert into copy_of values (1, 'x')",
    "create schema s create table made (id int primary key) create view seen as select * from made; "
    "insert into s.made values (1)",
    "do $$ begin for n in 1..3 loop execute format('create table loop_%s (id int primary key)', n); "
    "execute format('insert into loop_%s values (%s)', n, n); end loop; end $$",
    "create function makes() returns void language plpgsql as $$ begin "
    "create table by_function (id int primary key); insert into by_function values (1); end $$; "
    "select makes()",
    "begin; create table dropped (id int primary key); insert into dropped values (1); drop table dropped; "
    "create table dropped (other text primary key); insert into dropped values ('x'); commit",
    "create unlogged table quiet (id int primary key); insert into quiet values (1); "
    "alter table quiet set logged; insert into quiet values (2)",
)
# Without a key; each made, filled and changed in ways that need an identity.
_KEYLESS = (
    "create table bare (a int); insert into bare values (1), (1); update bare set a = 2",
    "begin; create table bare_2 (a int); insert into bare_2 values (1); update bare_2 set a = 2; "
    "delete from bare_2; commit",
    "create table bare_as as select g as a from generate_series(1, 3) g; update bare_as set a = a + 1",
    "select 1 as a into bare_into; update bare_into set a = 2",
    "create table bare_like (like bare_as); insert into bare_like values (1); delete from bare_like",
    "create table bare_part (a int) partition by list (a); "
    "create table bare_part_1 partition of bare_part for values in (1, 2); "
    "insert into bare_part values (1); update bare_part set a = 2",
    "do $$ begin create table bare_do (a int); insert into bare_do values (1); "
    "update bare_do set a = 2; end $$",
    "create table bare_child () inherits (bare); insert into bare_child values (5); update bare set a = 6",
    "begin; create table bare_attached (a int); insert into bare_attached values (3); "
    "alter table bare_part attach partition bare_attached for values in (3, 4); "
    "update bare_part set a = 4 where a = 3; commit",
)


def test_from_their_first_row(pair: Pair, tmp_path: Path) -> None:
    pair.primary.execute(_START)
    with Follower(*pair, tmp_path) as following:
        for statement in (*_STEPS, *_KEYLESS):
            pair.primary.execute(statement)
        following.assert_equal()
        assert pair.secondary.value("select count(*) from part where at between 100 and 200") > 20
        identities = (
            "select distinct relreplident::text from pg_class "
            "where relname like 'bare%' and relkind in ('r', 'p')"
        )
        assert pair.primary.execute(identities) == [("f",)]


def test_refuse_says_so_to_whoever_makes_one(pair: Pair, tmp_path: Path) -> None:
    """The table is carried, and so are its rows; what PostgreSQL refuses it refuses on the primary."""
    pair.primary.execute("create table t (id int primary key)")
    with Follower(*pair, tmp_path, memory=False, keyless="refuse") as following:
        heard: list[str] = []
        with psycopg.connect(pair.primary.conninfo, autocommit=True) as link:
            link.add_notice_handler(lambda notice: heard.append(notice.message_primary or ""))
            link.execute("create table bare (a int); insert into bare values (1)")
            with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
                link.execute("update bare set a = 2")
            link.execute("alter table bare add primary key (a); update bare set a = 2")
        following.assert_equal()
    assert any("bare" in text for text in heard), heard
