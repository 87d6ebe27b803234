"""`logship demo`: replication under load and migrations on two embedded servers, the lag of each stage, a verdict.

On a terminal the table of lag stays in its place; elsewhere a line comes now and then. Exit code 0: both
sides are equal; 1: they differ.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import click
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from logship.cli import options, output

if TYPE_CHECKING:
    from logship.service.demo.demo import Demo, Sample, Verdict

_LINE_EVERY_S: Final = 2.0
DIFFERENT: Final = 1


@click.command("demo")
@click.option(
    "--seconds", type=click.IntRange(1, 600), default=20, show_default=True, help="How long the load lasts."
)
@click.option("--keep", is_flag=True, help="Leave it all running afterwards, until Ctrl-C.")
@options.as_json
def demo(seconds: int, keep: bool, as_json: bool) -> int:
    """Show replication on two embedded PostgreSQL servers, under load and migrations, and compare both sides."""
    from logship.service.demo.demo import Demo

    console = Console(stderr=as_json, highlight=False)
    with Demo(Display(console)) as running:
        running.prepare()
        verdict = replicate(running, seconds)
        if as_json:
            output.record(as_object(verdict), as_json=True)
        else:
            show(console, verdict)
        if keep:
            _wait(console, running)
        elif (code := running.stop()) != 0:
            console.print(f"logship run ended with exit code {code}")
            return DIFFERENT
        else:
            console.print("logship run was told to stop, and ended with exit code 0")
    if not as_json and not keep:
        console.print(_NEXT, soft_wrap=True)
    return 0 if verdict.equal else DIFFERENT


def replicate(running: Demo, seconds: int) -> Verdict:
    display = running.screen
    assert isinstance(display, Display)
    with display:
        return running.replicate(seconds)


class Display:
    """The demo's `Screen`: a live table on a terminal, lines elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._line_at = 0.0

    def __enter__(self) -> Display:
        if self._console.is_terminal:
            self._live = Live(console=self._console, refresh_per_second=8, transient=False)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def step(self, text: str) -> None:
        self._console.print(f"── {text}", soft_wrap=True)

    def sample(self, sample: Sample) -> None:
        if self._live is not None:
            self._live.update(table(sample))
        elif time.monotonic() - self._line_at >= _LINE_EVERY_S:
            self._line_at = time.monotonic()
            self._console.print(line(sample), soft_wrap=True)


def table(sample: Sample) -> Group:
    """The lag of each stage, as `logship.replica_lag` has it."""
    shown = Table(title_justify="left")
    for name in ("stage", "LSN", "behind", "lag"):
        shown.add_column(name, justify="left" if name == "stage" else "right", min_width=12)
    for stage in sample.stages:
        shown.add_row(stage.stage, stage.lsn or "-", output.size(stage.lag_bytes), output.cell(stage.lag))
    return Group(Text(summary(sample)), shown)


def line(sample: Sample) -> str:
    lags = ", ".join(f"{stage.stage} {output.cell(stage.lag)}" for stage in sample.stages)
    return f"{summary(sample)}; lag: {lags}"


def summary(sample: Sample) -> str:
    rate = "-" if sample.changes_per_s is None else f"{sample.changes_per_s:.0f}"
    return (
        f"{sample.elapsed_s:4.0f} s  {sample.committed} transactions committed on the primary, "
        f"{output.cell(sample.replayed)} replayed, {rate} row changes/s"
    )


def show(console: Console, verdict: Verdict) -> None:
    """The verdict, and what it rests on: migrations, schema, rows."""
    console.print(migrations(verdict))
    shown = Table(title="Both sides, compared row by row", title_justify="left")
    for name in ("table", "primary", "secondary", "memory", "rows"):
        shown.add_column(name, justify="left" if name in {"table", "rows"} else "right")
    for each in verdict.tables:
        shown.add_row(
            each.table, str(each.primary_rows), str(each.secondary_rows),
            output.cell(verdict.memory.get(each.table)), "equal" if each.equal else "DIFFERENT",
        )  # fmt: skip
    console.print(shown)
    late = {stage: output.duration(seconds) for stage, seconds in verdict.caught_up_s.items()}
    console.print(
        f"{verdict.committed} transactions under load, and {len(verdict.migrations)} migrations; {verdict.replayed} "
        "transactions changed something and were replayed. After the last commit the secondary had everything within "
        f"{late['persistence']}, memory within {late['memory']}.\n"
        f"{schema(verdict)}\n"
        f"Verdict: both sides are {'equal' if verdict.equal else 'DIFFERENT'}.",
        soft_wrap=True,
    )


def migrations(verdict: Verdict) -> Table:
    """Which arrived, and how soon after their commit they were seen."""
    shown = Table(title="Alembic migrations of the primary, under load", title_justify="left")
    for name in ("revision", "what", "on the secondary"):
        shown.add_column(name)
    for each in verdict.migrations:
        arrived = (
            "MISSING" if each.after_s is None else f"arrived, seen after {output.duration(each.after_s)}"
        )
        shown.add_row(each.revision.name, each.revision.what, arrived)
    return shown


def schema(verdict: Verdict) -> str:
    arrived = sum(each.after_s is not None for each in verdict.migrations)
    same = (
        "both schemas are the same"
        if not verdict.schema
        else "\n  ".join(["the schemas differ:", *verdict.schema])
    )
    return f"{arrived} of {len(verdict.migrations)} migrations arrived, and {same}."


def as_object(verdict: Verdict) -> dict[str, Any]:
    return {
        "equal": verdict.equal,
        "committed": verdict.committed,
        "replayed": verdict.replayed,
        "caught_up_s": {stage: round(seconds, 3) for stage, seconds in verdict.caught_up_s.items()},
        "migrations": [
            {
                "revision": each.revision.name,
                "what": each.revision.what,
                "seen_after_s": None if each.after_s is None else round(each.after_s, 3),
            }
            for each in verdict.migrations
        ],
        "schema_differences": list(verdict.schema),
        "tables": [
            {
                "table": each.table,
                "primary_rows": each.primary_rows,
                "secondary_rows": each.secondary_rows,
                "memory_rows": verdict.memory.get(each.table),
                "equal": each.equal,
            }
            for each in verdict.tables
        ],
    }


def _wait(console: Console, running: Demo) -> None:
    """What was shown stays to be tried, until Ctrl-C."""
    console.print(
        "It all runs on. In another terminal:\n"
        f"  psql '{running.primary}'      -- write here\n"
        f"  psql '{running.secondary}'    -- read here: select * from logship.replica_lag\n"
        f"  logship lag --secondary '{running.secondary}'\n"
        "Ctrl-C ends it and removes everything.",
        soft_wrap=True,
    )
    try:
        running.wait()
    except KeyboardInterrupt:
        running.stop()


_NEXT: Final = """\
To try next:
  logship demo --keep                         the same, left running for you to write and look
  logship init --primary … --secondary …      your own databases (docs/tutorial.md)"""
