"""The messages inside CopyData: layouts, and what may be reported after what."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logship.capture import copydata
from logship.capture.copydata import NOWHERE, Keepalive, Positions, check_progress
from logship.errors import InternalError, ProtocolViolation
from logship.lsn import Lsn

lsns = st.integers(0, 50).map(Lsn)
positions = st.builds(Positions, lsns, lsns, lsns)


def test_the_layouts_are_the_protocols() -> None:
    data = b"k" + struct.pack(">QqB", 0x16B3748, 825, 1)
    assert copydata.keepalive(memoryview(data)) == Keepalive(Lsn(0x16B3748), 825, True)
    data = b"w" + struct.pack(">QQq", 1, 0x16B3748, 825) + b"payload"
    assert copydata.header(memoryview(data)) == copydata.Header(Lsn(0x16B3748), 825)
    assert data[copydata.PAYLOAD :] == b"payload"
    update = copydata.status_update(Positions(Lsn(3), Lsn(2), Lsn(1)), 825, reply_requested=True)
    assert update == b"r" + struct.pack(">QQQqB", 3, 2, 1, 825, 1)


@settings(deadline=None)
@given(st.binary(max_size=40))
def test_random_bytes_are_read_or_refused(data: bytes) -> None:
    for reader in (copydata.keepalive, copydata.header):
        try:
            reader(data)
        except ProtocolViolation as refused:
            assert refused.offset <= len(data)


def test_time_is_counted_from_2000() -> None:
    assert copydata.microseconds(946_684_800.0) == 0
    assert copydata.microseconds(946_684_801.5) == 1_500_000


@settings(deadline=None)
@given(positions, positions)
def test_progress_never_moves_backwards_nor_promises_what_is_not_written(a: Positions, b: Positions) -> None:
    allowed = (
        b.write >= a.write and b.flush >= a.flush and b.replay >= a.replay
        and b.flush <= b.write and b.replay <= b.write
    )  # fmt: skip
    if allowed:
        check_progress(a, b)
    else:
        with pytest.raises(InternalError):
            check_progress(a, b)


def test_the_first_report_may_be_anything_that_is_written() -> None:
    check_progress(NOWHERE, Positions(Lsn(5), Lsn(0), Lsn(5)))
