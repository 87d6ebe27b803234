"""Arrow tables as relations of one DuckDB connection, and statements over nothing else, prepared once.

In: Arrow tables; SQL that reads one of them. Out: results of the connection. What costs most of a small batch is
to make a relation of its table and to plan the statement: both are done once for tables of one schema. A plan
is only kept where it knows nothing of what other tables hold: those change, and DuckDB plans by what they hold.

Assumes one thread. `forget` after a rollback: relations that the transaction made are gone with it. No I/O.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final, TypeAlias

import duckdb

from logship.errors import InternalError

Table: TypeAlias = Any  # pyarrow.Table; pyarrow has no types

_RELATIONS: Final = 128  # schemas: a few for each table that changes
_PLANS: Final = 4  # of each: a segment or a delta that is full is followed by another


class _Current:
    """What DuckDB reads, whenever it does: the table that is staged then."""

    def __init__(self) -> None:
        self.table: Table = None

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.table.__arrow_c_stream__(requested_schema)


@dataclass(slots=True)
class _Relation:
    view: str
    current: _Current = field(default_factory=_Current)
    plans: OrderedDict[str, str] = field(default_factory=OrderedDict)  # by statement; the latest used last


class Staging:
    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._relations: OrderedDict[object, _Relation] = OrderedDict()  # by schema; the latest used last
        self._numbers = count(1)
        self._open: dict[str, _Relation] = {}  # by the name of the view

    @contextmanager
    def staged(self, table: Table) -> Iterator[str]:
        """``table`` as a view, by the name that is given."""
        relation = self._relation(table)
        if relation.view in self._open:
            raise InternalError("two tables of one schema can't be staged at a time")
        relation.current.table = table
        self._open[relation.view] = relation
        try:
            yield relation.view
        finally:
            del self._open[relation.view]
            relation.current.table = None

    def execute(self, view: str, statement: str) -> None:
        """``statement`` reads ``view``, which is staged now, and no other table."""
        # A result that isn't read to its end keeps the connection busy.
        self._connection.execute(f"execute {self._plan(view, statement)}").fetchall()

    def table(self, view: str, query: str) -> Table:
        """What ``query`` gives, which reads ``view`` and no other table."""
        return self._connection.sql(f"execute {self._plan(view, query)}").to_arrow_table()

    def _plan(self, view: str, statement: str) -> str:
        plans = self._open[view].plans
        name = plans.get(statement)
        if name is None:
            if len(plans) >= _PLANS:
                self._deallocate(plans.popitem(last=False)[1])
            name = f"logship_plan_{next(self._numbers)}"
            self._connection.execute(f"prepare {name} as {statement}").fetchall()
            plans[statement] = name
        plans.move_to_end(statement)
        return name

    def forget(self) -> None:
        """All of it is made anew where it is needed."""
        while self._relations:
            self._let_go(self._relations.popitem()[1])

    def _relation(self, table: Table) -> _Relation:
        schema = tuple((one.name, str(one.type)) for one in table.schema)
        relation = self._relations.get(schema)
        if relation is None:
            if len(self._relations) >= _RELATIONS:
                self._let_go(self._relations.popitem(last=False)[1])
            relation = _Relation(f"logship_staged_{next(self._numbers)}")
            relation.current.table = table
            self._connection.register(relation.view, relation.current)
            self._relations[schema] = relation
        self._relations.move_to_end(schema)
        return relation

    def _let_go(self, relation: _Relation) -> None:
        for name in relation.plans.values():
            self._deallocate(name)
        with suppress(duckdb.Error):  # the transaction that made it was rolled back, or is aborted
            self._connection.unregister(relation.view)

    def _deallocate(self, name: str) -> None:
        with suppress(duckdb.Error):
            self._connection.execute(f"deallocate {name}").fetchall()
