"""`logship verify` and `logship repair`: are both sides equal, and what is done about it when they aren't.

`verify` exits 0 when everything that was compared is equal, 1 when not; `repair` 0 when it has mended what
differed, and with `--dry-run` 1 when there is something to mend. Of rows only keys are shown, unless asked.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from logship.cli import options, output
from logship.cli.quantity import Duration, Size

if TYPE_CHECKING:
    from logship.service.mend import Plan
    from logship.service.repair import Repaired
    from logship.service.verify import MemoryReport, Options, Progress, Report
    from logship.snapshot.verify_compare import Found, TableResult
    from logship.snapshot.verify_memory import MemoryResult

log = logging.getLogger(__name__)

_SHOWN = 20  # keys of a table that people are shown; --json has all


def _comparing(command: options.F) -> options.F:
    """What both commands take."""
    for option in reversed(
        (
            options.setting(
                "--exclude", multiple=True, metavar="PATTERN", help="Tables to leave out; may be given again."
            ),
            options.setting(
                "--jobs", type=click.IntRange(1, 64), metavar="N",
                help="Tables compared at a time; by default one per processor, up to 4.",
            ),
            options.setting(
                "--chunk", type=click.IntRange(100, 100_000), default=10_000, show_default=True, metavar="ROWS",
                help="Rows whose checksums are compared at a time.",
            ),
            options.setting(
                "--max-rate", type=Size(at_least=1024), metavar="SIZE",
                help="Read no more than this a second on either side, counted as the rows' text.",
            ),
            options.setting(
                "--max-hold", type=Duration(at_least=0.5, at_most=3600), default=30.0, show_default="30s",
                help="Let the replica stand still no longer than this, and give up then.",
            ),
        )
    ):  # fmt: skip
        command = option(command)
    return command


@click.command("verify")
@options.primary
@options.secondary
@options.name
@options.setting(
    "--tables", multiple=True, metavar="PATTERN",
    help="Tables to compare, like public.orders or shop.*; may be given again. Default: all that are replicated.",
)  # fmt: skip
@_comparing
@click.option(
    "--limit", type=click.IntRange(1, 100_000), default=1_000, show_default=True, metavar="ROWS",
    help="Differing rows that are listed for each table.",
)  # fmt: skip
@click.option(
    "--memory", is_flag=True,
    help="Compare with the secondary, too, what the running replayer holds in memory.",
)  # fmt: skip
@click.option("--show-values", is_flag=True, help="Show the values that differ, not just the keys.")
@click.option(
    "--resume", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Note here which tables were equal, and leave those out after an interruption.",
)  # fmt: skip
@options.as_json
def verify(
    primary: str,
    secondary: str,
    name: str | None,
    tables: tuple[str, ...],
    exclude: tuple[str, ...],
    jobs: int | None,
    chunk: int,
    max_rate: int | None,
    max_hold: float,
    limit: int,
    memory: bool,
    show_values: bool,
    resume: Path | None,
    as_json: bool,
) -> int:
    """Compare primary and secondary, row by row, at one LSN; and the replayer's memory, with --memory.

    The primary is written to and the replica follows meanwhile; the replica stands still for a moment
    (usually some 100 ms) in which both sides are brought to one LSN. Where they differ, the keys of the rows are
    shown.
    """
    from logship.service.verify import verify as compare

    given = _options(
        tables, exclude, jobs, chunk=chunk, max_rate=max_rate, max_hold=max_hold, limit=limit,
        show_values=show_values, resume=resume, memory=memory,
    )  # fmt: skip
    report = compare(primary, secondary, name, options=given, progress=_progress())
    if as_json:
        output.record(_report(report), as_json=True)
    else:
        _show(report)
    return 0 if report.equal else 1


@click.command("repair")
@options.primary
@options.secondary
@options.name
@click.argument("tables", nargs=-1, metavar="[TABLE]...")
@_comparing
@click.option(
    "--keys-from", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
    help="Mend what `logship verify --json` wrote to this file, instead of verifying first.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Say what would be done; change nothing.")
@options.as_json
def repair(
    primary: str,
    secondary: str,
    name: str | None,
    tables: tuple[str, ...],
    exclude: tuple[str, ...],
    jobs: int | None,
    chunk: int,
    max_rate: int | None,
    max_hold: float,
    keys_from: Path | None,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Make rows of the secondary what they are on the primary, in order with the stream.

    Verifies the tables (patterns like shop.*; default: all that are replicated), and mends the rows that differ.
    """
    from logship.service.repair import keys_of_file
    from logship.service.repair import repair as mend

    given = _options(tables, exclude, jobs, chunk=chunk, max_rate=max_rate, max_hold=max_hold)
    keys = None if keys_from is None else keys_of_file(keys_from)
    done = mend(primary, secondary, name, keys=keys, options=given, dry_run=dry_run, progress=_progress())
    if as_json:
        output.record(_repaired(done), as_json=True)
    else:
        _show_repaired(done)
    return 1 if dry_run and done.rows else 0


