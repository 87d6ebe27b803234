"""The SQL that carries out net changes of one table, and the arrays that feed it.

In: a `SecondaryTarget` and rows of the log. Out: `Statement`s for the writer of the table's owner
(`logship_writers.write_as_…`): text that names its parameters $1 … $16, all of type text[] and encoded as
they leave the process, and how many rows it must affect. Values stand in the parameters, never in the text.
No I/O.

A statement must mean the same whatever the database holds: names are quoted and schema-qualified,
operators are written out, and each cell is cast to its column's type.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from logship.change import UNCHANGED, Cell, Row
from logship.errors import InternalError
from logship.kernel import Rows, binary_text_array
from logship.replay.shape import Input, SecondaryColumn, SecondaryTarget

PARAMETERS: Final = 16  # what a writer takes
COPY_ROWS: Final = 4_000  # asking whether COPY may be used costs what it saves on one or two thousand rows
_EQUALS: Final = "operator(pg_catalog.=)"
# timestamp and timestamptz: what 2000 is. From some rows on, a number of microseconds since then is read in less time
# than a date is, and the longer expression that makes the value of it has cost nothing.
_EPOCHS: Final = {
    1114: "'2000-01-01 00:00:00'::pg_catalog.timestamp",
    1184: "'2000-01-01 00:00:00+00'::pg_catalog.timestamptz",
}
_TIMESTAMPTZ: Final = 1184
_MICROSECOND: Final = "'00:00:00.000001'::pg_catalog.interval"
_MANY_ROWS: Final = 100
# One statement's rows: enough to make its cost small, few enough to keep its arrays so.
CHUNK_ROWS: Final = 10_000
CHUNK_BYTES: Final = 8 << 20


@dataclass(frozen=True, slots=True)
class Statement:
    target: SecondaryTarget
    verb: str  # for people: INSERT, UPDATE …
    sql: str
    arrays: list[bytes]  # the parameters: text[] in binary format
    rows: int | None  # how many it must affect; None: any
    scans: bool = False  # there is no index to walk: hashing the table is right


@dataclass(frozen=True, slots=True)
class BulkInsert:
    """Rows that may go by COPY, should the table still be one that runs nothing of users'; else `inserts`."""

    target: SecondaryTarget
    values: Rows
    verb: str = "INSERT"

    @property
    def rows(self) -> int:
        return len(self.values)

    @property
    def columns(self) -> list[int]:
        return _writable(self.target)


def quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def qualified(target: SecondaryTarget) -> str:
    return f"{quote(target.schema)}.{quote(target.name)}"


def insert(target: SecondaryTarget, rows: Rows) -> Statement:
    columns = _writable(target)
    if not columns:
        sql = f"insert into {qualified(target)} select from pg_catalog.generate_series(1, {len(rows)})"
        return Statement(target, "INSERT", sql, [], len(rows))
    feed = _Feed(len(rows))
    values = [_value(target.columns[i], feed.add(target.columns[i], rows, i)) for i in columns]
    names = ", ".join(quote(target.columns[i].name) for i in columns)
    sql = (
        f"insert into {qualified(target)} ({names}){_overriding(target)} "
        f"select {', '.join(values)} from {feed.sql}"
    )
    return Statement(target, "INSERT", sql, feed.arrays, len(rows))


def inserts(target: SecondaryTarget, rows: Rows) -> Iterator[Statement]:
    for part in rows.chunks(CHUNK_ROWS, CHUNK_BYTES):
        yield insert(target, part)


def delete(target: SecondaryTarget, keys: Rows) -> Statement:
    feed = _Feed(len(keys))
    match = _match_keys(target, feed, keys)
    sql = f"delete from {_one(target)} as t using {feed.sql} where {match}"
    return Statement(target, "DELETE", sql, feed.arrays, len(keys), scans=not target.key_indexed)


def can_update(target: SecondaryTarget, columns: Sequence[int]) -> bool:
    """Whether UPDATE may set ``columns``; a GENERATED ALWAYS identity column it may not."""
    return not any(target.columns[i].identity == "a" for i in columns if i not in target.key)


