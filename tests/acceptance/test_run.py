"""`logship run` as a person starts it: what it promises, how it ends, what it says when it can't."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from psycopg.errors import Error as PgError

from logship.service.demo.servers import Server
from tests.conftest import Pair
from tests.follow import assert_equal
from tests.servers import Database, Finished, Logship, Running, eventually


def both(pair: Pair) -> tuple[str, ...]:
    return ("--primary", pair.primary.conninfo, "--secondary", pair.secondary.conninfo)


@pytest.fixture
def replica(pair: Pair, logship: Logship) -> Pair:
    """A pair with one table, initialised."""
    pair.primary.execute("create table t (id int primary key, v text); insert into t values (1, 'one')")
    finished = logship.run("init", *both(pair))
    assert finished.exit_code == 0, finished.stderr
    return pair


def streaming(running: Running) -> Running:
    def there() -> bool:
        assert running.alive, running.stderr
        return "streaming slot" in running.stderr

    eventually(there, 60, what="the replica streams")
    return running


def assert_refused(finished: Finished, code: int, *words: str) -> None:
    """One sentence, a hint, the exit code; never a traceback."""
    assert finished.exit_code == code, finished.stderr
    error = [line for line in finished.stderr.splitlines() if line.startswith("logship: error: ")]
    assert len(error) == 1, finished.stderr
    assert "\nhint: " in finished.stderr
    assert "Traceback" not in finished.stderr
    for word in words:
        assert word in finished.stderr, finished.stderr


# -- what it promises -------------------------------------------------------------------------------


def test_stop_at_current(replica: Pair, logship: Logship, tmp_path: Path) -> None:
    replica.primary.execute(
        "insert into t select g, 'v' from generate_series(2, 5000) g; update t set v = 'w'"
    )
    finished = logship.run(
        "run", *both(replica), "--journal", tmp_path / "j", "--stop-at", "current", "--json"
    )
    assert finished.exit_code == 0, finished.stderr
    assert json.loads(finished.stdout)["reached"] is True
    assert_equal(*replica)
    # again, with nothing to do: an idle primary's position is reached all the same
    assert (
        logship.run("run", *both(replica), "--journal", tmp_path / "j", "--stop-at", "current").exit_code == 0
    )


def test_views_and_wait_for(replica: Pair, logship: Logship, tmp_path: Path) -> None:
    secondary = replica.secondary
    lags = secondary.execute("select stage, lag_bytes, lag, as_of from logship.replica_lag")
    assert {row[1:] for row in lags} == {(None, None, None)}, "unknown is not zero"
    running = streaming(logship.start("run", *both(replica), "--journal", tmp_path / "j"))
    replica.primary.execute("insert into t values (2, 'two')")
    lsn = replica.primary.value("select pg_current_wal_lsn()::text")
    for stage in ("persistence", "received", "flushed", "memory"):
        assert secondary.value("select logship.wait_for(%s::pg_lsn, '20 s', %s)", [lsn, stage]) is True, stage
    assert secondary.value("select v from t where id = 2") == "two"
    # no write at all: the position of an idle primary is reached too
    replica.primary.execute("checkpoint")
    lsn = replica.primary.value("select pg_current_wal_lsn()::text")
    assert secondary.value("select logship.wait_for(%s::pg_lsn, '20 s')", [lsn]) is True

    def caught_up() -> bool:
        rows = secondary.execute("select lag_bytes, extract(epoch from lag) from logship.replica_lag")
        return all(row == (0, 0) for row in rows)

    eventually(caught_up, 20, what="every stage shows that it has everything")
    # The first change came with the load, or was replayed on top of it; the next one is replayed in both stores.
    told = "select residence, rows, dml_persistence from logship.stat_object"
    eventually(lambda: secondary.execute(told) == [("resident", 2, 1)], 20, what="the table is in memory")
    replica.primary.execute("insert into t values (3, 'three')")
    eventually(
        lambda: secondary.execute(told) == [("resident", 3, 2)], 20, what="both stores have the third row"
    )
    assert secondary.value("select dml_memory from logship.stat_object") in (1, 2)
    status = logship.run("status", *both(replica), "--json")
    assert status.exit_code == 0, status.stderr
    assert '"streaming"' in status.stdout
    lag = logship.run("lag", "--secondary", secondary.conninfo, "--json")
    assert {row["stage"] for row in json.loads(lag.stdout)} == {
        "received",
        "flushed",
        "memory",
        "persistence",
    }
    assert running.terminate(10).exit_code == 0
    assert secondary.value("select state from logship.stat_replay") == "stopped"
    ended = "select residence, rows, loads, dml_memory from logship.stat_object"
    assert secondary.execute(ended) in ([("cold", None, 1, 1)], [("cold", None, 1, 2)])


def test_synchronous_commit(
    make_server: Callable[..., Server], make_database: Callable[[Server], Database], secondary: Database,
    logship: Logship, tmp_path: Path,
) -> None:  # fmt: skip
    """`on` waits for the journal's fsync, `remote_apply` until the row can be read on the secondary."""
    primary = make_database(make_server("synchronous"))
    primary.execute("create table t (id int primary key, v text)")
    pair = Pair(primary, secondary)
    assert logship.run("init", *both(pair)).exit_code == 0
    primary.execute("alter system set synchronous_standby_names = 'logship'")
    primary.execute("select pg_reload_conf()")
    running = streaming(logship.start("run", *both(pair), "--journal", tmp_path / "j"))
    with primary.connect() as connection, secondary.connect() as reader:
        for number in range(50):
            connection.execute("set synchronous_commit = remote_apply")
            connection.execute("insert into t values (%s, 'applied')", [number])
            row = reader.execute("select v from t where id = %s", [number]).fetchone()
            assert row == ("applied",), f"commit {number} was acknowledged before it was readable"
        # a commit that decodes to nothing must not wait for the next one that doesn't
        connection.execute("set synchronous_commit = on")
        connection.execute("create temporary table x (id int)")
        for _ in range(5):
            connection.execute("insert into x values (1)")
        connection.execute("insert into t values (1000, 'flushed')")
    running.kill()
    # What `on` has acknowledged is in the journal, whatever happened to the process.
    again = ("run", *both(pair), "--journal", tmp_path / "j")
    assert logship.run(*again, "--stop-at", "current").exit_code == 0
    assert secondary.value("select v from t where id = 1000") == "flushed"
    applied_in_memory(primary, secondary, logship.start(*again, "--applied", "memory"))
    assert logship.run(*again, "--stop-at", "current").exit_code == 0
    assert_equal(primary, secondary)
    primary.execute("alter system reset synchronous_standby_names")  # or dropping the database would wait
    primary.execute("select pg_reload_conf()")