def _options(
    tables: tuple[str, ...],
    exclude: tuple[str, ...],
    jobs: int | None,
    *,
    chunk: int,
    max_rate: int | None,
    max_hold: float,
    limit: int = 1_000,
    show_values: bool = False,
    resume: Path | None = None,
    memory: bool = False,
) -> Options:
    from logship.service.verify import Options, default_jobs
    from logship.snapshot.verify_compare import How

    return Options(
        tables=tables, exclude=exclude, jobs=jobs or default_jobs(),
        how=How(chunk=chunk, limit=limit, show_values=show_values),
        max_bytes_per_s=max_rate, max_hold_s=max_hold, resume=resume, memory=memory,
    )  # fmt: skip


def _progress() -> Callable[[Progress], None]:
    terminal = sys.stderr.isatty()

    def show(progress: Progress) -> None:
        text = progress.text
        if progress.table is not None:
            count = f"[{progress.done}/{progress.total}] " if progress.done else ""
            text = f"{count}{text} {progress.table}, {progress.rows} rows"
        if terminal:
            click.echo(text, err=True)
        else:
            log.info("%s", text)

    return show


# -- what verify says -----------------------------------------------------------------------------


def _report(report: Report) -> dict[str, Any]:
    return {
        "replica": report.replica,
        "lsn": report.lsn,
        "equal": report.equal,
        "held_s": report.held_s,
        "seconds": report.seconds,
        "tables": [_table(table) for table in report.tables],
        "skipped": report.skipped,
        "resumed": report.resumed,
        "memory": None if report.memory is None else _memory(report.memory),
    }


def _memory(report: MemoryReport) -> dict[str, Any]:
    return {
        "tables": [
            {
                "schemaname": result.table.schemaname,
                "relname": result.table.relname,
                "equal": result.equal,
                "key": list(result.table.key),
                "secondary_rows": result.secondary_rows,
                "memory_rows": result.memory_rows,
                "reason": result.reason or None,
                "more": result.more,
                "found": [
                    {"kind": one.kind, "key": list(one.key), "secondary": one.secondary, "memory": one.memory}
                    for one in result.found
                ],
            }
            for result in report.tables
        ],
        "cold": report.cold,
    }


def _table(table: TableResult) -> dict[str, Any]:
    return {
        "table": table.table,
        "schemaname": table.schemaname,
        "relname": table.relname,
        "equal": table.equal,
        "key": list(table.key),
        "primary_rows": table.primary_rows,
        "secondary_rows": table.secondary_rows,
        "reason": table.reason or None,
        "more": table.more,
        "found": [_found(one) for one in table.found],
    }


def _found(found: Found) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "kind": found.kind,
        "key": list(found.key),
        "primary": found.primary,
        "secondary": found.secondary,
    }
    if found.values is not None:
        fields["values"] = {name: {"primary": p, "secondary": s} for name, (p, s) in found.values.items()}
    return fields


def _show(report: Report) -> None:
    for table in report.tables:
        if table.equal:
            output.line(f"equal    {table.table}  {table.primary_rows} rows")
        elif table.reason:
            output.line(f"differs  {table.table}  {table.reason}")
        else:
            _show_differences(table)
    for name, why in report.skipped.items():
        output.line(f"skipped  {name}  {why}")
    for name, lsn in report.resumed.items():
        output.line(f"equal    {name}  at {lsn}, as noted before")
    if report.memory is not None:
        _show_memory(report.memory)
    differing = len(report.differing)
    verdict = f"{differing} of {len(report.tables)} tables differ" if differing else "equal"
    if report.memory is not None and report.memory.differing:
        verdict += f", memory differs from the secondary in {len(report.memory.differing)} tables,"
    held = "" if report.held_s is None else f"; the replica stood still for {output.duration(report.held_s)}"
    output.line(f"{verdict} at {report.lsn}, compared in {output.duration(report.seconds)}{held}")
    if differing:
        output.line("to mend the rows: logship repair --primary … --secondary … [--dry-run]")
    if report.memory is not None and report.memory.differing:
        output.line("memory is loaded anew from the secondary when the replayer begins again: restart it")


