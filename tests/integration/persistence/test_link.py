"""The link to the secondary breaks, others are in the way: each transaction is applied exactly once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from logship.errors import RefusedAsUnsafe, SecondaryError
from logship.lsn import Lsn
from logship.replay.failures import ReplayStopped, TransactionLost
from logship.replay.persistence import Persistence
from logship.replay.statements import COPY_ROWS
from logship.service.demo.servers import Server
from tests.integration.persistence.proxy import Proxy
from tests.integration.persistence.replica import NAME, Log, Replica, cells, make_replica
from tests.servers import Database, eventually

COUNT = "select count(*) from t"


@pytest.fixture
def history(replica: Replica) -> Replica:
    """A table without a key: what is applied twice counts twice."""
    replica.create("create table t (id int, a text)")
    return replica


@pytest.fixture
def proxy(history: Replica) -> Iterator[Proxy]:
    given = psycopg.conninfo.conninfo_to_dict(history.database.conninfo_as(history.user, tcp=True))
    made = Proxy(int(given["port"] or 0))
    yield made
    made.close()


def through(proxy: Proxy, replica: Replica) -> str:
    direct = replica.database.conninfo_as(replica.user, tcp=True)
    return psycopg.conninfo.make_conninfo(direct, port=proxy.port)


def blocked(replica: Replica) -> bool:
    return bool(replica.execute("select 1 from pg_stat_activity where application_name like 'logship replay%' "
                                "and wait_event_type = 'Lock'"))  # fmt: skip


@pytest.mark.parametrize("deliver", [True, False], ids=["answer-lost", "commit-lost"])
@pytest.mark.parametrize("word", [b"commit\0", b"logship.advance", b"begin isolation"])
def test_the_link_breaks_around_commit(history: Replica, proxy: Proxy, word: bytes, deliver: bool) -> None:
    target, log, persistence = history.target("t", "n"), Log(), history.opened(through(proxy, history))
    log.insert(target, cells("1", "x"))
    persistence.apply([log.batch()])
    proxy.cut_after(word, deliver=deliver)
    log.insert(target, cells("2", "y"))
    persistence.apply([log.batch()])
    assert proxy.cuts == 1
    assert history.retries == [None]
    assert history.execute(COUNT) == [(2,)]
    assert persistence.position == history.stored_position() == Lsn(0x300)
    assert history.execute("select transactions from logship.position") == [(2,)]


@pytest.mark.parametrize("word", [b"commit\0", b"insert into"])
def test_the_link_breaks_in_a_transaction_in_pieces(history: Replica, proxy: Proxy, word: bytes) -> None:
    target, log, persistence = history.target("t", "n"), Log(), history.opened(through(proxy, history))
    log.insert(target, cells("1", "x"))
    first = log.batch(complete=False)
    log.insert(target, cells("2", "x"))
    second = log.batch()
    persistence.apply([first])
    assert history.execute(COUNT) == [(0,)]
    proxy.cut_after(word)
    if word == b"commit\0":
        persistence.apply([second])
    else:
        with pytest.raises(TransactionLost):
            persistence.apply([second])
        assert persistence.open() == Lsn(0x100)
        persistence.apply([first])
        persistence.apply([second])
    assert history.execute(COUNT) == [(2,)]
    assert persistence.position == Lsn(0x200)


def test_the_backend_is_terminated_while_it_waits(history: Replica) -> None:
    target, log, persistence = history.target("t", "n"), Log(), history.opened()
    log.insert(target, cells("1", "x"))
    batch = log.batch()
    with psycopg.connect(history.database.conninfo) as blocker:
        blocker.execute("lock table t")
        thread = threading.Thread(target=persistence.apply, args=([batch],))
        thread.start()
        eventually(lambda: blocked(history), what="replay waits for the lock")
        history.execute("select pg_terminate_backend(pid) from pg_stat_activity "
                        "where application_name like 'logship replay%'")  # fmt: skip
        eventually(lambda: history.retries, what="tried again")
    thread.join(20)
    assert history.execute(COUNT) == [(1,)]


def test_the_server_restarts(
    make_server: Callable[..., Server], make_database: Callable[[Server], Database]
) -> None:
    server = make_server(durable=True)
    replica = make_replica(make_database(server), superuser=False)
    replica.create("create table t (id int, a text)")
    target, log, persistence = replica.target("t", "n"), Log(), replica.opened()
    log.insert(target, cells("1", "x"))
    persistence.apply([log.batch()])
    server.kill()
    log.insert(target, cells("2", "x"))
    thread = threading.Thread(target=persistence.apply, args=([log.batch()],))
    thread.start()
    eventually(lambda: replica.retries, what="tried again")
    server.start()
    thread.join(30)
    assert replica.execute(COUNT) == [(2,)]
    replica.close()


def test_a_deadlock_is_tried_again(replica: Replica) -> None:
    replica.create("create table a (id int primary key, v int); create table b (id int primary key, v int); "
                   "insert into a values (1, 0); insert into b values (1, 0)")  # fmt: skip
    replica.database.execute(f"alter database {replica.database.name} set deadlock_timeout = '60s'")
    replica.database.execute(f"alter role {replica.user} set deadlock_timeout = '1s'")
    replica.database.execute(f"grant set on parameter deadlock_timeout to {replica.user}")
    a, b, log, persistence = replica.target("a"), replica.target("b"), Log(), replica.opened()
    log.update(a, cells("1", "1"))
    log.update(b, cells("1", "1"))
    with psycopg.connect(replica.database.conninfo) as other:
        other.execute("update b set v = 7")
        thread = threading.Thread(target=persistence.apply, args=([log.batch()],))
        thread.start()
        eventually(lambda: blocked(replica), what="replay waits for the other")
        other.execute("update a set v = 8")  # closes the circle: replay is the one to give way
    thread.join(20)
    assert "40P01" in replica.retries
    assert replica.execute("select a.v, b.v from a, b") == [(1, 1)]


def test_a_lock_that_is_held_for_long_is_tried_again(history: Replica) -> None:
    target, log, persistence = history.target("t", "n"), Log(), history.opened(lock_timeout_s=0.05)
    log.insert(target, cells("1", "x"))
    piece = log.batch(complete=False)
    log.insert(target, cells("2", "x"))
    rest = log.batch()
    with psycopg.connect(history.database.conninfo) as blocker:
        blocker.execute("lock table t")
        thread = threading.Thread(target=lambda: (persistence.apply([piece]), persistence.apply([rest])))
        thread.start()
        eventually(lambda: len(history.retries) > 2, what="tried again")
    thread.join(20)
    assert set(history.retries) == {"55P03"}
    assert history.execute(COUNT) == [(2,)]


def test_a_piece_waits_behind_its_savepoint(replica: Replica) -> None:
    replica.create("create table a (id int); create table b (id int primary key)")
    a, b, log = replica.target("a", "n"), replica.target("b"), Log()
    persistence = replica.opened(lock_timeout_s=0.05)
    log.insert(a, cells("1"))
    persistence.apply([log.batch(complete=False)])
    with psycopg.connect(replica.database.conninfo) as blocker:
        blocker.execute("lock table b")
        log.insert(b, cells("1"))
        thread = threading.Thread(target=persistence.apply, args=([log.batch()],))
        thread.start()
        eventually(lambda: replica.retries, what="tried again")
    thread.join(20)
    assert replica.execute("select (select count(*) from a), (select count(*) from b)") == [(1, 1)]


def test_a_serialization_failure_is_tried_again(replica: Replica) -> None:
    """Raised by a trigger the first times: what matters is the SQLSTATE, wherever it comes from."""
    replica.create(
        "create sequence s; create table t (id int primary key); "
        "create function once() returns trigger language plpgsql as $$ begin "
        "if nextval('public.s') < 3 then raise exception using errcode = '40001'; end if; return new; end $$; "
        "create trigger once before insert on t for each row execute function once(); "
        "alter table t enable always trigger once"
    )
    target, log, persistence = replica.target("t"), Log(), replica.opened()
    log.insert(target, cells("1"))
    persistence.apply([log.batch()])
    assert replica.retries == ["40001", "40001"]
    assert replica.execute(COUNT) == [(1,)]


def test_another_process_moved_the_position(history: Replica) -> None:
    target, log, persistence = history.target("t", "n"), Log(), history.opened()
    history.execute("update logship.position set replay_lsn = '0/150'")
    log.insert(target, cells("1", "x"))
    with pytest.raises(RefusedAsUnsafe, match="position"):
        persistence.apply([log.batch()])
    assert history.execute(COUNT) == [(0,)]


def test_a_predecessor_is_waited_for_before_the_position_is_read(history: Replica) -> None:
    target, log, first = history.target("t", "n"), Log(), history.opened()
    log.insert(target, cells("1", "x"))
    second, found = history.persistence(), []
    thread = threading.Thread(target=lambda: found.append(second.open()))
    thread.start()
    eventually(lambda: history.execute(
        "select 1 from pg_stat_activity where application_name like 'logship replay%' offset 1"))  # fmt: skip
    first.apply([log.batch()])
    first.close()
    thread.join(20)
    assert found == [Lsn(0x200)]


def test_stop_ends_waiting_for_a_predecessor_and_for_a_lock(history: Replica) -> None:
    target, log, first = history.target("t", "n"), Log(), history.opened()
    log.insert(target, cells("1", "x"))
    with psycopg.connect(history.database.conninfo) as blocker:
        blocker.execute("lock table t")
        stopped: list[object] = []

        def run() -> None:
            try:
                first.apply([log.batch()])
            except ReplayStopped as error:
                stopped.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        eventually(lambda: blocked(history))
        history.stop.set()
        thread.join(9)
        assert not thread.is_alive()
        assert stopped
    with pytest.raises(ReplayStopped):
        history.opened()
    assert history.execute(COUNT) == [(0,)]


def test_abandoned_pieces_leave_nothing(history: Replica) -> None:
    target, log, persistence = history.target("t", "n"), Log(), history.opened()
    log.insert(target, cells("1", "x"))
    persistence.apply([log.batch(complete=False)])
    persistence.abandon()
    persistence.abandon()
    log.insert(target, cells("2", "x"))
    persistence.apply([log.batch()])
    persistence.advance(Lsn(0x900))
    assert history.execute("select id from t") == [(2,)]
    assert history.stored_position() == persistence.position == Lsn(0x900)
    assert history.execute("select transactions, batches from logship.position") == [(1, 1)]


def test_an_unknown_replica_and_an_unfinished_one(replica: Replica) -> None:
    with pytest.raises(SecondaryError, match="nobody"):
        Persistence(replica.database.conninfo, "nobody").open()
    replica.execute("update logship.replica set initialised_at = null")
    with pytest.raises(RefusedAsUnsafe, match="not finished"):
        replica.persistence().open()


CRASH = """
import sys
from logship import kernel
from logship.lsn import Lsn
from logship.replay.batch import Batch, OrderedChanges, InsertRun, Rows
from logship.replay.persistence import Persistence
from logship.replay.statements import COPY_ROWS
from logship.service.demo.servers import Server
from logship.replay.targets import Targets
from logship.connection import Side, connect
from logship.change import Column, Relation
conninfo, replica, rows = sys.argv[1], sys.argv[2], int(sys.argv[3])
relation = Relation(1, "public", "t", "n", (Column("id", 23, -1, False), Column("a", 25, -1, False)))
with connect(conninfo, Side.SECONDARY) as connection:
    target = Targets(connection).resolve(relation, {})