def applied_in_memory(primary: Database, secondary: Database, running: Running) -> None:
    """`remote_apply` waits for memory and the journal's fsync then, and not for the secondary."""
    streaming(running)
    with primary.connect() as connection, secondary.connect() as blocker:
        connection.execute("set synchronous_commit = remote_apply")
        connection.execute("insert into t values (1001, 'loads the table')")
        blocker.execute("begin")
        blocker.execute("lock table t in access exclusive mode")
        connection.execute("insert into t values (1002, 'in memory')")
        assert blocker.execute("select v from t where id = 1002").fetchone() is None
    assert running.terminate(10).exit_code == 0


def lags(secondary: Database) -> tuple[bool | None, bool | None, bool | None]:
    """Whether persistence lacks something, and for more than a second; whether the journal does."""
    ((behind, old, received),) = secondary.execute(
        "select bool_or(lag_bytes > 0) filter (where stage = 'persistence'), "
        "bool_or(lag > interval '1 s') filter (where stage = 'persistence'), "
        "bool_or(lag_bytes > 0 or lag > interval '0') filter (where stage = 'flushed') from logship.replica_lag"
    )
    return behind, old, received


def test_a_long_transaction_on_the_secondary_does_not_delay_the_end(
    replica: Pair, logship: Logship, tmp_path: Path
) -> None:
    running = streaming(logship.start("run", *both(replica), "--journal", tmp_path / "j"))
    with replica.secondary.connect() as blocker:
        blocker.execute("begin")
        blocker.execute("lock table t in access exclusive mode")
        replica.primary.execute("update t set v = 'blocked'")
        eventually(
            lambda: replica.secondary.value(
                "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
            ),
            what="the replayer waits for the lock",
        )
        eventually(
            lambda: lags(replica.secondary) == (True, True, False), what="the lag grows while it is busy"
        )
        finished = running.terminate(10)
        assert finished.exit_code == 0, finished.stderr
        again = streaming(logship.start("run", *both(replica), "--journal", tmp_path / "j"))
        reported = replica.secondary.value("select reported_at from logship.stat_replay")
        later = "select reported_at > %s and state <> 'stopped' from logship.stat_replay"
        eventually(lambda: replica.secondary.value(later, [reported]), what="it reports after its restart")
        # When what the run before received was committed isn't known yet: that it is lacking is.
        eventually(lambda: lags(replica.secondary)[0] is True, what="the lag is known again")
        assert lags(replica.secondary)[1] in (None, True)
        finished = again.terminate(10)
    assert finished.exit_code == 0, finished.stderr
    last = logship.run("run", *both(replica), "--journal", tmp_path / "j", "--stop-at", "current")
    assert last.exit_code == 0, last.stderr
    assert_equal(*replica)


