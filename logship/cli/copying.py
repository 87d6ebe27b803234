"""Shows how far a copy is: a bar on a terminal, log lines every few seconds elsewhere.

In: `Progress` of init or resync. Out: standard error. On a terminal what is said scrolls above the bar.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from logship.cli import output

if TYPE_CHECKING:
    from logship.service.initial.plan import Progress
    from logship.snapshot.progress import Standing

log = logging.getLogger(__name__)

_LOG_EVERY_S: Final = 5.0


@contextmanager
def shown() -> Iterator[Callable[[Progress], None]]:
    """What to give as ``progress``; use it inside the block."""
    if sys.stderr.isatty():
        with _bar() as show:
            yield show
    else:
        yield _Lines().show


def words(progress: Progress) -> str:
    """[2/7] copied "public"."t": 1000 rows, 96 kB."""
    if progress.table is None:
        return progress.text
    return (
        f"[{progress.done}/{progress.total}] {progress.text}: {progress.rows} rows, "
        f"{output.size(progress.size_bytes)}"
    )


def standing_words(standing: Standing) -> str:
    """47 %, 3 of 7 tables, 1200000 rows, 340 MB, 45 MB/s, 8.2 s left."""
    rate, left = standing.bytes_per_s, standing.left_s
    return ", ".join(
        [
            f"{standing.fraction:.0%}",
            f"{standing.tables_done} of {standing.tables} tables",
            f"{standing.rows} rows",
            output.size(standing.size_bytes),
            f"{output.size(None if rate is None else round(rate))}/s",
            "time left not known yet" if left is None else f"{output.duration(left)} left",
        ]
    )


class _Lines:
    def __init__(self) -> None:
        self._last = time.monotonic()

    def show(self, progress: Progress) -> None:
        if progress.text:
            log.info("%s", words(progress))
        elif progress.standing is not None and time.monotonic() - self._last >= _LOG_EVERY_S:
            self._last = time.monotonic()
            log.info("copying: %s", standing_words(progress.standing))


@contextmanager
def _bar() -> Iterator[Callable[[Progress], None]]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    bar = Bar(TextColumn("copying"), BarColumn(), TextColumn("{task.fields[words]}"), console=console)
    with bar:
        task = bar.add_task("copy", total=1.0, words="", visible=False)

        def show(progress: Progress) -> None:
            if progress.text:
                bar.console.print(escape(words(progress)), highlight=False, soft_wrap=True)
            if progress.standing is not None:
                standing = progress.standing
                under_way = standing.tables_done < standing.tables
                bar.update(
                    task, completed=standing.fraction, words=standing_words(standing), visible=under_way
                )

        yield show
