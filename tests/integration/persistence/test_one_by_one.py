"""The rule everything rests on: what is carried out set-wise equals the same changes one by one."""

from __future__ import annotations

import itertools
from typing import Any

import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from logship.change import UNCHANGED, Cell
from logship.replay.batch import Batch
from logship.replay.persistence import Persistence
from logship.replay.shape import SecondaryTarget
from tests.integration.persistence.replica import Log, Replica

TABLE = "(id int, k text, u int unique deferrable, big text, primary key (id, k))"
IDS, VALUES = st.integers(1, 4), st.integers(1, 5)
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("insert"), IDS, VALUES, VALUES),
        st.tuples(st.just("update"), IDS, VALUES, VALUES),
        st.tuples(st.just("move"), IDS, IDS, VALUES),
        st.tuples(st.just("delete"), IDS, IDS, IDS),
        st.tuples(st.just("swap"), IDS, IDS, IDS),
        st.tuples(st.just("truncate"), IDS, IDS, IDS),
        st.tuples(st.just("cut"), IDS, IDS, IDS),
    ),
    max_size=40,
)
Rows = dict[int, list[Cell]]


class Model:
    """The primary: rows in a dictionary, with its unique constraint, and the log of what was done."""

    def __init__(self, target: SecondaryTarget, log: Log) -> None:
        self.rows: Rows = {}
        self.target = target
        self.log = log
        self._big = itertools.count()

    def take(self, change: tuple[str, int, int, int]) -> None:
        kind, a, b, c = change
        if kind == "insert" and a not in self.rows and self.free(b, a):
            self.put(a, [b"%d" % a, b"k", b"%d" % b, self.big()])
        elif kind == "update" and a in self.rows and self.free(b, a):
            self.update(a, a, b"%d" % b, new_big=c > 3)
        elif kind == "move" and a in self.rows and b not in self.rows:
            self.update(a, b, self.rows[a][2], new_big=c > 3)
        elif kind == "delete" and a in self.rows:
            self.log.delete(self.target, self.rows.pop(a))
        elif kind == "swap" and a in self.rows and b in self.rows and a != b:
            for old, new in ((a, 99), (b, a), (99, b)):
                self.update(old, new, self.rows[old][2], new_big=False)
        elif kind == "truncate" and a == b == c:
            self.rows.clear()
            self.log.truncate([self.target])

    def free(self, value: int, but: int) -> bool:
        return all(row[2] != b"%d" % value for key, row in self.rows.items() if key != but)

    def big(self) -> bytes:
        return b"%d" % next(self._big) * 3000  # out of line, so that an UPDATE may leave it out

    def put(self, key: int, row: list[Cell]) -> None:
        self.rows[key] = row
        self.log.insert(self.target, row)

    def update(self, before: int, after: int, unique: Cell, *, new_big: bool) -> None:
        old = self.rows.pop(before)
        big = self.big() if new_big else old[3]
        self.rows[after] = [b"%d" % after, b"k", unique, big]
        carried = [*self.rows[after][:3], big if new_big else UNCHANGED]
        self.log.update(self.target, carried, old=old if before != after else None)


def test_set_wise_equals_one_by_one(replica: Replica) -> None:
    replica.create(
        f"create table t {TABLE.replace(' deferrable', '')}; alter table t alter big set storage external"
    )
    target, persistence, log = replica.target("t"), replica.opened(), Log()
    connection = psycopg.connect(replica.database.conninfo, autocommit=True)

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(CHANGES)
    def equal(changes: list[Any]) -> None:
        connection.execute(b"truncate t")
        model = Model(target, log)
        batches: list[Batch] = []
        for change in changes:
            if change[0] == "cut":  # a commit, or the end of a piece
                batches.append(log.batch(complete=change[1] > 1))
            else:
                model.take(change)
        batches.append(log.batch())
        apply_in_parts(persistence, batches)
        rows = connection.execute(b"select id::text, k, u::text, big from t order by id").fetchall()
        found = [[value.encode() for value in row] for row in rows]
        assert found == [model.rows[key] for key in sorted(model.rows)]

    equal()
    connection.close()
    assert replica.retries == []


def apply_in_parts(persistence: Persistence, batches: list[Batch]) -> None:
    """Some calls get one batch, some several, as the replayer has them."""
    half = len(batches) // 2
    for batch in batches[:half]:
        persistence.apply([batch])
    persistence.apply(batches[half:])
    assert persistence.position == batches[-1].end_lsn
