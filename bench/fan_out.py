"""Four replicas take the same backlog at once: what that costs the primary.

In: a pair of servers. Out: CPU seconds of the primary until all four have it: four subscriptions of built-in
replication, which decode it four times, and `logship ship` with four of `logship replay`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Final

import psycopg

from bench.catching_up import drop_databases
from bench.loads import INSERT, SLICES, TABLE
from bench.pair import Pair, cpu_of, run, until
from bench.peers import BuiltIn, Peer, Replay
from bench.results import Results, Row

REPLICAS: Final = 4


def four_replicas(pair: Pair, results: Results, *, rows: int) -> None:
    theirs = _measure(pair, "four_a", rows, lambda database: [
        BuiltIn(pair, database, number) for number in range(1, REPLICAS + 1)
    ])  # fmt: skip
    ours = _measure(pair, "four_b", rows, lambda database: _replays(pair, database))
    what = f"{REPLICAS} replicas take {rows:,} inserts: the primary's CPU"
    results.add(Row(what, "built-in", theirs[1], "s", note=f"({theirs[0]:.1f} s)"))
    share = ours[1] / theirs[1]
    results.add(
        Row(
            what, "logship", ours[1], "s", 1 / share, "≥ 2.86 (0.35 of its CPU)", share <= 0.35,
            note=f"({ours[0]:.1f} s)",
        )
    )  # fmt: skip


def _replays(pair: Pair, database: str) -> Sequence[Peer]:
    first = Replay(pair, database, 1)
    return [first, *(Replay(pair, database, number, shipper=first) for number in range(2, REPLICAS + 1))]


def _measure(
    pair: Pair, database: str, rows: int, made: Callable[[str], Sequence[Peer]]
) -> tuple[float, float]:
    run(pair.primary.conninfo(), f"create database {database} template template0")
    source = pair.primary.conninfo(database)
    run(source, TABLE + SLICES)
    peers = made(database)
    for peer in peers:
        peer.set_up()
    quoted = INSERT.replace("'", "''")
    with psycopg.connect(source, autocommit=True, options="-c synchronous_commit=off") as link:
        link.execute(f"call public.in_slices('{quoted}', 1, {rows}, 1000)".encode())
        link.execute("update public.marker set n = 1")
    began, used = time.monotonic(), cpu_of([pair.primary.pid])
    with contextlib.ExitStack() as stack:
        for peer in peers:
            stack.enter_context(peer.following())
        for peer in peers:
            until(
                lambda peer=peer: run(peer.target_conninfo, "select n from public.marker") == [(1,)],  # type: ignore[misc]
                peer.target,
            )
        took = time.monotonic() - began, cpu_of([pair.primary.pid]) - used
    for peer in reversed(peers):
        peer.take_down()
    drop_databases(pair, database)
    return took
