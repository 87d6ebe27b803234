"""What the commands have in common that replay in the foreground, until stopped: `run` and `replay`.

In: their options. Out: `Follow`, the settings they stand for; their end by SIGTERM or Ctrl-C, which is the
normal one: they exit 0 once what was received is on disk.
"""

from __future__ import annotations

import functools
import logging
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

import click

from logship.cli import options, output
from logship.cli.quantity import Duration, Listen, Size, StopAt, written, written_s
from logship.config import (
    GIB,
    KIB,
    MIB,
    Address,
    Cold,
    History,
    Intervals,
    JournalBounds,
    MemorySettings,
    ReplayBounds,
    usual_apply_sessions,
)
from logship.errors import UsageError
from logship.lsn import Lsn
from logship.replay.origins import MOST_SESSIONS
from logship.service.positions import Stage

if TYPE_CHECKING:
    from logship.service.following import Outcome
    from logship.service.replay.replayer import MakeMemory

log = logging.getLogger(__name__)

USUAL = Intervals()


@dataclass(frozen=True, slots=True)
class Follow:
    """``memory`` None: off."""

    secondary: str
    journal: Path
    name: str | None
    stop_at: Lsn | str | None
    memory: Callable[[str, str], MakeMemory] | None
    applied: Stage
    cold: Cold
    journal_bounds: JournalBounds
    replay_bounds: ReplayBounds
    intervals: Intervals
    metrics: Address | None
    as_json: bool


class Program(Protocol):
    def run(self) -> Outcome: ...
    def stop(self) -> None: ...


def quarter_of_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4


_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    options.secondary,
    options.journal,
    options.name,
    options.setting(
        "--stop-at", type=StopAt(), help="Exit 0 once everything up to here is committed on the secondary."
    ),
    options.setting(
        "--memory",
        type=click.Choice(["lazy", "eager", "off"]),
        default="lazy",
        show_default=True,
        help="Keep replayed tables in memory: loaded at their first change, or as soon as the log describes them; "
        "or only those that --memory-eager and --memory-pin name.",
    ),
    options.setting(
        "--memory-eager",
        multiple=True,
        metavar="PATTERN",
        help="Load these without waiting for a change: schema.table, with * and ?; several times, or with commas "
        "between.",
    ),
    options.setting(
        "--memory-off", multiple=True, metavar="PATTERN", help="Never load these, whatever else names them."
    ),
    options.setting(
        "--memory-pin",
        multiple=True,
        metavar="PATTERN",
        help="Load these like eager ones, and never evict them to make room.",
    ),
    options.setting(
        "--memory-loaders",
        type=click.IntRange(1, 16),
        default=2,
        show_default=True,
        metavar="N",
        help="Tables that are read into memory at a time, each over a connection of its own.",
    ),
    options.setting(
        "--memory-budget",
        type=Size(at_least=16 * MIB),
        default=quarter_of_memory,
        show_default="a quarter of the machine's memory",
        help="What the tables in memory may take; a table that doesn't fit stays on the secondary only.",
    ),
    options.setting(
        "--memory-cold",
        type=click.Choice([cold.value for cold in Cold]),
        default=Cold.PERSISTENCE.value,
        show_default=True,
        help="What becomes of a query that reads a table which isn't in memory, unless the query says: the secondary "
        "answers it, or the table is loaded first, or the query is refused.",
    ),
    options.setting(
        "--applied",
        type=click.Choice([Stage.PERSISTENCE.value, Stage.MEMORY.value]),
        default=Stage.PERSISTENCE.value,
        show_default=True,
        help="What remote_apply waits for: committed on the secondary, or seen by readers of memory and in the "
        "journal.",
    ),
    options.setting(
        "--batch-size",
        type=Size(at_least=64 * KIB, at_most=GIB),
        default=ReplayBounds().batch_bytes,
        show_default=written(ReplayBounds().batch_bytes),
        help="Log replayed in one commit at most; a larger transaction is replayed in pieces, still in one.",
    ),
    options.setting(
        "--queue-size",
        type=Size(at_least=64 * KIB, at_most=GIB),
        default=ReplayBounds().queue_bytes,
        show_default=written(ReplayBounds().queue_bytes),
        help="Log that may wait, decoded, before each store.",
    ),
    options.setting(
        "--apply-sessions",
        type=click.IntRange(1, MOST_SESSIONS),
        metavar="N",
        show_default="one for each core, up to 4",
        help="In a backlog, write batches of full size that don't touch the same rows over so many sessions; they are "
        "committed in the order of the log. 1: one after the other.",
    ),
    options.journal_bounds,
    options.setting(
        "--materialized-views",
        type=click.Choice(["refresh", "leave"]),
        default="refresh",
        show_default=True,
        help="Refresh them where the primary's were; or leave them with the rows that they were first filled with.",
    ),
    options.setting(
        "--lock-timeout",
        type=Duration(at_least=0.05, at_most=3600),
        default=ReplayBounds().lock_timeout_s,
        show_default=written_s(ReplayBounds().lock_timeout_s),
        help="Wait so long for a lock on the secondary (a schema change behind a long query), then let those pass "
        "that came later, and try again.",
    ),
    options.setting(
        "--ddl-history",
        type=click.IntRange(1, 10_000_000),
        default=History().statements,
        show_default=True,
        metavar="N",
        help="Of the schema changes that were carried, keep so many in logship.stat_ddl.",
    ),
    options.setting(
        "--ddl-history-age",
        type=Duration(at_least=60, at_most=36500 * 86400),
        default=History().age_s,
        show_default=written_s(History().age_s),
        help="And none that was carried longer ago than this.",
    ),
    options.intervals,
    options.setting(
        "--metrics",
        type=Listen(),
        help="Serve figures for Prometheus, /health, /ready and the status page here; without a password.",
    ),
    options.setting(
        "--stall-after",
        type=Duration(at_least=1, at_most=86400),
        default=USUAL.stall_s,
        show_default=written_s(USUAL.stall_s),
        help="A stage that has something to do and makes no progress for so long is reported as stalled.",
    ),
    options.as_json,
)


