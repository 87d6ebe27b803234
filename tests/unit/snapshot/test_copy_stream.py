"""What a server answers to COPY … TO STDOUT, cut into pieces anywhere."""

from __future__ import annotations

import struct
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from logship.snapshot.copy_stream import Frames

READY = b"Z\x00\x00\x00\x05T"


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack(">I", len(body) + 4) + body


def taken(frames: Frames, data: bytes, cuts: list[int]) -> bytes:
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return b"".join(bytes(part) for one, other in pairwise(places) for part in frames.take(data[one:other]))


ROWS = st.lists(st.binary(max_size=40), max_size=12)
CUTS = st.lists(st.integers(min_value=0, max_value=2000), max_size=12)


@given(rows=ROWS, cuts=CUTS)
def test_copy_data_goes_on_as_it_is_and_nothing_else_does(rows: list[bytes], cuts: list[int]) -> None:
    """Whatever stands in a row, and wherever the pieces end."""
    sent = b"".join(message(b"d", row) for row in rows)
    answer = (
        message(b"H", b"\0\0\0")
        + sent
        + message(b"c", b"")
        + message(b"C", f"COPY {len(rows)}\0".encode())
        + READY
    )
    frames = Frames()
    assert taken(frames, answer, cuts) == sent
    assert (frames.rows, frames.copied, frames.failed, frames.ended) == (len(rows), len(rows), None, True)


@given(rows=ROWS, cuts=CUTS, text=st.text(alphabet=st.characters(exclude_characters="\0"), max_size=20))
def test_an_error_in_the_middle(rows: list[bytes], cuts: list[int], text: str) -> None:
    sent = b"".join(message(b"d", row) for row in rows)
    fields = b"SERROR\0VERROR\0C57014\0M" + text.encode() + b"\0Fpostgres.c\0\0"
    frames = Frames()
    assert taken(frames, sent + message(b"E", fields) + message(b"Z", b"E"), cuts) == sent
    assert (frames.copied, frames.failed, frames.ended) == (None, ("57014", text), True)


@given(row=st.binary(min_size=1, max_size=100), cut=st.integers(min_value=0, max_value=104))
def test_before_the_end_nothing_is_said_to_have_ended(row: bytes, cut: int) -> None:
    data = message(b"d", row)[: cut % (len(row) + 5)]
    frames = Frames()
    passed = b"".join(bytes(part) for part in frames.take(data))
    assert data.startswith(passed)
    assert len(data) - len(passed) < 5  # no more than a header is kept back
    assert (frames.ended, frames.copied, frames.failed) == (False, None, None)


def test_what_a_row_holds_is_never_taken_for_the_protocol() -> None:
    """A row made of the messages that end a COPY."""
    row = message(b"c", b"") + message(b"C", b"COPY 7\0") + READY + message(b"E", b"C57014\0Mno\0\0")
    frames = Frames()
    assert taken(frames, message(b"d", row), [1, 2, 6, 9, 30]) == message(b"d", row)
    assert (frames.rows, frames.copied, frames.failed, frames.ended) == (1, None, None, False)


def test_notices_and_parameters_stay_here() -> None:
    frames = Frames()
    said = message(b"N", b"SNOTICE\0Mhello\0\0") + message(b"S", b"TimeZone\0UTC\0")
    data = message(b"d", b"one") + said + message(b"d", b"two")
    assert taken(frames, data, []) == message(b"d", b"one") + message(b"d", b"two")
