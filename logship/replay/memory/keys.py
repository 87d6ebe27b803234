"""What a delta says at each key, beside the database: a batch of a few rows asks here and not there.

In: the entries that the writer puts into a delta, and takes out. Out: of a batch's entries, which have one at
their key already, and what that says. Assumes the writer's thread, and keys of integers, texts and uuids: two of
those are equal here when they are to DuckDB. It goes with one state of `Parts`, and is made anew from the
delta where that state was rolled back. No I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count
from typing import Any, Final, NamedTuple, TypeAlias

from logship.replay.memory.table import MemoryColumn

Table: TypeAlias = Any  # pyarrow.Table; pyarrow has no types
Key: TypeAlias = Any  # a cell, or a tuple of cells

_KINDS: Final = {"SMALLINT", "INTEGER", "BIGINT", "VARCHAR", "UUID"}
_INTEGERS: Final = {"SMALLINT", "INTEGER", "BIGINT"}
KEY_BYTES: Final = 130  # of one entry here, about
FEW: Final = 512  # keys: more are joined
_versions: Final = count(1)


class Known(NamedTuple):
    """The delta's entry at the key of row ``nth``; ``wrong``: it contradicts the row about what was there."""

    nth: int
    main: bool
    born: int
    wrong: bool


class Entry(NamedTuple):
    live: bool
    main: bool
    born: int


class DeltaKeys:
    """The entries of the delta ``number``."""

    def __init__(self, columns: Sequence[MemoryColumn], number: int) -> None:
        self._columns = tuple(columns)
        self._number = number
        self._entries: dict[Key, Entry] = {}
        self.version = next(_versions)  # which changes with every entry

    @staticmethod
    def fit(columns: Iterable[MemoryColumn]) -> bool:
        return all(column.type.duckdb in _KINDS for column in columns)

    def stands_for(self, columns: Sequence[MemoryColumn], number: int, version: int) -> bool:
        return (self._columns, self._number, self.version) == (tuple(columns), number, version)

    def fill(self, rows: Iterable[tuple[Any, ...]]) -> None:
        """With what stands in the delta: the key's cells, live, main, born."""
        alone = len(self._columns) == 1
        for *key, live, main, born in rows:
            self._entries[key[0] if alone else tuple(key)] = Entry(live, main, born)
        self.version = next(_versions)

    def keys(self, entries: Table) -> list[Key]:
        """The keys of ``entries``, in their order."""
        columns = [entries.column(f"c{column.index}").to_pylist() for column in self._columns]
        return columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))

    def known(self, keys: Sequence[Key], main: Sequence[bool]) -> list[Known]:
        """Of ``keys``, which there is an entry at; ``main``: whether there was a row before, as the batch says."""
        entries = self._entries
        if not entries:
            return []
        return [
            Known(nth, entry.main, entry.born, entry.live is not main[nth])
            for nth, key in enumerate(keys)
            if (entry := entries.get(key)) is not None
        ]

    def has_any(self, keys: Iterable[Key]) -> bool:
        return not self._entries.keys().isdisjoint(keys)

    def put(self, entries: Table, gone: Iterable[Key]) -> None:
        """``entries`` come, in the place of those at the keys ``gone``."""
        for key in gone:
            del self._entries[key]
        flags = (entries.column(name).to_pylist() for name in ("live", "main", "born"))
        made: dict[tuple[bool, bool, int], Entry] = {}  # a few, shared by all
        for key, *said in zip(self.keys(entries), *flags, strict=True):
            told = (said[0], said[1], said[2])
            self._entries[key] = made.setdefault(told, Entry(*told))
        self.version = next(_versions)


def listed(keys: Sequence[Key], columns: Sequence[MemoryColumn]) -> str | None:
    """``keys`` as SQL, where they are few numbers."""
    if len(columns) != 1 or columns[0].type.duckdb not in _INTEGERS or len(keys) > FEW:
        return None
    return ", ".join(map(str, keys))
