"""What was measured, as a table of ratios to built-in logical replication, for people, programs and a page.

In: single measurements. Out: medians and ratios of medians; text, JSON, Markdown and a plot. Knows no server.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from bench.loads import Load

BUILT_IN: Final = "built-in"
# How what is measured begins, by the part of the bench.
_BEGINS: Final = {
    "catch-up": ("catch-up:", "memory while catching up"), "lag": ("lag ",), "synchronous": ("commits that wait",),
    "replicas": ("4 replicas",), "copy": ("initial copy",),
}  # fmt: skip


class CaughtUp(NamedTuple):
    wall_s: float
    primary_s: float  # of CPU
    secondary_s: float
    own_s: float  # of processes beside the servers
    memory_bytes: int  # the most that these had


@dataclass(frozen=True, slots=True)
class Row:
    """One measured thing. ``ratio``: how many times better than built-in in the same run; None: it is the measure."""

    what: str
    peer: str
    value: float
    unit: str
    ratio: float | None = None
    target: str = ""  # what the ratio should be, as text
    reached: bool | None = None
    primary_s: float | None = None
    secondary_s: float | None = None
    own_s: float | None = None
    note: str = ""


@dataclass
class Results:
    machine: str
    began: str
    rows: list[Row] = field(default_factory=list)
    _caught_up: dict[tuple[str, str], tuple[Load, list[CaughtUp]]] = field(default_factory=dict)

    def caught_up(self, load: Load, peer: str, took: CaughtUp) -> None:
        self._caught_up.setdefault((load.name, peer), (load, []))[1].append(took)
        print(
            f"  {load.name:8} {peer:15} {took.wall_s:6.2f} s   CPU: primary {took.primary_s:5.2f}, "
            f"secondary {took.secondary_s:5.2f}, own {took.own_s:5.2f} s",
            flush=True,
        )

    def add(self, row: Row) -> None:
        self.rows.append(row)
        print(f"  {row.what}: {row.peer}: {row.value:.3g} {row.unit} {row.note}", flush=True)

    def also(self, path: Path, parts: Sequence[str]) -> None:
        """Rows of these parts, as another run has saved them."""
        other = json.loads(path.read_text())
        rows = [Row(**row) for row in other["rows"]]
        self.rows += [row for row in rows if any(row.what.startswith(_BEGINS[part]) for part in parts)]
        self.began += f"; {', '.join(parts)}: {other['began']}"

    def all(self) -> list[Row]:
        return [*self._catch_up_rows(), *self.rows]

    def _catch_up_rows(self) -> Iterator[Row]:
        peak = 0
        for (name, peer), (load, took) in self._caught_up.items():
            wall_s, primary_s, secondary_s, own_s = (
                statistics.median(column) for column in list(zip(*took, strict=True))[:4]
            )
            peak = max(peak, *(one.memory_bytes for one in took))
            ratio = target = None
            if peer != BUILT_IN and (name, BUILT_IN) in self._caught_up:
                theirs = [one.wall_s for one in self._caught_up[name, BUILT_IN][1]]
                ratio = statistics.median(theirs) / wall_s
            if peer == "logship run":
                target = load.target[0]
            elif peer == "logship replay":
                target = load.target[1]
            yield Row(
                f"catch-up: {load.changes}", peer, wall_s, "s", ratio, f"{target}" if target else "",
                ratio >= target if ratio and target else None, primary_s, secondary_s, own_s,
                note="rounds " + " ".join(f"{one.wall_s:.2f}" for one in took),
            )  # fmt: skip
        if peak:
            yield Row(
                "memory while catching up (memory off)", "logship", peak / (1 << 20), "MiB", None, "< 400 MB",
                peak < 400_000_000,
            )  # fmt: skip

    # -- how it is shown -------------------------------------------------------------------------------------

    def text(self) -> str:
        return "\n".join(_aligned([_HEAD, *(_cells(row) for row in self.all())]))

    def markdown(self) -> str:
        def line(cells: Sequence[str]) -> str:
            return "| " + " | ".join(cells) + " |"

        body = [line(_HEAD), line(["---", "---", "---:", "---:", "---:", "---:", "---:", "---:"])]
        body += [line(_cells(row)) for row in self.all()]
        return "\n".join(body)

    def save(self, path: Path) -> None:
        path.write_text(
            json.dumps(
                {"machine": self.machine, "began": self.began, "rows": [asdict(row) for row in self.all()]},
                indent=1,
            )
            + "\n"
        )

    def plot(self, path: Path) -> None:
        """Bars: how many times as fast as built-in logical replication each peer caught up."""
        import matplotlib as mpl

        mpl.use("Agg")
        mpl.rcParams["svg.hashsalt"] = "logship"  # the same figures give the same file
        from matplotlib import pyplot as plt

        found: dict[str, dict[str, float]] = {}
        for name, peer in self._caught_up:
            row = next(
                row for row in self._catch_up_rows()
                if row.peer == peer and row.what.endswith(self._caught_up[name, peer][0].changes)
            )  # fmt: skip
            found.setdefault(peer, {})[name] = row.ratio or 1.0
        names = list(dict.fromkeys(name for name, _ in self._caught_up))
        figure, axes = plt.subplots(figsize=(9, 4))
        width = 0.8 / len(found)
        for place, (peer, ratios) in enumerate(found.items()):
            at = [number + place * width for number in range(len(names))]
            bars = axes.bar(at, [ratios.get(name, 0.0) for name in names], width, label=peer)
            axes.bar_label(bars, fmt="%.1f", fontsize=7)
        axes.axhline(1.0, color="grey", linewidth=0.8)
        axes.set_xticks([number + 0.4 - width / 2 for number in range(len(names))], names)
        axes.set_ylabel("times as fast as built-in")
        axes.set_title("Catching up with a backlog")
        axes.legend(fontsize=8)
        figure.tight_layout()
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)


_HEAD: Final = [
    "what", "peer", "figure", "times built-in", "target", "CPU s primary", "CPU s secondary", "CPU s own",
]  # fmt: skip


def _cells(row: Row) -> list[str]:
    def number(value: float | None) -> str:
        return "" if value is None else f"{value:.2f}"

    reached = {None: "", True: " reached", False: " not reached"}[row.reached]
    return [
        row.what, row.peer, f"{_significant(row.value)} {row.unit}".strip(), number(row.ratio),
        (row.target + reached).strip(), number(row.primary_s), number(row.secondary_s), number(row.own_s),
    ]  # fmt: skip


def _significant(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _aligned(table: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(cells[column]) for cells in table) for column in range(len(table[0]))]
    return [
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()
        for cells in table
    ]


def page(path: Path, results: Results) -> None:
    """Put the table where the page says that it stands."""
    start, end = "<!-- figures -->", "<!-- end of figures -->"
    text = path.read_text()
    if start not in text or end not in text:
        raise SystemExit(f"{path} has no place for the figures: {start} … {end}")
    head, tail = text.partition(start)[0], text.partition(end)[2]
    body = f"{start}\n{results.machine}; {results.began}.\n\n{results.markdown()}\n{end}"
    path.write_text(head + body + tail)