def _show_memory(report: MemoryReport) -> None:
    for result in report.tables:
        name = f'"{result.table.schemaname}"."{result.table.relname}" in memory'
        if result.equal:
            output.line(f"equal    {name}  {result.memory_rows} rows")
            continue
        output.line(f"differs  {name}  {result.reason or _counted(result)}")
        for found in result.found[:_SHOWN]:
            if result.table.key:
                output.line(f"  {found.kind:<8} {_key(result.table.key, found.key)}")
            else:
                output.line(
                    f"  row {found.key[0]}: {found.secondary} on the secondary, {found.memory} in memory"
                )
        _show_rest(len(result.found))
    for table, why in report.cold.items():
        output.line(f"skipped  {table} in memory  {why}")


def _counted(result: MemoryResult) -> str:
    more = ", and more" if result.more else ""
    return (
        f"{len(result.found)} differences{more}; {result.secondary_rows} rows on the secondary, "
        f"{result.memory_rows} in memory"
    )


def _show_rest(found: int) -> None:
    if found > _SHOWN:
        output.line(f"  … {found - _SHOWN} further ones; --json lists them")


def _show_differences(table: TableResult) -> None:
    more = ", and more" if table.more else ""
    output.line(
        f"differs  {table.table}  {len(table.found)} differences{more}; "
        f"{table.primary_rows} rows on the primary, {table.secondary_rows} on the secondary"
    )
    for found in table.found[:_SHOWN]:
        if table.key:
            output.line(f"  {found.kind:<8} {_key(table.key, found.key)}")
        else:
            output.line(
                f"  row {found.key[0]}: {found.primary} on the primary, {found.secondary} on the secondary"
            )
        for name, (ours, theirs) in (found.values or {}).items():
            output.line(f"           {_name(name)}: primary {_value(ours)}, secondary {_value(theirs)}")
    _show_rest(len(table.found))


def _key(names: tuple[str, ...], texts: tuple[str, ...]) -> str:
    return ", ".join(f"{_name(name)} = {_value(text)}" for name, text in zip(names, texts, strict=True))


def _name(name: str) -> str:
    return name.encode("unicode_escape").decode() if not name.isprintable() else name


def _value(text: str | None) -> str:
    """As one line: what can't be printed is escaped."""
    return "NULL" if text is None else repr(text)


# -- what repair says -----------------------------------------------------------------------------


def _repaired(done: Repaired) -> dict[str, Any]:
    return {
        "replica": done.replica,
        "dry_run": done.dry_run,
        "lsn": done.lsn,
        "held_s": done.held_s,
        "rows": done.rows,
        "tables": [
            {
                "table": plan.table,
                "key": list(plan.key),
                "deleted": [list(key) for key in plan.deleted],
                "replaced": [list(key) for key in plan.replaced],
                "inserted": [list(key) for key in plan.inserted],
                "equal": plan.equal,
            }
            for plan in done.tables
        ],
    }


def _show_repaired(done: Repaired) -> None:
    if done.lsn is None:
        output.line("nothing differs: there is nothing to mend")
        return
    for plan in done.tables:
        _show_plan(plan)
    verb = "would be mended" if done.dry_run else "mended"
    held = "" if done.held_s is None else f"; the replica stood still for {output.duration(done.held_s)}"
    output.line(f"{done.rows} rows {verb} at {done.lsn}{held}")


def _show_plan(plan: Plan) -> None:
    counts = f"{len(plan.deleted)} deleted, {len(plan.replaced)} replaced, {len(plan.inserted)} inserted"
    output.line(f"{plan.table}: {counts}, {plan.equal} equal by now")
    for verb, keys in (("delete", plan.deleted), ("replace", plan.replaced), ("insert", plan.inserted)):
        for key in keys[:_SHOWN]:
            output.line(f"  {verb:<8} {_key(plan.key, key) if plan.key else f'row {key[0]}'}")
        _show_rest(len(keys))
