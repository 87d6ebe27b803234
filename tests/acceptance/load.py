"""A pgbench load that runs while a test does other things, and the proof that both sides are equal."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from logship.service.demo.servers import environment
from tests.servers import Database

TABLES = ("pgbench_accounts", "pgbench_branches", "pgbench_tellers", "pgbench_history")


@dataclass
class Load:
    process: subprocess.Popen[bytes]
    output: Path

    @property
    def done(self) -> bool:
        return self.process.poll() is not None

    def wait(self, deadline_s: float) -> None:
        code = self.process.wait(deadline_s)
        assert code == 0, self.output.read_text(errors="replace")


def prepare(primary: Database, scale: int) -> None:
    _pgbench(primary, "-i", "-q", "-s", str(scale))


@contextmanager
def pgbench(
    primary: Database, directory: Path, *, clients: int, transactions: int, rate: int
) -> Iterator[Load]:
    """``transactions`` for each client, ``rate`` a second in all; ended with the block, whatever happens."""
    output = directory / "pgbench.log"
    arguments = ["-n", "-c", str(clients), "-j", "2", "-t", str(transactions), "-R", str(rate)]
    with output.open("wb") as out:
        process = subprocess.Popen(
            _command(primary, *arguments), stdout=out, stderr=subprocess.STDOUT, env=environment()
        )
    try:
        yield Load(process, output)
    finally:
        process.kill()
        process.wait()


def _pgbench(primary: Database, *arguments: str) -> None:
    subprocess.run(_command(primary, *arguments), check=True, capture_output=True, env=environment())


def _command(primary: Database, *arguments: str) -> list[str]:
    return [str(primary.program("pgbench")), *arguments, primary.conninfo]


def assert_pgbench_equal(primary: Database, secondary: Database) -> None:
    """Every row of every table, duplicates counted: the checksum of the sorted rows."""
    for table in TABLES:
        rows = f"(select t::text as r from {table} t) s"
        query = f'select count(*), md5(string_agg(r, chr(10) order by r collate "C")) from {rows}'
        expected, found = primary.execute(query), secondary.execute(query)
        assert found == expected, (
            f"{table}: {found[0][0]} rows on the secondary, {expected[0][0]} on the primary"
        )
    history = primary.value("select count(*) from pgbench_history")
    assert history > 0
    (sums,) = secondary.execute(
        "select (select sum(abalance) from pgbench_accounts), (select sum(bbalance) from pgbench_branches), "
        "(select sum(tbalance) from pgbench_tellers), (select sum(delta) from pgbench_history)"
    )
    assert len(set(sums)) == 1, f"a transaction is missing or doubled: {sums}"