def update(target: SecondaryTarget, columns: Sequence[int], keys: Rows, rows: Rows) -> Statement | None:
    """None: nothing of it can be set, since only key columns are carried."""
    settable = [i for i in columns if i not in target.key and not target.columns[i].generated]
    if not settable:
        return None
    feed = _Feed(len(keys))
    match = _match_keys(target, feed, keys)
    sets = [
        f"{quote(column.name)} = {_value(column, feed.add(column, rows, i))}"
        for i, column in ((i, target.columns[i]) for i in settable)
    ]
    sql = f"update {_one(target)} as t set {', '.join(sets)} from {feed.sql} where {match}"
    return Statement(target, "UPDATE", sql, feed.arrays, len(keys), scans=not target.key_indexed)


def replace(target: SecondaryTarget, keys: Rows, rows: Rows) -> Statement:
    """Rows that go, and come again at once: moves, or updates when a value passes between rows.

    What a row doesn't carry, and what only the secondary has, keeps its value. The sort reads the
    DELETE to its end before the first INSERT, so that rows may exchange keys.
    """
    feed = _Feed(len(rows))
    match = _match_keys(target, feed, keys)
    masks, groups = rows.masks()
    group = feed.add_cells([b"%d" % number for number in groups]) if len(masks) > 1 else ""
    carried = rows if masks == [frozenset()] else rows.unchanged_as_null()
    names, kept = [], []
    for i in _writable(target):
        column = target.columns[i]
        names.append(quote(column.name))
        without = [n for n, missing in enumerate(masks) if i in missing]
        new = f"t.{quote(column.name)}"
        if len(without) < len(masks):
            new = _value(column, feed.add(column, carried, i))
            new = _unless(group, without, f"t.{quote(column.name)}", new) if without else new
        kept.append(new)
    for name in target.extra:
        names.append(quote(name))
        kept.append(f"t.{quote(name)}")
    returning = ", ".join(f"{value} as r{n}" for n, value in enumerate(kept))
    sql = (
        f"with d as (delete from {_one(target)} as t using {feed.ordinal_sql} where {match} "
        f"returning u.n as n, {returning}) "
        f"insert into {qualified(target)} ({', '.join(names)}){_overriding(target)} "
        f"select {', '.join(f'd.r{n}' for n in range(len(kept)))} from d order by d.n"
    )
    return Statement(target, "UPDATE", sql, feed.arrays, len(rows), scans=not target.key_indexed)


def _unless(group: str, without: Sequence[int], kept: str, new: str) -> str:
    """``new``, but ``kept`` in the rows of those groups that don't carry the column."""
    numbers = ", ".join(f"'{n}'" for n in without)
    return f"case when {group} {_EQUALS} any (array[{numbers}]::pg_catalog.text[]) then {kept} else {new} end"


def delete_one(target: SecondaryTarget, old: Row) -> Statement:
    """One row that equals ``old`` in every column, whichever; duplicates stay."""
    cells = _Cells()
    sql = f"{_find_one(target, old, cells)} delete from {_one(target)} as t using m where {_SAME_ROW}"
    return Statement(target, "DELETE", sql, cells.arrays, 1)


def update_one(target: SecondaryTarget, old: Row, new: Row) -> Statement | None:
    """One row that equals ``old`` becomes ``new``. None: nothing of it can be written."""
    writable = _writable(target)
    if not writable:
        return None
    cells = _Cells()
    find = _find_one(target, old, cells)
    values = {i: _value(target.columns[i], cells.add(target.columns[i], new[i])) for i in writable}
    if can_update(target, writable):
        sets = ", ".join(f"{quote(target.columns[i].name)} = {value}" for i, value in values.items())
        sql = f"{find} update {_one(target)} as t set {sets} from m where {_SAME_ROW}"
        return Statement(target, "UPDATE", sql, cells.arrays, 1)
    names = ", ".join([quote(target.columns[i].name) for i in writable] + [quote(e) for e in target.extra])
    kept = [f"t.{quote(name)} as r{n}" for n, name in enumerate(target.extra)]
    sql = (
        f"{find}, d as (delete from {_one(target)} as t using m where {_SAME_ROW} "
        f"returning {', '.join(['t.tableoid as o', *kept])}) "
        f"insert into {qualified(target)} ({names}){_overriding(target)} "
        f"select {', '.join([*values.values(), *(f'd.r{n}' for n in range(len(kept)))])} from d order by d.o"
    )
    return Statement(target, "UPDATE", sql, cells.arrays, 1)


