"""`logship resync` under load: rows are written all the time, and both sides are equal at the end."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from logship.errors import UsageError
from logship.service.compare.resync import resync
from logship.service.demo.servers import Server
from logship.service.initial.plan import Progress
from tests.conftest import Pair
from tests.follow import Follower, assert_equal
from tests.servers import Database, Logship, Running, eventually

SCHEMA = (
    "create table public.t (id int primary key, v int, note text);"
    "create table public.child (id int primary key, t int references public.t (id));"
    "create table public.keyless (v int);"
    "insert into public.t select g, 0, repeat('x', 30) from generate_series(1, 20000) g;"
    "insert into public.child select g, g from generate_series(1, 100) g;"
    "insert into public.keyless select g from generate_series(1, 500) g"
)


class Load:
    """Inserts, updates and deletes in both tables, with transactions that leave nothing behind, until it is ended."""

    def __init__(self, primary: Database, start: int = 100_000, commit: str = "on") -> None:
        self._primary = primary
        self._start = start
        self._commit = commit
        self._ended = threading.Event()
        self.transactions = 0
        self._thread = threading.Thread(target=self._work, name="load", daemon=True)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def wait_for_more(self, transactions: int) -> None:
        enough = self.transactions + transactions
        eventually(lambda: self.transactions > enough)

    def _work(self) -> None:
        with self._primary.connect() as link:
            link.execute(f"set synchronous_commit = {self._commit}".encode())
            number = self._start
            while not self._ended.is_set():
                number += 1
                with link.transaction():
                    link.execute("insert into public.t values (%s, 1, 'new')", [number])
                    link.execute("update public.t set v = v + 1 where id %% 997 = %s", [number % 997])
                    link.execute("insert into public.keyless values (%s)", [number])
                    link.execute("update public.child set t = %s where id = %s", [number, number % 100 + 1])
                # A row that a batch of two transactions reduces to nothing, and one of the copy in between doesn't.
                link.execute("insert into public.keyless values (-1)")
                link.execute("delete from public.keyless where v = -1")
                link.execute("delete from public.t where id = %s", [number - 50_000])
                self.transactions += 1


def test_tables_are_spliced_in_while_the_replica_follows(pair: Pair, tmp_path: Path) -> None:
    pair.primary.execute(SCHEMA)
    with Follower(pair.primary, pair.secondary, tmp_path) as follower:
        follower.catch_up()
        # What somebody broke there is what resync is for.
        pair.secondary.execute("update public.t set v = -1 where id < 5000; delete from public.keyless")
        with Load(pair.primary) as load:
            for tables in (["public.t", "public.keyless"], ["public.keyless"], ["public.t"]):
                result = resync(pair.primary.conninfo, pair.secondary.conninfo, tables)
                assert result.lsn is not None
                assert set(result.tables) == {f'"public"."{name.partition(".")[2]}"' for name in tables}
                load.wait_for_more(20)
        follower.assert_equal()
        # What is spliced in is forgotten once the position is behind it.
        follower.restart()
        follower.catch_up()
    assert pair.secondary.value("select count(*) from logship.copied") == 0


def test_the_replica_goes_on_while_the_primary_finishes_what_runs(pair: Pair, tmp_path: Path) -> None:
    """The snapshot waits for transactions that are running: nothing is held meanwhile."""
    pair.primary.execute(SCHEMA)
    with (
        Follower(pair.primary, pair.secondary, tmp_path, memory=False) as follower,
        pair.primary.connect(autocommit=False) as holder,
    ):
        follower.catch_up()
        pair.secondary.execute("delete from public.t where id between 200 and 300")
        holder.execute("insert into public.t values (-1, 0, 'long')")
        told: list[str] = []
        job = threading.Thread(target=_resync, args=(pair, ["public.t"], told))
        job.start()
        eventually(lambda: any("running already to end: 1" in text for text in told))
        pair.primary.execute("insert into public.t values (-2, 0, 'short')")
        follower.catch_up()
        assert pair.secondary.value("select count(*) from public.t where id = -2") == 1
        holder.commit()
        job.join(60)
        assert any('copied "public"."t"' in text for text in told)
        follower.assert_equal()


def test_commits_that_wait_for_the_replica_dont_keep_it_waiting(
    make_server: Callable[..., Server],
    make_database: Callable[[Server], Database],
    secondary: Database,
    tmp_path: Path,
) -> None:
    """remote_apply: the snapshot waits for the commit, the commit for the replica, and that for the resync's lock."""
    primary = make_database(make_server("applies", durable=False))
    pair = Pair(primary, secondary)
    primary.execute(SCHEMA)
    told: list[str] = []
    job = threading.Thread(target=_resync, args=(pair, ["public.t"], told))
    with Follower(primary, secondary, tmp_path, memory=False) as follower, synchronous(primary):
        with Load(primary, commit="remote_apply") as load:
            load.wait_for_more(3)
            job.start()
            eventually(lambda: not job.is_alive() or any("goes on meanwhile" in text for text in told), 60)
            load.wait_for_more(3)
        job.join(60)
        assert any('copied "public"."t"' in text for text in told)
        follower.assert_equal()


