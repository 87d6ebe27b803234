"""`logship run`: shipper and replayer in one process, in the foreground.

SIGTERM and Ctrl-C are its normal end: it exits 0 once what was received is on disk.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from logship.cli import options, output
from logship.cli.quantity import Duration, Listen, Size, StopAt, written, written_s
from logship.config import GIB, KIB, MIB, Address, Intervals, JournalBounds, ReplayBounds
from logship.lsn import Lsn

if TYPE_CHECKING:
    from logship.service.replayer import MakeMemory
    from logship.service.run import Run

log = logging.getLogger(__name__)


def quarter_of_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4


@click.command("run")
@options.primary
@options.secondary
@options.journal
@options.name
@options.setting(
    "--stop-at", type=StopAt(), help="Exit 0 once everything up to here is committed on the secondary."
)
@options.setting(
    "--memory",
    type=click.Choice(["lazy", "off"]),
    default="lazy",
    show_default=True,
    help="Keep replayed tables in memory, loaded at their first change; or keep none.",
)
@options.setting(
    "--memory-budget",
    type=Size(at_least=16 * MIB),
    default=quarter_of_memory,
    show_default="a quarter of the machine's memory",
    help="What the tables in memory may take; a table that doesn't fit stays on the secondary only.",
)
@options.setting(
    "--batch-size",
    type=Size(at_least=64 * KIB, at_most=GIB),
    default=ReplayBounds().batch_bytes,
    show_default=written(ReplayBounds().batch_bytes),
    help="Log replayed in one commit at most; a larger transaction is replayed in pieces, still in one.",
)
@options.setting(
    "--queue-size",
    type=Size(at_least=64 * KIB, at_most=GIB),
    default=ReplayBounds().queue_bytes,
    show_default=written(ReplayBounds().queue_bytes),
    help="Log that may wait, decoded, before each store.",
)
@options.setting(
    "--segment-size",
    type=Size(at_least=MIB, at_most=GIB),
    default=JournalBounds().segment_bytes,
    show_default=written(JournalBounds().segment_bytes),
    help="Size of a journal file.",
)
@options.setting(
    "--journal-limit",
    type=Size(at_least=2 * MIB),
    default=JournalBounds().limit_bytes,
    show_default=written(JournalBounds().limit_bytes),
    help="Past this size the journal drops its oldest file, even one that the replica still needs.",
)
@options.journal_min_age
@options.intervals
@options.setting(
    "--application-name",
    default="logship",
    show_default=True,
    metavar="NAME",
    help="The walsender connection's name, as synchronous_standby_names lists it.",
)
@options.setting(
    "--metrics",
    type=Listen(),
    help="Serve figures for Prometheus, /health, /ready and the status page here; without a password.",
)
@options.setting(
    "--stall-after",
    type=Duration(at_least=1, at_most=86400),
    default=Intervals().stall_s,
    show_default=written_s(Intervals().stall_s),
    help="A stage that has something to do and makes no progress for so long is reported as stalled.",
)
@options.as_json
def run(
    primary: str,
    secondary: str,
    journal: Path,
    name: str | None,
    stop_at: Lsn | str | None,
    memory: str,
    memory_budget: int,
    batch_size: int,
    queue_size: int,
    segment_size: int,
    journal_limit: int,
    journal_min_age: float,
    feedback_interval: float,
    report_interval: float,
    position_interval: float,
    application_name: str,
    metrics: tuple[str, int] | None,
    stall_after: float,
    as_json: bool,
) -> int:
    """Ship the primary's log and replay it on the secondary, until stopped."""
    from logship.service.run import Run, RunSettings

    running = Run(
        RunSettings(
            primary=primary,
            secondary=secondary,
            journal=journal,
            name=name,
            stop_at=stop_at,
            application_name=application_name,
            memory=None if memory == "off" else memory_of(memory_budget),
            journal_bounds=JournalBounds(segment_size, journal_limit, journal_min_age),
            replay_bounds=ReplayBounds(batch_bytes=batch_size, queue_bytes=queue_size),
            intervals=Intervals(
                feedback_s=feedback_interval,
                report_s=report_interval,
                position_s=position_interval,
                stall_s=stall_after,
            ),
            metrics=None if metrics is None else Address(*metrics),
        )
    )
    stop_on_signals(running)
    outcome = running.run()
    if as_json:
        output.record(
            {"replica": outcome.replica, "replay_lsn": outcome.replay_lsn, "reached": outcome.reached},
            as_json=True,
        )
    else:
        log.info('replica "%s" stands at %s', outcome.replica, outcome.replay_lsn)
    return 0


def stop_on_signals(running: Run) -> None:
    def stop(number: int, frame: FrameType | None) -> None:
        running.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)


def memory_of(budget_bytes: int) -> Callable[[str, str], MakeMemory]:
    """DuckDB and Arrow are imported here and nowhere earlier: with memory off they never are."""
    from logship.service.remember import memory_maker

    return memory_maker(budget_bytes)
