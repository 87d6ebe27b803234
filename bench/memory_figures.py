"""What ``bench.memory`` measured, as lines for people and as a table in a page.

In: single figures. Out: printed lines; the table between two markers of a page. Knows no server.
"""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

BEGIN: Final = "<!-- measured by bench.memory: begin -->"
END: Final = "<!-- measured by bench.memory: end -->"


@dataclass(frozen=True, slots=True)
class Figure:
    what: str
    figures: str
    ratio: float | None
    bound: str
    reached: bool | None


@dataclass
class Figures:
    command: str
    found: list[Figure] = field(default_factory=list)
    loads: list[float] = field(default_factory=list)  # of the machine, as each figure was added

    def add(
        self, what: str, figures: str, ratio: float | None, bound: str = "", reached: bool | None = None
    ) -> None:
        self.found.append(Figure(what, figures, ratio, bound, reached))
        self.loads.append(os.getloadavg()[0])
        told = "" if ratio is None else f"; ratio {ratio:.2f}"
        missed = ", NOT reached" if reached is False else ""
        print(f"{what}: {figures}{told}{f' (bound: {bound}{missed})' if bound else ''}", flush=True)

    def markdown(self) -> str:
        lines = [
            f"`{self.command}`, {datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores; the machine's load average was"
            f" {min(self.loads):.1f} to {max(self.loads):.1f} meanwhile, this bench's own included.",
            "",
            "| what | measured | ratio | bound | reached |",
            "|---|---|---:|---|---|",
        ]
        for one in self.found:
            ratio = "" if one.ratio is None else f"{one.ratio:.2f}"
            reached = {None: "", True: "yes", False: "no"}[one.reached]
            lines.append(f"| {one.what} | {one.figures} | {ratio} | {one.bound} | {reached} |")
        return "\n".join(lines)

    def write(self, page: Path) -> None:
        """Put the table where the page's markers are."""
        before, begin, rest = page.read_text().partition(BEGIN)
        _, end, after = rest.partition(END)
        if not begin or not end:
            raise SystemExit(f"{page} has no markers for the table")
        page.write_text(f"{before}{BEGIN}\n\n{self.markdown()}\n\n{END}{after}")


def cpu() -> float:
    """CPU seconds of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
