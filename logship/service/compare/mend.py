"""What has to be done to one table of the secondary, so that some of its rows are the primary's.

In: the table on both sides, the keys (or hashes of rows) in question, and sessions at one LSN on both. Out:
`Plan`: rows to delete, to replace, to insert, and the statements for the owner's writer. Keys whose
rows are equal by now are left alone. Nothing is written here.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg

from logship.change import Cell, Column, Relation, Row, TypeName
from logship.errors import RefusedAsUnsafe
from logship.kernel import Rows
from logship.replay import statements
from logship.replay.shape import SecondaryTarget
from logship.replay.statements import Statement
from logship.replay.targets import Targets
from logship.snapshot import verify_rows as rows
from logship.snapshot.verify_rows import Bound, Query
from logship.snapshot.verify_tables import Pair

_AT_ONCE: Final = 1_000  # rows of one statement
_FIRST_UNPINNED: Final = 10_000

# The log names a domain by its base type, and not at all when that is built in (`logship.replay.shape`).
_RELATION: Final = """
select c.oid::pg_catalog.int8, a.attname, a.atttypid::pg_catalog.int8, a.atttypmod, n.nspname, b.typname,
       b.oid::pg_catalog.int8
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace cn on cn.oid = c.relnamespace
  join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
   and a.attgenerated = ''
 cross join lateral (
   with recursive base (oid, typtype, typbasetype) as (
     select t.oid, t.typtype, t.typbasetype from pg_catalog.pg_type t where t.oid = a.atttypid
     union all
     select d.oid, d.typtype, d.typbasetype
       from base join pg_catalog.pg_type d on d.oid = base.typbasetype
      where base.typtype = 'd')
   select bt.* from base join pg_catalog.pg_type bt on bt.oid = base.oid where base.typtype <> 'd') b
  join pg_catalog.pg_namespace n on n.oid = b.typnamespace
 where cn.nspname = %s and c.relname = %s
 order by a.attnum
