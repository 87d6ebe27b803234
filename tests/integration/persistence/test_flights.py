"""What is sent before the answer to what went before it: nothing of it stays when any of it fails."""

from __future__ import annotations

import pytest

from logship.lsn import Lsn
from logship.replay.failures import ConstraintViolated, RowMissing, StatementFailed
from logship.replay.persistence import Persistence
from tests.integration.persistence.replica import Log, Replica, cells

WIDE = "x" * 500  # so that a few thousand rows are several flights
ROWS = 12_000


@pytest.fixture
def wide(replica: Replica) -> Replica:
    replica.create("create table t (id int primary key, v text, w int check (w is null or 10 / w > 0))")
    return replica


def found(wide: Replica, persistence: Persistence) -> tuple[int, Lsn]:
    (count,) = wide.execute("select count(*) from t")[0]
    assert persistence.position == wide.stored_position()
    return count, persistence.position


def test_a_failure_in_one_of_many_flights_undoes_them_all(wide: Replica) -> None:
    target, persistence = wide.target("t"), wide.opened()
    session = persistence.backend_pid

    # Somewhere in the middle a row that must not be there.
    wide.create("insert into t values (7000)")
    log = Log()
    for n in range(ROWS):
        log.insert(target, cells(str(n), WIDE, None))
    inserts = log.batch()
    with pytest.raises(ConstraintViolated):
        persistence.apply([inserts])
    assert found(wide, persistence) == (1, Lsn(0x100))
    wide.create("delete from t")
    persistence.apply([inserts])
    assert found(wide, persistence) == (ROWS, Lsn(0x200))

    # In the first flight a row that is missing; those behind it are under way by then.
    wide.create("delete from t where id in (3, 5)")
    for n in range(ROWS):
        log.update(target, cells(str(n), WIDE + "y", None))
    updates = log.batch()
    with pytest.raises(RowMissing) as missing:
        persistence.apply([updates])
    assert missing.value.named - missing.value.hit == 2
    assert found(wide, persistence) == (ROWS - 2, Lsn(0x200))
    assert wide.execute("select count(*) from t where v like '%y'") == [(0,)]
    wide.create("insert into t values (3), (5)")
    persistence.apply([updates])
    assert wide.execute("select count(*) from t where v like '%y'") == [(ROWS,)]
    assert persistence.position == Lsn(0x300)
    assert persistence.backend_pid == session
    assert wide.retries == []


def test_one_round_trip_commits_only_what_was_counted(wide: Replica) -> None:
    target, persistence, log = wide.target("t"), wide.opened(), Log()
    log.insert(target, cells("1", "x", None))
    persistence.apply([log.batch()])
    assert found(wide, persistence) == (1, Lsn(0x200))

    # The insert before the update goes with it, and so does the one behind it.
    log.insert(target, cells("2", "x", None))
    log.update(target, cells("9", "y", None))
    short = log.batch()
    with pytest.raises(RowMissing) as missing:
        persistence.apply([short])
    assert (missing.value.named, missing.value.hit) == (1, 0)
    assert found(wide, persistence) == (1, Lsn(0x200))

    # What users wrote may divide by zero, too: that is no count.
    wide.create("insert into t values (9)")
    log = Log(0x200)
    log.update(target, cells("9", "y", "0"))
    with pytest.raises(StatementFailed) as failed:
        persistence.apply([log.batch()])
    assert failed.value.sqlstate == "22012"
    assert found(wide, persistence) == (2, Lsn(0x200))

    persistence.apply([short])
    assert found(wide, persistence) == (3, Lsn(0x300))
    assert wide.execute("select v from t where id = 9") == [("y",)]
    assert wide.retries == []
