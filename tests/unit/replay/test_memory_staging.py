"""Tables staged for DuckDB: what is planned once says what a plan made anew would."""

from __future__ import annotations

import duckdb
import pyarrow as pa
import pytest

from logship.errors import InternalError
from logship.replay.memory.staging import Staging


class World:
    def __init__(self) -> None:
        self.connection = duckdb.connect(":memory:")
        self.connection.execute("create table t (c0 bigint, c1 varchar)").fetchall()
        self.staging = Staging(self.connection)

    def put(self, table: object) -> None:
        with self.staging.staged(table) as view:
            self.staging.execute(view, f"insert into t select c0::bigint, c1 from {view}")

    def rows(self) -> list[tuple[object, ...]]:
        found: list[tuple[object, ...]] = self.connection.execute("select * from t order by all").fetchall()
        return found

    def named(self) -> int:
        found = self.connection.execute("select count(*) from pg_prepared_statements").fetchone()
        assert found is not None
        return int(found[0])


def rows(*ids: int, kind: object = None) -> object:
    return pa.table({"c0": pa.array(ids, kind or pa.int64()), "c1": [f"text {one}" for one in ids]})


def test_a_plan_reads_what_is_staged_now() -> None:
    world = World()
    for ids in ((1, 2), (), (3,), tuple(range(10, 5000))):
        world.put(rows(*ids))
    assert [row[0] for row in world.rows()] == [1, 2, 3, *range(10, 5000)]


def test_tables_of_another_schema_have_another_relation() -> None:
    world = World()
    world.put(rows(1))
    world.put(rows(2, kind=pa.int32()))
    world.put(pa.table({"c0": ["3"], "c1": ["a text"], "more": [True]}))
    assert world.rows() == [(1, "text 1"), (2, "text 2"), (3, "a text")]


def test_plans_follow_a_table_that_was_made_anew() -> None:
    world = World()
    world.put(rows(1))
    world.connection.execute(
        "drop table t; create table t (c0 bigint, c1 varchar, c2 int default 7)"
    ).fetchall()
    with pytest.raises(duckdb.Error):
        world.put(rows(2))
    world.connection.execute("alter table t drop column c2").fetchall()
    world.put(rows(3))
    assert world.rows() == [(3, "text 3")]


def test_what_a_rolled_back_transaction_made_is_made_again() -> None:
    world = World()
    world.connection.begin()
    world.put(rows(1))
    world.connection.rollback()
    world.staging.forget()
    world.put(rows(2))
    assert world.rows() == [(2, "text 2")]


def test_an_aborted_transaction_is_no_obstacle() -> None:
    world = World()
    world.connection.begin()
    world.put(rows(1))
    with pytest.raises(duckdb.Error):
        world.connection.execute("select error('no')").fetchall()
    world.connection.rollback()
    world.staging.forget()
    world.put(rows(2))
    assert world.rows() == [(2, "text 2")]


def test_plans_and_relations_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("logship.replay.memory.staging._RELATIONS", 3)
    world = World()
    for number in range(10):
        world.put(rows(number).append_column(f"m{number % 5}", pa.array([number])))  # type: ignore[attr-defined]
        for other in range(6):
            with world.staging.staged(rows(0)) as view:
                world.staging.table(view, f"select c0 + {other} as c from {view}")
    assert len(world.rows()) == 10
    views = world.connection.execute("select count(*) from duckdb_views() where not internal").fetchone()
    assert views == (3,)
    assert world.named() <= 3 * 4


def test_two_tables_of_one_schema_are_not_staged_at_a_time() -> None:
    world = World()
    with world.staging.staged(rows(1)), pytest.raises(InternalError), world.staging.staged(rows(2)):
        pass
