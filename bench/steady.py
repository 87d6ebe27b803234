"""Under a steady load: the lag of persistence, and what a commit costs that waits for the replica.

In: a pair of servers, peers. Out: lag in ms (p50, p95, p99) at 500 transactions a second, from the INSERT's own clock
on the primary until a reader of the secondary sees the row; transactions a second with `synchronous_commit` = `on` and
`remote_apply` as a share of `local`, each waiting for one replica that flushes what it applies.
"""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import psycopg

from bench.catching_up import drop_databases
from bench.pair import Pair, run, until
from bench.peers import BuiltIn, Peer, Pglogical, Replay, Run
from bench.results import BUILT_IN, Results, Row

RATE: Final = 500
_SCHEMA: Final = (
    "create table public.t "
    "(id bigserial primary key, sent timestamptz not null default clock_timestamp(), v text)"
)
_INSERT: Final = "insert into public.t (v) values ('twenty bytes of text');\n"
_POLL_S: Final = 0.0005


class _Following:
    """A database with one table, and a peer that follows it."""

    def __init__(self, pair: Pair, kind: type[Peer], name: str, **more: bool) -> None:
        self.pair = pair
        self.database = f"{name}_{''.join(letter for letter in kind.name if letter.isalnum())}"
        run(pair.primary.conninfo(), f"create database {self.database} template template0")
        self.source = pair.primary.conninfo(self.database)
        run(self.source, _SCHEMA)
        self.peer = kind(pair, self.database, **more)
        self.peer.set_up()

    def pgbench(self, *arguments: str, options: str = "") -> str:
        with tempfile.TemporaryDirectory() as directory:
            script = Path(directory, "insert.sql")
            script.write_text(_INSERT)
            return self.pair.pgbench(self.database, "-f", script, *arguments, options=options)

    def caught_up(self) -> None:
        count = "select count(*) from public.t"
        until(lambda: run(self.source, count) == run(self.peer.target_conninfo, count), self.peer.name)

    def close(self) -> None:
        self.peer.take_down()
        drop_databases(self.pair, self.database)


def lag(pair: Pair, results: Results, *, seconds: int, warm_s: int, rounds: int, pglogical: bool) -> None:
    kinds: list[type[Peer]] = [BuiltIn, *([Pglogical] if pglogical else []), Run, Replay]
    found: dict[str, list[list[float]]] = {}
    for number in range(rounds):
        for kind in kinds[number % len(kinds) :] + kinds[: number % len(kinds)]:
            following = _Following(pair, kind, f"lag{number}")
            with following.peer.following():
                following.pgbench("-c", "4", "-j", "2", "-R", str(RATE), "-T", str(warm_s))
                following.caught_up()
                found.setdefault(kind.name, []).append(_lags_ms(following, seconds))
            following.close()
    bounds = {"p50": 3.0, "p95": None, "p99": 2.0}
    for nth, bound in bounds.items():
        figures = {
            name: statistics.median(_percentile(lags, int(nth[1:])) for lags in each)
            for name, each in found.items()
        }
        for name, figure in figures.items():
            ours = name.startswith("logship")
            times = figure / figures[BUILT_IN]
            results.add(
                Row(
                    f"lag of persistence at {RATE} tx/s, {nth}", name, figure, "ms", 1 / times if ours else None,
                    f"≥ {1 / bound:.2f}" if ours and bound else "", times <= bound if ours and bound else None,
                )
            )  # fmt: skip


def _lags_ms(following: _Following, seconds: int) -> list[float]:
    seen: list[float] = []
    end = threading.Event()
    reader = threading.Thread(target=_read, args=(following.peer.target_conninfo, seen, end))
    reader.start()
    try:
        following.pgbench("-c", "4", "-j", "2", "-R", str(RATE), "-T", str(seconds))
        following.caught_up()
    finally:
        end.set()
        reader.join()
    return seen


def _read(conninfo: str, seen: list[float], end: threading.Event) -> None:
    """Every row by the first query that sees it; ids may be seen out of order."""
    query = (
        "select id, extract(epoch from clock_timestamp() - sent)::float8 * 1000 from public.t where id > %s"
    )
    with psycopg.connect(conninfo, autocommit=True) as link:
        known: set[int] = set()
        floor = int(link.execute("select coalesce(max(id), 0) from public.t").fetchone()[0])  # type: ignore[index]
        while not end.is_set():
            rows = link.execute(query, [floor], prepare=True).fetchall()
            fresh = [(row_id, lag_ms) for row_id, lag_ms in rows if row_id not in known]
            seen += [lag_ms for _, lag_ms in fresh]
            known.update(row_id for row_id, _ in fresh)
            while floor + 1 in known:
                floor += 1
                known.discard(floor)
            time.sleep(_POLL_S)


def _percentile(values: Sequence[float], nth: int) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * nth // 100)]


def synchronous(pair: Pair, results: Results, *, seconds: int, rounds: int, clients: int = 8) -> None:
    for kind, more in ((BuiltIn, {}), (Run, {}), (Replay, {"synchronous": True})):
        following = _Following(pair, kind, "sync", **more)
        found: dict[str, list[float]] = {}
        with following.peer.following(durable=True):
            until(following.peer.began, f"{kind.name} to receive")
            pair.wait_for_commits(following.peer.standby)
            try:
                for _ in range(rounds):
                    for mode in ("local", "on", "remote_apply"):
                        following.caught_up()  # or what one mode left behind would cost the next
                        said = following.pgbench(
                            "-c", str(clients), "-j", "2", "-T", str(seconds),
                            options=f"-c synchronous_commit={mode}",
                        )  # fmt: skip
                        (line,) = [line for line in said.splitlines() if line.startswith("tps")]
                        found.setdefault(mode, []).append(float(line.split()[2]))
            finally:
                pair.wait_for_commits("")
        following.close()
        local = statistics.median(found["local"])
        for mode in ("on", "remote_apply"):
            share = statistics.median(found[mode]) / local
            ours = kind is not BuiltIn
            results.add(
                Row(
                    f"commits that wait: {mode}, {clients} clients", kind.name, share, "of local", None,
                    "0.8" if ours else "", share >= 0.8 if ours else None,
                    note=f"({statistics.median(found[mode]):.0f} tx/s)",
                )
            )  # fmt: skip
