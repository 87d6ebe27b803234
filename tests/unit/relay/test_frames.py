"""What travels inside CopyData: the layouts, and that our own client reads back what was sent."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logship.capture import copydata
from logship.errors import ProtocolViolation
from logship.journal.segment import RecordKind
from logship.lsn import INVALID, Lsn
from logship.relay.frames import RelayedKind, RelayedRecord, decode_record, encode_messages, encode_record
from tests.unit.relay.client import taken

lsns = st.integers(0, 2**64 - 1).map(Lsn)
times = st.integers(-(2**63), 2**63 - 1)
records = st.builds(
    RelayedRecord, st.sampled_from(RelayedKind), st.booleans(), st.booleans(), st.integers(0, 2**32 - 1), lsns, lsns,
    times, lsns, st.none() | st.integers(0, 2**63 - 1), st.binary(max_size=50),
)  # fmt: skip


def sent(record: RelayedRecord) -> bytes:
    return encode_record(
        record.kind.value, first=record.first, last=record.last, xid=record.xid, commit_lsn=record.commit_lsn,
        end_lsn=record.end_lsn, commit_time_us=record.commit_time_us, run=record.run,
        primary_wal_end=record.primary_wal_end, age_us=record.age_us,
    )  # fmt: skip


@settings(deadline=None)
@given(records)
def test_a_record_is_read_back(record: RelayedRecord) -> None:
    ((tag, payload),) = taken(sent(record))
    assert tag == b"d"
    assert decode_record(payload) == record
    assert decode_record(memoryview(payload)) == record


def test_the_layout_of_a_record() -> None:
    record = RelayedRecord(RelayedKind.CHANGES, True, False, 7, Lsn(1), Lsn(2), -3, Lsn(4), None, b"run")
    payload = struct.pack(">cBBIQQqQq", b"L", 1, 1, 7, 1, 2, -3, 4, -1) + b"run"
    assert sent(record) == b"d" + struct.pack(">I", len(payload) + 4) + payload
    assert {(kind.name, kind.value) for kind in RelayedKind if kind is not RelayedKind.STRETCH} <= {
        (kind.name, kind.value) for kind in RecordKind
    }


@settings(deadline=None)
@given(records, st.data())
def test_a_damaged_record_is_read_or_refused(record: RelayedRecord, data: st.DataObject) -> None:
    payload = bytearray(taken(sent(record))[0][1])
    payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode_record(bytes(payload[: data.draw(st.integers(0, len(payload)))]))
    except ProtocolViolation as refused:
        assert refused.offset <= len(payload)


@pytest.mark.parametrize(("at", "value"), [(0, ord("w")), (1, 0), (1, RecordKind.INDEX.value), (2, 4)])
def test_what_is_no_record_is_refused(at: int, value: int) -> None:
    record = RelayedRecord(RelayedKind.POSITION, False, False, 0, INVALID, Lsn(2), 0, Lsn(4), 5, b"")
    payload = bytearray(taken(sent(record))[0][1])
    payload[at] = value
    with pytest.raises(ProtocolViolation):
        decode_record(bytes(payload))


@settings(deadline=None)
@given(st.lists(st.binary(max_size=20), max_size=6), st.booleans())
def test_each_message_travels_alone_and_only_the_commit_tells_of_the_end(
    given: list[bytes], whole: bool
) -> None:
    frames = encode_messages(given, commit_lsn=Lsn(5), end_lsn=Lsn(9) if whole else INVALID, sent_time_us=3)
    inside = taken(frames)
    assert [payload[copydata.PAYLOAD :] for _, payload in inside] == given
    headers = [copydata.header(payload) for _, payload in inside]
    ends = [Lsn(5)] * len(given)
    if whole and ends:
        ends[-1] = Lsn(9)
    assert headers == [copydata.Header(end, 3) for end in ends]
    assert all(tag == b"d" and payload[:1] == b"w" for tag, payload in inside)
