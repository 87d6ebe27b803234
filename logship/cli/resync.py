"""`logship resync`: copies tables anew while replication goes on.

Progress goes to standard error; the summary, or one JSON object, goes to standard output.
"""

from __future__ import annotations

import dataclasses

import click

from logship.cli import copying, options, output


@click.command("resync")
@click.argument("tables", nargs=-1, required=True, metavar="TABLE...")
@options.primary
@options.secondary
@options.name
@options.as_json
def resync(*, tables: tuple[str, ...], primary: str, secondary: str, name: str | None, as_json: bool) -> None:
    """Copy tables anew and splice them into the stream exactly, whether or not a replayer runs.

    TABLE is schema.table, with * and ?. While they are copied, replay on the secondary waits, and so does
    who reads these tables there; the journal goes on. It is one transaction: interrupted, nothing is changed.
    """
    from logship.service.compare.resync import resync as copy_anew

    with copying.shown() as progress:
        result = copy_anew(primary, secondary, tables, name, progress=progress)
    if as_json:
        output.record(dataclasses.asdict(result), as_json=True)
        return
    output.line(
        f'replica "{result.replica}": {len(result.tables)} tables copied anew at {result.lsn}, '
        f"{sum(result.tables.values())} rows in {output.duration(result.seconds)}"
    )
    for warning in result.warnings:
        output.line(f"warning: {warning}")
