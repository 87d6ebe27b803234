"""Several sessions, one log: readers see a beginning of it, and each transaction is applied exactly once."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from logship.errors import SecondaryError
from logship.lsn import Lsn
from logship.replay.abreast import Abreast
from logship.replay.batch import Batch
from logship.replay.failures import RowMissing
from logship.replay.origins import further
from logship.replay.persistence import Persistence
from logship.service.replay.persisting import WholeBatches
from logship.service.replay.queue import ByteQueue
from tests.integration.persistence.proxy import Proxy
from tests.integration.persistence.replica import Log, Replica, cells, make_replica
from tests.servers import Database, Server, eventually

SESSIONS = "from pg_stat_activity where application_name like 'logship replay%'"
WRITTEN = f"select count(*) {SESSIONS} and state = 'idle in transaction'"
BLOCKED = f"select count(*) {SESSIONS} and wait_event_type = 'Lock'"


class Beside:
    """Batches given to ``persistence`` side by side. ``serial`` are those that were replayed by themselves."""

    def __init__(self, persistence: Persistence) -> None:
        self.persistence = persistence
        self.reached: list[Lsn] = []
        self.serial: list[Lsn] = []
        self.failure: BaseException | None = None
        self._queue: ByteQueue[Batch] = ByteQueue(1 << 30, lambda: None)
        self._abreast = Abreast(
            persistence, WholeBatches(self._queue),  # type: ignore[arg-type]
            full_bytes=1, held_bytes=1 << 30,
            serially=self._serially,
            committed=lambda batches, written, seconds: self.reached.append(batches[-1].end_lsn),
        )  # fmt: skip
        self.figures = self._abreast.figures

    def run(self, batches: Sequence[Batch]) -> None:
        assert self._abreast.pays(batches)
        self._abreast.run(batches)

    @contextmanager
    def running(self, batches: Sequence[Batch]) -> Iterator[None]:
        """To its end when the block ends."""

        def work() -> None:
            try:
                self.run(batches)
            except BaseException as error:  # noqa: BLE001 - the test looks at it
                self.failure = error

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            thread.join(30)
        assert not thread.is_alive()

    def _serially(self, batches: Sequence[Batch]) -> None:
        self.persistence.apply(batches)
        self.serial.append(batches[-1].end_lsn)
        self.reached.append(batches[-1].end_lsn)


@pytest.fixture
def rows(replica: Replica) -> Replica:
    """Rows 1 to 9 in ``t``; the replayer is no superuser, and owns nothing."""
    replica.create(
        "create table t (id numeric primary key, v text, u int unique); "
        "create table gate (id int primary key, v text); "
        "insert into t select g, 'old', g from generate_series(1, 9) g; insert into gate values (1, 'shut')"
    )
    return replica


class Work:
    """Three batches: the first waits as long as somebody holds the gate's row."""

    def __init__(self, replica: Replica) -> None:
        self.t, self.gate, self.log = replica.target("t"), replica.target("gate"), Log()

    def update(self, key: str, value: str, u: str | None = None, *, gated: bool = False) -> Batch:
        if gated:
            self.log.update(self.gate, cells("1", value))
        self.log.update(self.t, cells(key, value, u or str(int(float(key)))))
        return self.log.batch()

    def three(self) -> list[Batch]:
        return [self.update("1", "a", gated=True), self.update("2", "b"), self.update("3", "c")]


@contextmanager
def shut(replica: Replica) -> Iterator[psycopg.Connection]:
    with psycopg.connect(replica.database.conninfo) as blocker:
        blocker.execute("select from gate for update")
        yield blocker


def waiting(replica: Replica, written: int) -> None:
    eventually(
        lambda: replica.execute(WRITTEN) == [(written,)] and replica.execute(BLOCKED) == [(1,)],
        what="the first waits for the gate, and the others for it",
    )


def values(replica: Replica) -> list[str]:
    return [value for (value,) in replica.execute("select v from t order by id limit 3")]