def follow_options(command: Callable[..., int]) -> Callable[..., int]:
    """All of them, as ``follow: Follow``."""

    @functools.wraps(command)
    def gathered(**given: Any) -> int:
        follow = Follow(
            secondary=given.pop("secondary"),
            journal=given.pop("journal"),
            name=given.pop("name"),
            stop_at=given.pop("stop_at"),
            memory=_memory(
                MemorySettings(
                    given.pop("memory_budget"),
                    given.pop("memory"),
                    given.pop("memory_eager"),
                    given.pop("memory_off"),
                    given.pop("memory_pin"),
                    given.pop("memory_loaders"),
                )
            ),
            applied=Stage(given.pop("applied")),
            cold=Cold(given.pop("memory_cold")),
            journal_bounds=JournalBounds(
                given.pop("segment_size"), given.pop("journal_limit"), given.pop("journal_min_age")
            ),
            replay_bounds=ReplayBounds(
                batch_bytes=given.pop("batch_size"),
                queue_bytes=given.pop("queue_size"),
                apply_sessions=given.pop("apply_sessions")
                or usual_apply_sessions(len(os.sched_getaffinity(0))),
                history=History(given.pop("ddl_history"), given.pop("ddl_history_age")),
                refresh_views=given.pop("materialized_views") == "refresh",
                lock_timeout_s=given.pop("lock_timeout"),
            ),
            intervals=Intervals(
                feedback_s=given.pop("feedback_interval"),
                report_s=given.pop("report_interval"),
                position_s=given.pop("position_interval"),
                receiver_timeout_s=given.pop("receiver_timeout"),
                stall_s=given.pop("stall_after"),
            ),
            metrics=None if (address := given.pop("metrics")) is None else Address(*address),
            as_json=given.pop("as_json"),
        )
        if follow.applied is Stage.MEMORY and follow.memory is None:
            raise UsageError(
                "--applied memory and --memory off contradict each other",
                hint="give --memory lazy, or --applied persistence",
            )
        return command(follow=follow, **given)

    for option in reversed(_OPTIONS):
        gathered = option(gathered)
    return gathered


def to_its_end(program: Program, *, as_json: bool) -> int:
    """Run it in the foreground; the exit code."""

    def stop(number: int, frame: FrameType | None) -> None:
        program.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    outcome = program.run()
    if as_json:
        output.record(
            {"replica": outcome.replica, "replay_lsn": outcome.replay_lsn, "reached": outcome.reached},
            as_json=True,
        )
    else:
        log.info('replica "%s" stands at %s', outcome.replica, outcome.replay_lsn)
    return 0


def memory_of(settings: MemorySettings) -> Callable[[str, str], MakeMemory]:
    """DuckDB and Arrow are imported here and nowhere earlier: with memory off they never are."""
    from logship.service.replay.remember import memory_maker

    return memory_maker(settings)


def _memory(settings: MemorySettings) -> Callable[[str, str], MakeMemory] | None:
    nothing = settings.policy == "off" and not settings.eager and not settings.pinned
    return None if nothing else memory_of(settings)
