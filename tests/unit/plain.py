"""Plain transactions to test with, and what is almost one, as hypothesis draws them."""

from __future__ import annotations

import struct

from hypothesis import strategies as st

from logship.kernel import frame

LARGEST_LSN = 2**64 - 1


def begin(commit_lsn: int, xid: int, time_us: int) -> bytes:
    return b"B" + struct.pack(">QqI", commit_lsn, time_us, xid)


def commit(commit_lsn: int, end_lsn: int, time_us: int) -> bytes:
    return b"C\0" + struct.pack(">QQq", commit_lsn, end_lsn, time_us)


def row(oid: int, *cells: bytes, tag: bytes = b"I") -> bytes:
    tuple_data = b"".join(b"t" + struct.pack(">I", len(cell)) + cell for cell in cells)
    return tag + struct.pack(">I", oid) + b"N" + struct.pack(">H", len(cells)) + tuple_data


def transaction(
    commit_lsn: int, *rows: bytes, xid: int = 7, end_lsn: int | None = None, time_us: int = 5
) -> bytes:
    """The run of one, which ends 8 behind its commit record's start."""
    end = commit_lsn + 8 if end_lsn is None else end_lsn
    return frame([begin(commit_lsn, xid, time_us), *rows, commit(commit_lsn, end, time_us)])


_rows = st.builds(
    row,
    st.sampled_from([0, 1, 2, 300, 2**32 - 1]),
    st.binary(max_size=9),
    tag=st.sampled_from([b"I", b"U", b"D"]),
)
_messages = st.lists(_rows | st.just(b"O\0\0\0\0\0\0\0\1origin\0"), max_size=4)
_odd = st.sampled_from([b"", b"I", b"D\0\0\0", b"R\0\0\0\1", b"M", b"T\0\0\0\1", b"C", b"B", b"x"])


@st.composite
def stretches(draw: st.DrawFn, *, start: int = 100, most: int = 6) -> list[bytes]:
    """Runs of plain transactions that follow one another."""
    runs: list[bytes] = []
    at = start
    for xid in range(draw(st.integers(1, most))):
        first = at + draw(st.integers(0, 20))
        at = first + draw(st.integers(1, 20))
        time_us = draw(st.sampled_from([0, 5, 6, -1, 2**40]))
        runs.append(transaction(first, *draw(_messages), xid=xid + 3, end_lsn=at, time_us=time_us))
    return runs


@st.composite
def almost(draw: st.DrawFn) -> list[bytes]:
    """As `stretches`, with something wrong in one of them; or, by chance, with nothing."""
    runs = draw(stretches())
    at = draw(st.integers(0, len(runs) - 1))
    kind = draw(st.sampled_from(["odd", "byte", "short", "order", "end"]))
    if kind == "odd":
        runs[at] = transaction(2**30 + at, row(1, b"x"), draw(_odd), end_lsn=2**30 + at + 1)
    elif kind == "byte":
        place = draw(st.integers(0, len(runs[at]) - 1))
        changed = bytearray(runs[at])
        changed[place] ^= draw(st.integers(1, 255))
        runs[at] = bytes(changed)
    elif kind == "short":
        runs[at] = runs[at][: draw(st.integers(0, len(runs[at])))]
    elif kind == "order":
        runs.append(transaction(draw(st.integers(0, 300)), end_lsn=LARGEST_LSN))
    else:
        runs[at] = transaction(50, end_lsn=draw(st.sampled_from([0, 49, 50, 51])))
    return runs