def exactly_once(replica: Replica, beside: Beside, count: int) -> None:
    """Everything is there, positions came in the order of the log, and were counted once."""
    assert beside.failure is None, beside.failure
    assert beside.reached == [Lsn(0x100 + 0x100 * n) for n in range(1, count + 1)]
    assert beside.persistence.position == replica.stored_position() == beside.reached[-1]
    assert replica.execute("select transactions, batches from logship.position") == [(count, count)]
    assert replica.execute(f"select count(*) {SESSIONS} and state <> 'idle'") == [(0,)]


def test_later_ones_are_written_and_committed_behind_the_first(rows: Replica) -> None:
    beside, work = Beside(rows.opened(sessions=3)), Work(rows)
    assert beside.persistence.sessions == 3
    with shut(rows) as blocker, beside.running([*work.three(), work.update("4", "d"), work.update("5", "e")]):
        waiting(rows, 2)
        assert values(rows) == ["old"] * 3
        assert rows.stored_position() == Lsn(0x100)
        assert beside.reached == []
        blocker.rollback()
    exactly_once(rows, beside, 5)
    assert values(rows) == ["a", "b", "c"]
    assert not beside.serial
    assert beside.figures.side_by_side == 5
    made = rows.execute("select roname from pg_replication_origin where roname like 'logship.%'")
    assert {name for (name,) in made} >= set(further(f"origin_{rows.database.name}")[:2])


def test_readers_see_a_beginning_of_the_log(rows: Replica) -> None:
    """A row of each batch in two tables, and the position: one snapshot never has a later one without an earlier."""
    rows.create("create table n (id int primary key)")
    target, t, log, beside = rows.target("n"), rows.target("t"), Log(), Beside(rows.opened(sessions=3))
    batches = []
    for number in range(60):
        log.insert(target, cells(str(number)))
        if number % 2 == 0:
            log.update(t, cells("1", str(number), "1"))
        batches.append(log.batch())
    seen: list[tuple[int, int, int]] = []
    done = threading.Event()

    def read() -> None:
        with rows.reader() as link:
            while not done.is_set():
                found = link.execute(
                    "select count(*)::int, coalesce(max(id), -1), "
                    "(replay_lsn - '0/100'::pg_lsn)::int / 256 from n, logship.position group by replay_lsn "
                    "union all select 0, -1, (replay_lsn - '0/100'::pg_lsn)::int / 256 from logship.position "
                    "where not exists (select from n)"
                )
                seen.extend(found.fetchall())

    reader = threading.Thread(target=read)
    reader.start()
    try:
        beside.run(batches)
    finally:
        done.set()
        reader.join(20)
    assert seen
    assert all(count == highest + 1 == position for count, highest, position in seen)
    exactly_once(rows, beside, 60)


def test_batches_that_meet_become_one(rows: Replica) -> None:
    beside, work = Beside(rows.opened(sessions=3)), Work(rows)
    batches = [
        work.update("1", "a", gated=True),
        work.update("2", "b"),
        work.update("1", "z"),
        work.update("3", "c"),
    ]
    with shut(rows) as blocker, beside.running(batches):
        waiting(rows, 1)
        blocker.rollback()
    assert beside.failure is None
    assert values(rows) == ["z", "b", "c"]
    assert rows.stored_position() == Lsn(0x500)
    assert beside.figures.met == 1
    assert not beside.serial


def test_a_unique_value_that_passes_between_rows(rows: Replica) -> None:
    """The later batch takes a value that the earlier one hasn't freed yet: it is replayed behind it, and the
    table by itself from there on."""
    beside, work = Beside(rows.opened(sessions=2)), Work(rows)
    with (
        shut(rows) as blocker,
        beside.running([work.update("1", "a", "100", gated=True), work.update("2", "b", "1")]),
    ):
        eventually(
            lambda: (
                rows.execute(WRITTEN) == [(0,)] and rows.execute(BLOCKED) == [(1,)] and beside._abreast._alone
            )
        )
        blocker.rollback()
    exactly_once(rows, beside, 2)
    assert beside.serial == [Lsn(0x300)]
    beside.run([work.update("3", "c", "2000"), work.update("4", "d", "3")])
    assert beside.serial[1:] == [Lsn(0x400), Lsn(0x500)]
    assert rows.execute("select id::int, u from t where id < 5 order by id") == [
        (1, 100),
        (2, 1),
        (3, 2000),
        (4, 3),
    ]


