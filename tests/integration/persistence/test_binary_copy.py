"""COPY's binary form of a text is the value that the text is: each server's own word for it."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from decimal import Decimal
from types import ModuleType

import psycopg
import pytest

from logship.connection import Side, connect
from logship.kernel.choice import implementation
from logship.replay.copying import KINDS
from tests.integration.persistence.replica import Replica
from tests.kernels import EACH

HEADER, TRAILER = b"PGCOPY\n\xff\r\n\0" + bytes(8), b"\xff\xff"
TYPES = (
    "bool", "bytea", "int8", "int2", "int4", "text", "json", "char(5)", "varchar(9)", "date", "time", "time(2)",
    "timestamp", "timestamp(3)", "timestamptz", "timestamptz(0)", "numeric", "numeric(12,2)", "numeric(3,-2)", "uuid",
    "jsonb", "float4", "float8",
)  # fmt: skip
WORDS = [
    "true", "f", "", " ", "é\t\\N", "\\.", "null", '{"a": [1, "\\u00e9"]}', "[]", "{}", '"x"', "\\x", "\\x00ff5c",
    "2024-02-29", "0001-01-01", "9999-12-31", "10000-01-01", "0044-03-15 BC", "infinity", "-infinity", "1999-12-31",
    "2000-01-01", "1970-01-01", "00:00:00", "24:00:00", "23:59:59.999999", "12:00:00.5", "0001-01-01 00:00:00",
    "9999-12-31 23:59:59.999999", "1999-12-31 23:59:59.999999", "2000-01-01 00:00:00", "1714-01-01 00:00:00.000001",
    "2285-06-06 12:00:00", "0", "-0", "1", "-1", "32767", "-32768", "2147483647", "-2147483648", "9223372036854775807",
    "-9223372036854775808", "NaN", "Infinity", "-Infinity", "0.0", "0.00000", "1.00", "-0.0001", "0.00001", "10000",
    "100000000", "9999.9999", "10000.0001", "-99990000.00009999", "1e-20", "1e40", "-1.5", "12300", "0.10", "123.4500",
    "1e-900", "1e990", "1e1100", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "00000000-0000-0000-0000-000000000000",
]  # fmt: skip


def words() -> Iterator[str]:
    yield from WORDS
    chance = random.Random(7)
    for _ in range(150):
        yield str(chance.randint(-(10 ** chance.randint(1, 40)), 10 ** chance.randint(1, 40)))
        yield repr(struct.unpack("<d", chance.randbytes(8))[0])
        yield repr(struct.unpack("<f", chance.randbytes(4))[0])
        digits = Decimal(chance.randint(-(10 ** chance.randint(1, 30)), 10 ** chance.randint(1, 30)))
        yield format(digits.scaleb(-chance.randint(0, 40)), "f")
        yield (
            f"{chance.randint(1, 9999):04}-{chance.randint(1, 12):02}-{chance.randint(1, 28):02} "
            f"{chance.randint(0, 23):02}:{chance.randint(0, 59):02}:{chance.random() * 59:09.6f}"
        )


def written(connection: psycopg.Connection, sql_type: str) -> list[bytes]:
    """What the server writes for each word that is a value of the type."""
    found = []
    for word in words():
        try:
            row = connection.execute(
                f"select format('%%s', %s::text::{sql_type})".encode(), [word]
            ).fetchone()
        except psycopg.Error:
            continue
        assert row is not None
        found.append(str(row[0]).encode())
    return found


@pytest.mark.parametrize("sql_type", TYPES)
@pytest.mark.parametrize("name", EACH)
def test_what_is_taken_is_the_value_that_its_text_is(replica: Replica, name: str, sql_type: str) -> None:
    kernel = implementation(name)
    with connect(replica.database.conninfo, Side.SECONDARY) as connection:
        row = connection.execute(f"select '{sql_type}'::regtype::oid".encode()).fetchone()
        assert row is not None
        texts = written(connection, sql_type)
        fields = [encoded(kernel, text, KINDS[int(row[0])]) for text in texts]
        taken = [text for text, field in zip(texts, fields, strict=True) if field is not None]
        assert len(taken) * 2 > len(texts) > 1
        connection.execute(f"create temporary table copied (n int, v {sql_type})".encode())
        connection.execute("create temporary table texts (n int, v text)")
        with connection.cursor().copy("copy copied from stdin with (format binary)") as copy:
            copy.write(HEADER)
            for n, field in enumerate(field for field in fields if field is not None):
                copy.write(struct.pack(">hii", 2, 4, n) + field[2:])
            copy.write(TRAILER)
        with connection.cursor().copy("copy texts from stdin") as copy:
            for n, text in enumerate(taken):
                copy.write_row((n, text.decode()))
        got = connection.execute("select format('%s', v) from copied order by n").fetchall()
        assert [value.encode() for (value,) in got] == taken
        # Not only does it print the same: it is stored the same, byte for byte.
        same = (
            "select count(*) from copied c join texts t using (n) "
            f"where record_image_eq(row(c.v), row(t.v::{sql_type}))"
        )
        assert connection.execute(same.encode()).fetchall() == [(len(taken),)]


def encoded(kernel: ModuleType, text: bytes, kind: str) -> bytes | None:
    """A tuple of one field; None: the text has no binary form here."""
    try:
        made = kernel.Rows.of(1, [[text]]).copy_binary([0], kind)
    except ValueError:
        return None
    assert isinstance(made, bytes)
    return made
