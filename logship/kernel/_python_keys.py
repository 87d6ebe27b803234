"""Sets of keys, in plain Python: the reference that every other implementation must equal.

In: rows, and the columns in which their keys stand. Out: whether two sets have a key in common, byte by byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from logship.kernel._python_rows import Rows


class KeySet:
    """The keys that stand in some columns of some rows: ``parts``, pairs of `Rows` and column numbers."""

    def __init__(self, parts: Iterable[tuple[Rows, Sequence[int]]] = ()) -> None:
        self._keys: set[tuple[object, ...]] = set()
        for rows, columns in parts:
            self._keys.update(map(tuple, rows.project(columns)))

    def meets(self, other: KeySet) -> bool:
        """Whether some key is in both."""
        return not self._keys.isdisjoint(other._keys)
