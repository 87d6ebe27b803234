"""Statements walk the key's index, whatever the size of batch and table, analyzed or not."""

from __future__ import annotations

import pytest

from logship.replay.ladder import Rung, climb
from logship.replay.session import SETTINGS
from logship.replay.statements import Statement
from tests.arrays import cells_of
from tests.integration.persistence.replica import Log, Replica, cells

ROWS = 200_000


def plan(replica: Replica, statement: Statement) -> str:
    """What the server would do, with the array in the parameters' place, as EXECUTE plans it."""
    sql = statement.sql
    for n in range(len(statement.arrays), 0, -1):
        values = ",".join(
            "null" if cell is None else f'"{cell.decode()}"' for cell in cells_of(statement.arrays[n - 1])
        )
        sql = sql.replace(f"${n}", f"'{{{values}}}'::text[]")
    with replica.reader() as connection:
        for name, value in SETTINGS.items():
            connection.execute(f"set {name} = '{value}'".encode())
        if statement.scans:
            connection.execute(b"set enable_hashjoin = on; set enable_nestloop = off")
        return "\n".join(row[0] for row in connection.execute(f"explain {sql}".encode()).fetchall())


@pytest.mark.parametrize("analyzed", [False, True])
def test_one_row_and_many_walk_the_index(replica: Replica, analyzed: bool) -> None:
    replica.create("create table t (id int primary key, a text) with (autovacuum_enabled = off)")
    replica.create(f"insert into t select n, 'x' from generate_series(1, {ROWS}) n")
    if analyzed:
        replica.create("analyze t")
    target = replica.target("t")
    for count in (1, 5_000):
        log = Log()
        for n in range(1, count + 1):
            log.update(target, cells(str(n), "y"))
            log.delete(target, cells(str(n + count), None))
            log.update(target, cells(str(-n), "z"), old=cells(str(n + 2 * count), None))
        statements = list(climb(log.batch(), Rung.NET))
        assert [s.verb for s in statements if isinstance(s, Statement)] == ["DELETE", "UPDATE", "UPDATE"]
        for statement in statements:
            assert isinstance(statement, Statement)
            text = plan(replica, statement)
            assert "Index Scan using t_pkey" in text, text
            assert "Seq Scan" not in text, text
            assert "Hash" not in text, text


def test_without_an_index_on_the_key_the_table_is_hashed(replica: Replica) -> None:
    replica.create("create table s (id int primary key, a text); create table t (id int not null, a text)")
    replica.create("insert into t select n, 'x' from generate_series(1, 20000) n")
    relation, types = replica.relation("s")
    target = replica.resolve(type(relation)(relation.oid, "public", "t", "d", relation.columns), types)
    log, persistence = Log(), replica.opened()
    for n in range(1, 10_001):
        log.update(target, cells(str(n), "y"))
    batch = log.batch()
    (statement,) = climb(batch, Rung.NET)
    assert isinstance(statement, Statement)
    assert "Hash Join" in plan(replica, statement)
    persistence.apply([batch])
    assert replica.execute("select count(*) from t where a = 'y'") == [(10_000,)]


def test_a_partitioned_table_walks_the_partitions_indexes(replica: Replica) -> None:
    replica.create("create table t (id int primary key, a text) partition by hash (id)")
    for n in range(4):
        replica.create(f"create table t{n} partition of t for values with (modulus 4, remainder {n})")
    replica.create("insert into t select n, 'x' from generate_series(1, 50000) n")
    target, log = replica.target("t"), Log()
    for n in range(1, 3000):
        log.update(target, cells(str(n), "y"))
    (statement,) = climb(log.batch(), Rung.NET)
    assert isinstance(statement, Statement)
    assert "Seq Scan" not in plan(replica, statement)
