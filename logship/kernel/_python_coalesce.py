"""Row changes of one table reduced to their net effect, in plain Python.

In: row messages of a run, or cells. Out: the net change per key (`Net`), or, without a key, the changes in
their order. What a table is, and where it is, isn't known here: only how wide its rows are and which columns
find one.

Sources: PostgreSQL documentation, "Logical Replication Message Formats".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from logship.kernel._python_messages import message_at, row_change
from logship.kernel._python_rows import Rows, adopt
from logship.kernel.cell import UNCHANGED, Cell

_AROUND: Final = frozenset(b"BCO")  # Begin, Commit, Origin: what stands around rows
_ROWS: Final = frozenset(b"IUD")
_INSERT: Final = ord("I")
_DELETE: Final = ord("D")

Row: TypeAlias = list[Cell]
_Key: TypeAlias = tuple[Cell, ...]
# Of a table without a key: rows inserted one after the other; or an old row and the new one, None when it was deleted.
Operation: TypeAlias = Rows | tuple[Row, Row | None]


class Net(NamedTuple):
    """The net change per key, to be carried out in this order. Keys are those before all of it; ``updates`` are
    by carried columns: columns, keys, rows."""

    deletes: Rows
    updates: list[tuple[tuple[int, ...], Rows, Rows]]
    move_keys: Rows
    move_rows: Rows
    inserts: Rows


@dataclass(slots=True)
class _Entry:
    origin: _Key | None  # the row's key before all of it; None: it was inserted since
    row: Row


class Keyed:
    """The net change of one table with a key. Rows are followed by their key: an entry remembers the key that its
    row had at first and what its cells have become. `insert`, `update` and `delete` say False, and do nothing, when
    two rows would stand under one key. `ValueError`: a row of another width, or without its key."""

    def __init__(self, width: int, key: Sequence[int]) -> None:
        if not key or any(not 0 <= column < width for column in key):
            raise ValueError("a key outside of the columns")
        self.width = width
        self.key = tuple(key)
        self._live: dict[_Key, _Entry] = {}
        self._gone: dict[_Key, None] = {}

    def __len__(self) -> int:
        """Rows changed."""
        return len(self._live) + len(self._gone)

    def insert(self, new: Row) -> bool:
        key = self._key_of(new)
        if key in self._live:
            return False
        self._live[key] = _Entry(None, new)
        return True

    def update(self, old: Row | None, old_is_key: bool, new: Row) -> bool:
        """``old`` None: the key is the new row's. ``old_is_key``: only the key's cells of ``old`` are meant."""
        if old is None:
            key = self._key_of(new)
            entry = self._live.get(key)
            if entry is None:
                self._live[key] = _Entry(key, new)
            else:
                entry.row = _merged(entry.row, new)
            return True
        before = self._key_of(old)
        new = _with_old(new, old, self.key if old_is_key else range(self.width))
        after = self._key_of(new)
        if before != after and after in self._live:
            return False
        entry = self._live.get(before)
        if entry is None:
            self._live[after] = _Entry(before, new)
            return True
        entry.row = _merged(entry.row, new)
        if before != after:
            del self._live[before]
            self._live[after] = entry
        return True

    def delete(self, old: Row) -> bool:
        self._delete(self._key_of(old))
        return True

    def _delete(self, key: _Key) -> None:
        entry = self._live.pop(key, None)
        origin = key if entry is None else entry.origin
        if origin is not None:
            self._gone[origin] = None

    def absorb(self, later: Net) -> None:
        """Take in the net change of what follows."""
        for gone in later.deletes:
            self._delete(tuple(gone))
        for _, _, rows in later.updates:
            for row in rows:
                self.update(None, False, row)
        # All leave their old keys before any takes its new one: they may exchange them.
        moves = [(tuple(old), row) for old, row in zip(later.move_keys, later.move_rows, strict=True)]
        moved = [(key, self._live.pop(key, None), row) for key, row in moves]
        for key, known, row in moved:
            entry = known or _Entry(key, row)
            entry.row = _merged(entry.row, row)
            self._live[self._key_of(entry.row)] = entry
        for row in later.inserts:
            self._live[self._key_of(row)] = _Entry(None, row)

    def take(self) -> Net:
        """The net change so far; nothing is left in here."""
        inserts: list[Row] = []
        moves: list[tuple[_Key, Row]] = []
        groups: dict[tuple[int, ...], tuple[list[_Key], list[Row]]] = {}
        for key, entry in self._live.items():
            if entry.origin is None:
                inserts.append(entry.row)
            elif entry.origin != key:
                moves.append((entry.origin, entry.row))
            else:
                keys, rows = groups.setdefault(_carried(entry.row), ([], []))
                keys.append(key)
                rows.append(entry.row)
        width, of_key = self.width, len(self.key)
        net = Net(
            Rows.of(of_key, self._gone),
            [
                (columns, Rows.of(of_key, keys), adopt(width, rows))
                for columns, (keys, rows) in groups.items()
            ],
            Rows.of(of_key, [key for key, _ in moves]),
            adopt(width, [row for _, row in moves]),
            adopt(width, inserts),
        )
        self._live, self._gone = {}, {}
        return net

    def _key_of(self, row: Row) -> _Key:
        _expect(row, self.width)
        key = tuple([row[index] for index in self.key])
        if UNCHANGED in key:
            raise ValueError("a row without its key")
        return key


class Keyless:
    """The changes of one table without a key, in order; rows inserted one after the other stay together.
    `ValueError`: a row of another width, or an UPDATE without its whole old row."""

    def __init__(self, width: int) -> None:
        self.width = width
        self._operations: list[Operation] = []
        self._inserted: list[Row] = []  # behind the operations
        self._count = 0

    def __len__(self) -> int:
        """Rows changed."""
        return self._count

    def insert(self, new: Row) -> bool:
        _expect(new, self.width)
        self._inserted.append(new)
        self._count += 1
        return True

    def update(self, old: Row | None, old_is_key: bool, new: Row) -> bool:
        if old is None or old_is_key:
            raise ValueError("an update of a table without key carries no whole old row")
        _expect(old, self.width)
        _expect(new, self.width)
        self._add(old, _with_old(new, old, range(self.width)))
        return True

    def delete(self, old: Row) -> bool:
        _expect(old, self.width)
        self._add(old, None)
        return True

    def _add(self, old: Row, new: Row | None) -> None:
        self._end_inserts()
        self._operations.append((old, new))
        self._count += 1

    def _end_inserts(self) -> None:
        inserted, self._inserted = self._inserted, []
        if inserted:
            self._operations.append(adopt(self.width, inserted))

    def absorb(self, later: Iterable[Operation]) -> None:
        """Take in the changes that follow."""
        for operation in later:
            if isinstance(operation, Rows):
                for row in operation:
                    self.insert(row)
            else:
                self._add(*operation)

    def take(self) -> list[Operation]:
        """The changes so far; nothing is left in here."""
        self._end_inserts()
        operations, self._operations, self._count = self._operations, [], 0
        return operations


def feed(run: bytes, offset: int, tables: Mapping[int, Keyed | Keyless | None]) -> tuple[int, int]:
    """Take in the row messages of ``run`` from ``offset`` on, by the table's oid; those of a table that is None are
    passed over, and so are Begin, Commit and Origin. Stops at the first message that is for the caller: one of
    another kind, a row of a table that isn't in ``tables``, one for which two rows would stand under one key, one that
    is malformed. Returns where that message's length stands (the run's end when there is none), and how many rows
    were taken in."""
    if not 0 <= offset <= len(run):
        raise ValueError(f"byte {offset} is outside of the run")
    changes = 0
    while offset < len(run):
        try:
            message, following = message_at(run, offset)
            kind = message[0] if message else 0
            if kind in _ROWS:
                oid = int.from_bytes(message[1:5], "big")
                if len(message) < 5 or oid not in tables:
                    break
                table = tables[oid]
                if table is not None:
                    if not _change(table, kind, message):
                        break
                    changes += 1
            elif kind not in _AROUND:
                break
        except ValueError:
            break
        offset = following
    return offset, changes


def _change(table: Keyed | Keyless, kind: int, message: bytes) -> bool:
    old, old_is_key, new = row_change(message)
    for row in (old, new):
        if row is not None:
            _expect(row, table.width)
    if new is None:
        return kind == _DELETE and old is not None and table.delete(old)
    return table.insert(new) if kind == _INSERT else table.update(old, old_is_key, new)


def _expect(row: Row, width: int) -> None:
    if len(row) != width:
        raise ValueError(f"a row of {len(row)} columns among rows of {width}")


_WHOLE: Final[dict[int, tuple[int, ...]]] = {}


def _carried(row: Row) -> tuple[int, ...]:
    if UNCHANGED in row:
        return tuple([index for index, cell in enumerate(row) if cell is not UNCHANGED])
    width = len(row)
    return _WHOLE.get(width) or _WHOLE.setdefault(width, tuple(range(width)))


def _merged(known: Row, new: Row) -> Row:
    if UNCHANGED not in new:
        return new
    return [old if cell is UNCHANGED else cell for old, cell in zip(known, new, strict=True)]


def _with_old(new: Row, old: Row, columns: Sequence[int]) -> Row:
    """``new`` with those unchanged cells that the old tuple carries: a TOASTed key comes only there."""
    if UNCHANGED not in new:
        return new
    filled = list(new)
    for index in columns:
        if filled[index] is UNCHANGED:
            filled[index] = old[index]
    return filled
