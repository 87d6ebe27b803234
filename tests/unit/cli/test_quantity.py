from __future__ import annotations

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from logship.cli.quantity import Duration, Size, StopAt, written, written_s
from logship.lsn import Lsn


@pytest.mark.parametrize(
    ("text", "size"),
    [("64MB", 64 << 20), ("64 mb", 64 << 20), ("1GB", 1 << 30), ("512kB", 512 << 10), ("70000", 70_000)],
)
def test_sizes_are_written_as_in_postgresql(text: str, size: int) -> None:
    assert Size(at_least=1).convert(text, None, None) == size


@pytest.mark.parametrize("text", ["64 megabytes", "-1MB", "MB", "", "1.5GB", "64Mb/s"])
def test_what_is_not_a_size_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a size: "):
        Size(at_least=1).convert(text, None, None)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("64 megabytes", "64MB"),
        ("MB", "write it like 64MB"),
        ("8MiB", "8MB"),
        ("8 Mbs", "8MB"),
        ("1G", "1GB"),
        ("12 bytes", "12B"),
    ],
)
def test_the_nearest_size_is_named(text: str, meant: str) -> None:
    with pytest.raises(click.BadParameter, match=meant):
        Size(at_least=1).convert(text, None, None)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("5 min", 300), ("1h", 3600), ("2d", 172800), ("0", 0), ("250us", 0.00025)],
)
def test_durations_are_written_as_in_postgresql(text: str, seconds: float) -> None:
    assert Duration(at_least=0).convert(text, None, None) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "meant"),
    [("5", "5s"), ("10 mins", "10min"), ("3 sec", "3s"), ("3S", "3s"), ("1 hour", "1h"), ("soon", "500ms")],
)
def test_the_nearest_duration_is_named(text: str, meant: str) -> None:
    with pytest.raises(click.BadParameter, match=meant):
        Duration(at_least=0).convert(text, None, None)


def test_bounds_of_a_duration_are_named() -> None:
    with pytest.raises(click.BadParameter, match="from 100ms to 1min"):
        Duration(at_least=0.1, at_most=60).convert("5min", None, None)


@given(st.integers(0, 10**12))
def test_written_s_reads_back(microseconds: int) -> None:
    seconds = microseconds / 1e6
    assert Duration(at_least=0).convert(written_s(seconds), None, None) == pytest.approx(seconds)


def test_bounds_are_named() -> None:
    with pytest.raises(click.BadParameter, match="from 64kB to 1GB"):
        Size(at_least=64 << 10, at_most=1 << 30).convert("1kB", None, None)


@given(st.integers(1, 1 << 49))
def test_written_reads_back(size: int) -> None:
    assert Size(at_least=1).convert(written(size), None, None) == size


def test_stop_at() -> None:
    assert StopAt().convert("current", None, None) == "current"
    assert StopAt().convert("0/16B3748", None, None) == Lsn(0x16B3748)
    with pytest.raises(click.BadParameter, match="or current"):
        StopAt().convert("now", None, None)