"""


@dataclass(slots=True)
class Plan:
    """``deleted``, ``replaced``, ``inserted``: the keys' texts; of a table without key its rows' hashes,
    each as often as it applies. ``equal``: how many need nothing any more."""

    table: str
    key: tuple[str, ...]
    deleted: list[Bound] = field(default_factory=list)
    replaced: list[Bound] = field(default_factory=list)
    inserted: list[Bound] = field(default_factory=list)
    equal: int = 0
    statements: list[Statement] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        return not (self.deleted or self.replaced or self.inserted)


def plan(
    pair: Pair, keys: Sequence[Bound], primary: psycopg.Connection, secondary: psycopg.Connection
) -> Plan:
    """Look at ``keys`` on both sides. `ReplayError` when the shape differs."""
    made = Plan(str(pair.table), tuple(column.name for column in pair.key_columns))
    target, places = _target(pair, primary, secondary)
    mending = _Mending(pair, target, places, made, primary=primary, secondary=secondary)
    for start in range(0, len(keys), _AT_ONCE):
        portion = keys[start : start + _AT_ONCE]
        if pair.key:
            mending.keyed(portion)
        else:
            mending.keyless(portion)
    made.statements = mending.in_order()
    return made


class _Mending:
    def __init__(
        self,
        pair: Pair,
        target: SecondaryTarget,
        places: Sequence[int],
        made: Plan,
        *,
        primary: psycopg.Connection,
        secondary: psycopg.Connection,
    ) -> None:
        self._pair = pair
        self._target = target
        self._places = places  # of the relation's columns among the pair's
        self._made = made
        self._primary = primary
        self._secondary = secondary
        self._deletes: list[Statement] = []
        self._replaces: list[Statement] = []
        self._inserts: list[Statement] = []

    def in_order(self) -> list[Statement]:
        """What goes makes room for what comes: a unique value may pass from one row to another."""
        return [*self._deletes, *self._replaces, *self._inserts]

    def keyed(self, keys: Sequence[Bound]) -> None:
        width, pair = len(self._pair.key), self._pair
        ours = {
            tuple(row[:width]): row[width:]
            for row in _rows(self._primary, rows.rows_by_key(pair, pair.primary, keys))
        }
        theirs: defaultdict[Bound, list[Any]] = defaultdict(list)
        for row in _rows(self._secondary, rows.rows_by_key(pair, pair.secondary, keys)):
            theirs[tuple(row[:width])].append(row[width:])
        gone, again, fresh = [], [], []
        for key in dict.fromkeys(keys):
            here, there = ours.get(key), theirs.get(key, [])
            if [here] == there or (here is None and not there):
                self._made.equal += 1
            elif here is None:
                gone.append(key)
            elif len(there) == 1 and there[0][0] != here[0]:
                again.append(key)
            elif not there:
                fresh.append(key)
            elif len(there) > 1:  # doubled on the secondary, where nothing keeps it unique
                gone.append(key)
                fresh.append(key)
            else:
                self._made.equal += 1
        self._made.deleted += gone
        self._made.replaced += again
        self._made.inserted += fresh
        if gone:
            deleting = statements.delete(self._target, self._keys(gone))
            self._deletes.append(dataclasses.replace(deleting, rows=sum(len(theirs[key]) for key in gone)))
        if again:
            came = self._rows([ours[key] for key in again])
            self._replaces.append(statements.replace(self._target, self._keys(again), came))
        if fresh:
            self._inserts.append(statements.insert(self._target, self._rows([ours[key] for key in fresh])))

    def keyless(self, hashes: Sequence[Bound]) -> None:
        pair, wanted = self._pair, [key[0] for key in hashes]
        ours = {row[1]: row for row in _rows(self._primary, rows.rows_by_hash(pair, pair.primary, wanted))}
        theirs = {
            row[1]: row for row in _rows(self._secondary, rows.rows_by_hash(pair, pair.secondary, wanted))
        }
        for one in dict.fromkeys(wanted):
            here, there = ours.get(one), theirs.get(one)
            surplus = (there[0] if there else 0) - (here[0] if here else 0)
            if there and surplus > 0:
                self._made.deleted += [(one,)] * surplus
                self._deletes += [statements.delete_one(self._target, self._row(there[2:]))] * surplus
            elif here and surplus < 0:
                self._made.inserted += [(one,)] * -surplus
                self._inserts += _inserts(self._target, self._row(here[2:]), -surplus)
            else:
                self._made.equal += 1

    def _keys(self, keys: Sequence[Bound]) -> Rows:
        return Rows.of(len(self._target.key), map(_cells, keys))

    def _rows(self, found: Sequence[Sequence[str | None]]) -> Rows:
        return Rows.of(len(self._target.columns), [self._row(one[1:]) for one in found])

    def _row(self, cells: Sequence[str | None]) -> Row:
        return [_cell(cells[place]) for place in self._places]


def _inserts(target: SecondaryTarget, row: Row, count: int) -> Iterator[Statement]:
    for start in range(0, count, _AT_ONCE):
        yield statements.insert(target, Rows.of(len(row), [row] * min(_AT_ONCE, count - start)))


def _cell(text: str | None) -> Cell:
    return None if text is None else text.encode()


def _cells(key: Bound) -> tuple[Cell, ...]:
    return tuple(text.encode() for text in key)


def _rows(link: psycopg.Connection, query: Query) -> list[Any]:
    with psycopg.RawCursor(link) as cursor:
        return cursor.execute(query.statement, query.parameters).fetchall()


def _target(
    pair: Pair, primary: psycopg.Connection, secondary: psycopg.Connection
) -> tuple[SecondaryTarget, list[int]]:
    """The table as replay writes it, and where its columns stand among the pair's."""
    described = primary.execute(_RELATION, [pair.table.schema, pair.table.name]).fetchall()
    keys = {column.name for column in pair.key_columns}
    names = [row[1] for row in described]
    if not keys <= set(names):
        raise RefusedAsUnsafe(
            f"the key of {pair.table} has a generated column: its rows can't be mended by key",
            hint=f"copy it anew: logship resync {pair.table}",
        )
    place = {column.name: number for number, column in enumerate(pair.columns)}
    types = {
        oid: TypeName(oid, schema, name)
        for _, _, oid, _, schema, name, base in described
        if oid >= _FIRST_UNPINNED and base >= _FIRST_UNPINNED
    }
    relation = Relation(
        described[0][0] if described else 0,
        pair.table.schema,
        pair.table.name,
        "d" if keys else "n",
        tuple(Column(name, oid, typmod, name in keys) for _, name, oid, typmod, *_ in described),
    )
    target = Targets(secondary).resolve(relation, types)
    # Keys are given in the index's order, and the target finds rows by them in the columns'.
    ordered = tuple(names.index(column.name) for column in pair.key_columns)
    return dataclasses.replace(target, key=ordered), [place[name] for name in names]
