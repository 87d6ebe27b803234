"""How fast a backlog is caught up with, by each peer, from the same log.

In: loads and peers. Out: for each round of each load and peer, seconds from the first byte received until the last
transaction is committed on the secondary, and the CPU seconds of primary, secondary and the peer's own processes in
between. Rows are compared after each. Peers take their turns in another order each round.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psycopg

from bench.loads import Load, loads
from bench.pair import Pair, cpu_of, run, until
from bench.peers import BuiltIn, Peer, Pglogical, Replay, Run
from bench.results import CaughtUp, Results

_SUM = "select count(*), coalesce(sum(hashtextextended(r::text, 0)), 0) from {} r"
_POLL_S = 0.004


@dataclass(frozen=True, slots=True)
class Group:
    """Peers that follow one database. Those of a database share its log; the other group gets the same load anew."""

    name: str
    peers: tuple[type[Peer], ...]


def groups(*, pglogical: bool) -> list[Group]:
    others: tuple[type[Peer], ...] = (Pglogical,) if pglogical else ()
    return [Group("a", (BuiltIn, *others, Run)), Group("b", (Replay,))]


def catch_up(
    pair: Pair, results: Results, *, scale: float, rounds: int, only: Sequence[str], pglogical: bool
) -> None:
    for load in loads(scale):
        if only and load.name not in only:
            continue
        for group in groups(pglogical=pglogical):
            _Trial(pair, load, group, results, scale).run(rounds)


class _Trial:
    def __init__(self, pair: Pair, load: Load, group: Group, results: Results, scale: float) -> None:
        self.pair = pair
        self.load = load
        self.results = results
        self.database = f"{load.name}_{group.name}"
        self.source = pair.primary.conninfo(self.database)
        run(pair.primary.conninfo(), f"create database {self.database} template template0")
        run(self.source, load.schema)
        if load.pgbench:
            pair.pgbench(self.database, "-i", "-q", "-s", str(max(1, round(10 * scale))))
        self.peers = [peer(pair, self.database) for peer in group.peers]
        self.marker = 0

    def run(self, rounds: int) -> None:
        for peer in self.peers:
            peer.set_up()
        try:
            for number in range(rounds):
                self._round(number)
        finally:
            for peer in self.peers:
                peer.take_down()
            drop_databases(self.pair, self.database)

    def _round(self, number: int) -> None:
        before = self.load.before(number)
        if number or before:
            self._write(before)
            self._let_go()
        self._write(self.load.measured(number), measured=True)
        for peer in self.peers[number % len(self.peers) :] + self.peers[: number % len(self.peers)]:
            peer.load_ended()
            self._measure(peer)

    def _let_go(self) -> None:
        """Let every peer take what is there, and its slot let go of it: walsenders would decode it again, and for
        some peers more of it than for others. A checkpoint records what runs, by which slots know what they need."""
        ended = self.pair.flushed()
        run(self.source, "checkpoint")
        self._write([])
        going = (
            f"select count(*) > 0 and bool_and(restart_lsn >= '{ended}') from pg_replication_slots "
            "where database = current_database() and active"
        )
        for peer in self.peers:
            with peer.following():
                self._arrived(peer)
                until(lambda: run(self.source, going) == [(True,)], f"{peer.name} to let go of the log")

    def _write(self, statements: Sequence[str], *, measured: bool = False) -> None:
        with psycopg.connect(self.source, autocommit=True, options="-c synchronous_commit=off") as link:
            for statement in statements:
                link.execute(statement.encode())
            if measured and self.load.pgbench:
                clients, each = self.load.pgbench
                self.pair.pgbench(
                    self.database, "-c", str(clients), "-j", "2", "-t", str(each),
                    options="-c synchronous_commit=off",
                )  # fmt: skip
            self.marker += 1
            link.execute("update public.marker set n = %s", [self.marker])

    def _arrived(self, peer: Peer, each_time: Callable[[], None] = lambda: None) -> None:
        with psycopg.connect(peer.target_conninfo, autocommit=True) as link:

            def there() -> bool:
                each_time()
                row = link.execute("select n from public.marker").fetchone()
                return row == (self.marker,)

            until(there, f"{peer.name} to catch up", poll_s=_POLL_S)

    def _measure(self, peer: Peer) -> None:
        with peer.following():
            until(peer.began, f"{peer.name} to receive", poll_s=_POLL_S)
            began, used = time.monotonic(), self._cpu(peer)
            self._arrived(peer)
            wall_s = time.monotonic() - began
            primary, secondary, own = (
                after - before for before, after in zip(used, self._cpu(peer), strict=True)
            )
            took = CaughtUp(wall_s, primary, secondary, own, peer.memory_bytes())
        self.results.caught_up(self.load, peer.name, took)
        self._compare(peer)

    def _cpu(self, peer: Peer) -> tuple[float, float, float]:
        return cpu_of([self.pair.primary.pid]), cpu_of([self.pair.secondary.pid]), peer.cpu_s()

    def _compare(self, peer: Peer) -> None:
        for table in self.load.tables:
            here, there = run(self.source, _SUM.format(table)), run(peer.target_conninfo, _SUM.format(table))
            if here != there:
                raise SystemExit(f"{table} differs after {self.load.name} by {peer.name}: {here} {there}")


def drop_databases(pair: Pair, database: str) -> None:
    """The database of the primary, and those of the secondary that were made from it. Not where pglogical is loaded,
    whose processes hold DROP DATABASE up for ever, whichever it is."""
    if pair.pglogical:
        return
    origins = "select pg_replication_origin_drop(roname) from pg_replication_origin o where not exists "
    for (name,) in run(
        pair.secondary.conninfo(), f"select datname from pg_database where datname like '{database}_%'"
    ):
        run(pair.secondary.conninfo(), f"drop database {name} with (force)")
    with contextlib.suppress(psycopg.errors.ObjectInUse):
        run(
            pair.secondary.conninfo(),
            origins
            + "(select from pg_replication_origin_status s where s.local_id = o.roident and s.external_id is null)",
        )
    run(pair.primary.conninfo(), f"drop database {database} with (force)")
