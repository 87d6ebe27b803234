"""`logship replay`: the replayer by itself, in the foreground, fed by a shipper's relay or a walsender.

SIGTERM and Ctrl-C are its normal end: it exits 0 once what was received is on disk.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import click
from click.core import ParameterSource

from logship.cli import options
from logship.cli.following import Follow, Program, follow_options, to_its_end
from logship.errors import UsageError


@dataclass(frozen=True, slots=True)
class Shipping:
    """What counts with --primary only: then this is the slot's shipper."""

    application_name: str
    new_journal: bool
    heartbeat_s: float


@click.command("replay")
@options.setting(
    "--shipper",
    metavar=options.CONNINFO,
    help="Where `logship ship` listens: libpq conninfo or URI. Not needed with --primary.",
)
@options.setting(
    "--primary",
    metavar=options.CONNINFO,
    help="Straight from the primary's walsender, without a shipper: libpq conninfo or URI.",
)
@follow_options
@options.heartbeat
@options.application_name
@options.new_journal
def replay(
    shipper: str | None,
    primary: str | None,
    follow: Follow,
    heartbeat: float,
    application_name: str,
    new_journal: bool,
) -> int:
    """Replay on the secondary what a shipper sends, until stopped; wait for one that doesn't listen yet."""
    shipper, primary = _one(click.get_current_context(), shipper, primary)
    shipping = Shipping(application_name, new_journal, heartbeat)
    return to_its_end(_program(shipper, primary, follow, shipping), as_json=follow.as_json)


def _one(ctx: click.Context, shipper: str | None, primary: str | None) -> tuple[str | None, str | None]:
    """A file or an environment that serves several commands may name both: then it is the shipper, unless the
    command line says otherwise."""
    if shipper is None or primary is None:
        return shipper, primary
    typed = [ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE for name in ("shipper", "primary")]
    if all(typed):
        raise UsageError(
            "--shipper and --primary contradict each other",
            hint="give --shipper for a relay, or --primary for a walsender",
        )
    return (None, primary) if typed[1] else (shipper, None)


def _program(shipper: str | None, primary: str | None, follow: Follow, shipping: Shipping) -> Program:
    if shipper is not None:
        from logship.service.replay.replay import ReceiveSettings, Replay

        return Replay(
            ReceiveSettings(
                shipper=shipper,
                secondary=follow.secondary,
                journal=follow.journal,
                name=follow.name,
                stop_at=follow.stop_at,
                applied=follow.applied,
                cold=follow.cold,
                memory=follow.memory,
                journal_bounds=follow.journal_bounds,
                replay_bounds=follow.replay_bounds,
                intervals=follow.intervals,
                metrics=follow.metrics,
            )
        )
    if primary is None:
        raise UsageError(
            "it isn't said where the log comes from",
            hint="give --shipper (LOGSHIP_SHIPPER, or shipper in logship.toml), or --primary for a walsender",
        )
    from logship.service.run import Run, RunSettings

    return Run(
        RunSettings(
            primary=primary,
            secondary=follow.secondary,
            journal=follow.journal,
            name=follow.name,
            stop_at=follow.stop_at,
            application_name=shipping.application_name,
            new_journal=shipping.new_journal,
            applied=follow.applied,
            cold=follow.cold,
            memory=follow.memory,
            journal_bounds=follow.journal_bounds,
            replay_bounds=follow.replay_bounds,
            intervals=dataclasses.replace(follow.intervals, heartbeat_s=shipping.heartbeat_s),
            metrics=follow.metrics,
        )
    )