def test_one_in_the_middle_fails(rows: Replica) -> None:
    """What is before it is committed, what is behind it isn't, and the error is that of the serial way."""
    beside, work = Beside(rows.opened(sessions=3)), Work(rows)
    batches = [work.update("1", "a", gated=True), work.update("99", "b"), work.update("3", "c")]
    with shut(rows) as blocker, beside.running(batches):
        eventually(lambda: rows.execute(BLOCKED) == [(1,)])
        blocker.rollback()
    assert isinstance(beside.failure, RowMissing)
    assert values(rows) == ["a", "old", "old"]
    assert beside.reached == [rows.stored_position()] == [Lsn(0x200)]
    assert rows.execute(f"select count(*) {SESSIONS} and state <> 'idle'") == [(0,)]


def test_an_earlier_one_waits_for_what_a_later_one_holds(rows: Replica) -> None:
    """1.0 and 1.00 are one row, and don't look so. Nobody can see this circle but us."""
    beside, work = Beside(rows.opened(sessions=2, lock_timeout_s=600)), Work(rows)
    with (
        shut(rows) as blocker,
        beside.running([work.update("1.0", "a", gated=True), work.update("1.00", "b")]),
    ):
        waiting(rows, 1)
        blocker.rollback()
    exactly_once(rows, beside, 2)
    assert beside.serial == [Lsn(0x300)]
    assert values(rows)[0] == "b"


@pytest.mark.parametrize("which", ["wait_event_type = 'Lock'", "state = 'idle in transaction'"])
def test_a_session_is_terminated(rows: Replica, which: str) -> None:
    beside, work = Beside(rows.opened(sessions=3)), Work(rows)
    with shut(rows) as blocker, beside.running(work.three()):
        waiting(rows, 2)
        rows.execute(f"select pg_terminate_backend(pid, 10000) {SESSIONS} and {which}")
        blocker.rollback()
    exactly_once(rows, beside, 3)
    assert values(rows) == ["a", "b", "c"]
    assert beside.persistence.sessions == 3, "they are all there again"


@pytest.mark.parametrize("deliver", [True, False], ids=["answer-lost", "commit-lost"])
@pytest.mark.parametrize("word", [b"commit\0", b"logship.advance", b"begin isolation"])
def test_a_link_breaks_around_commit(rows: Replica, word: bytes, deliver: bool) -> None:
    direct = rows.database.conninfo_as(rows.user, tcp=True)
    proxy = Proxy(int(psycopg.conninfo.conninfo_to_dict(direct)["port"] or 0))
    try:
        beside = Beside(rows.opened(psycopg.conninfo.make_conninfo(direct, port=proxy.port), sessions=3))
        batches = Work(rows).three()
        proxy.cut_after(word, deliver=deliver)
        beside.run(batches)
    finally:
        proxy.close()
    assert proxy.cuts == 1
    assert beside.serial
    exactly_once(rows, beside, 3)
    assert values(rows) == ["a", "b", "c"]


def test_whoever_begins_waits_for_every_session_of_a_predecessor(rows: Replica) -> None:
    """Also with one session of its own: another's may be committing still."""
    first = rows.opened(sessions=2)
    second, found = rows.persistence(), []
    name = further(f"origin_{rows.database.name}")[0]
    first.close()
    eventually(lambda: not rows.execute(f"select 1 {SESSIONS}"), what="the first one's sessions have ended")
    with psycopg.connect(rows.database.conninfo, autocommit=True) as left:
        left.execute("select pg_replication_origin_session_setup(%s)", [name])
        thread = threading.Thread(target=lambda: found.append(second.open()))
        thread.start()
        eventually(lambda: rows.execute(f"select 1 {SESSIONS} and query like '%session_setup%'"))
        rows.execute("update logship.position set replay_lsn = '0/200'")
        assert not found
    thread.join(20)
    assert found == [Lsn(0x200)]