def test_both_servers_restart_under_it(
    make_server: Callable[..., Server], make_database: Callable[[Server], Database], logship: Logship,
    tmp_path: Path,
) -> None:  # fmt: skip
    first, second = make_server("first"), make_server("second")
    pair = Pair(make_database(first), make_database(second))
    pair.primary.execute("create table t (id serial primary key, v text)")
    assert logship.run("init", *both(pair)).exit_code == 0
    running = streaming(logship.start("run", *both(pair), "--journal", tmp_path / "j"))
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            try:
                with pair.primary.connect() as connection:
                    while not stop.is_set():
                        connection.execute("insert into t (v) values ('x')")
            except PgError:
                continue

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for server in (second, first, second):
            count = pair.primary.value("select count(*) from t")
            server.kill()
            server.start()
            eventually(lambda n=count: _count(pair.secondary) > n, 60, what="replay goes on")  # type: ignore[misc]
    finally:
        stop.set()
        writer.join()
    lsn = pair.primary.value("select pg_current_wal_flush_lsn()::text")
    assert pair.secondary.value("select logship.wait_for(%s::pg_lsn, '60 s')", [lsn]) is True, running.stderr
    assert running.terminate(10).exit_code == 0
    assert_equal(*pair)


def _count(database: Database) -> int:
    try:
        return int(database.value("select count(*) from t"))
    except PgError:
        return -1


# -- what it says when it can't ---------------------------------------------------------------------


def test_wrong_conninfo(replica: Pair, logship: Logship, tmp_path: Path) -> None:
    journal = ("--journal", tmp_path / "j")
    primary, secondary = ("--primary", replica.primary.conninfo), ("--secondary", replica.secondary.conninfo)
    nowhere = "host=127.0.0.1 port=1 dbname=x password=geheim"
    assert_refused(logship.run("run", "--primary", nowhere, *secondary, *journal), 3, "the primary", "port=1")
    refused = logship.run("run", *primary, "--secondary", nowhere, *journal)
    assert_refused(refused, 4, "the secondary", "port=1")
    assert "geheim" not in refused.stderr
    assert_refused(logship.run("run", "--primary", "nonsense", *secondary, *journal), 2, "conninfo")
    missing = replica.primary.conninfo.replace(replica.primary.name, "no_such_database")
    assert_refused(logship.run("run", "--primary", missing, *secondary, *journal), 3, "no_such_database")


def test_usage(replica: Pair, logship: Logship, tmp_path: Path) -> None:
    assert_refused(logship.run("run", *both(replica)), 2, "--journal", "LOGSHIP_JOURNAL")
    assert_refused(
        logship.run("run", *both(replica), "--jornal", tmp_path), 2, "--jornal", "did you mean --journal"
    )
    assert_refused(
        logship.run("run", *both(replica), "--journal", tmp_path, "--stop-at", "now"), 2, "0/16B3748"
    )
    assert_refused(
        logship.run("run", *both(replica), "--journal", tmp_path, "--batch-size", "big"), 2, "64MB"
    )
    assert_refused(logship.run("run", *both(replica), "--journal", tmp_path, "--name", "other"), 2, '"other"')


def test_not_initialised(pair: Pair, logship: Logship, tmp_path: Path) -> None:
    assert_refused(logship.run("run", *both(pair), "--journal", tmp_path / "j"), 4, "logship init")


def test_slot_is_missing(replica: Pair, logship: Logship, tmp_path: Path) -> None:
    replica.primary.execute("select pg_drop_replication_slot(slot_name) from pg_replication_slots")
    assert_refused(
        logship.run("run", *both(replica), "--journal", tmp_path / "j"), 3, "does not exist", "logship init"
    )


def test_another_primary(
    replica: Pair, make_server: Callable[..., Server], make_database: Callable[[Server], Database],
    logship: Logship, tmp_path: Path,
) -> None:  # fmt: skip
    other = make_database(make_server("other"))
    slot = replica.primary.value("select slot_name from pg_replication_slots")
    other.execute("select pg_create_logical_replication_slot(%s, 'pgoutput')", [slot])
    swapped = ("--primary", other.conninfo, "--secondary", replica.secondary.conninfo)
    assert_refused(logship.run("run", *swapped, "--journal", tmp_path / "j"), 6, "another server")


