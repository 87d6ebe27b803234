"""The walk over runs, and the contract of the writer."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logship.errors import InternalError
from logship.journal.contents import Contents, Schema, walk
from logship.journal.segment import OpenTransaction, Record, RecordKind
from logship.kernel import frame, split_run
from logship.lsn import Lsn
from tests.unit.journal.journals import abandon, changes, insert, position, relation


def test_the_walk_keeps_descriptions_and_touched_oids() -> None:
    schema: Schema = {}
    touched: set[int] = set()
    truncation = b"T" + struct.pack(">IBII", 2, 0, 8, 9)
    described = [relation(1, "a"), b"Y" + struct.pack(">I", 5) + b"s\0n\0", relation(1, "b")]
    rows = [insert(1), b"U" + insert(2)[1:], b"D" + insert(3)[1:], truncation]
    run = frame([b"B" + bytes(20), *described[:2], *rows, described[2], b"C" + bytes(25)])
    walk(run, schema, touched)
    assert schema == {(ord("R"), 1): relation(1, "b"), (ord("Y"), 5): b"Y" + struct.pack(">I", 5) + b"s\0n\0"}
    assert touched == {1, 2, 3, 8, 9}


@given(st.lists(st.binary(max_size=20), max_size=6))
def test_the_walk_takes_every_framed_run(messages: list[bytes]) -> None:
    schema: Schema = {}
    try:
        walk(frame(messages), schema, set())
    except ValueError as error:
        assert "truncation" in str(error)
    assert set(schema.values()) <= {message for message in messages if message[:1] in {b"R", b"Y"}}


@given(st.binary(max_size=60))
def test_the_walk_refuses_what_is_no_run(noise: bytes) -> None:
    try:
        split_run(noise)
    except ValueError:
        with pytest.raises(ValueError, match=r"cut short|ends inside"):
            walk(noise, {}, set())


def contents(*, is_open: bool = False) -> Contents:
    return Contents(Lsn(100), OpenTransaction(1, Lsn(110)) if is_open else None, {})


@pytest.mark.parametrize(
    ("is_open", "record"),
    [
        (False, changes(200, first=False)),
        (True, changes(200, first=True)),
        (True, changes(200, first=False, xid=2)),
        (False, changes(100, commit=90)),
        (False, changes(200, commit=200)),
        (False, position(99)),
        (True, position(200)),
        (False, abandon(changes(200))),
        (False, Record(RecordKind.SCHEMA, False, False, 0, Lsn(0), Lsn(0), 0, b"")),
        (False, Record(RecordKind.INDEX, False, False, 0, Lsn(0), Lsn(0), 0, b"")),
    ],
)
def test_what_breaks_the_contract_is_refused(is_open: bool, record: Record) -> None:
    with pytest.raises(InternalError):
        contents(is_open=is_open).check(record)


@pytest.mark.parametrize(
    ("is_open", "record"),
    [
        (False, changes(101)),
        (False, changes(101, last=False)),
        (True, changes(200, first=False)),
        (True, changes(200, first=False, last=False)),
        (False, position(100)),
        (True, abandon(changes(200))),
    ],
)
def test_what_keeps_it_passes(is_open: bool, record: Record) -> None:
    contents(is_open=is_open).check(record)


def test_a_segment_is_whole_from_where_the_transaction_open_at_its_start_ends() -> None:
    found = contents(is_open=True)
    assert found.whole_lsn is None
    found.note(changes(200, first=False))
    found.note(changes(300))
    assert (found.whole_lsn, found.last_lsn) == (200, 300)


def test_a_segment_is_whole_from_its_start_when_the_open_transaction_is_abandoned() -> None:
    found = contents(is_open=True)
    found.note(abandon(changes(200)))
    assert found.whole_lsn == 100
