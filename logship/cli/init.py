"""`logship init`: prepares both databases and copies schema and rows.

Progress goes to standard error: lines as they are on a terminal, log lines elsewhere. The summary, or
one JSON object, goes to standard output.
"""

from __future__ import annotations

import dataclasses
import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from logship.cli import options, output, settings_file

if TYPE_CHECKING:
    from logship.service.init import InitResult, Keyless, Partitions, Progress, SchemaMode

log = logging.getLogger(__name__)


@click.command("init")
@options.primary
@options.secondary
@options.name
@options.setting(
    "--keyless",
    type=click.Choice(["full", "refuse", "leave-out"]),
    default="full",
    show_default=True,
    help="Tables without replica identity: give them REPLICA IDENTITY FULL; leave them as they are, so that "
    "the primary refuses their UPDATE and DELETE; or don't replicate them.",
)
@options.setting(
    "--schema",
    type=click.Choice(["dump", "existing"]),
    default="dump",
    show_default=True,
    help="Make the primary's schema by pg_dump, or use the empty tables that are there.",
)
@options.setting("--pg-dump", metavar="FILE", help="The pg_dump to use; by default one that is found.")
@options.setting(
    "--jobs", type=click.IntRange(1, 64), show_default="4", metavar="N", help="Tables copied at a time."
)
@options.setting("--publication", metavar="NAME", help="Use this publication, which exists.")
@options.setting("--slot", metavar="NAME", help="The replication slot; made when missing.")
@options.setting(
    "--partitions",
    type=click.Choice(["leaf", "root"]),
    default="leaf",
    show_default=True,
    help="Follow each partition as a table, or the partitioned table as one (other partitions there).",
)
@settings_file.write_config
@options.as_json
def init(
    *,
    primary: str,
    secondary: str,
    name: str | None,
    keyless: Keyless,
    schema: SchemaMode,
    pg_dump: str | None,
    jobs: int | None,
    publication: str | None,
    slot: str | None,
    partitions: Partitions,
    as_json: bool,
) -> None:
    """Prepare both databases and copy schema and rows.

    Installs the schema `logship` on both sides, a publication and a slot on the primary, copies schema and
    rows at one snapshot, sets sequences. If it is interrupted, run it again.
    """
    from logship.service.init import initialise

    result = initialise(
        primary, secondary, name, slot=slot, publication=publication, keyless=keyless, schema=schema,
        pg_dump=pg_dump, jobs=jobs, partitions=partitions, progress=_progress(),
    )  # fmt: skip
    settings_file.write(click.get_current_context())
    if as_json:
        output.record(dataclasses.asdict(result), as_json=True)
    else:
        _summary(result)


def _progress() -> Callable[[Progress], None]:
    tell: Callable[[str], None] = log.info
    if sys.stderr.isatty():

        def tell(text: str) -> None:
            click.echo(text, err=True)

    def show(progress: Progress) -> None:
        if not progress.text:
            return
        if progress.table is None:
            tell(progress.text)
        else:
            tell(
                f"[{progress.done}/{progress.total}] {progress.text}: {progress.rows} rows, "
                f"{output.size(progress.size_bytes)}"
            )

    return show


def _summary(result: InitResult) -> None:
    if result.already:
        output.line(
            f'replica "{result.replica}" is initialised already (at {result.snapshot_lsn}); nothing to do'
        )
        return
    output.line(
        f'replica "{result.replica}" initialised at {result.snapshot_lsn}: {result.tables} tables, '
        f"{result.rows} rows, {output.size(result.size_bytes)} in {output.duration(result.seconds)}"
    )
    output.line(f'publication "{result.publication}", slot "{result.slot}", role "{result.replayer_role}"')
    for title, names in (
        ("REPLICA IDENTITY FULL set on the primary", result.identity_full),
        ("left out", result.left_out),
        ("not copied", [f"{table} ({why})" for table, why in result.not_copied.items()]),
        ("copied with its owner's rights", [f"{table} ({why})" for table, why in result.staged.items()]),
    ):
        if names:
            output.line(f"{title}: {', '.join(names)}")
    for warning in result.warnings:
        output.line(f"warning: {warning}")
    output.line("")
    output.line("The slot keeps the primary's log from now on: follow it soon. Next:")
    output.line("  logship run --primary … --secondary … --journal DIR")
    output.line("  logship lag --secondary … --watch")
