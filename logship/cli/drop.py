"""`logship drop`: takes away what init made. Says what, asks, and does it; exit code 1 if something is left."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING, Final

import click

from logship.cli import options, output
from logship.errors import RefusedAsUnsafe

if TYPE_CHECKING:
    from logship.service.drop import Dropped, Plan

LEFT: Final = 1


@click.command("drop")
@options.setting("--primary", metavar=options.CONNINFO, help="The primary; without it, it is left alone.")
@options.setting("--secondary", metavar=options.CONNINFO, help="The secondary; without it, it is left alone.")
@options.name
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option("--yes", is_flag=True, help="Don't ask.")
@options.as_json
def drop(
    primary: str | None, secondary: str | None, name: str | None, dry_run: bool, yes: bool, as_json: bool
) -> int:
    """Remove a replica; with the last one, everything that logship made.

    On the primary: slot, publication, schema logship; tables that init gave REPLICA IDENTITY FULL get back
    what they had. On the secondary: replication origin, schemas logship and logship_writers, the
    replayer's role. Your tables and their rows stay, on both sides. The journal's directory is yours to
    remove.
    """
    from logship.service.drop import Drop

    with Drop(primary, secondary, name) as dropping:
        plan = dropping.plan()
        if dry_run:
            _show(plan, as_json=as_json)
            return 0
        if not yes:
            _ask(plan)
        dropped = dropping.carry_out(plan)
    if as_json:
        output.record(dataclasses.asdict(dropped), as_json=True)
    else:
        _summary(dropped)
    return LEFT if dropped.left else 0


def _show(plan: Plan, *, as_json: bool) -> None:
    steps = [f"{step.what} on the {step.side.value}" for step in plan.steps]
    if as_json:
        output.record({"replica": plan.replica, "would_drop": steps}, as_json=True)
        return
    for step in steps:
        output.line(f"would drop {step}")


def _ask(plan: Plan) -> None:
    for step in plan.steps:
        click.echo(f"will drop {step.what} on the {step.side.value}", err=True)
    if not sys.stdin.isatty():
        raise RefusedAsUnsafe(
            "nobody is there to confirm this", hint="give --yes to do it, or --dry-run to only see it"
        )
    if not click.confirm("Drop all of this?", err=True):
        raise RefusedAsUnsafe("not confirmed: nothing was dropped", hint="answer y, or give --yes")


def _summary(dropped: Dropped) -> None:
    for what in dropped.done:
        output.line(f"dropped {what}")
    for why, statements in dropped.left:
        output.line(f"left {why}")
        output.line(f"  for who may: {statements}")
    if not dropped.left:
        output.line(
            "Nothing of logship is left there. Remove the journal's directory when you don't need it."
        )
