"""`logship init`: prepares both databases and copies schema and rows.

Progress goes to standard error (`logship.cli.copying`). The summary, or one JSON object, goes to standard output.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import click

from logship.cli import copying, options, output, settings_file

if TYPE_CHECKING:
    from logship.service.initial.init import (
        Existing,
        InitResult,
        Keyless,
        Partitions,
        Roles,
        SchemaChanges,
        SchemaMode,
    )


@click.command("init")
@options.primary
@options.secondary
@options.name
@options.initial_copy
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
    tables: tuple[str, ...],
    exclude: tuple[str, ...],
    existing: Existing,
    publication: str | None,
    slot: str | None,
    partitions: Partitions,
    ddl: SchemaChanges | None,
    roles: Roles,
    map_role: tuple[str, ...],
    as_json: bool,
) -> None:
    """Prepare both databases and copy schema and rows.

    Installs the schema `logship` on both sides, a publication and a slot on the primary, copies schema and
    rows at one snapshot, sets sequences. If it is interrupted, run it again.
    """
    from logship.catalog import role_map
    from logship.service.initial.init import initialise

    with copying.shown() as progress:
        result = initialise(
            primary, secondary, name, slot=slot, publication=publication, keyless=keyless, schema=schema,
            pg_dump=pg_dump, jobs=jobs, partitions=partitions, tables=tables, exclude=exclude,
            existing=existing, ddl=ddl, roles=roles, map_roles=role_map.parse(map_role), progress=progress,
        )  # fmt: skip
    ctx = click.get_current_context()
    settings_file.write(ctx)
    if as_json:
        output.record(dataclasses.asdict(result), as_json=True)
    else:
        _summary(result, "" if settings_file.has_sides(ctx) else " --primary … --secondary …")


def _summary(result: InitResult, sides: str) -> None:
    """``sides``: what the commands that follow have to be given."""
    if result.already:
        output.line(
            f'replica "{result.replica}" is initialised already (at {result.snapshot_lsn}); nothing to do'
        )
        if result.roles_made:
            output.line(f"roles made, without login: {', '.join(result.roles_made)}")
        if result.roles_mapped:
            pairs = [f"{one} is {two}" for one, two in result.roles_mapped.items()]
            output.line(
                f"roles with another name: {', '.join(pairs)} (a running replayer is to be started again)"
            )
        for warning in result.warnings:
            output.line(f"warning: {warning}")
        return
    output.line(
        f'replica "{result.replica}" initialised at {result.snapshot_lsn}: {result.tables} tables, '
        f"{result.rows} rows, {output.size(result.size_bytes)} in {output.duration(result.seconds)}"
    )
    output.line(f'publication "{result.publication}", slot "{result.slot}", role "{result.replayer_role}"')
    for title, names in (
        ("REPLICA IDENTITY FULL set on the primary", result.identity_full),
        ("roles made, without login", result.roles_made),
        ("roles with another name", [f"{one} is {two}" for one, two in result.roles_mapped.items()]),
        ("left out", result.left_out),
        ("not selected", result.not_selected),
        ("kept from an init that was interrupted", result.resumed),
        ("emptied before", result.replaced),
        ("not copied, rows taken for right", result.kept),
        ("not copied", [f"{table} ({why})" for table, why in result.not_copied.items()]),
        ("copied with its owner's rights", [f"{table} ({why})" for table, why in result.staged.items()]),
    ):
        if names:
            output.line(f"{title}: {', '.join(names)}")
    if result.large_objects:
        output.line(f"not copied: {result.large_objects} large objects, which PostgreSQL's log doesn't carry")
    if result.unchecked:
        output.line("foreign keys to check once the replica follows:")
        for statement in result.unchecked:
            output.line(f"  {statement};")
    for warning in result.warnings:
        output.line(f"warning: {warning}")
    output.line("")
    output.line("The slot keeps the primary's log from now on: follow it soon. Next:")
    output.line(f"  logship run{sides} --journal DIR")
    output.line("  or, for several replicas, logship ship and logship replay: see docs/operations.md")
    output.line(f"  logship status{sides}")
