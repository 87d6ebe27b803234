"""The kernel's leaf functions: inverses, the server's layouts, malformed bytes refused with ValueError."""

from __future__ import annotations

import struct
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logship.kernel import UNCHANGED

messages = st.lists(st.binary(max_size=30), max_size=8)
cells = st.lists(st.none() | st.binary(max_size=20), max_size=8)


@settings(deadline=None)
@given(messages)
def test_split_run_is_the_inverse_of_frame(kernel: ModuleType, given_messages: list[bytes]) -> None:
    assert kernel.split_run(kernel.frame(given_messages)) == given_messages


@settings(deadline=None)
@given(messages, messages)
def test_runs_join_by_concatenation(kernel: ModuleType, first: list[bytes], second: list[bytes]) -> None:
    assert kernel.split_run(kernel.frame(first) + kernel.frame(second)) == first + second


@settings(deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=30), min_size=1, max_size=8), st.data())
def test_a_cut_run_is_refused_or_ends_between_messages(
    kernel: ModuleType, given_messages: list[bytes], data: st.DataObject
) -> None:
    run = kernel.frame(given_messages)
    cut = run[: data.draw(st.integers(0, len(run) - 1))]
    try:
        whole = kernel.split_run(cut)
    except ValueError:
        return
    assert kernel.frame(whole) == cut


@settings(deadline=None)
@given(st.binary(max_size=40))
def test_random_bytes_split_or_are_refused(kernel: ModuleType, run: bytes) -> None:
    try:
        whole = kernel.split_run(run)
    except ValueError:
        return
    assert kernel.frame(whole) == run


@settings(deadline=None)
@given(messages, st.binary(min_size=25, max_size=25))
def test_each_message_gets_a_copy_data_of_its_own(
    kernel: ModuleType, given_messages: list[bytes], head: bytes
) -> None:
    frames = kernel.xlogdata(given_messages, head)
    expected = [b"d" + struct.pack(">I", 29 + len(message)) + head + message for message in given_messages]
    assert frames == b"".join(expected)


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from([b"B1234567", b"C0", b"O", b"I0001N", b"U0002", b"D0001", b"R0003", b"T", b"M", b""])
    )
)
def test_a_survey_finds_the_relations_and_whatever_is_no_row(
    kernel: ModuleType, given_messages: list[bytes]
) -> None:
    relations, plain = kernel.survey(given_messages)
    assert relations == {message[1:5] for message in given_messages if message[:1] in (b"I", b"U", b"D")}
    assert plain == all(message[:1] in {b"B", b"C", b"O", b"I", b"U", b"D"} for message in given_messages)


def test_a_tuple_as_a_server_sends_it(kernel: ModuleType) -> None:
    message = b"xx\0\4t\0\0\0\2hint\0\0\0\0uN"
    assert kernel.tuple_at(b"\0\3nut\0\0\0\1a", 0) == ([None, UNCHANGED, b"a"], 10)
    row, end = kernel.tuple_at(message[:11] + b"nut\0\0\0\0N", 2)
    assert row == [b"hi", None, UNCHANGED, b""]
    assert end == 18


@pytest.mark.parametrize(
    "message",
    [b"", b"\0", b"\0\1", b"\0\1t\0\0", b"\0\1t\0\0\0\5abc", b"\0\1b\0\0\0\1x", b"\0\1x", b"\xff\xffn"],
)
def test_a_malformed_tuple_is_a_value_error(kernel: ModuleType, message: bytes) -> None:
    with pytest.raises(ValueError, match="at byte"):
        kernel.tuple_at(message, 0)


@settings(deadline=None)
@given(st.binary(max_size=40), st.integers(0, 45))
def test_random_bytes_are_a_tuple_or_a_value_error(kernel: ModuleType, message: bytes, offset: int) -> None:
    try:
        _, end = kernel.tuple_at(message, offset)
    except ValueError:
        return
    assert offset < end <= len(message)


@settings(deadline=None)
@given(cells)
def test_a_binary_text_array_reads_back(kernel: ModuleType, row: list[bytes | None]) -> None:
    encoded = kernel.binary_text_array(row)
    dimensions, has_nulls, element = struct.unpack_from(">iiI", encoded)
    assert element == 25
    if not row:
        assert (dimensions, has_nulls, len(encoded)) == (0, 0, 12)
        return
    assert (dimensions, has_nulls) == (1, int(None in row))
    assert struct.unpack_from(">ii", encoded, 12) == (len(row), 1)
    assert _elements(encoded, 20) == row


def _elements(encoded: bytes, offset: int) -> list[bytes | None]:
    found: list[bytes | None] = []
    while offset < len(encoded):
        (length,) = struct.unpack_from(">i", encoded, offset)
        offset += 4
        found.append(None if length < 0 else encoded[offset : offset + length])
        offset += max(length, 0)
    return found
