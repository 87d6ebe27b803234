"""pgoutput's codec: every message there and back, the server's own bytes, and anything malformed refused."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logship import pgoutput
from logship.change import (
    UNCHANGED,
    Begin,
    Column,
    Commit,
    Delete,
    Event,
    Insert,
    Message,
    Origin,
    Relation,
    Truncate,
    TypeName,
    Update,
)
from logship.errors import InternalError, ProtocolViolation
from logship.lsn import Lsn

lsns = st.integers(0, 2**64 - 1).map(Lsn)
oids = st.integers(0, 2**32 - 1)
times = st.integers(-(2**63), 2**63 - 1)
names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
full_names = names.filter(bool)
rows = st.lists(st.none() | st.just(UNCHANGED) | st.binary(max_size=30), max_size=6)
columns = st.builds(Column, names, oids, st.integers(-(2**31), 2**31 - 1), st.booleans())
updates = st.builds(Update, oids, rows, st.booleans(), rows) | st.builds(
    Update, oids, st.none(), st.just(False), rows
)
events: st.SearchStrategy[Event] = st.one_of(
    st.builds(Begin, lsns, times, oids),
    st.builds(Commit, lsns, lsns, times),
    st.builds(Origin, lsns, names),
    st.builds(
        Relation, oids, full_names, names, st.sampled_from("dnfi"),
        st.lists(columns, max_size=5).map(tuple),
    ),
    st.builds(TypeName, oids, full_names, names),
    st.builds(Insert, oids, rows),
    updates,
    st.builds(Delete, oids, rows, st.booleans()),
    st.builds(Truncate, st.lists(oids, max_size=5).map(tuple), st.booleans(), st.booleans()),
    st.builds(Message, st.booleans(), lsns, names, st.binary(max_size=40)),
)  # fmt: skip


@settings(deadline=None)
@given(events)
def test_decode_is_the_inverse_of_encode(event: Event) -> None:
    assert pgoutput.decode(pgoutput.encode(event)) == event


@settings(deadline=None)
@given(events, st.data())
def test_a_cut_message_is_refused_at_its_end(event: Event, data: st.DataObject) -> None:
    message = pgoutput.encode(event)
    cut = message[: data.draw(st.integers(0, len(message) - 1))]
    with pytest.raises(ProtocolViolation) as caught:
        pgoutput.decode(cut)
    assert caught.value.offset == len(cut)


@settings(deadline=None)
@given(events, st.binary(min_size=1, max_size=4))
def test_bytes_behind_a_message_are_refused(event: Event, more: bytes) -> None:
    message = pgoutput.encode(event)
    with pytest.raises(ProtocolViolation) as caught:
        pgoutput.decode(message + more)
    assert caught.value.offset == len(message)


@settings(deadline=None)
@given(st.binary(max_size=60) | st.tuples(st.sampled_from(b"BCORYIUDTM"), st.binary(max_size=60)).map(
    lambda pair: bytes([pair[0]]) + pair[1]
))  # fmt: skip
def test_random_bytes_decode_or_are_refused(message: bytes) -> None:
    _decodes_or_is_refused(message)


@settings(deadline=None)
@given(events, st.data())
def test_a_mutated_message_decodes_or_is_refused(event: Event, data: st.DataObject) -> None:
    message = bytearray(pgoutput.encode(event))
    for _ in range(data.draw(st.integers(1, 3))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    _decodes_or_is_refused(bytes(message))


def _decodes_or_is_refused(message: bytes) -> None:
    try:
        event = pgoutput.decode(message)
    except ProtocolViolation as refused:
        assert 0 <= refused.offset <= len(message)
    else:
        assert pgoutput.encode(event) == _canonical(message, event)


def _canonical(message: bytes, event: Event) -> bytes:
    # pg_catalog by its name is the one thing that has two spellings.
    if isinstance(event, Relation | TypeName) and event.schema == "pg_catalog":
        return message.replace(b"pg_catalog\0", b"\0", 1) if message[5:16] == b"pg_catalog\0" else message
    return message


def test_messages_as_a_server_sent_them() -> None:
    begin = b"B" + struct.pack(">QqI", 0x16B3748, 825_000_000_000_000, 731)
    assert pgoutput.decode(begin) == Begin(Lsn(0x16B3748), 825_000_000_000_000, 731)
    id_column = b"\x01id\0\0\0\0\x17\xff\xff\xff\xff"
    relation = b"R\0\0\x40\x00public\0t\0d\0\x02" + id_column + b"\0v\0\0\0\0\x19\xff\xff\xff\xff"
    assert pgoutput.decode(relation) == Relation(
        16384, "public", "t", "d", (Column("id", 23, -1, True), Column("v", 25, -1, False))
    )
    update = b"U\0\0\x40\x00K\0\x02t\0\0\0\x011nN\0\x02t\0\0\0\x012u"
    assert pgoutput.decode(update) == Update(16384, [b"1", None], True, [b"2", UNCHANGED])
    whole = b"U\0\0\x40\x00O\0\x01t\0\0\0\x011N\0\x01t\0\0\0\x012"
    assert pgoutput.decode(whole) == Update(16384, [b"1"], False, [b"2"])


@pytest.mark.parametrize(
    ("message", "offset", "what"),
    [
        (b"", 0, "empty"),
        (b"S\0\0\0\1\1", 0, "unknown kind"),
        (b"C\1" + bytes(24), 1, "flags"),
        (b"I\0\0\0\1O\0\0", 5, "tuple"),
        (b"U\0\0\0\1K\0\0K\0\0", 8, "tuple"),
        (b"D\0\0\0\1N\0\0", 5, "tuple"),
        (b"I\0\0\0\1N\0\1b\0\0\0\1x", 8, "binary format"),
        (b"I\0\0\0\1N\0\2nx", 9, "unknown kind"),
        (b"I\0\0\0\1N\0\1t\xff\xff\xff\xffx", 14, "cut short"),
        (b"T\xff\xff\xff\xff\0", 6, "cut short"),
        (b"T\0\0\0\0\4", 5, "options"),
        (b"M\2" + bytes(8) + b"\0\0\0\0\0", 1, "flags"),
        (b"Y\0\0\0\1a\xff\0b\0", 6, "UTF-8"),
        (b"R\0\0\0\1\0t\0x\0\0", 8, "replica identity"),
        (b"R\0\0\0\1\0t\0d\0\1\2c\0" + bytes(8), 11, "flags"),
    ],
)
def test_what_is_wrong_is_said_with_its_offset(message: bytes, offset: int, what: str) -> None:
    with pytest.raises(ProtocolViolation, match=what) as caught:
        pgoutput.decode(message)
    assert caught.value.offset == offset


def test_a_name_in_pg_catalog_is_spelt_out() -> None:
    assert pgoutput.decode(b"Y\0\0\0\x10\0bool\0") == TypeName(16, "pg_catalog", "bool")


@settings(deadline=None)
@given(st.builds(Commit, lsns, lsns, times))
def test_the_accessors_equal_the_decoder(commit: Commit) -> None:
    message = pgoutput.encode(commit)
    assert pgoutput.commit_of(message) == commit
    assert pgoutput.tag(message) == pgoutput.COMMIT
    begin = Begin(commit.commit_lsn, commit.commit_time_us, 7)
    assert pgoutput.begin_of(pgoutput.encode(begin)) == begin


@pytest.mark.parametrize("accessor", [pgoutput.begin_of, pgoutput.commit_of])
def test_an_accessor_refuses_another_message(accessor: object) -> None:
    assert callable(accessor)
    for message in (b"", b"B", b"C", b"Ixxxxxxxx", b"B" + bytes(21), b"C" + bytes(26)):
        with pytest.raises(ProtocolViolation):
            accessor(message)


@settings(deadline=None)
@given(st.binary(max_size=8))
def test_the_small_accessors_refuse_or_answer(message: bytes) -> None:
    for accessor in (pgoutput.relation_oid, pgoutput.is_transactional):
        try:
            accessor(message)
        except ProtocolViolation as refused:
            assert refused.offset <= len(message)


@pytest.mark.parametrize(
    "event",
    [
        Insert(2**32, []),
        Origin(Lsn(1), "a\0b"),
        Origin(Lsn(1), "\ud800"),
        Relation(1, "s", "t", "d", (Column("c", 1, 2**31, False),)),
    ],
)
def test_what_the_format_cannot_hold_is_not_encoded(event: Event) -> None:
    with pytest.raises(InternalError):
        pgoutput.encode(event)