def test_without_origins_one_session_goes_on(rows: Replica, caplog: pytest.LogCaptureFixture) -> None:
    rows.execute(f"revoke execute on function logship.session_origin from {rows.replayer}")
    with caplog.at_level(logging.WARNING):
        persistence = rows.opened(sessions=2)
        persistence.close()
        persistence.open()
    assert persistence.sessions == 1
    assert [record.message.count("1 session(s) instead of 2") for record in caplog.records] == [1]
    work = Work(rows)
    assert not Beside(persistence)._abreast.pays([work.update("1", "a")])
    persistence.apply(work.three())
    assert values(rows) == ["a", "b", "c"]


@pytest.mark.parametrize("places", [1, 2])
def test_the_first_session_has_the_first_place_for_an_origin(
    places: int,
    primary_server: Server,
    make_server: Callable[..., Server],
    make_database: Callable[[Server], Database],
) -> None:
    """Further sessions go without before it does; and who has none at all is told what to raise."""
    recent = primary_server.binaries.version() >= 18
    setting = "max_active_replication_origins" if recent else "max_replication_slots"
    server = make_server("few", durable=False, settings={setting: str(places)})
    replica = make_replica(make_database(server), superuser=False)
    persistence = replica.opened(sessions=4)
    assert persistence.sessions == places
    replica.close()
    late = make_replica(make_database(server), superuser=False)
    with pytest.raises(SecondaryError, match="could not find free replication state") as refused:
        late.opened()
    assert "max_active_replication_origins" in refused.value.hint


CRASH = """
import sys
from logship.change import Column, Relation
from logship.connection import Side, connect
from logship.lsn import Lsn
from logship.replay.abreast import Abreast
from logship.replay.batch import Batch, NetChanges, Rows
from logship.replay.persistence import Persistence
from logship.replay.targets import Targets
from logship.service.replay.persisting import WholeBatches
from logship.service.replay.queue import ByteQueue
conninfo = sys.argv[1]
relation = Relation(1, "public", "gate", "d", (Column("id", 23, -1, True), Column("v", 25, -1, False)))
with connect(conninfo, Side.SECONDARY) as connection:
    target = Targets(connection).resolve(relation, {})

def batch(number):
    step = Rows([NetChanges.of(target, inserts=[[str(number).encode(), b"x"]])])
    return Batch(Lsn(0x100 + 0x100 * number), 0, True, (step,), 1, 1, 1, 10, (), {1: target}, frozenset())

persistence = Persistence(conninfo, "r", sessions=3)
position = persistence.open()
abreast = Abreast(
    persistence, WholeBatches(ByteQueue(1, lambda: None)), full_bytes=1, held_bytes=1000,
    serially=lambda batches: sys.exit("nothing fails here"), committed=lambda batches, written, seconds: None,
)
abreast.run([each for each in map(batch, range(2, 22)) if each.end_lsn > position])
persistence.close()
"""
POINTS = (
    "abreast.written=3",
    "persistence.after_rows=2",
    "persistence.before_commit=3",
    "persistence.after_commit=2",
)


def test_the_replayer_is_killed_with_several_open(rows: Replica, tmp_path: Path) -> None:
    """At one window after the other, and then not any more."""
    script = tmp_path / "crash.py"
    script.write_text(CRASH)
    command = [sys.executable, str(script), rows.database.conninfo_as(rows.user)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "LOGSHIP_"))}
    before = 0
    for point in POINTS:
        killed = subprocess.run(command, env=environment | {"LOGSHIP_FAILPOINTS": point}, timeout=60)
        assert killed.returncode == -signal.SIGKILL
        eventually(lambda: rows.execute(f"select count(*) {SESSIONS}") == [(0,)])
        ((count, highest, position),) = rows.execute(
            "select count(*)::int - 1, max(id), (replay_lsn - '0/100'::pg_lsn)::int / 256 "
            "from gate, logship.position group by replay_lsn"
        )
        assert before <= count, "what was committed stays"
        assert (count == 0 and position == 0) or count == highest - 1 == position - 1
        before = count
    assert subprocess.run(command, env=environment, timeout=60).returncode == 0
    assert rows.execute("select count(*), max(id) from gate") == [(21, 21)]
    assert rows.execute("select transactions from logship.position") == [(20,)]
