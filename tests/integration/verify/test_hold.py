"""The hold: the replayer stands at exactly one LSN, says so, and goes on whatever becomes of who asked."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from logship.catalog import hold
from logship.connection import Side, connect
from logship.lsn import Lsn
from logship.service.compare.standing import NotAtOneLsn
from logship.service.compare.verify import Options, verify
from logship.service.demo.servers import Server
from tests.conftest import Pair
from tests.follow import Follower
from tests.servers import Database, eventually

SHORT = Options(max_hold_s=2)


def prepare(primary: Database) -> None:
    primary.execute(
        "create table public.t (id int primary key, v text); insert into public.t values (1, 'one')"
    )


def test_a_lease_that_ends_lets_it_go_on(pair: Pair, tmp_path: Path) -> None:
    primary, secondary = pair
    prepare(primary)
    state = "select state from logship.stat_replay"
    with Follower(primary, secondary, tmp_path) as follower:
        follower.catch_up()
        with connect(secondary.conninfo, Side.SECONDARY) as link:
            name = secondary.value("select name from logship.replica")
            assert hold.ask(link, name, "mine", 3)
            assert not hold.ask(link, name, "another's", 3)
            stands = eventually(lambda: hold.request(link, name) and hold.request(link, name).held_at)  # type: ignore[union-attr]
            primary.execute("insert into public.t values (2, 'two')")
            written = Lsn.parse(primary.value("select pg_current_wal_lsn()::text"))
            eventually(lambda: secondary.value(state) == "held")
            # Received and flushed, and neither store has it.
            reached = "select stage from logship.replica_lag where lsn >= %s::pg_lsn order by stage"
            eventually(lambda: secondary.execute(reached, [str(written)]) == [("flushed",), ("received",)])
            assert stands <= follower.position < written
            assert secondary.value("select count(*) from public.t") == 1
            memory = follower.run.memory
            assert memory is not None
            assert memory.memory_lsn < written
        # Nobody releases it.
        eventually(lambda: secondary.value("select count(*) from public.t") == 2, 10)
        eventually(lambda: secondary.value(state) == "streaming")
        assert hold.renew(secondary.connect(), name, "mine", 3) is False
        follower.assert_equal()


def test_it_stands_at_the_lsn_that_was_given(pair: Pair, tmp_path: Path) -> None:
    """Transactions before it are in, those behind it are not, and the position is that very LSN."""
    primary, secondary = pair
    prepare(primary)
    with (
        Follower(primary, secondary, tmp_path) as follower,
        connect(secondary.conninfo, Side.SECONDARY) as link,
    ):
        follower.catch_up()
        name = secondary.value("select name from logship.replica")
        assert hold.ask(link, name, "mine", 20)
        eventually(lambda: hold.request(link, name).held_at)  # type: ignore[union-attr]
        primary.execute("insert into public.t select g, 'before' from generate_series(2, 50) g")
        # The start of the next commit's record, or a place in front of it: the end of the last commit.
        limit = Lsn.parse(primary.value("select pg_current_wal_insert_lsn()::text"))
        primary.execute("insert into public.t values (51, 'behind')")
        hold.set_up_to(link, name, "mine", limit)
        held_at = eventually(lambda: hold.request(link, name).held_at)  # type: ignore[union-attr]
        assert held_at == limit == follower.position
        assert secondary.value("select count(*) from public.t") == 50
        hold.release(link, name, "mine")
        follower.assert_equal()
        assert secondary.value("select count(*) from public.t") == 51


def test_a_transaction_that_runs_on_is_not_waited_for_for_ever(pair: Pair, tmp_path: Path) -> None:
    primary, secondary = pair
    prepare(primary)
    with Follower(primary, secondary, tmp_path, memory=False) as follower:
        follower.catch_up()
        with primary.connect(autocommit=False) as blocker:
            blocker.execute("insert into public.t values (2, 'open')")
            told: list[str] = []
            with pytest.raises(
                NotAtOneLsn, match=r"no slot could be made .* waiting for transactions"
            ) as refused:
                verify(
                    primary.conninfo, secondary.conninfo, options=SHORT,
                    progress=lambda progress: told.append(progress.text),
                )  # fmt: skip
            assert refused.value.exit_code == 1
            assert any("waiting for transactions" in text for text in told)
            primary.execute("insert into public.t values (3, 'three')")
            follower.catch_up()  # released at once, not when the lease ends
            blocker.commit()
        slots = "select count(*) from pg_replication_slots where temporary and database = current_database()"
        eventually(lambda: primary.value(slots) == 0)
        assert verify(primary.conninfo, secondary.conninfo, options=SHORT).equal


def test_commits_that_wait_for_the_secondary_are_let_go(
    make_server: Callable[..., Server],
    make_database: Callable[[Server], Database],
    secondary: Database,
    tmp_path: Path,
) -> None:
    primary = make_database(make_server("synchronous"))
    prepare(primary)
    with Follower(primary, secondary, tmp_path, memory=False) as follower:
        primary.execute("alter system set synchronous_standby_names = 'logship'")
        primary.execute("select pg_reload_conf()")
        eventually(
            lambda: (
                primary.value("select sync_state from pg_stat_replication where application_name = 'logship'")
                == "sync"
            )
        )
        ends = (primary.conninfo, secondary.conninfo)
        assert verify(*ends, options=SHORT).equal
        over = threading.Event()

        def write() -> None:
            with primary.connect() as link:
                link.execute("set synchronous_commit = remote_apply")
                while not over.is_set():
                    link.execute("insert into public.t select max(id) + 1, 'w' from public.t")

        writer = threading.Thread(target=write)
        writer.start()
        try:
            eventually(lambda: secondary.value("select count(*) from public.t") > 10)
            with pytest.raises(NotAtOneLsn, match="remote_apply"):
                verify(*ends, options=Options(max_hold_s=60))
            before = secondary.value("select count(*) from public.t")
            eventually(lambda: secondary.value("select count(*) from public.t") > before + 10)
        finally:
            over.set()
            writer.join(30)
            primary.execute("alter system reset synchronous_standby_names")
            primary.execute("select pg_reload_conf()")
        follower.catch_up()
        assert verify(*ends, options=SHORT).equal


def test_without_a_replayer(pair: Pair, tmp_path: Path) -> None:
    primary, secondary = pair
    prepare(primary)
    with Follower(primary, secondary, tmp_path, memory=False) as follower:
        follower.catch_up()
    ends = (primary.conninfo, secondary.conninfo)
    primary.execute("create table public.idle (a int primary key); drop table public.idle; checkpoint")
    report = verify(*ends)
    assert report.equal
    assert report.held_s is None
    primary.execute("insert into public.t values (2, 'two')")
    with pytest.raises(NotAtOneLsn, match="has changes for it before") as refused:
        verify(*ends)
    assert "--stop-at current" in refused.value.hint
    follower.restart()
    follower.catch_up()
    follower.stop()
    assert verify(*ends).equal
