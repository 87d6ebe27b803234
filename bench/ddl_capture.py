"""What capturing a schema change costs on the primary: each statement with and without, in milliseconds.

    python bench/ddl_capture.py [PostgreSQL's bin directory]

Prints the fastest of the runs, which is what a busy machine disturbs least, and the ratio.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import psycopg

from logship.catalog import ddl, migrate
from logship.connection import Side
from logship.service.binaries import Binaries
from logship.service.servers import Server, find_binaries

RUNS = 40
STATEMENTS = (
    "create table b{0} (id int primary key, v text not null, n int check (n > 0))",
    "alter table b{0} add column z int default 3",
    "create index on b{0} (v)",
    "comment on table b{0} is 'x'",
    "grant select on b{0} to public",
    "create view v{0} as select 1 as a",
    "create function f{0}() returns int language sql as 'select 1'",
    "alter table b{0} rename column v to w",
    "drop function f{0}()",
)


def measure(connection: psycopg.Connection, first: int) -> list[float]:
    """The fastest run of each statement, in seconds."""
    best = [float("inf")] * len(STATEMENTS)
    for number in range(first, first + RUNS):
        for place, statement in enumerate(STATEMENTS):
            began = time.perf_counter()
            connection.execute(statement.format(number).encode())
            best[place] = min(best[place], time.perf_counter() - began)
    return best


def main() -> None:
    binaries = Binaries(Path(sys.argv[1]), "given") if len(sys.argv) > 1 else find_binaries()
    with Server(binaries, "bench", durable=False) as server:
        migrate.upgrade(server.conninfo(), Side.PRIMARY)
        with psycopg.connect(server.conninfo(), autocommit=True) as connection:
            without = measure(connection, 0)
            ddl.start_capture(connection)
            captured = measure(connection, RUNS)
            print(f"PostgreSQL {connection.info.server_version // 10000}, fastest of {RUNS}, ms")
            for statement, one, other in zip(STATEMENTS, without, captured, strict=True):
                print(
                    f"{one * 1e3:7.3f} without {other * 1e3:7.3f} with {(other - one) * 1e3:+7.3f} "
                    f"{other / one:5.1f} times  {statement.format('')[:50]}"
                )


if __name__ == "__main__":
    main()
