"""Texts to Arrow and back: no value is altered, and one that a type can't hold leaves its column text."""

from __future__ import annotations

import pyarrow as pa
import pytest

from logship.replay.query.result import as_described, numeric_typmod, texts, typed


def column(*values: str | None) -> pa.Table:
    return pa.table([pa.array(values, pa.string())], names=["c0"])


@pytest.mark.parametrize(
    ("oid", "typmod", "values", "kind"),
    [
        (23, -1, ["1", None, "-2147483648"], pa.int32()),
        (16, -1, ["t", "f", None], pa.bool_()),
        (1082, -1, ["infinity", "-infinity", "9999-12-31"], pa.date32()),
        (1082, -1, ["2024-01-01", "0044-03-15 BC"], pa.string()),
        (1083, -1, ["24:00:00"], pa.time64("us")),
        (1114, -1, ["infinity", "-infinity", "2024-01-01 00:00:00.5"], pa.timestamp("us")),
        (1184, -1, ["-infinity", "2024-01-01 00:00:00+00"], pa.timestamp("us", "UTC")),
        (701, -1, ["NaN", "-0", "Infinity", "9.999999999999999e+22"], pa.float64()),
        (17, -1, ["\\x", "\\xdeadbeef"], pa.binary()),
        (1700, numeric_typmod(5, 2), ["1.50", "-0.05", None], pa.decimal128(5, 2)),
        (1700, numeric_typmod(5, 2), ["NaN", "1.50"], pa.string()),
        (1700, -1, ["1.50", "-12345678901234567890.25", None], pa.decimal128(38, 2)),
        (1700, -1, ["1.5", "1.50"], pa.string()),
        (1700, -1, ["9" * 39], pa.string()),
        (1700, -1, ["Infinity"], pa.string()),
        (1700, -1, ["0." + "0" * 38], pa.string()),
        (1700, -1, [None], pa.decimal128(38, 0)),
        (3802, -1, ['{"a": 1}'], pa.string()),
        (1007, -1, ["{1,NULL}"], pa.string()),
    ],
)
def test_there_and_back(oid: int, typmod: int, values: list[str | None], kind: pa.DataType) -> None:
    found = typed(column(*values), [(oid, typmod)])
    assert found.schema.field(0).type == kind
    assert [row[0] for row in texts(found)] == values
    again = as_described(found, [(oid, typmod)])
    assert (again.schema, texts(again)) == (found.schema, texts(found))


def test_what_is_text_in_memory_for_another_row_is_typed_here() -> None:
    assert as_described(column("2024-01-01"), [(1082, -1)]).schema.field(0).type == pa.date32()
    wide = pa.table([pa.array([1], pa.decimal128(10, 0))], names=["c0"])
    assert as_described(wide, [(1700, -1)]).schema.field(0).type == pa.decimal128(38, 0)
