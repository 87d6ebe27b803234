"""Reads back what `Statement.arrays` holds: text[] in PostgreSQL's binary format."""

from __future__ import annotations

import struct


def cells_of(array: bytes) -> list[bytes | None]:
    """The cells of a one-dimensional array."""
    dimensions, _, _ = struct.unpack_from(">iiI", array)
    if dimensions == 0:
        return []
    (count,) = struct.unpack_from(">i", array, 12)
    cells: list[bytes | None] = []
    offset = 20
    for _ in range(count):
        (size,) = struct.unpack_from(">i", array, offset)
        offset += 4
        cells.append(None if size < 0 else array[offset : offset + size])
        offset += max(size, 0)
    assert offset == len(array)
    return cells