@contextmanager
def synchronous(primary: Database) -> Iterator[None]:
    """Commits wait for the replica inside, and for nobody afterwards."""
    with primary.connect() as link:
        link.execute("set synchronous_commit = local")
        link.execute("alter system set synchronous_standby_names = 'logship'")
        link.execute("select pg_reload_conf()")
        try:
            yield
        finally:
            link.execute("alter system reset synchronous_standby_names")
            link.execute("select pg_reload_conf()")


def _resync(pair: Pair, tables: list[str], told: list[str]) -> None:
    def tell(progress: Progress) -> None:
        told.append(progress.text)

    resync(pair.primary.conninfo, pair.secondary.conninfo, tables, progress=tell)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_many_times(pair: Pair, tmp_path: Path) -> None:
    """Thirty splices into a keyed table and a keyless one, compared after each, the replayer's ends among them."""
    pair.primary.execute(SCHEMA)
    choice = random.Random(30)
    with Follower(pair.primary, pair.secondary, tmp_path) as follower:
        for number in range(30):
            tables = choice.choice((["public.keyless"], ["public.t"], ["public.t", "public.keyless"]))
            with Load(pair.primary, start=1_000_000 * (number + 1)) as load:
                load.wait_for_more(choice.randrange(30))
                resync(pair.primary.conninfo, pair.secondary.conninfo, tables)
                if choice.random() < 0.3:
                    follower.restart()
                load.wait_for_more(10)
            follower.assert_equal()


def test_without_a_replayer(pair: Pair, tmp_path: Path, logship: Logship) -> None:
    pair.primary.execute(SCHEMA)
    with Follower(pair.primary, pair.secondary, tmp_path, memory=False) as follower:
        follower.catch_up()
    pair.primary.execute("insert into public.keyless values (7), (7); delete from public.keyless where v = 3")
    both = ("--primary", pair.primary.conninfo, "--secondary", pair.secondary.conninfo)
    done = logship.run("resync", "public.key*", *both)
    assert done.exit_code == 0, done.stderr
    assert "1 tables copied anew at " in done.stdout
    pair.primary.execute("insert into public.keyless values (8)")
    ended = logship.run("run", *both, "--journal", tmp_path / "journal", "--stop-at", "current")
    assert ended.exit_code == 0, ended.stderr
    assert_equal(pair.primary, pair.secondary)


@pytest.mark.parametrize("failpoint", ["resync.copied", "resync.committed"])
def test_resync_is_killed(pair: Pair, tmp_path: Path, logship: Logship, failpoint: str) -> None:
    pair.primary.execute(SCHEMA)
    both = ("--primary", pair.primary.conninfo, "--secondary", pair.secondary.conninfo)
    with Follower(pair.primary, pair.secondary, tmp_path) as follower, Load(pair.primary):
        killed = logship.start("resync", "public.t", *both, env={"LOGSHIP_FAILPOINTS": failpoint})
        assert killed.wait().exit_code == -9
        follower.catch_up()
    with Follower(pair.primary, pair.secondary, tmp_path, initialised=True) as follower:
        follower.assert_equal()


@pytest.mark.parametrize("failpoint", ["persistence.after_rows=20", "persistence.before_commit=20"])
def test_the_replayer_is_killed_meanwhile(
    pair: Pair, tmp_path: Path, logship: Logship, failpoint: str
) -> None:
    pair.primary.execute(SCHEMA)
    both = ("--primary", pair.primary.conninfo, "--secondary", pair.secondary.conninfo)
    assert logship.run("init", *both).exit_code == 0
    run = ("run", *both, "--journal", tmp_path / "journal", "--memory", "off")
    with Load(pair.primary):
        running = logship.start(*run, env={"LOGSHIP_FAILPOINTS": failpoint})
        commands: list[Running] = [running]
        while running.alive:
            assert logship.run("resync", "public.t", "public.keyless", *both).exit_code == 0
        assert running.wait().exit_code == -9
        commands.append(logship.start("resync", "public.*", *both))
        assert commands[-1].wait().exit_code == 0
    ended = logship.run(*run, "--stop-at", "current")
    assert ended.exit_code == 0, ended.stderr
    assert_equal(pair.primary, pair.secondary)


def test_what_is_refused(pair: Pair, tmp_path: Path, logship: Logship) -> None:
    pair.primary.execute(SCHEMA)
    both = ("--primary", pair.primary.conninfo, "--secondary", pair.secondary.conninfo)
    assert logship.run("resync", "public.t", *both).exit_code == 4  # before init
    assert logship.run("init", *both, "--exclude", "public.child").exit_code == 0
    for wrong in ("public.child", "public.none", "t"):
        with pytest.raises(UsageError):
            resync(pair.primary.conninfo, pair.secondary.conninfo, [wrong])
    swapped = ("--primary", pair.secondary.conninfo, "--secondary", pair.secondary.conninfo)
    assert logship.run("resync", "public.t", *swapped).exit_code == 6
    # A trigger of a user's that would run with our rights when the table is emptied.
    pair.secondary.execute(
        "create function public.f() returns trigger language plpgsql as 'begin return null; end';"
        "create trigger f before truncate on public.keyless execute function public.f();"
        "alter table public.keyless enable always trigger f"
    )
    done = logship.run("resync", "public.keyless", *both)
    assert done.exit_code == 4
    assert "TRUNCATE trigger" in done.stderr
    assert pair.secondary.value("select count(*) from public.keyless") == 500
