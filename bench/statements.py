"""What the secondary spends on a row, by the way in which rows reach it.

    python bench/statements.py [--rows N]

One session writes a table (bigint key, int, text of 30 bytes, timestamptz) under the settings of persistence, 20,000
rows a statement: arrays of text with a cast per column; the same with timestamps as numbers, which is what persistence
does; arrays of the columns' own types in binary format; COPY as text, and in its binary form, which persistence
prefers. Prints CPU microseconds of the backend for each row, the lowest of three rounds.
"""

from __future__ import annotations

import argparse
import os
import struct
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import psycopg
from psycopg import pq

from logship.kernel import Rows
from logship.replay import copying
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
_NUMBER = "'2000-01-01+00'::timestamptz + u.c3::float8 * '00:00:00.000001'::interval"
_DELETE = "delete from only t using rows from (unnest($1)) as u (c0) where t.id = u.c0::int8"
_TEXT, _TYPED = [1009] * 4, [1016, 1007, 1009, 1185]


def rows_from(start: int) -> Rows:
    at = b"2025-01-01 00:00:00.123456+00"
    return Rows.of(
        4,
        [
            [b"%d" % n, b"%d" % (n % 1000), b"a value of some thirty bytes %d" % n, at]
            for n in range(start, start + CHUNK)
        ],
    )


def texts(rows: Rows) -> list[bytes]:
    return [rows.text_array(column) for column in range(4)]


def numbers(rows: Rows) -> list[bytes]:
    return [*texts(rows)[:3], rows.since_2000(3, True)]


def typed(rows: Rows) -> list[bytes]:
    keys = [int(cell or b"") for cell in rows.column(0)]
    return [
        array(20, ">iq", keys), array(23, ">ii", [n % 1000 for n in keys]), rows.text_array(2),
        array(1184, ">iq", [123_456] * CHUNK),
    ]  # fmt: skip


def array(oid: int, layout: str, values: Sequence[int]) -> bytes:
    size = struct.calcsize(layout) - 4
    cells = b"".join(struct.pack(layout, size, value) for value in values)
    return struct.pack(">iiIii", 1, 0, oid, len(values), 1) + cells


def lines(rows: Rows) -> list[bytes]:
    return [*copying.lines(deque([rows]), range(4))]


def tuples(rows: Rows) -> list[bytes]:
    return [b"".join(copying.tuples(deque([rows]), range(4), "84tz"))]


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

        def copy(form: str) -> Callable[[list[bytes]], None]:
            def send(parameters: list[bytes]) -> None:
                with connection.cursor().copy(
                    f"copy t (id, n, v, at) from stdin (format {form})".encode()
                ) as sink:
                    sink.write(parameters[0])

            return send

        by_number = {
            verb: run(sql.replace("u.c3::timestamptz", _NUMBER), _TEXT)
            for verb, sql in (("insert", _INSERT), ("update", _UPDATE))
        }
        for name, send, make, full in (
            ("insert, text arrays", run(_INSERT, _TEXT), texts, False),
            ("insert, timestamps as numbers", by_number["insert"], numbers, False),
            ("insert, typed arrays", run(_INSERT, _TYPED), typed, False),
            ("insert, COPY text", copy("text"), lines, False),
            ("insert, COPY binary", copy("binary"), tuples, False),
            ("update, text arrays", run(_UPDATE, _TEXT), texts, True),
            ("update, timestamps as numbers", by_number["update"], numbers, True),
            ("update, typed arrays", run(_UPDATE, _TYPED), typed, True),
            ("delete, text arrays", run(_DELETE, _TEXT), texts, True),
            ("delete, typed arrays", run(_DELETE, _TYPED), typed, True),
        ):
            best = min(measure(connection, send, make, rows, full=full) for _ in range(ROUNDS))
            print(f"{name:30} {best:5.2f} µs a row", flush=True)


def measure(
    connection: psycopg.Connection, send: Callable[[list[bytes]], None], make: Callable[[Rows], list[bytes]],
    rows: int, *, full: bool,
) -> float:  # fmt: skip
    """CPU microseconds of the backend for each row."""
    connection.execute("drop table if exists t")
    connection.execute(_MADE.encode())
    if full:
        connection.execute(_FULL.format(rows).encode())
        connection.execute("vacuum analyze t")
    connection.execute("checkpoint")
    prepared = [make(rows_from(start)) for start in range(0, rows, CHUNK)]
    before = cpu_s(connection.info.backend_pid)
    for parameters in prepared:
        send(parameters)
    return (cpu_s(connection.info.backend_pid) - before) / (len(prepared) * CHUNK) * 1e6


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


if __name__ == "__main__":
    main()