def test_wal_level(
    make_server: Callable[..., Server], make_database: Callable[[Server], Database], secondary: Database,
    logship: Logship, tmp_path: Path,
) -> None:  # fmt: skip
    primary = make_database(make_server("minimal", settings={"wal_level": "replica"}))
    pair = Pair(primary, secondary)
    assert_refused(logship.run("init", *both(pair)), 3, "wal_level", "alter system set wal_level")


def test_journal_of_another_source(replica: Pair, logship: Logship, tmp_path: Path) -> None:
    from logship.journal.log import Journal
    from logship.journal.segment import Source
    from logship.lsn import Lsn

    Journal.open(tmp_path / "j", Source(1, 1, "elsewhere"), start=Lsn(1)).close()
    assert_refused(logship.run("run", *both(replica), "--journal", tmp_path / "j"), 5, "another source")


def test_journal_that_is_not_the_one(replica: Pair, logship: Logship, tmp_path: Path) -> None:
    """An empty directory where there was a journal: what was acknowledged would be missing."""
    running = streaming(logship.start("run", *both(replica), "--journal", tmp_path / "j"))
    with replica.secondary.connect() as blocker:
        blocker.execute("begin")
        blocker.execute("lock table t in access exclusive mode")
        replica.primary.execute("update t set v = 'in the journal only'")
        lsn = replica.primary.value("select pg_current_wal_flush_lsn()::text")
        eventually(
            lambda: replica.primary.value(
                "select confirmed_flush_lsn >= %s::pg_lsn from pg_replication_slots", [lsn]
            ),
            what="the journal has it",
        )
        running.kill()
        # Its session has been sent the whole transaction, COMMIT included, and would go on without it.
        blocker.execute(
            "select pg_terminate_backend(pid, 10000) from pg_stat_activity "
            "where datname = current_database() and wait_event_type = 'Lock'"
        )
    confirmed = "select confirmed_flush_lsn::text from pg_replication_slots"
    before = replica.primary.value(confirmed)
    replica.primary.execute("insert into t values (1000000, 'comes while the wrong journal is given')")
    wrong = ("run", *both(replica), "--journal", tmp_path / "empty")
    assert_refused(logship.run(*wrong), 6, "read into another journal", "--new-journal")
    assert_refused(logship.run(*wrong, "--new-journal"), 5, "begins at")
    assert replica.primary.value(confirmed) == before  # or the right journal would lack what came meanwhile
    last = logship.run("run", *both(replica), "--journal", tmp_path / "j", "--stop-at", "current")
    assert last.exit_code == 0, last.stderr
    assert_equal(*replica)


def test_journal_is_in_use(replica: Pair, logship: Logship, tmp_path: Path) -> None:
    running = streaming(logship.start("run", *both(replica), "--journal", tmp_path / "j"))
    assert_refused(
        logship.run("run", *both(replica), "--journal", tmp_path / "j"),
        5,
        "being written by process",
        str(running.pid),
    )


def test_journal_disk_is_full(replica: Pair, logship: Logship, tmp_path: Path) -> None:
    """A limit on the size of files is the full disk that a test can have; then there is room again."""
    replica.primary.execute("insert into t select g, repeat('x', 200) from generate_series(2, 20000) g")
    arguments = ("run", *both(replica), "--journal", tmp_path / "j", "--stop-at", "current")
    small = logship.limited(1 << 20, *arguments, "--segment-size", "2MB")
    assert_refused(small, 5, "full", "Make room")
    assert logship.run(*arguments).exit_code == 0
    assert_equal(*replica)


def test_journal_is_read_only(replica: Pair, logship: Logship, tmp_path: Path) -> None:
    """A file system that takes no files, for root too."""
    refused = logship.run("run", *both(replica), "--journal", "/proc/logship")
    assert_refused(refused, 5, "journal")


def test_two_replicas_want_a_name(replica: Pair, logship: Logship, tmp_path: Path) -> None:
    replica.secondary.execute(
        "insert into logship.replica select 'second', system_identifier, timeline, database, slot, publication, "
        "origin || '2', keyless, snapshot_lsn, created_at, initialised_at from logship.replica"
    )
    assert_refused(logship.run("run", *both(replica), "--journal", tmp_path / "j"), 2, "several", "--name")


def test_a_primary_whose_log_ends_before_the_secondarys_position(
    replica: Pair, logship: Logship, tmp_path: Path
) -> None:
    """As an old copy of its data directory does, also with a journal that is new: what it commits from now on would
    be passed over, up to there."""
    replica.secondary.execute("update logship.position set replay_lsn = 'FF/0'")
    refused = logship.run("run", *both(replica), "--journal", tmp_path / "j", "--stop-at", "current")
    assert_refused(refused, 6, "lost the end of its log", "the secondary has it up to FF/0")