_SAME_ROW: Final = f"t.ctid {_EQUALS} m.i and t.tableoid {_EQUALS} m.o"


def _find_one(target: SecondaryTarget, old: Row, cells: _Cells) -> str:
    tests = [
        test
        for column, cell in zip(target.columns, old, strict=True)
        if not column.generated
        for test in _equals_cell(column, cell, cells)
    ]
    where = f" where {' and '.join(tests)}" if tests else ""
    source = f"select t.tableoid as o, t.ctid as i from {_one(target)} as t{where} limit 1"
    return f"with m as materialized ({source})"


def _equals_cell(column: SecondaryColumn, cell: Cell, cells: _Cells) -> Iterator[str]:
    """By type first where an index may answer, then by the text that the type prints, which also tells
    1.0 from 1.00; format() calls the output function, where a cast to text may be a user's."""
    name = f"t.{quote(column.name)}"
    if cell is None:
        yield f"pg_catalog.num_nulls({name}) {_EQUALS} 1"  # IS NULL is also true of a row of NULLs
        return
    value = _value(column, cells.add(column, cell))
    if column.indexed and column.has_equality and column.equals:
        yield f"{name} {column.equals} {value}"
    yield f"pg_catalog.num_nulls({name}) {_EQUALS} 0"
    yield (
        f"pg_catalog.format('%s', {name}) collate pg_catalog.\"C\" {_EQUALS} "
        f"pg_catalog.format('%s', {value}) collate pg_catalog.\"C\""
    )


def truncate(targets: Sequence[SecondaryTarget], restart_identity: bool) -> Statement:
    """All in one, for tables of one owner: they may refer to one another."""
    names = ", ".join(_one(target) for target in targets)
    sql = f"truncate {names}{' restart identity' if restart_identity else ''}"
    return Statement(targets[0], "TRUNCATE", sql, [], None)


def delete_all(target: SecondaryTarget) -> Statement:
    return Statement(target, "TRUNCATE", f"delete from {_one(target)}", [], None)


def restart_sequence(target: SecondaryTarget, schema: str, name: str) -> Statement:
    sql = f"alter sequence {quote(schema)}.{quote(name)} restart"
    return Statement(target, "TRUNCATE", sql, [], None)


def _one(target: SecondaryTarget) -> str:
    """The table itself: the log names inheritance children by their own names, but partitions
    only where the root isn't published in their place."""
    return qualified(target) if target.kind == "p" else f"only {qualified(target)}"


def _writable(target: SecondaryTarget) -> list[int]:
    return [i for i, column in enumerate(target.columns) if not column.generated]


def _overriding(target: SecondaryTarget) -> str:
    return " overriding system value" if target.writes_identity else ""


def _value(column: SecondaryColumn, text: str) -> str:
    """A cell, which is the SQL expression ``text``, as a value of the column's type."""
    if column.input is Input.BYTE:
        return f'{text}::pg_catalog.int4::pg_catalog."char"::{column.type_sql}'
    if column.input is Input.ELEMENT:
        return f"((array[{text}]::pg_catalog.text[])::pg_catalog.text::{column.array_sql})[1]"
    return f"{text}::{column.type_sql}"


def _match_keys(target: SecondaryTarget, feed: _Feed, keys: Rows) -> str:
    if not target.key:
        raise InternalError(f"{target} has no key to find rows by")
    tests = []
    for place, i in enumerate(target.key):
        column = target.columns[i]
        value = _value(column, feed.add(column, keys, place))
        tests.append(f"t.{quote(column.name)} {column.equals or _EQUALS} {value}")
    return " and ".join(tests)


