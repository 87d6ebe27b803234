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

from logship.cli import options, output, verify_report
from logship.cli.quantity import Duration, Size

if TYPE_CHECKING:
    from logship.service.compare.verify import Options, Progress

log = logging.getLogger(__name__)


def _comparing(command: options.F) -> options.F:
    """What both commands take. What it means is in `_options`."""
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
    "--memory", "with_memory", is_flag=True,  # not the setting of run, which a file may have
    help="Compare with the secondary, too, what the running replayer holds in memory.",
)  # fmt: skip
@click.option("--show-values", is_flag=True, help="Show the values that differ, not just the keys.")
@click.option(
    "--resume", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Note here which tables were equal, and leave those out after an interruption.",
)  # fmt: skip
@options.as_json
def verify(*, primary: str, secondary: str, name: str | None, as_json: bool, **asked: Any) -> int:
    """Compare primary and secondary, row by row, at one LSN; and the replayer's memory, with --memory.

    The primary is written to and the replica follows meanwhile; the replica stands still for a moment
    (usually some 100 ms) in which both sides are brought to one LSN. Where they differ, the keys of the rows are
    shown.
    """
    from logship.service.compare.verify import verify as compare

    report = compare(primary, secondary, name, options=_options(**asked), progress=_progress())
    if as_json:
        output.record(verify_report.as_object(report), as_json=True)
    else:
        verify_report.show(report)
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
    *,
    primary: str,
    secondary: str,
    name: str | None,
    keys_from: Path | None,
    dry_run: bool,
    as_json: bool,
    **asked: Any,
) -> int:
    """Make rows of the secondary what they are on the primary, in order with the stream.

    Verifies the tables (patterns like shop.*; default: all that are replicated), and mends the rows that differ.
    """
    from logship.service.compare.repair import keys_of_file
    from logship.service.compare.repair import repair as mend

    keys = None if keys_from is None else keys_of_file(keys_from)
    given = _options(**asked)
    done = mend(primary, secondary, name, keys=keys, options=given, dry_run=dry_run, progress=_progress())
    if as_json:
        output.record(verify_report.repaired_as_object(done), as_json=True)
    else:
        verify_report.show_repaired(done)
    return 1 if dry_run and done.rows else 0


def _options(
    *,
    tables: tuple[str, ...],
    exclude: tuple[str, ...],
    jobs: int | None,
    chunk: int,
    max_rate: int | None,
    max_hold: float,
    limit: int = 1_000,
    show_values: bool = False,
    resume: Path | None = None,
    with_memory: bool = False,
) -> Options:
    from logship.service.compare.verify import Options, default_jobs
    from logship.snapshot.verify_compare import How

    return Options(
        tables=tables, exclude=exclude, jobs=jobs or default_jobs(),
        how=How(chunk=chunk, limit=limit, show_values=show_values),
        max_bytes_per_s=max_rate, max_hold_s=max_hold, resume=resume, memory=with_memory,
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