step = Rows([OrderedChanges(target, [InsertRun(kernel.Rows.of(2, [[b"1", b"x"]] * rows))])])
persistence = Persistence(conninfo, replica)
if persistence.open() < Lsn(0x200):
    persistence.apply([Batch(Lsn(0x200), 0, True, (step,), 1, rows, rows, 10, (), {}, frozenset())])
persistence.close()
"""


@pytest.mark.parametrize(
    ("point", "rows"),
    [
        ("after_rows", 1),
        ("before_commit", 1),
        ("commit_sent", 1),
        ("after_commit", 1),
        ("copying", COPY_ROWS),
    ],
)
def test_the_replayer_is_killed_around_commit(
    history: Replica, tmp_path: Path, point: str, rows: int
) -> None:
    """Those that go by COPY, too; a COMMIT that is on its way may or may not have been carried out."""
    history.database.execute(f"grant insert on t to {history.user}")
    script = tmp_path / "crash.py"
    script.write_text(textwrap.dedent(CRASH))
    command = [sys.executable, str(script), history.database.conninfo_as(history.user), NAME, str(rows)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "LOGSHIP_"))}
    killed = subprocess.run(command, env=environment | {"LOGSHIP_FAILPOINTS": f"persistence.{point}"},
                            timeout=60)  # fmt: skip
    assert killed.returncode == -signal.SIGKILL
    assert history.execute(COUNT) in ([(0,)], [(rows,)])
    assert subprocess.run(command, env=environment, timeout=60).returncode == 0
    assert history.execute(COUNT) == [(rows,)]
    assert history.stored_position() == Lsn(0x200)
