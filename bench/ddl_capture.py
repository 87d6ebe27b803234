"""What capturing a schema change costs on the primary, in milliseconds.

    python bench/ddl_capture.py [PostgreSQL's bin directory]

*Later* is each statement of a migration once the session has captured one of its kind: CPU of the backend without
capture, and the time inside the event trigger, which PostgreSQL counts itself (track_functions). *First* is the first
statement of a new session, where PostgreSQL loads its catalogs and plans what it then keeps: CPU of the backend
without capture and with. Prints the median of the runs, and the lowest, which is what a busy machine disturbs least.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Final, TypeAlias

import psycopg

from logship.catalog import ddl, migrate
from logship.connection import Side
from logship.service.demo.binaries import Binaries
from logship.service.demo.servers import Server, find_binaries

Measure: TypeAlias = Callable[[psycopg.Connection, str], float]
Figures: TypeAlias = tuple[float, float]  # the median, the lowest

LATER: Final = 60
FIRST: Final = 12
STATEMENTS: Final = (
    "create table b{0} (id int primary key, v text not null, n int check (n > 0))",
    "create table s{0} (id serial primary key, v text)",
    f"create table w{{0}} (id int primary key, {', '.join(f'c{n} text not null' for n in range(20))})",
    "alter table b{0} add column z int default 3",
    "create index on b{0} (v)",
    "comment on table b{0} is 'x'",
    "grant select on b{0} to public",
    "create view v{0} as select 1 as a",
    "create function f{0}() returns int language sql as 'select 1'",
    "create type e{0} as enum ('a', 'b')",
    "alter table b{0} rename column v to w",
    "drop function f{0}()",
)


_CPU: Final = "/proc/{}/schedstat"  # nanoseconds, first of all
_INSIDE: Final = "select pg_stat_get_xact_function_total_time('logship.ddl_event()'::regprocedure)"


def alone(connection: psycopg.Connection, statement: str) -> float:
    """CPU of the backend."""
    file = Path(_CPU.format(connection.info.backend_pid))
    before = int(file.read_text(encoding="ascii").split()[0])
    connection.execute(statement.encode())
    return (int(file.read_text(encoding="ascii").split()[0]) - before) / 1e6


def inside(connection: psycopg.Connection, statement: str) -> float:
    # What a session has counted is handed on now and then, but never within a transaction.
    with connection.transaction():
        before = _counted(connection)
        connection.execute(statement.encode())
        return _counted(connection) - before


def _counted(connection: psycopg.Connection) -> float:
    row = connection.execute(_INSIDE).fetchone()
    assert row is not None
    return row[0] or 0.0


def later(conninfo: str, numbers: range, measure: Measure) -> list[Figures]:
    with psycopg.connect(conninfo, autocommit=True, options="-c track_functions=pl") as connection:
        return _figures(
            [measure(connection, each.format(number)) for each in STATEMENTS] for number in numbers
        )


def first(conninfo: str, numbers: range) -> list[Figures]:
    runs = []
    for number in numbers:
        run = []
        for each in STATEMENTS:
            with psycopg.connect(conninfo, autocommit=True) as connection:
                connection.execute("select 1")
                run.append(alone(connection, each.format(number)))
        runs.append(run)
    return _figures(runs)


def _figures(runs: Iterable[list[float]]) -> list[Figures]:
    return [(median(each), min(each)) for each in zip(*runs, strict=True)]


def main() -> None:
    binaries = Binaries(Path(sys.argv[1]), "variable") if len(sys.argv) > 1 else find_binaries()
    with Server(binaries, "bench", durable=False) as server:
        conninfo = server.conninfo()
        migrate.upgrade(conninfo, Side.PRIMARY)
        columns = [later(conninfo, range(LATER), alone), first(conninfo, range(1000, 1000 + FIRST))]
        with psycopg.connect(conninfo, autocommit=True) as connection:
            ddl.start_capture(connection)
            version = connection.info.server_version // 10000
        columns.insert(1, later(conninfo, range(LATER, 2 * LATER), inside))
        columns.append(first(conninfo, range(2000, 2000 + FIRST)))
    print(
        f"PostgreSQL {version}, ms, median (lowest) of {LATER} later and {FIRST} first statements of a session"
    )
    print("  later: alone       capture  first: alone          with")
    for *figures, statement in zip(*columns, STATEMENTS, strict=True):
        shown = " ".join(f"{middle:6.2f} ({least:5.2f})" for middle, least in figures)
        print(f"{shown}   {str(statement).format('')[:56]}")


if __name__ == "__main__":
    main()
