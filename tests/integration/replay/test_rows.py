"""Every kind of row change, from a real primary to a real secondary and into memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from logship.errors import ReplayError
from tests.conftest import Pair
from tests.follow import Follower
from tests.servers import eventually


def follow(pair: Pair, tmp_path: Path, schema: str, **options: object) -> Follower:
    pair.primary.execute(schema)
    return Follower(pair.primary, pair.secondary, tmp_path, **options)  # type: ignore[arg-type]


def test_insert_update_delete(pair: Pair, tmp_path: Path) -> None:
    with follow(
        pair, tmp_path, "create table t (id int primary key, v text); insert into t values (1, 'old')"
    ) as f:
        f.primary.execute("insert into t select g, 'v' || g from generate_series(2, 1000) g")
        f.primary.execute("update t set v = v || '!' where id % 3 = 0")
        f.primary.execute("delete from t where id % 7 = 0")
        f.primary.execute("insert into t values (7, null), (14, '')")
        f.assert_equal()
        assert f.secondary.value("select count(*) from t") == 860
        assert ("public", "t") in {(o.schemaname, o.relname) for o in f.run.memory.objects()}


def test_keys_change_swap_and_are_handed_on(pair: Pair, tmp_path: Path) -> None:
    with follow(
        pair, tmp_path,
        "create table t (id int primary key, u int unique, big text); "
        "alter table t alter big set storage external; "
        "insert into t select g, g, repeat('x', 5000) || g from generate_series(1, 20) g",
    ) as f:  # fmt: skip
        f.catch_up()
        # a swap through a third value, with a TOASTed value that no UPDATE touches
        f.primary.execute(
            "begin; update t set id = -1 where id = 1; update t set id = 1 where id = 2; "
            "update t set id = 2 where id = -1; commit"
        )
        # a unique value handed on along a chain, within one transaction and across several
        f.primary.execute(
            "begin; update t set u = 100 where u = 20; update t set u = 20 where u = 19; commit"
        )
        f.primary.execute("update t set u = 19 where u = 18")
        f.primary.execute("delete from t where u = 17; insert into t values (99, 17, 'new')")
        f.primary.execute("update t set id = id + 1000")
        f.assert_equal()


def test_unchanged_toast(pair: Pair, tmp_path: Path) -> None:
    with follow(
        pair, tmp_path,
        "create table t (id int primary key, v int, big text); alter table t alter big set storage external",
    ) as f:  # fmt: skip
        f.primary.execute(
            "begin; insert into t values (1, 1, repeat('a', 9000)); update t set v = 2 where id = 1; commit"
        )
        f.primary.execute("update t set v = 3")
        f.catch_up()
        f.primary.execute("update t set v = 4")
        f.primary.execute("update t set v = 5, big = repeat('b', 9000)")
        f.primary.execute("update t set v = 6")
        f.assert_equal()


def test_replica_identity_full_with_duplicates(pair: Pair, tmp_path: Path) -> None:
    with follow(
        pair, tmp_path,
        "create table t (a int, b text, c numeric, j json); alter table t replica identity full; "
        "insert into t values (1, 'x', 1.0, '{}'), (1, 'x', 1.00, '{}'), (1, 'x', 1.0, '{}'), "
        "(null, null, null, null), (null, null, null, null)",
    ) as f:  # fmt: skip
        f.catch_up()
        f.primary.execute("delete from t where ctid = (select min(ctid) from t where c::text = '1.00')")
        f.primary.execute("update t set b = 'y' where ctid = (select min(ctid) from t where a = 1)")
        f.primary.execute("delete from t where ctid = (select min(ctid) from t where a is null)")
        f.primary.execute("insert into t select 5, 'five', 5, null from generate_series(1, 10)")
        f.primary.execute("update t set a = 6 where ctid in (select ctid from t where a = 5 limit 3)")
        f.assert_equal()


def test_tables_without_a_key_are_seen_to_by_init(pair: Pair, tmp_path: Path) -> None:
    with follow(pair, tmp_path, "create table log (at timestamptz, what text)") as f:
        f.primary.execute("insert into log select now(), 'e' || g from generate_series(1, 50) g")
        f.primary.execute("update log set what = 'changed' where what = 'e7'")
        f.primary.execute("delete from log where what like 'e1%'")
        f.assert_equal()


def test_replica_identity_using_index_and_changed_in_mid_stream(pair: Pair, tmp_path: Path) -> None:
    with follow(
        pair, tmp_path,
        "create table t (id int primary key, k int not null unique, v text); "
        "alter table t replica identity using index t_k_key; "
        "insert into t select g, g * 10, 'v' from generate_series(1, 10) g",
    ) as f:  # fmt: skip
        f.primary.execute("update t set v = 'w', id = id + 100 where k > 50; delete from t where k = 10")
        f.primary.execute("alter table t replica identity default")
        f.primary.execute("update t set v = 'x', k = k + 1 where id < 5; delete from t where id = 2")
        f.primary.execute("alter table t replica identity full")
        f.primary.execute("update t set v = 'y' where id = 3; delete from t where id = 4")
        f.assert_equal()


def test_truncate(pair: Pair, tmp_path: Path) -> None:
    with follow(
        pair, tmp_path,
        "create table a (id int generated always as identity primary key, v text); "
        "create table b (id serial primary key, a int references a); create table c (id int primary key); "
        "insert into a (v) values ('one'), ('two'); insert into b (a) values (1), (2); insert into c values (1)",
    ) as f:  # fmt: skip
        f.primary.execute("insert into c values (2)")
        f.primary.execute("begin; insert into a (v) values ('three'); truncate a, b restart identity; "
                          "insert into a (v) values ('again'); commit")  # fmt: skip
        f.primary.execute("truncate c")
        f.primary.execute("insert into c values (3)")
        f.assert_equal()
        f.primary.execute("insert into b (a) values (1)")
        f.primary.execute("truncate a cascade")
        f.assert_equal()
        assert f.secondary.value("select count(*) from b") == 0


def test_generated_and_identity_columns(pair: Pair, tmp_path: Path) -> None:
    with follow(
        pair, tmp_path,
        "create table t (id int generated always as identity primary key, v int, "
        "d int generated always as (v * 2) stored, n int generated by default as identity, "
        "x int generated always as identity)",
    ) as f:  # fmt: skip
        f.primary.execute("insert into t (v) select g from generate_series(1, 10) g")
        f.primary.execute("update t set v = v + 1 where id > 5")
        f.primary.execute("update t set x = default where id = 3")
        f.primary.execute("update t set id = default where id = 4")
        f.primary.execute("insert into t (id, v) overriding system value values (500, 1)")
        f.assert_equal()
        assert f.secondary.value("select count(*) from t where d = v * 2") == 11


def test_partitions(pair: Pair, tmp_path: Path) -> None:
    with follow(
        pair, tmp_path,
        "create table p (id int, region text, v text, primary key (id, region)) partition by list (region); "
        "create table p_eu partition of p for values in ('eu'); "
        "create table p_rest partition of p default partition by range (id); "
        "create table p_low partition of p_rest for values from (0) to (100); "
        "create table p_high partition of p_rest for values from (100) to (1000)",
    ) as f:  # fmt: skip
        f.primary.execute(
            "insert into p select g, (array['eu', 'us', 'jp'])[1 + g % 3], 'v' from generate_series(1, 500) g"
        )
        f.primary.execute("update p set region = 'eu' where id % 10 = 1")
        f.primary.execute("update p set id = id + 100 where id < 50 and region = 'us'")
        f.primary.execute("truncate p_low")
        f.assert_equal()
        assert f.secondary.value("select count(*) from p_eu") > 0


def test_partitioned_otherwise_on_the_secondary(pair: Pair, tmp_path: Path) -> None:
    pair.secondary.execute(
        "create table p (v text, id int, region text, primary key (id, region)) partition by hash (id, region); "
        "create table p0 partition of p for values with (modulus 2, remainder 0); "
        "create table p1 partition of p for values with (modulus 2, remainder 1)"
    )
    pair.primary.execute(
        "create table p (id int, region text, v text, primary key (id, region)) partition by list (region); "
        "create table p_eu partition of p for values in ('eu'); create table p_us partition of p for values in ('us')"
    )
    with Follower(pair.primary, pair.secondary, tmp_path, schema="existing", partitions="root") as f:
        f.primary.execute(
            "insert into p select g, (array['eu', 'us'])[1 + g % 2], 'v' from generate_series(1, 200) g"
        )
        f.primary.execute("update p set region = 'us' where id % 10 = 0")
        f.primary.execute("delete from p where id % 9 = 0")
        f.catch_up()
        query = "select id, region, v from p order by 1, 2"
        assert f.secondary.execute(query) == f.primary.execute(query)


def test_other_column_order_and_extra_columns(pair: Pair, tmp_path: Path) -> None:
    pair.primary.execute("create table t (id int primary key, a text, b int, big text)")
    pair.primary.execute(
        "alter table t alter big set storage external; insert into t values (1, 'a', 1, 'x')"
    )
    pair.secondary.execute(
        "create table t (note text default 'mine', b int, big text, id int primary key, "
        "seen timestamptz default now(), a text)"
    )
    with Follower(pair.primary, pair.secondary, tmp_path, schema="existing") as f:
        f.primary.execute(
            "insert into t select g, 'a' || g, g, repeat('y', 4000) from generate_series(2, 50) g"
        )
        f.catch_up()
        f.secondary.execute("update t set note = 'kept' where id = 5")
        f.primary.execute("update t set b = b + 1, id = id + 1000 where id = 5")
        f.primary.execute("update t set b = b + 1 where id < 30")
        f.assert_equal()
        assert f.secondary.value("select note from t where id = 1005") == "kept"
        assert f.secondary.value("select count(*) from t where note = 'mine'") == 49


def test_savepoints_empty_and_unlogged(pair: Pair, tmp_path: Path) -> None:
    with follow(
        pair, tmp_path, "create table t (id int primary key, v text); create unlogged table u (id int)"
    ) as f:
        f.primary.execute(
            "begin; insert into t values (1, 'a'); savepoint s; insert into t values (2, 'b'); rollback to s; "
            "insert into t values (3, 'c'); savepoint s2; update t set v = 'd' where id = 1; release s2; commit"
        )
        f.primary.execute("begin; insert into t values (9, 'never'); rollback")
        f.primary.execute(
            "insert into u values (1); create temporary table x (id int primary key); insert into x values (1)"
        )
        f.assert_equal()
        assert f.secondary.execute("select id, v from t order by id") == [(1, "d"), (3, "c")]


def test_a_transaction_larger_than_the_bound_is_atomic(pair: Pair, tmp_path: Path) -> None:
    with follow(pair, tmp_path, "create table t (id int primary key, v text)", batch_bytes=64 * 1024) as f:
        f.primary.execute("insert into t select g, repeat('x', 100) from generate_series(1, 20000) g")
        f.primary.execute(
            "begin; update t set v = 'y' where id <= 10000; delete from t where id > 15000; "
            "insert into t select g, 'z' from generate_series(30000, 40000) g; commit"
        )
        f.assert_equal()


def test_hostile_names(pair: Pair, tmp_path: Path) -> None:
    table = 'we"ird.name\nwith ' + "é" * 10
    column = 'c"o.l\nu' + "x" * 50
    quoted, quoted_column = table.replace('"', '""'), column.replace('"', '""')
    with follow(
        pair, tmp_path,
        f'create schema "s "".x"; create table "s "".x"."{quoted}" (id int primary key, "{quoted_column}" text)',
    ) as f:  # fmt: skip
        f.primary.execute(
            f"""insert into "s "".x"."{quoted}" values (1, 'it''s'), (2, E'back\\\\slash\\n')"""
        )
        f.primary.execute(f"""update "s "".x"."{quoted}" set "{quoted_column}" = 'new' where id = 1""")
        f.assert_equal()


def test_a_shape_that_differs_stops_the_replica_with_both(pair: Pair, tmp_path: Path) -> None:
    with follow(pair, tmp_path, "create table t (id int primary key, v text)", ddl="off") as f:
        f.primary.execute("insert into t values (1, 'before')")
        f.catch_up()
        f.primary.execute("alter table t add column extra int")
        f.primary.execute("insert into t values (2, 'after', 3)")
        error = f.failed()
        assert isinstance(error, ReplayError)
        assert error.exit_code == 7
        assert "extra" in str(error)
        assert f.secondary.value("select count(*) from t") == 1
        state, last_error = f.secondary.execute("select state, last_error from logship.stat_replay")[0]
        assert state == "failed"
        assert "extra" in last_error
        # The way out that the error names: the same change on the secondary, and go on.
        f.secondary.execute("alter table t add column extra int")
        f._start()
        f.assert_equal()
        assert f.secondary.value("select extra from t where id = 2") == 3


def test_a_row_that_is_missing_stops_the_replica(pair: Pair, tmp_path: Path) -> None:
    with follow(
        pair, tmp_path, "create table t (id int primary key, v text); insert into t values (1, 'a'), (2, 'b')"
    ) as f:
        f.catch_up()
        f.secondary.execute("delete from t where id = 2")
        f.primary.execute("update t set v = 'secret-value' where id = 2")
        error = f.failed()
        assert isinstance(error, ReplayError)
        assert "t" in str(error)
        assert "secret-value" not in str(error)


@pytest.mark.parametrize("memory", [True, False])
def test_restart_goes_on_where_it_stood(pair: Pair, tmp_path: Path, memory: bool) -> None:
    with follow(pair, tmp_path, "create table t (id serial primary key, v text)", memory=memory) as f:
        for _ in range(3):
            f.primary.execute("insert into t (v) select 'x' from generate_series(1, 100)")
            f.restart()
            f.primary.execute("update t set v = v || 'y' where id % 2 = 0")
        f.assert_equal()
        assert f.secondary.value("select transactions from logship.stat_replay") >= 6


def test_a_large_transaction_of_a_table_that_is_left_out(pair: Pair, tmp_path: Path) -> None:
    """Its pieces change nothing, and must not leave a transaction open on the secondary."""
    schema = "create table t (id int primary key); create table log (v text)"
    with follow(pair, tmp_path, schema, keyless="leave-out", batch_bytes=64 * 1024) as f:
        f.primary.execute("insert into log select repeat('x', 50) from generate_series(1, 20000)")
        f.primary.execute("insert into t values (1)")
        f.assert_equal(without={"log"})
        assert f.secondary.value("select count(*) from log") == 0
        assert f.secondary.value("select transactions from logship.stat_replay") == 1
        left = "select count(*) from pg_stat_activity where application_name like 'logship replay%' and state <> 'idle'"
        eventually(lambda: f.secondary.value(left) == 0)  # its other sessions work for a moment now and then
