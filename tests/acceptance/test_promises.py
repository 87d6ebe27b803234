"""What an acknowledged commit promises with shipper and replayer apart, whoever of them is killed.

`on`: it is in the replayer's journal. `remote_apply`: the secondary shows it at once.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo

from logship.journal.segment import Source
from logship.lsn import Lsn
from logship.service.demo.servers import Server
from tests.acceptance.acknowledged import CREATE, Client, Reader, in_journal
from tests.acceptance.relayed import Relayed, streams
from tests.conftest import Pair
from tests.follow import assert_equal
from tests.integration.persistence.proxy import Proxy
from tests.servers import Database, Logship, Running, commits_wait_for, eventually


@pytest.fixture
def pair(make_server: Callable[..., Server], make_database: Callable[[Server], Database]) -> Iterator[Pair]:
    """Servers that a test may kill and make synchronous."""
    found = Pair(make_database(make_server("first")), make_database(make_server("second")))
    found.primary.execute(CREATE)
    yield found
    commits_wait_for(found.primary, "")  # or dropping the database would wait


class Both:
    """A client for each mode, on a pair that is shipped and replayed."""

    def __init__(self, pair: Pair) -> None:
        commits_wait_for(pair.primary, "logship")
        self.reader = Reader(pair.secondary)
        self.eventual = Client(pair.primary, "on", 1)
        self.strong = Client(pair.primary, "remote_apply", 2, self.reader.require)

    def go_on(self) -> None:
        self.eventual.goes_on()
        self.strong.goes_on()

    def end(self) -> None:
        self.eventual.end()
        self.strong.end()
        self.reader.close()


def require_in_journal(pair: Pair, relayed: Relayed, acknowledged: list[int]) -> None:
    """The replayer is dead: what was acknowledged is in its journal, or on the secondary already."""
    replica = "select system_identifier, timeline, database from logship.replica"
    ((system, timeline, database),) = pair.secondary.execute(replica)
    position = Lsn.parse(pair.secondary.value("select replay_lsn::text from logship.position"))
    journaled = in_journal(relayed.directory / "one", Source(int(system), timeline, database), position)
    there = {row[0] for row in pair.secondary.execute("select id from acknowledged")}
    missing = set(acknowledged) - journaled - there
    assert not missing, f"acknowledged under on, and not in the replayer's journal: {sorted(missing)}"


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(1, id="short"),
        pytest.param(20, id="long", marks=[pytest.mark.soak, pytest.mark.timeout(3600)]),
    ],
)
def test_what_was_acknowledged_is_there(pair: Pair, logship: Logship, tmp_path: Path, kills: int) -> None:
    relayed = Relayed(logship, tmp_path, pair.primary)
    relayed.init(pair.secondary, "one")
    shipper = relayed.ship("--synchronous", "FIRST 1 (one)")
    replayer = streams(relayed.replay(pair.secondary, "one"))
    commits_wait_for(pair.primary, "logship")
    every_mode_returns(pair.primary)
    both = Both(pair)
    chance = random.Random(kills)
    for victim in itertools.chain.from_iterable(_shuffled(chance) for _ in range(kills)):
        both.go_on()
        moment = time.monotonic() + chance.uniform(0, 0.2)
        eventually(lambda at=moment: time.monotonic() > at, 5)  # type: ignore[misc]
        if victim == "shipper":
            shipper.kill()
            shipper = relayed.ship("--synchronous", "FIRST 1 (one)")
        elif victim == "replayer":
            replayer.kill()
            require_in_journal(pair, relayed, list(both.eventual.acknowledged))
            replayer = relayed.replay(pair.secondary, "one")
        else:
            pair.secondary.server.kill()
            pair.secondary.server.start()
    both.go_on()
    both.end()
    assert (shipper.alive, replayer.alive) == (True, True), shipper.stderr + replayer.stderr
    relayed.caught_up(pair.secondary)
    assert_equal(*pair)


def every_mode_returns(primary: Database) -> None:
    """Also for a commit that decodes to nothing, which nothing follows: each position of the replica gets there."""
    with primary.connect() as connection:
        connection.execute("create temporary table nothing (id int)")
        for mode in ("remote_write", "on", "remote_apply"):
            connection.execute(f"set synchronous_commit = {mode}".encode())
            connection.execute("insert into nothing values (1)")


def _shuffled(chance: random.Random) -> list[str]:
    victims = ["shipper", "replayer", "secondary"]
    chance.shuffle(victims)
    return victims


# Messages to the shipper, in the order in which a session sends them.
STEPS = (b"replication", b"IDENTIFY_SYSTEM", b"logship.epoch", b"START_REPLICATION", b"d\0\0\0\x26r")


def test_a_network_that_is_cut_at_every_step(pair: Pair, logship: Logship, tmp_path: Path) -> None:
    relayed = Relayed(logship, tmp_path, pair.primary)
    relayed.init(pair.secondary, "one")
    shipper = relayed.ship("--synchronous", "FIRST 1 (one)")
    streams(shipper)
    proxy = Proxy(relayed.port)
    try:
        direct = relayed.port
        relayed.port = proxy.port
        replayer = streams(relayed.replay(pair.secondary, "one"))
        relayed.port = direct
        both = Both(pair)
        for step, deliver in itertools.product(STEPS, (True, False)):
            both.go_on()
            cut = _cut(proxy)
            proxy.cut_after(step, deliver=deliver)
            proxy.cut_all()  # a new session comes to that step
            eventually(cut, 60, what=f"cut at {step!r}")
        for size in (1, 30, 700, 5_000, 20_000):  # inside frames of the log, and between
            both.go_on()
            cut = _cut(proxy)
            proxy.cut_at(size)
            eventually(cut, 60, what=f"cut behind {size} bytes")
        both.go_on()
        both.end()
        assert (shipper.alive, replayer.alive) == (True, True), shipper.stderr + replayer.stderr
        relayed.caught_up(pair.secondary)
        assert_equal(*pair)
        assert_ended(replayer)
        require_in_journal(pair, relayed, both.eventual.acknowledged)
    finally:
        proxy.close()


# Messages to the primary's walsender, in the same order.
UPSTREAM = (b"replication\0database", b"IDENTIFY_SYSTEM", b"START_REPLICATION", b"d\0\0\0\x26r")


@pytest.mark.parametrize(
    ("steps", "sizes"),
    [
        pytest.param([(UPSTREAM[2], True), (UPSTREAM[3], False)], [], id="short"),
        # Each cut of a session that was short doubles the shipper's pause, up to ten seconds.
        pytest.param(
            [*itertools.product(UPSTREAM, (True, False))], [30, 5_000], id="long", marks=pytest.mark.soak
        ),
    ],
)
def test_a_walsenders_link_that_is_cut_at_every_step(
    pair: Pair, logship: Logship, tmp_path: Path, steps: list[tuple[bytes, bool]], sizes: list[int]
) -> None:
    relayed = Relayed(logship, tmp_path, pair.primary)
    relayed.init(pair.secondary, "one")
    proxy = Proxy(pair.primary.server.port)
    try:
        through = pair.primary.conninfo_as("postgres", tcp=True)
        relayed.upstream = make_conninfo(through, port=proxy.port)
        shipper = streams(relayed.ship("--synchronous", "FIRST 1 (one)"))
        replayer = streams(relayed.replay(pair.secondary, "one"))
        both = Both(pair)
        for step, deliver in steps:
            both.go_on()
            cut = _cut(proxy)
            proxy.cut_after(step, deliver=deliver)
            proxy.cut_all()  # a new session comes to that step
            eventually(cut, 60, what=f"cut at {step!r}")
        for size in sizes:  # inside frames of the log, and between
            both.go_on()
            cut = _cut(proxy)
            proxy.cut_at(size)
            eventually(cut, 60, what=f"cut behind {size} bytes")
        both.go_on()
        both.end()
        assert (shipper.alive, replayer.alive) == (True, True), shipper.stderr + replayer.stderr
        relayed.caught_up(pair.secondary)
        assert_equal(*pair)
        assert_ended(replayer)
        require_in_journal(pair, relayed, both.eventual.acknowledged)
    finally:
        proxy.close()


def _cut(proxy: Proxy) -> Callable[[], bool]:
    before = proxy.cuts
    return lambda: proxy.cuts > before


def assert_ended(running: Running) -> None:
    finished = running.terminate(10)
    assert finished.exit_code == 0, finished.stderr


def test_applied_in_memory(pair: Pair, logship: Logship, tmp_path: Path) -> None:
    """With --applied memory `remote_apply` waits for memory and the journal's fsync, not for the secondary."""
    relayed = Relayed(logship, tmp_path, pair.primary)
    relayed.init(pair.secondary, "one")
    relayed.ship("--synchronous", "FIRST 1 (one)")
    replayer = streams(relayed.replay(pair.secondary, "one", "--applied", "memory"))
    commits_wait_for(pair.primary, "logship")
    client = Client(pair.primary, "remote_apply", 1)
    client.goes_on()  # its table is in memory by then
    with pair.secondary.connect() as blocker:
        blocker.execute("begin")
        blocker.execute("lock table acknowledged in access exclusive mode")
        client.goes_on()
        acknowledged = client.end()
        shown = blocker.execute("select count(*) from acknowledged").fetchone()
        assert shown is not None
        assert shown[0] < len(acknowledged)
        replayer.kill()
    require_in_journal(pair, relayed, acknowledged)
    assert relayed.replay_to_current(pair.secondary, "one").exit_code == 0
    assert_equal(*pair)


