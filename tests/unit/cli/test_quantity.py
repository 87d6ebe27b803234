from __future__ import annotations

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from logship.cli.quantity import Size, StopAt, written
from logship.lsn import Lsn


@pytest.mark.parametrize(
    ("text", "size"),
    [("64MB", 64 << 20), ("64 mb", 64 << 20), ("1GB", 1 << 30), ("512kB", 512 << 10), ("70000", 70_000)],
)
def test_sizes_are_written_as_in_postgresql(text: str, size: int) -> None:
    assert Size(at_least=1).convert(text, None, None) == size


@pytest.mark.parametrize("text", ["64 megabytes", "-1MB", "MB", "", "1.5GB", "64Mb/s"])
def test_what_is_not_a_size_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a size: write it like 64MB"):
        Size(at_least=1).convert(text, None, None)


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
