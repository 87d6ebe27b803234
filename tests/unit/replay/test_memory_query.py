"""Readers ask memory one SELECT at a time, and can reach nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

import logship.memory
from logship.replay.memory.memory import Memory
from logship.replay.memory.query import MemoryClosed, QueryRefused
from tests.unit.replay.memory_model import (
    FLOAT8,
    INT4,
    TEXT,
    ModelPersistence,
    apply,
    batch,
    coalesced,
    insert,
    memory_of,
    target,
)  # fmt: skip


@dataclass
class Holding:
    memory: Memory


T = target("t", ("id", INT4), ("Note", TEXT), ("f", FLOAT8))


@pytest.fixture
def memory() -> Iterator[Memory]:
    made = memory_of(ModelPersistence({"t": []}))
    apply(made, batch(2, coalesced(insert(T, b"1", b"one", b"1e+15"))))
    yield made
    made.close()


@pytest.mark.parametrize(
    "query",
    [
        "select count(*) as n from t",
        "select count(*) as n from public.t;",
        "with x as (from t) select count(*) as n from x",
    ],
)
def test_reads_are_answered(memory: Memory, query: str) -> None:
    table, lsn = memory.query(query)
    assert (table.to_pylist(), int(lsn)) == ([{"n": 1}], 2)
    assert memory.query("explain " + query)[0].num_rows


def test_what_is_closed_says_so() -> None:
    """A query that waited has the store of a replay that is over."""
    memory = memory_of(ModelPersistence({"t": []}))
    memory.close()
    with pytest.raises(MemoryClosed):
        memory.reading()
    with pytest.raises(logship.memory.NotInMemory, match="being made anew"):
        logship.memory.of(Holding(memory)).query("select 1")


def test_as_text_is_what_postgresql_writes(memory: Memory) -> None:
    table, _ = memory.query("select *, true as b, id as b from t", as_text=True)
    assert table.column_names == ["id", "Note", "f", "b", "b_1"] or table.column_names[-1] == "b"
    assert [column[0].as_py() for column in table.columns] == ["1", "one", "1e+15", "t", "1"]


@pytest.mark.parametrize(
    "query",
    [
        "delete from t",
        "insert into t values (2)",
        "select 1; select 2",
        "drop table t",
        "copy t to '/tmp/stolen'",
        "set threads = 1",
        "attach 'x.db'",
        "begin",
        "checkpoint",
        "explain analyze insert into t values (2, 'x', 1)",
        "select * from read_csv('/etc/passwd')",
        "select * from '/etc/passwd'",
        "select * from glob('/*')",
        "select * from T_unknown",
        "select nonsense from t",
        "select (",
        "",
    ],
)
def test_anything_else_is_refused_with_what_to_do(memory: Memory, query: str) -> None:
    with pytest.raises(QueryRefused) as raised:
        memory.query(query)
    assert raised.value.hint
    assert memory.query("select count(*) as n from t")[0].to_pylist() == [{"n": 1}]


def test_a_result_past_the_limit_is_refused(memory: Memory) -> None:
    with pytest.raises(QueryRefused, match="larger than 1000 bytes"):
        memory.query("select * from range(1000000)", limit_bytes=1000)


def test_a_value_is_never_in_the_message(memory: Memory) -> None:
    with pytest.raises(QueryRefused) as raised:
        memory.query('select cast("Note" as int) from t')
    assert "one" not in str(raised.value)
