"""The memory that a process takes of its budget, while rows of one table are changed and merged again and again.

In: a `Memory` that holds the table, what the process took before. Out: a figure: the most that the process took at any
time, by the system's count, and how often the table was evicted. Everything counts that came since: DuckDB, Arrow,
what the batches are made of, and space that was given back and that the system doesn't have yet.
"""

from __future__ import annotations

import random
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.memory_figures import Figures
from logship.lsn import Lsn
from logship.replay.batch import Batch, NetChanges, Rows
from logship.replay.memory.memory import Memory
from logship.replay.memory.parts import IDLE_DELTA_S
from logship.replay.target import Target

MIB = 1 << 20


def rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def row(number: int) -> list[bytes]:
    return [
        b"%d" % number, b"%d" % (number * 7), b"changed note of row %d" % number,
        b"2026-02-01 00:00:%02d" % (number % 60), b"%d.50" % (number % 1000),
    ]  # fmt: skip


def updates(of: Target, ids: Sequence[int], lsn: int) -> Batch:
    changes = NetChanges.of(of, updates=[(range(5), [[b"%d" % n] for n in ids], [row(n) for n in ids])])
    return Batch(Lsn(lsn), 0, True, (Rows([changes]),), 1, 1, 1, 1, (), {}, frozenset())


@dataclass
class Clock:
    """The time, as memory sees it: nobody waits for what comes when nothing has come for a while."""

    ahead_s: float = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead_s


@dataclass
class Churn:
    """Random rows of ``rows`` are changed, some at a time, and everything is merged that is to be merged."""

    memory: Memory
    target: Target
    rows: int
    lsn: int
    each: int  # rows at a time
    turns: int
    clock: Clock

    def measure(self, figures: Figures, what: str, before: int, budget: int) -> None:
        """``before``: what the process took without the table."""
        loaded = peak = rss_bytes()
        waits = []
        for _ in range(self.turns):
            self.lsn += 1
            self.memory.replay([updates(self.target, random.sample(range(self.rows), self.each), self.lsn)])
            self.clock.ahead_s += IDLE_DELTA_S
            more = True
            while more:
                began = time.perf_counter()
                more = self.memory.serve()
                waits.append((time.perf_counter() - began) * 1e3)
                peak = max(peak, rss_bytes())
        [state] = self.memory.objects()
        share = (peak - before) / budget
        figures.add(
            what,
            f"{(peak - before) // MIB} MiB of {budget // MIB} MiB, {(loaded - before) // MIB} of them once loaded;"
            f" {(state.bytes or 0) // MIB} MiB by its own count; {state.merges} merges, {state.evictions} evictions,"
            f" a batch waits for {max(waits):.0f} ms of them at most",
            share, "at most 1.15", share <= 1.15 and not state.evictions,
        )  # fmt: skip
