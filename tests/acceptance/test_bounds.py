"""The whole process in bounded memory, however large the backlog or the transaction."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from logship.service.demo.servers import environment
from tests.conftest import Pair
from tests.servers import Logship, eventually

LIMIT_MB = 400


def drained(pair: Pair, directory: Path, deadline_s: int) -> float:
    """Run until everything is on the secondary; the largest resident size of the process, in MB."""
    process = subprocess.Popen(
        [
            sys.executable, "-m", "logship", "run", "--primary", pair.primary.conninfo,
            "--secondary", pair.secondary.conninfo, "--journal", directory / "journal",
            "--memory", "off", "--stop-at", "current",
        ],
        env=environment(),
    )  # fmt: skip
    peak_mb = 0.0

    def ended() -> bool:
        nonlocal peak_mb
        peak_mb = max(peak_mb, _peak_mb(process.pid))
        return process.poll() is not None

    eventually(ended, deadline_s, what="everything is on the secondary")
    assert process.returncode == 0
    return peak_mb


def _peak_mb(pid: int) -> float:
    """So far. What `wait` tells of a process counts what it was started from, too: this one's own size."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return 0.0  # it has ended


@pytest.mark.parametrize(
    ("rows", "transaction_rows"),
    [
        pytest.param(200_000, 200_000, id="one-transaction"),
        pytest.param(200_000, 1_000, id="backlog"),
        pytest.param(
            5_000_000,
            5_000_000,
            id="one-huge-transaction",
            marks=[pytest.mark.soak, pytest.mark.timeout(3600)],
        ),
        pytest.param(
            5_000_000, 1_000, id="huge-backlog", marks=[pytest.mark.soak, pytest.mark.timeout(3600)]
        ),
    ],
)
def test_resident_memory(
    pair: Pair, logship: Logship, tmp_path: Path, rows: int, transaction_rows: int
) -> None:
    primary, secondary = pair
    primary.execute("create table t (id int primary key, a int, b text, c timestamptz default now())")
    both = ("--primary", primary.conninfo, "--secondary", secondary.conninfo)
    assert logship.run("init", *both).exit_code == 0
    with primary.connect() as connection:
        for first in range(0, rows, transaction_rows):
            connection.execute(
                "insert into t select g, g %% 1000, 'a value of row ' || g from generate_series(%s::int, %s::int) g",
                [first + 1, first + transaction_rows],
            )
    resident_mb = drained(pair, tmp_path, 3000)
    query = "select count(*), sum(a), sum(hashtext(b)) from t"
    assert secondary.execute(query) == primary.execute(query)
    assert resident_mb < LIMIT_MB