def test_a_secondary_that_stands_loses_nothing_at_the_journals_limit(
    pair: Pair, logship: Logship, tmp_path: Path
) -> None:
    """What the replayer has acknowledged it keeps; the rest waits at the shipper, which goes on hearing of it."""
    relayed = Relayed(logship, tmp_path, pair.primary)
    relayed.init(pair.secondary, "one")
    shipper = relayed.ship("--synchronous", "FIRST 1 (one)", "--sender-timeout", "2s")
    bounds = (
        "--journal-limit",
        "2MB",
        "--segment-size",
        "1MB",
        "--batch-size",
        "64kB",
        "--queue-size",
        "64kB",
    )
    replayer = streams(relayed.replay(pair.secondary, "one", "--memory", "off", *bounds))
    with pair.secondary.connect() as blocker, pair.primary.connect() as client:
        blocker.execute("begin")
        blocker.execute("lock table acknowledged in access exclusive mode")
        for number in range(40):
            row = "insert into acknowledged select %s, string_agg(md5(i::text), '') from generate_series(1, 10000) i"
            client.execute(row.encode(), [number])
        eventually(lambda: "the rest waits at the shipper" in replayer.stderr, 30, what="it is full")
        told = relayed.primary.value("select reply_time from logship.stat_replication")
        later = "select reply_time > %s + interval '3 s' from logship.stat_replication"
        eventually(lambda: relayed.primary.value(later, [told]), what="it tells where it is all the same")
        assert len(list((tmp_path / "one").glob("*.seg"))) < 8
    relayed.caught_up(pair.secondary)
    assert_equal(*pair)
    assert "nothing was heard" not in shipper.stderr
    assert_ended(replayer)
