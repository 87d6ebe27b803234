"""`logship run`: shipper and replayer in one process, in the foreground.

SIGTERM and Ctrl-C are its normal end: it exits 0 once what was received is on disk.
"""

from __future__ import annotations

import dataclasses

import click

from logship.cli import options
from logship.cli.following import Follow, follow_options, memory_of, to_its_end

__all__ = ["memory_of", "run"]


@click.command("run")
@options.primary
@follow_options
@options.heartbeat
@options.application_name
@options.new_journal
def run(primary: str, follow: Follow, heartbeat: float, application_name: str, new_journal: bool) -> int:
    """Ship the primary's log and replay it on the secondary, until stopped."""
    from logship.service.run import Run, RunSettings

    running = Run(
        RunSettings(
            primary=primary,
            secondary=follow.secondary,
            journal=follow.journal,
            name=follow.name,
            stop_at=follow.stop_at,
            application_name=application_name,
            new_journal=new_journal,
            applied=follow.applied,
            cold=follow.cold,
            memory=follow.memory,
            journal_bounds=follow.journal_bounds,
            replay_bounds=follow.replay_bounds,
            intervals=dataclasses.replace(follow.intervals, heartbeat_s=heartbeat),
            metrics=follow.metrics,
        )
    )
    return to_its_end(running, as_json=follow.as_json)
