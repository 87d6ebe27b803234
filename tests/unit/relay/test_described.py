"""What a standard client is sent: every description in force before the change that needs it, once."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logship.errors import InternalError
from logship.relay.described import Described

BEGIN, COMMIT, ORIGIN, MESSAGE = b"B" + bytes(20), b"C" + bytes(25), b"O" + bytes(9), b"M" + bytes(14)


def oid(number: int) -> bytes:
    return struct.pack(">I", number)


def relation(number: int, version: int = 0) -> bytes:
    return b"R" + oid(number) + b"%d" % version


def type_name(number: int, version: int = 0) -> bytes:
    return b"Y" + oid(number) + b"%d" % version


def insert(number: int) -> bytes:
    return b"I" + oid(number) + b"row"


def truncate(*numbers: int) -> bytes:
    return b"T" + struct.pack(">IB", len(numbers), 0) + b"".join(map(oid, numbers))


def test_a_description_in_force_comes_before_the_first_change_inside_its_transaction() -> None:
    session = Described(messages=False)
    session.know([type_name(7), relation(1), relation(2)])
    assert session.pass_on([BEGIN, insert(1), insert(1), COMMIT]) == [
        BEGIN, type_name(7), relation(1), insert(1), insert(1), COMMIT,
    ]  # fmt: skip
    assert session.pass_on([BEGIN, relation(1), insert(1), insert(2), COMMIT]) == [
        BEGIN, insert(1), relation(2), insert(2), COMMIT,
    ]  # fmt: skip


def test_a_description_that_changed_is_sent_again() -> None:
    session = Described(messages=False)
    session.know([relation(1)])
    session.pass_on([BEGIN, insert(1), COMMIT])
    found = session.pass_on([BEGIN, relation(1, 2), insert(1), COMMIT, BEGIN, insert(1), COMMIT])
    assert found == [BEGIN, relation(1, 2), insert(1), COMMIT, BEGIN, insert(1), COMMIT]


def test_a_truncation_describes_all_its_relations() -> None:
    session = Described(messages=False)
    session.know([relation(1), relation(2)])
    session.pass_on([BEGIN, insert(2), COMMIT])
    assert session.pass_on([BEGIN, truncate(1, 2), COMMIT]) == [BEGIN, relation(1), truncate(1, 2), COMMIT]


@pytest.mark.parametrize("asked", [False, True])
def test_logical_messages_are_for_those_who_asked(asked: bool) -> None:
    session = Described(messages=asked)
    assert session.pass_on([BEGIN, MESSAGE, COMMIT]) == ([BEGIN, MESSAGE, COMMIT] if asked else [])


def test_a_transaction_of_which_nothing_is_left_is_not_sent_whatever_pieces_it_comes_in() -> None:
    session = Described(messages=False)
    assert [session.pass_on([piece]) for piece in (BEGIN, ORIGIN, relation(1), MESSAGE, COMMIT)] == [[]] * 5
    assert session.pass_on([BEGIN, ORIGIN, insert(1), COMMIT]) == [
        BEGIN,
        ORIGIN,
        relation(1),
        insert(1),
        COMMIT,
    ]


def test_nothing_of_our_own_schema_is_sent() -> None:
    own = b"R" + oid(9) + b"logship\0shipper\0"
    session = Described(messages=False)
    session.know([own, relation(1)])
    assert session.pass_on([BEGIN, insert(9), truncate(9), COMMIT]) == []
    assert session.pass_on([BEGIN, insert(9), truncate(1, 9), insert(9), insert(1), COMMIT]) == [
        BEGIN, relation(1), truncate(1), insert(1), COMMIT,
    ]  # fmt: skip


def test_a_row_of_what_was_never_described_is_a_defect() -> None:
    with pytest.raises(InternalError, match="relation 5"):
        Described(messages=False).pass_on([BEGIN, insert(5), COMMIT])


changes = st.one_of(
    st.integers(1, 3).map(insert),
    st.builds(relation, st.integers(1, 3), st.integers(0, 2)),
    st.builds(type_name, st.integers(1, 2), st.integers(0, 2)),
    st.lists(st.integers(1, 3), min_size=1, max_size=3, unique=True).map(lambda oids: truncate(*oids)),
    st.just(MESSAGE),
)


def in_force(messages: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    """Each row or truncated relation with the description that a receiver has of it then."""
    known: dict[bytes, bytes] = {}
    seen = []
    for message in messages:
        if message[:1] == b"R":
            known[message[1:5]] = message
        elif message[:1] == b"I":
            seen.append((message, known[message[1:5]]))
        elif message[:1] == b"T":
            seen += [(message, known[message[at : at + 4]]) for at in range(6, len(message), 4)]
    return seen


@given(st.lists(st.lists(changes, max_size=6), max_size=8), st.booleans())
def test_whatever_comes_a_receiver_knows_what_the_log_said(groups: list[list[bytes]], pieces: bool) -> None:
    start = [relation(number) for number in (1, 2, 3)]
    log = [message for group in groups for message in (BEGIN, *group, COMMIT)]
    session = Described(messages=False)
    session.know(start)
    sent = [out for message in log for out in session.pass_on([message])] if pieces else session.pass_on(log)
    assert in_force(sent) == in_force([*start, *log])
    kept = [message for message in log if message[:1] in (b"I", b"T")]
    assert [message for message in sent if message[:1] in (b"I", b"T")] == kept
    assert (
        sent.count(BEGIN)
        == sent.count(COMMIT)
        == sum(any(message[:1] in (b"I", b"T") for message in group) for group in groups)
    )
    relations = [message for message in sent if message[:1] == b"R"]
    assert all(a != b for a, b in itertools.pairwise(relations) if a[1:5] == b[1:5])
