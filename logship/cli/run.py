"""`logship run`: shipper and replayer in one process, in the foreground.

SIGTERM and Ctrl-C are its normal end: it exits 0 once what was received is on disk.
"""

from __future__ import annotations

import click

from logship.cli import options
from logship.cli.following import Follow, follow_options, memory_of, to_its_end

__all__ = ["memory_of", "run"]


@click.command("run")
@options.primary
@follow_options
@options.application_name
def run(primary: str, follow: Follow, application_name: str) -> int:
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
            memory=follow.memory,
            journal_bounds=follow.journal_bounds,
            replay_bounds=follow.replay_bounds,
            intervals=follow.intervals,
            metrics=follow.metrics,
        )
    )
    return to_its_end(running, as_json=follow.as_json)
