"""TRUNCATE: several tables, foreign keys, identities, owners."""

from __future__ import annotations

import pytest

from tests.integration.persistence.replica import Log, Replica, cells


def test_tables_that_refer_to_one_another(replica: Replica) -> None:
    replica.create("create table a (id int primary key); create table b (id int references a); "
                   "insert into a values (1); insert into b values (1)")  # fmt: skip
    a, b, log, persistence = replica.target("a"), replica.target("b"), Log(), replica.opened()
    log.truncate([a, b])
    log.insert(a, cells("7"))
    persistence.apply([log.batch()])
    assert replica.execute("select (select count(*) from b), (select min(id) from a)") == [(0, 7)]


@pytest.mark.parametrize("restart", [True, False])
def test_a_table_that_others_refer_to(replica: Replica, restart: bool) -> None:
    replica.create(
        "create table a (id int generated always as identity primary key, p serial) ; "
        "create table only_here (id int references a); insert into a select from generate_series(1, 5)"
    )
    a, log, persistence = replica.target("a"), Log(), replica.opened()
    log.truncate([a], restart=restart)
    persistence.apply([log.batch()])
    replica.create("insert into a default values")
    assert replica.execute("select id, p from a") == [(1, 1) if restart else (6, 6)]


def test_restart_identity(replica: Replica) -> None:
    replica.create("create table a (id serial primary key); insert into a select from generate_series(1, 5)")
    a, log, persistence = replica.target("a"), Log(), replica.opened()
    log.truncate([a], restart=True)
    persistence.apply([log.batch()])
    replica.create("insert into a default values")
    assert replica.execute("select id from a") == [(1,)]


def test_tables_of_several_owners(replica: Replica) -> None:
    replica.create("create table a (id int primary key); create table free (id int); "
                   "insert into a values (1); "
                   "insert into free values (1); grant references, select on a to postgres")  # fmt: skip
    replica.database.execute("create table b (id int references a); insert into b values (1)")
    log, persistence = Log(), replica.opened()
    log.truncate([replica.target(name, "n") for name in ("a", "b", "free")])
    persistence.apply([log.batch()])
    assert replica.execute("select count(*) from a, b, free") == [(0,)]


def test_partitions_that_refer_inside(replica: Replica) -> None:
    replica.create(
        "create table a (id int primary key) partition by range (id); "
        "create table a1 partition of a for values from (0) to (10); "
        "create table b (id int primary key references a) partition by range (id); "
        "create table b1 partition of b for values from (0) to (10); "
        "insert into a values (1); insert into b values (1)"
    )
    log, persistence = Log(), replica.opened()
    log.truncate([replica.target("a"), replica.target("b")])
    persistence.apply([log.batch()])
    assert replica.execute("select (select count(*) from a) + (select count(*) from b)") == [(0,)]
