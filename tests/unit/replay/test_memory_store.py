"""The store's transactions: what readers see of them, and when they begin at all."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import duckdb
import pyarrow as pa
import pytest

from logship.lsn import Lsn
from logship.replay.memory.store import Store


@pytest.fixture
def store() -> Iterator[Store]:
    made = Store(limit_bytes=1 << 28, spill_directory=None, threads=2, start_lsn=Lsn(7))
    made.execute("create table t (n bigint check (n >= 0))")
    try:
        yield made
    finally:
        made.close()


def put(store: Store, *numbers: int) -> None:
    rows = pa.table({"n": pa.array(numbers, pa.int64())})
    store.put(rows, lambda view: f"insert into t select n from {view}")


def seen(store: Store) -> tuple[list[int], Lsn]:
    reader, lsn = store.snapshot()
    try:
        return [n for (n,) in reader.execute("select n from memory.main.t order by n").fetchall()], lsn
    finally:
        reader.close()


def test_rows_and_position_are_seen_at_the_commit(store: Store) -> None:
    assert seen(store) == ([], Lsn(7))
    store.begin()
    put(store, 1)
    assert seen(store) == ([], Lsn(7))
    store.commit(Lsn(8))
    assert seen(store) == ([1], Lsn(8))
    store.begin()
    put(store, 2)
    put(store, 3)
    store.execute("delete from t where n = 1")
    assert seen(store) == ([1], Lsn(8))
    store.commit(Lsn(9))
    assert seen(store) == ([2, 3], Lsn(9))
    store.begin()
    store.commit()
    assert seen(store) == ([2, 3], Lsn(9))


def test_what_reads_behind_a_row_that_waits_finds_it(store: Store) -> None:
    store.begin()
    put(store, 1)
    assert store.rows("select n from t") == [(1,)]
    assert store.count("update t set n = 2") == 1
    assert store.table("select n from t").to_pylist() == [{"n": 2}]
    store.rollback()
    assert seen(store) == ([], Lsn(7))


@pytest.mark.parametrize("more", [False, True])
def test_nothing_stays_of_a_transaction_that_is_rolled_back(store: Store, more: bool) -> None:
    store.begin()
    put(store, 1)
    if more:
        put(store, 2)
    store.rollback()
    store.begin()
    put(store, 5)
    store.commit(Lsn(8))
    assert seen(store) == ([5], Lsn(8))


@pytest.mark.parametrize("more", [False, True])
def test_a_position_doesn_t_move_without_its_rows(store: Store, more: bool) -> None:
    def both() -> None:
        store.begin()
        put(store, -1)  # the table refuses it
        if more:
            put(store, 2)
        store.commit(Lsn(8))

    with pytest.raises(duckdb.ConstraintException):
        both()
    store.rollback()
    assert seen(store) == ([], Lsn(7))
    store.begin()
    put(store, 2)
    store.commit(Lsn(9))
    assert seen(store) == ([2], Lsn(9))


def test_a_snapshot_stays_what_it_was(store: Store) -> None:
    reader, lsn = store.snapshot()
    store.begin()
    put(store, 1)
    store.commit(Lsn(8))
    assert (reader.execute("select count(*) from memory.main.t").fetchall(), lsn) == ([(0,)], Lsn(7))
    with pytest.raises(duckdb.Error):
        reader.execute("insert into memory.main.t values (1)")
    reader.close()


def test_no_snapshot_has_rows_of_another_position(store: Store) -> None:
    """Row n comes with position 7 + n, by one statement or by two; readers look all the while."""
    wrong: list[tuple[list[int], Lsn]] = []
    looked = [0, 0, 0]
    over = threading.Event()

    def read(me: int) -> None:
        while not over.is_set():
            found, lsn = seen(store)
            looked[me] += 1
            if found != list(range(1, int(lsn) - 7 + 1)):
                wrong.append((found, lsn))

    readers = [threading.Thread(target=read, args=(me,)) for me in range(len(looked))]
    for reader in readers:
        reader.start()
    n = 0
    try:
        while n < 300 or min(looked) < 20:
            n += 1
            store.begin()
            put(store, n)
            if n % 2:
                store.execute(f"update t set n = {n} where n = {n}")
            store.commit(Lsn(7 + n))
    finally:
        over.set()
        for reader in readers:
            reader.join()
    assert not wrong
