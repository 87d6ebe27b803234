"""The initial copy beside `pg_dump | psql` and beside built-in replication's own table synchronisation.

Run: ``python bench/initial_copy.py [--scale 1.0] [--rounds 3]``. Everything in one run, on servers that this starts: three tables
(3 million, 2 million and 10,000 rows at scale 1), a key on each and an index more on one, copied into an
empty database by

- ``pg_dump | psql``, and logship with one job;
- CREATE SUBSCRIPTION with ``max_sync_workers_per_subscription = 2`` into tables that stand there with their keys
  (which is how it is used), and logship with two jobs.

Rounds are interleaved. Prints the seconds of each, and the CPU seconds of servers and clients together (on a machine
that does other things too they say more), medians and ratios of both; compares the rows after each.
"""  # noqa: E501  a command in one line

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import psycopg
from psycopg import sql

from logship.service.demo.servers import Server, environment, find_binaries
from logship.service.demo.watcher import children
from logship.service.initial.init import initialise

TABLES = {"large": 3_000_000, "middle": 2_000_000, "small": 10_000}
SETTINGS = {"max_wal_size": "4GB", "checkpoint_timeout": "30min", "max_sync_workers_per_subscription": "2",
            "wal_retrieve_retry_interval": "200ms", "maintenance_work_mem": "128MB", "autovacuum": "off"}  # fmt: skip
SUM = "select pg_catalog.count(*), pg_catalog.sum(pg_catalog.hashtext(t::text)) from public.{} t"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    report(measured(scale=given.scale, rounds=given.rounds))


def measured(*, scale: float, rounds: int, only: Sequence[str] = ()) -> dict[str, list[Took]]:
    """Of each way of copying (or of ``only`` some), in rounds."""
    binaries = find_binaries()
    took: dict[str, list[Took]] = {}
    with (
        Server(binaries, "primary", SETTINGS) as primary,
        Server(binaries, "secondary", SETTINGS) as secondary,
    ):
        bench = Bench(primary, secondary, scale)
        bench.fill()
        print(machine(primary))
        for _ in range(rounds):
            for name, copy in bench.ways().items():
                if not only or name in only:
                    took.setdefault(name, []).append(bench.timed(name, copy))
    return took


class Took(NamedTuple):
    wall_s: float
    cpu_s: float


def machine(server: Server) -> str:
    version = run(server.conninfo(), "select version()")[0][0]
    return f"{version}; Python {platform.python_version()}; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"


def report(took: dict[str, list[Took]]) -> None:
    for name, each in took.items():
        wall, cpu = (statistics.median(values) for values in zip(*each, strict=True))
        print(
            f"{name:24} median {wall:6.2f} s, CPU {cpu:6.2f} s   "
            + " ".join(f"{one.wall_s:.2f}" for one in each)
        )
    for ours, theirs, bound in (
        ("logship --jobs 1", "pg_dump | psql", 1.0),
        ("logship --jobs 2", "built-in, two workers", 1.3),
    ):
        # Of pairs that ran one after the other, so that what else the machine does weighs on both.
        wall, cpu = (
            statistics.median(other / one for one, other in zip(*pair, strict=True))
            for pair in zip(
                ([one.wall_s for one in took[ours]], [one.cpu_s for one in took[ours]]),
                ([one.wall_s for one in took[theirs]], [one.cpu_s for one in took[theirs]]),
                strict=True,
            )
        )
        print(f"{ours} : {theirs:24} {wall:.2f} times as fast (bound: {bound}); {cpu:.2f} by CPU")


def cpu_s(*servers: Server) -> float:
    """User and system time so far: of this process, its children that ended, and all of the servers'."""
    mine = sum(
        used.ru_utime + used.ru_stime
        for used in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )
    ticks = sum(
        int(field)
        for server in servers
        for pid in (server.pid, *children(server.pid))
        for field in _stat(pid)[11:15]  # utime, stime, and those of its ended children
    )
    return mine + ticks / os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # it ended meanwhile: the postmaster has its time
        return ["0"] * 15


