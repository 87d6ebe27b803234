"""The whole process in bounded memory, however large the backlog or the transaction."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from logship.service.servers import environment
from tests.conftest import Pair
from tests.servers import Logship

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
    signal.alarm(deadline_s)
    try:
        _, status, usage = os.wait4(process.pid, 0)
    finally:
        signal.alarm(0)
        process.returncode = 0
    assert os.waitstatus_to_exitcode(status) == 0
    return usage.ru_maxrss / 1024


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
