"""How rows of an answer are written: what is in them breaks no line, and no value is changed."""

from __future__ import annotations

import io
import sys

import pyarrow as pa
import pytest

from logship.cli import query
from logship.lsn import Lsn
from logship.memory import Answer
from logship.replay.query.result import named

TABLE = named(
    pa.table(
        [
            pa.array([1, None], pa.int32()), pa.array(["a,b\n", ""], pa.string()), pa.array([True, None]),
            pa.array([float("nan"), -0.0]), pa.array([2**63 - 1, 0], pa.timestamp("us")),
        ],
        names=["c0", "c1", "c2", "c3", "c4"],
    ),
    ["id", "id", "ok", "f", "at"],
    ["integer", "text", "boolean", "double precision", "timestamp without time zone"],
)  # fmt: skip
ANSWER = Answer(TABLE, Lsn(77), "persistence", "shop.t isn't in memory: evicted")


def test_json_is_exact() -> None:
    found = query.as_object(ANSWER)
    assert found["rows"] == [
        [1, "a,b\n", True, "NaN", "infinity"],
        [None, "", None, "-0", "1970-01-01 00:00:00"],
    ]
    assert [column["name"] for column in found["columns"]] == ["id", "id", "ok", "f", "at"]
    assert (found["source"], found["lsn"], found["reason"]) == ("persistence", Lsn(77), ANSWER.reason)


def test_a_table_keeps_its_lines(capsys: pytest.CaptureFixture[str]) -> None:
    query._write(ANSWER, "table")
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        "id  id     ok    f  at",
        " 1  a,b\\n  t   NaN  infinity",
        " -         -    -0  1970-01-01 00:00:00",
    ]
    assert said.err == "2 rows from the secondary (shop.t isn't in memory: evicted) at 0/4D\n"


def test_csv_is_copys(capsys: pytest.CaptureFixture[str]) -> None:
    query._write(ANSWER, "csv")
    assert capsys.readouterr().out == (
        'id,id,ok,f,at\n1,"a,b\n",t,NaN,infinity\n,"",,-0,1970-01-01 00:00:00\n'
    )


def test_a_terminal_gets_a_drawn_table(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    query._write(ANSWER, "table")
    assert "a,b\\n" in terminal.getvalue()
    assert "NaN" in terminal.getvalue()


def test_arrow_is_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw))
    query._write(ANSWER, "arrow")
    with pa.ipc.open_stream(raw.getvalue()) as reader:
        assert reader.read_all().schema.equals(TABLE.schema, check_metadata=True)