class Bench:
    def __init__(self, primary: Server, secondary: Server, scale: float) -> None:
        self.primary = primary
        self.secondary = secondary
        self.scale = scale

    def fill(self) -> None:
        run(self.primary.conninfo(), "create database source")
        for name, rows in TABLES.items():
            run(
                self.primary.conninfo("source"),
                f"create table public.{name} (id bigint primary key, customer int not null, state text not null, "
                "amount numeric(12,2), at timestamptz not null default now(), note text)",
            )
            run(
                self.primary.conninfo("source"),
                f"insert into public.{name} select g, g % 9973, (array['new','paid','sent'])[g % 3 + 1], g % 100000 / 7.0, "  # noqa: E501  a command in one line
                f"timestamptz '2026-01-01' + g * interval '1 s', 'note of row ' || g from generate_series(1, {int(rows * self.scale)}) g",  # noqa: E501  a command in one line
            )
        run(self.primary.conninfo("source"), "create index on public.large (customer)")
        run(self.primary.conninfo("source"), "vacuum analyze")

    def ways(self) -> dict[str, Callable[[], None]]:
        return {
            "pg_dump | psql": self.dump,
            "logship --jobs 1": lambda: self.logship(1),
            "built-in, two workers": self.builtin,
            "logship --jobs 2": lambda: self.logship(2),
        }

    def timed(self, name: str, copy: Callable[[], None]) -> Took:
        for server in (self.primary, self.secondary):
            run(server.conninfo(), "checkpoint")
        run(self.secondary.conninfo(), "create database target template template0")
        if copy == self.builtin:
            self.schema()
        used, began = cpu_s(self.primary, self.secondary), time.monotonic()
        copy()
        wall_s = time.monotonic() - began
        took = Took(wall_s, cpu_s(self.primary, self.secondary) - used)
        print(f"{name:24} {took.wall_s:6.2f} s, CPU {took.cpu_s:6.2f} s", flush=True)
        self.compare()
        self.clean()
        return took

    def dump(self) -> None:
        source, target = self.primary.conninfo("source"), self.secondary.conninfo("target")
        dump = subprocess.Popen(
            [self.primary.binaries.program("pg_dump"), "--dbname", source],
            stdout=subprocess.PIPE, env=environment(),
        )  # fmt: skip
        subprocess.run(
            [self.primary.binaries.program("psql"), "-q", "-X", "-o", "/dev/null", "-v", "ON_ERROR_STOP=1", "-d", target],  # noqa: E501  a command in one line
            stdin=dump.stdout, check=True, env=environment(),
        )  # fmt: skip
        if dump.wait() != 0:
            raise SystemExit("pg_dump failed")

    def schema(self) -> None:
        made = subprocess.run(
            [self.primary.binaries.program("pg_dump"), "--schema-only", "--dbname", self.primary.conninfo("source")],
            stdout=subprocess.PIPE, check=True, env=environment(),
        )  # fmt: skip
        subprocess.run(
            [self.primary.binaries.program("psql"), "-q", "-X", "-o", "/dev/null", "-d", self.secondary.conninfo("target")],  # noqa: E501  a command in one line
            input=made.stdout, check=True, env=environment(),
        )  # fmt: skip
        run(self.primary.conninfo("source"), "create publication pub for all tables")

    def builtin(self) -> None:
        target = self.secondary.conninfo("target")
        source = sql.Literal(self.primary.conninfo("source")).as_string(None)
        run(target, f"create subscription sub connection {source} publication pub")
        with psycopg.connect(target, autocommit=True) as link:
            while True:
                row = link.execute(
                    "select count(*) from pg_subscription_rel where srsubstate not in ('r', 's')"
                ).fetchone()
                if row == (0,):
                    return
                time.sleep(0.05)

    def logship(self, jobs: int) -> None:
        initialise(self.primary.conninfo("source"), self.secondary.conninfo("target"), "bench", jobs=jobs)

    def compare(self) -> None:
        for name in TABLES:
            here = run(self.primary.conninfo("source"), SUM.format(name))
            there = run(self.secondary.conninfo("target"), SUM.format(name))
            if here != there:
                raise SystemExit(f"{name} differs: {here} {there}")

    def clean(self) -> None:
        target, source = self.secondary.conninfo("target"), self.primary.conninfo("source")
        if run(target, "select 1 from pg_subscription where subname = 'sub'"):
            run(target, "drop subscription sub")
        run(self.secondary.conninfo(), "drop database target with (force)")
        run(self.secondary.conninfo(), "select pg_replication_origin_drop(roname) from pg_replication_origin")
        run(source, "drop schema if exists logship cascade")
        for (publication,) in run(source, "select pubname from pg_publication"):
            run(source, f"drop publication {publication}")
        run(source, "select pg_drop_replication_slot(slot_name) from pg_replication_slots where not active")


def run(conninfo: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(conninfo, autocommit=True) as link:
        cursor = link.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


if __name__ == "__main__":
    main()