def _encode(column: SecondaryColumn, cells: Iterable[Cell]) -> list[bytes | None]:
    """Cells as text from which the column's type is made."""
    if column.input is Input.BYTE:
        return [_byte_number(cell) for cell in cells]
    encoded: list[bytes | None] = []
    for cell in cells:
        if cell is UNCHANGED:
            raise InternalError(_NOT_CARRIED)
        encoded.append(cell)
    return encoded


_NOT_CARRIED: Final = "a cell that the log does not carry can't be written"


def _byte_number(cell: Cell) -> bytes | None:
    """The text of a "char" as the signed number of its byte; since 16 the upper half prints as \\ooo."""
    if cell is None:
        return None
    if cell is UNCHANGED:
        raise InternalError(_NOT_CARRIED)
    byte = int(cell[1:], 8) if len(cell) == 4 and cell[:1] == b"\\" else (cell or b"\0")[0]
    return b"%d" % (byte - 256 if byte > 127 else byte)


class _Feed:
    """Columns of cells as rows of u. More columns than a writer has parameters share them, end to end."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._columns: list[bytes] = []

    def add(self, column: SecondaryColumn, rows: Rows, place: int) -> str:
        """Column ``place`` of ``rows``; the expression that stands for a cell of it."""
        if column.input is Input.BYTE:
            return self.add_cells(_encode(column, rows.column(place)))
        epoch = _EPOCHS.get(column.type_oid) if column.input is Input.CAST else None
        if epoch is not None and self._count >= _MANY_ROWS:
            with suppress(ValueError):  # infinity, or so far away that a double doesn't hold it
                self._columns.append(rows.since_2000(place, column.type_oid == _TIMESTAMPTZ))
                since = (
                    f"u.c{len(self._columns) - 1}::pg_catalog.float8 operator(pg_catalog.*) {_MICROSECOND}"
                )
                return f"({epoch} operator(pg_catalog.+) ({since}))"
        try:
            self._columns.append(rows.text_array(place))
        except ValueError as error:
            raise InternalError(str(error)) from None
        return f"u.c{len(self._columns) - 1}"

    def add_cells(self, cells: Sequence[bytes | None]) -> str:
        self._columns.append(binary_text_array(cells))
        return f"u.c{len(self._columns) - 1}"

    @property
    def _share(self) -> int:
        return -(-len(self._columns) // PARAMETERS) or 1

    @property
    def arrays(self) -> list[bytes]:
        share = self._share
        if share == 1:
            return self._columns
        starts = range(0, len(self._columns), share)
        return [_end_to_end(self._columns[start : start + share], self._count) for start in starts]

    @property
    def sql(self) -> str:
        return f"rows from ({self._sources()}) as u ({self._names()})"

    @property
    def ordinal_sql(self) -> str:
        return f"rows from ({self._sources()}) with ordinality as u ({self._names()}, n)"

    def _sources(self) -> str:
        share, count = self._share, self._count
        sources = []
        for i in range(len(self._columns)):
            parameter, place = f"${i // share + 1}", i % share
            if share > 1:
                parameter += f"[{place * count + 1}:{(place + 1) * count}]"
            sources.append(f"pg_catalog.unnest({parameter})")
        return ", ".join(sources)

    def _names(self) -> str:
        return ", ".join(f"c{i}" for i in range(len(self._columns)))


_HEAD: Final = struct.Struct(">iiIii")  # array_recv: dimensions, has nulls, element type, length, lower bound


def _end_to_end(arrays: Sequence[bytes], count: int) -> bytes:
    """One array of arrays of ``count`` cells each."""
    heads = [_HEAD.unpack_from(array) for array in arrays]
    has_nulls = max(head[1] for head in heads)
    whole = _HEAD.pack(1, has_nulls, heads[0][2], count * len(arrays), 1)
    return b"".join([whole, *(array[_HEAD.size :] for array in arrays)])


class _Cells:
    """The cells of a single row, all in one array."""

    def __init__(self) -> None:
        self._cells: list[bytes | None] = []

    def add(self, column: SecondaryColumn, cell: Cell) -> str:
        self._cells += _encode(column, [cell])
        return f"($1)[{len(self._cells)}]"

    @property
    def arrays(self) -> list[bytes]:
        return [binary_text_array(self._cells)]
