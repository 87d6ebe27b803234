"""The map of types: what docs/memory.md says is what the code does."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from logship.replay.memory.types import TEXT, memory_type, text_of

OIDS = {
    "boolean": 16, "bytea": 17, "name": 19, "bigint": 20, "smallint": 21, "integer": 23, "text": 25, "oid": 26,
    "json": 114, "xml": 142, "point": 600, "real": 700, "double precision": 701, "money": 790, "inet": 869,
    "character": 1042, "character varying": 1043, "date": 1082, "time": 1083, "timestamp": 1114,
    "timestamptz": 1184, "interval": 1186, "timetz": 1266, "bit": 1560, "numeric": 1700, "uuid": 2950,
    "jsonb": 3802, "int4range": 3904, "arrays": 1007, "enums": 99_999,
}  # fmt: skip
PAGE = Path(__file__).parents[3] / "docs" / "memory.md"


def typmod(precision: int, scale: int) -> int:
    return (precision << 16 | scale & 0x7FF) + 4


def rows() -> list[tuple[str, str]]:
    lines = [line.split("|") for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    return [(name.strip(" `"), line[2].strip(" `")) for line in lines for name in line[1].split(",")]


def test_the_documents_name_every_type() -> None:
    assert {name for name, _ in rows()} >= set(OIDS) - {"numeric"}


@pytest.mark.parametrize(("name", "held"), [row for row in rows() if row[0] in OIDS])
def test_the_documents_say_what_is_done(name: str, held: str) -> None:
    assert memory_type(OIDS[name]).duckdb == held


@pytest.mark.parametrize(
    ("precision", "scale", "held"),
    [
        (12, 2, "DECIMAL(12,2)"), (1, 0, "DECIMAL(1,0)"), (38, 0, "DECIMAL(38,0)"), (38, 37, "DECIMAL(38,37)"),
        (2, 2, "DECIMAL(3,2)"), (3, 5, "DECIMAL(6,5)"), (38, 38, "VARCHAR"), (39, 0, "VARCHAR"), (5, -2, "VARCHAR"),
    ],
)  # fmt: skip
def test_numeric_is_native_as_far_as_its_column_fixes_it(precision: int, scale: int, held: str) -> None:
    assert memory_type(1700, typmod(precision, scale)).duckdb == held
    assert memory_type(1700) is TEXT


@pytest.mark.parametrize(
    ("oid", "text"),
    [
        (1082, "0044-03-15 BC"), (1114, "0044-03-15 00:00:00 BC"), (1114, "294247-01-10 04:00:54.775807"),
        (1184, "294276-12-31 23:59:59.999999+00"), (17, "\\xabc"), (17, "deadbeef"), (2950, "no uuid"),
    ],
)  # fmt: skip
def test_what_a_type_cannot_hold_is_a_miss_and_never_another_value(oid: int, text: str) -> None:
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'").fetchall()
        cast = memory_type(oid).cast_of("v")
        assert connection.execute(f"select {cast} from (select ? as v)", [text]).fetchall() == [(None,)]


def test_a_type_of_duckdbs_own_is_written_as_it_writes_it() -> None:
    assert text_of("INTEGER[]", "v") == "cast(v as varchar)"
    assert text_of("VARCHAR", "v") == "v"
