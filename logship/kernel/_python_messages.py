"""Runs, messages and tuples, in plain Python: the reference that every other implementation must equal.

Malformed input raises `ValueError` with what is wrong; callers turn it into an error of theirs that
knows the file or the message.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from logship.kernel.cell import UNCHANGED, Cell

_LENGTH: Final = struct.Struct(">I")
_INT: Final = struct.Struct(">i")
_COUNT: Final = struct.Struct(">H")
_ARRAY: Final = struct.Struct(">iiIii")  # dimensions, has nulls, element type, length, lower bound
_TEXT_OID: Final = 25
_NULL: Final = b"\xff\xff\xff\xff"

_ROW_TAGS: Final = frozenset({b"I", b"U", b"D"})
_FRAME_TAGS: Final = frozenset({b"B", b"C", b"O"})
_RELATION_TAGS: Final = frozenset({b"R", b"Y", b"T"})
_INSERT: Final = ord("I")
_DELETE: Final = ord("D")
_NEW: Final = ord("N")
_KEY: Final = ord("K")
_OLD: Final = ord("O")

_CELL_NULL: Final = ord("n")
_CELL_UNCHANGED: Final = ord("u")
_CELL_TEXT: Final = ord("t")


def frame(messages: Sequence[bytes]) -> bytes:
    """A run: each message behind its length (4 bytes, big endian)."""
    pack = _LENGTH.pack
    parts: list[bytes] = []
    for message in messages:
        parts.append(pack(len(message)))
        parts.append(message)
    return b"".join(parts)


def message_at(run: bytes, offset: int) -> tuple[bytes, int]:
    """The message whose length stands at ``offset``, and the offset behind it."""
    end = len(run)
    if not 0 <= offset <= end - 4:
        raise ValueError(f"a run ends inside a length at byte {offset}")
    start = offset + 4
    following: int = start + _LENGTH.unpack_from(run, offset)[0]
    if following > end:
        raise ValueError(f"a run ends inside a message at byte {start}")
    return run[start:following], following


def split_run(run: bytes) -> list[bytes]:
    """The messages of a run, in order. `frame` is its inverse."""
    messages: list[bytes] = []
    offset, end = 0, len(run)
    while offset < end:
        message, offset = message_at(run, offset)
        messages.append(message)
    return messages


def xlogdata(messages: Sequence[bytes], head: bytes) -> bytes:
    """CopyData messages: each of ``messages`` behind the same XLogData header (25 bytes)."""
    pack = _LENGTH.pack
    fixed = 4 + len(head)
    fronts: dict[int, bytes] = {}  # by length: most messages of a run have one of a few
    parts: list[bytes] = []
    for message in messages:
        size = len(message)
        front = fronts.get(size)
        if front is None:
            front = fronts[size] = b"d" + pack(fixed + size) + head
        parts.append(front)
        parts.append(message)
    return b"".join(parts)


def survey(messages: Sequence[bytes]) -> tuple[set[bytes], bool]:
    """The relations (oids as four bytes) whose rows ``messages`` change, and whether there is nothing else in
    them than rows and what stands around a transaction: Begin, Commit, Origin."""
    relations: set[bytes] = set()
    plain = True
    for head in {message[:5] for message in messages}:
        if head[:1] in _ROW_TAGS:
            relations.add(head[1:])
        elif head[:1] not in _FRAME_TAGS:
            plain = False
    return relations, plain


def relations_of(run: bytes) -> tuple[set[int], bool]:
    """The oids of the relations whose rows ``run`` changes, and whether nothing in it describes or truncates one.
    `ValueError` when it isn't framed messages."""
    relations: set[int] = set()
    plain = True
    for head in {message[:5] for message in split_run(run)}:
        if len(head) < 5:
            continue
        if head[:1] in _ROW_TAGS:
            relations.add(int.from_bytes(head[1:], "big"))
        elif head[:1] in _RELATION_TAGS:
            plain = False
    return relations, plain


def tuple_at(message: bytes, offset: int) -> tuple[list[Cell], int]:
    """TupleData at ``offset`` of a pgoutput message: its cells, and the offset behind it."""
    if offset < 0:
        raise ValueError(f"a tuple at byte {offset}")
    try:
        count = _COUNT.unpack_from(message, offset)[0]
        offset += 2
        cells: list[Cell] = []
        unpack = _LENGTH.unpack_from
        for _ in range(count):
            kind = message[offset]
            if kind == _CELL_TEXT:
                start = offset + 5
                offset = start + unpack(message, offset + 1)[0]
                cells.append(message[start:offset])
            elif kind == _CELL_NULL:
                cells.append(None)
                offset += 1
            elif kind == _CELL_UNCHANGED:
                cells.append(UNCHANGED)
                offset += 1
            else:
                raise ValueError(f"a cell of kind {kind:#04x} at byte {offset}")
    except (IndexError, struct.error):
        raise ValueError(f"a tuple is cut short at byte {offset}") from None
    if offset > len(message):
        raise ValueError(f"a tuple is cut short at byte {len(message)}")
    return cells, offset


def row_change(message: bytes) -> tuple[list[Cell] | None, bool, list[Cell] | None]:
    """An Insert, Update or Delete: old row, whether only its key is meant, and new row. An Insert has no old row,
    a Delete no new one; nothing else is said of which there are."""
    try:
        kind = message[5]
        if kind == _NEW:
            old, is_key, end = None, False, 5
        elif kind in (_KEY, _OLD) and message[0] != _INSERT:
            old, end = tuple_at(message, 6)
            is_key = kind == _KEY
        else:
            raise ValueError(f"a tuple of kind {kind:#04x} at byte 5")
        if message[0] == _DELETE:
            new = None
        elif message[end] == _NEW:
            new, end = tuple_at(message, end + 1)
        else:
            raise ValueError(f"no new tuple at byte {end}")
    except IndexError:
        raise ValueError(f"a row message is cut short at byte {len(message)}") from None
    if end != len(message):
        raise ValueError(f"a row message goes on behind its end at byte {end}")
    return old, is_key, new


def binary_text_array(cells: Sequence[bytes | None]) -> bytes:
    """``text[]`` in PostgreSQL's binary format (array_recv), one dimension, lower bound 1."""
    if not cells:
        return _ARRAY.pack(0, 0, _TEXT_OID, 0, 0)[:12]
    pack = _INT.pack
    parts = [b""]
    has_null = 0
    for cell in cells:
        if cell is None:
            has_null = 1
            parts.append(_NULL)
        else:
            parts.append(pack(len(cell)))
            parts.append(cell)
    parts[0] = _ARRAY.pack(1, has_null, _TEXT_OID, len(cells), 1)
    return b"".join(parts)
