"""What the secondary spends on a row, by the way in which rows reach it.

    python bench/statements.py [--rows N]

One session writes a table (bigint key, int, text of 30 bytes, timestamptz) under the settings of persistence, 20,000
rows a statement: arrays of text with a cast per column, as persistence does; arrays of the column's own types in
binary format; COPY. Prints CPU microseconds of the backend for each row, the lowest of three rounds.
"""

from __future__ import annotations

import argparse
import os
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import psycopg
from psycopg import pq

from logship.kernel import binary_text_array
from logship.replay.session import SETTINGS
from logship.service.demo.servers import Server, find_binaries

CHUNK = 20_000
ROUNDS = 3
_TICKS = os.sysconf("SC_CLK_TCK")
_MADE = "create table t (id bigint primary key, n int not null, v text, at timestamptz not null)"
_FULL = "insert into t select g, 1, 'a value of some thirty bytes ' || g, now() from generate_series(0, {}) g"
_FROM = "rows from ({}) as u (c0, c1, c2, c3)".format(", ".join(f"unnest(${n})" for n in range(1, 5)))
_INSERT = (
    "insert into t (id, n, v, at) select u.c0::int8, u.c1::int4, u.c2::text, u.c3::timestamptz from " + _FROM
)
_UPDATE = (
    "update only t set n = u.c1::int4, v = u.c2::text, at = u.c3::timestamptz "
    f"from {_FROM} where t.id = u.c0::int8"
)
_DELETE = "delete from only t using rows from (unnest($1)) as u (c0) where t.id = u.c0::int8"
_TEXT, _TYPED = [1009] * 4, [1016, 1007, 1009, 1185]


def texts(start: int) -> list[bytes]:
    numbers = range(start, start + CHUNK)
    return [
        binary_text_array([b"%d" % n for n in numbers]),
        binary_text_array([b"%d" % (n % 1000) for n in numbers]),
        binary_text_array([b"a value of some thirty bytes %d" % n for n in numbers]),
        binary_text_array([b"2025-01-01 00:00:00.123456+00"] * CHUNK),
    ]


def typed(start: int) -> list[bytes]:
    numbers = range(start, start + CHUNK)
    return [
        array(20, ">iq", numbers), array(23, ">ii", [n % 1000 for n in numbers]), texts(start)[2],
        array(1184, ">iq", [123_456] * CHUNK),
    ]  # fmt: skip


def array(oid: int, layout: str, values: Sequence[int]) -> bytes:
    size = struct.calcsize(layout) - 4
    cells = b"".join(struct.pack(layout, size, value) for value in values)
    return struct.pack(">iiIii", 1, 0, oid, len(values), 1) + cells


def lines(start: int) -> list[bytes]:
    numbers = range(start, start + CHUNK)
    form = b"%d\t%d\ta value of some thirty bytes %d\t2025-01-01 00:00:00.123456+00\n"
    return [b"".join(form % (n, n % 1000, n) for n in numbers)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=100_000)
    rows = parser.parse_args().rows
    settings = {"shared_buffers": "512MB", "max_wal_size": "4GB"}
    with (
        Server(find_binaries(), "secondary", settings) as server,
        psycopg.connect(server.conninfo(), autocommit=True) as connection,
    ):
        for name, value in SETTINGS.items():
            connection.execute(f"set {name} = '{value}'".encode())

        def run(sql: str, types: Sequence[int]) -> Callable[[list[bytes]], None]:
            def send(parameters: list[bytes]) -> None:
                count = sql.count("unnest(")
                result = connection.pgconn.exec_params(
                    sql.encode(), parameters[:count], types[:count], [pq.Format.BINARY] * count
                )
                if result.status != pq.ExecStatus.COMMAND_OK:
                    raise SystemExit(result.error_message.decode())

            return send

        def copy(parameters: list[bytes]) -> None:
            with connection.cursor().copy("copy t (id, n, v, at) from stdin") as sink:
                sink.write(parameters[0])

        for name, send, make, full in (
            ("insert, text arrays", run(_INSERT, _TEXT), texts, False),
            ("insert, typed arrays", run(_INSERT, _TYPED), typed, False),
            ("insert, COPY", copy, lines, False),
            ("update, text arrays", run(_UPDATE, _TEXT), texts, True),
            ("update, typed arrays", run(_UPDATE, _TYPED), typed, True),
            ("delete, text arrays", run(_DELETE, _TEXT), texts, True),
            ("delete, typed arrays", run(_DELETE, _TYPED), typed, True),
        ):
            best = min(measure(connection, send, make, rows, full=full) for _ in range(ROUNDS))
            print(f"{name:22} {best:5.2f} µs a row", flush=True)


def measure(
    connection: psycopg.Connection, send: Callable[[list[bytes]], None], make: Callable[[int], list[bytes]],
    rows: int, *, full: bool,
) -> float:  # fmt: skip
    """CPU microseconds of the backend for each row."""
    connection.execute("drop table if exists t")
    connection.execute(_MADE.encode())
    if full:
        connection.execute(_FULL.format(rows).encode())
        connection.execute("vacuum analyze t")
    connection.execute("checkpoint")
    prepared = [make(start) for start in range(0, rows, CHUNK)]
    before = cpu_s(connection.info.backend_pid)
    for parameters in prepared:
        send(parameters)
    return (cpu_s(connection.info.backend_pid) - before) / (len(prepared) * CHUNK) * 1e6


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


if __name__ == "__main__":
    main()
