"""The codec: what is encoded is decoded to the same, and nothing else is."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logship.errors import JournalError
from logship.journal.segment import (
    HEADER_BYTES,
    Header,
    Malformed,
    OpenTransaction,
    Record,
    RecordKind,
    Short,
    Source,
    TouchedRelation,
    Trailer,
    decode_header,
    decode_index,
    decode_record,
    encode_header,
    encode_index,
    encode_record,
    parse_name,
    record_size,
    segment_name,
    transaction_entry,
)
from logship.lsn import Lsn

lsns = st.builds(Lsn, st.integers(0, 2**64 - 1))
xids = st.integers(0, 2**32 - 1)
salts = st.integers(0, 2**32 - 1)
times = st.integers(-(2**63), 2**63 - 1)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=63)
records = st.builds(
    Record,
    st.sampled_from(RecordKind),
    st.booleans(),
    st.booleans(),
    xids,
    lsns,
    lsns,
    times,
    st.binary(max_size=200),
)
headers = st.builds(
    Header,
    st.builds(Source, st.integers(0, 2**64 - 1), xids, names),
    lsns,
    st.integers(0, 999_999),
    st.integers(0, 2**40),
    salts,
    st.none() | st.builds(OpenTransaction, xids, lsns),
    times,
)


@given(records, salts, st.integers(0, 2**30).map(lambda words: words * 8))
def test_a_record_comes_back_as_it_went(record: Record, salt: int, synced: int) -> None:
    data = b"".join(encode_record(record, salt, synced))
    assert len(data) == record_size(len(record.run))
    assert decode_record(data, 0, salt) == (record, synced, len(data))
    assert decode_record(bytes(16) + data, 16, salt) == (record, synced, len(data) + 16)


@given(records, salts, st.data())
def test_no_flipped_bit_gives_another_record(record: Record, salt: int, data: st.DataObject) -> None:
    coded = bytearray(b"".join(encode_record(record, salt, 8)))
    bit = data.draw(st.integers(0, len(coded) * 8 - 1))
    coded[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Malformed):
        decode_record(bytes(coded), 0, salt)


@given(records, salts, st.data())
def test_a_record_cut_short_says_how_much_it_needs(record: Record, salt: int, data: st.DataObject) -> None:
    coded = b"".join(encode_record(record, salt, 8))
    with pytest.raises(Short) as caught:
        decode_record(coded[: data.draw(st.integers(0, len(coded) - 1))], 0, salt)
    assert caught.value.size <= len(coded)


def test_a_record_of_another_segment_is_no_record() -> None:
    record = Record(RecordKind.POSITION, False, False, 0, Lsn(0), Lsn(8), 0, b"")
    with pytest.raises(Malformed):
        decode_record(b"".join(encode_record(record, 1, 0)), 0, 2)


@given(headers)
def test_a_header_comes_back_as_it_went(header: Header) -> None:
    page = encode_header(header)
    assert len(page) == HEADER_BYTES
    assert decode_header(page) == header


@given(headers, st.integers(0, HEADER_BYTES * 8 - 1))
def test_no_flipped_bit_gives_another_header(header: Header, bit: int) -> None:
    page = bytearray(encode_header(header))
    page[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Malformed):
        decode_header(bytes(page))


@given(
    st.lists(st.builds(TouchedRelation, xids, names, names), max_size=5),
    st.lists(st.tuples(xids, lsns), max_size=5),
    st.builds(Trailer, st.integers(0, 2**40), lsns, st.none() | lsns, xids, times, times),
    salts,
)
def test_an_index_comes_back_as_it_went(
    relations: list[TouchedRelation], transactions: list[tuple[int, Lsn]], trailer: Trailer, salt: int
) -> None:
    body = encode_index(
        relations, b"".join(transaction_entry(*entry) for entry in transactions), trailer, salt
    )
    assert len(body) % 8 == 0
    index = decode_index(body, salt)
    assert (list(index.relations), list(index.transactions), index.trailer) == (
        relations,
        transactions,
        trailer,
    )


@given(st.binary(max_size=300), salts)
def test_malformed_bytes_only_raise_errors_of_the_journal(data: bytes, salt: int) -> None:
    for decode in (
        decode_header,
        lambda raw: decode_record(raw, 0, salt),
        lambda raw: decode_index(raw, salt),
    ):
        with contextlib.suppress(JournalError):
            decode(data)
            raise AssertionError("noise was taken for a part of a segment")


@given(lsns, st.integers(0, 999_999))
def test_a_segment_is_named_by_its_first_lsn_and_part(lsn: Lsn, part: int) -> None:
    assert parse_name(segment_name(lsn, part)) == (lsn, part)


@pytest.mark.parametrize("name", ["lock", "0000000000000000.new", "00000000000000aa.seg", "0.seg", "x.seg"])
def test_other_files_are_not_segments(name: str) -> None:
    assert parse_name(name) is None
