"""Tables and JSON: the same values, for people and for programs."""

from __future__ import annotations

import datetime
import json

import pytest

from logship.cli import output
from logship.lsn import Lsn


def test_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    output.rows([{"stage": "memory", "rows": 5}, {"stage": "persistence", "rows": None}], as_json=False)
    assert capsys.readouterr().out == "stage        rows\nmemory          5\npersistence     -\n"


def test_unknown_is_null_and_a_lag_is_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    output.rows([{"lag": datetime.timedelta(milliseconds=2), "lsn": Lsn(1), "x": None}], as_json=True)
    assert json.loads(capsys.readouterr().out) == [{"lag": 0.002, "lsn": "0/1", "x": None}]


def test_nothing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    output.rows([], as_json=False, empty="no replica yet")
    assert capsys.readouterr().out == "no replica yet\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0025, "2.5 ms"), (0.34, "340 ms"), (1.2, "1.2 s"), (200, "3 min 20 s"), (18600, "5 h 10 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert output.duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(None, "-"), (5, "5 bytes"), (64 * 2**20, "64 MB"), (100_000, "98 kB")]
)
def test_sizes(count: int | None, text: str) -> None:
    assert output.size(count) == text
