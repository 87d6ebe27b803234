"""The whole benchmark, in one run, beside built-in logical replication (and pglogical, where it is installed).

Run: ``make bench``, or ``python -m bench [--quick] [--only catch-up,lag,…] [--loads insert,update,…]``. Starts two
servers, sends the same logs through each, compares the rows after each, and prints one table of ratios: how many times
better than built-in, with the CPU seconds of primary, secondary and the peer's own processes. Memory is off.

``--write`` puts the table and its plot into docs/performance.md. Nothing else should run on the machine meanwhile.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bench import initial_copy
from bench.catching_up import catch_up
from bench.fan_out import four_replicas
from bench.pair import Pair, pglogical_is_installed
from bench.results import Results, Row, page
from bench.steady import lag, synchronous

PARTS: Final = ("catch-up", "lag", "synchronous", "replicas", "copy")
DOCS: Final = Path(__file__).resolve().parent.parent / "docs"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a twentieth of the logs, one round: under 3 minutes on two cores",
    )
    parser.add_argument("--rounds", type=int, help="of each part (default: 3)")
    parser.add_argument("--scale", type=float, help="of the logs (default: 1; a million rows)")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas (default: all)")
    parser.add_argument("--loads", default="", help="loads of catch-up, with commas (default: all)")
    parser.add_argument(
        "--no-pglogical", action="store_true", help="leave pglogical out where it is installed"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here, too")
    parser.add_argument(
        "--also",
        type=Path,
        metavar="FILE",
        help="take the parts that are left out from an earlier run's --json",
    )
    parser.add_argument("--write", action="store_true", help="put table and plot into docs/performance.md")
    given = parser.parse_args()
    chosen = given.only.split(",")
    if unknown := set(chosen) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    if given.write and importlib.util.find_spec("matplotlib") is None:
        parser.error("--write needs matplotlib: pip install -e '.[bench]'")
    rounds = given.rounds or (1 if given.quick else 3)
    scale = given.scale or (0.05 if given.quick else 1.0)
    results = measured(
        chosen, rounds=rounds, scale=scale, quick=given.quick, loads=given.loads.split(",") if given.loads else [],
        pglogical=not given.no_pglogical and not given.quick and pglogical_is_installed(),
    )  # fmt: skip
    if given.also:
        results.also(given.also, [name for name in PARTS if name not in chosen])
    print(f"\n{results.machine}\n{results.text()}")
    if given.json:
        results.save(given.json)
    if given.write:
        page(DOCS / "performance.md", results)
        results.plot(DOCS / "performance.svg")


def measured(
    chosen: list[str], *, rounds: int, scale: float, quick: bool, loads: list[str], pglogical: bool
) -> Results:
    with Pair(pglogical=pglogical) as pair:
        began = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, median of {rounds}, scale {scale:g}"
        results = Results(pair.described(), began)
        print(results.machine, flush=True)
        seconds = 1 if quick else 10
        parts: dict[str, Callable[[], None]] = {
            "catch-up": lambda: catch_up(
                pair, results, scale=scale, rounds=rounds, only=loads, pglogical=pglogical
            ),
            "lag": lambda: lag(
                pair,
                results,
                seconds=2 * seconds,
                warm_s=max(1, seconds // 5),
                rounds=rounds,
                pglogical=pglogical,
            ),
            "synchronous": lambda: synchronous(pair, results, seconds=seconds, rounds=rounds),
            "replicas": lambda: four_replicas(pair, results, rows=int(1_000_000 * scale)),
        }
        for name, part in parts.items():
            if name in chosen:
                print(f"{name}:", flush=True)
                part()
    if "copy" in chosen:
        print("copy:", flush=True)
        ways = {"built-in": "built-in, two workers", "logship init": "logship --jobs 2"}
        took = initial_copy.measured(scale=scale, rounds=rounds, only=[*ways.values()])
        ratio = statistics.median(
            theirs.wall_s / ours.wall_s
            for theirs, ours in zip(*(took[key] for key in ways.values()), strict=True)
        )
        for peer, key in ways.items():
            ours = peer != "built-in"
            results.add(
                Row(
                    f"initial copy, {int(5_010_000 * scale):,} rows, two workers", peer,
                    statistics.median(one.wall_s for one in took[key]), "s",
                    ratio if ours else None, "1.3" if ours else "", ratio >= 1.3 if ours else None,
                )
            )  # fmt: skip
    return results


if __name__ == "__main__":
    main()
