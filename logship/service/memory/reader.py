"""One question answered from memory, with the rights of the role that asks, or the reason why not.

In: a question, the role, memory, a connection of the replayer to the secondary. Out: `Head` and an Arrow table.
The catalog is asked what the query's names stand for and whether the role may read all of it; then memory has
to have come to where that catalog is; then one transaction of DuckDB has the rows and their LSN; and then the
catalog has to say the same as before. Anything in doubt is left to the secondary, which asks nobody's leave but
its own rules'.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import psycopg
import pyarrow.compute as pc

from logship.catalog.readable import Readable, orders_by_bytes, readable, takes_the_place
from logship.config import Cold
from logship.errors import UsageError
from logship.lsn import Lsn
from logship.replay.memory.query import CouldNotRead, MemoryClosed, QueryRefused, Reading
from logship.replay.memory.resident import SHOWN, Residence
from logship.replay.memory.types import memory_type
from logship.replay.query.kinds import Elsewhere, Kind, Type, column_type
from logship.replay.query.relations import Column, Relation
from logship.replay.query.select import Carried, carry, functions_in, names_in, operators_in, parsed
from logship.service.memory.words import Came, Head, Question
from logship.service.positions import Positions, Stage

if TYPE_CHECKING:
    from logship.replay.memory.memory import Memory

Table: TypeAlias = Any  # pyarrow.Table; pyarrow has no types
Wanted: TypeAlias = tuple[str | None, str]
Name: TypeAlias = tuple[str, str]

_MOST_NAMES: Final = 100
_LOOK_S: Final = 0.2
_ANEW: Final = "memory is being made anew"
_POSITION: Final = "select p.replay_lsn::pg_catalog.text from logship.position p where p.replica = %s"


class NotResident(Exception):
    """An object that the query reads isn't in memory."""

    def __init__(self, name: Name, why: str) -> None:
        self.name = name
        self.reason = f"{name[0]}.{name[1]} isn't in memory: {why}"
        super().__init__(self.reason)


@dataclass(slots=True)
class Work:
    """One question under way. `interrupt` from any thread ends it."""

    question: Question
    asker: str
    until: float  # time.monotonic()
    interrupted: threading.Event = field(default_factory=threading.Event)
    reading: Reading | None = None

    @property
    def left_s(self) -> float:
        return max(0.0, self.until - time.monotonic())

    @property
    def over(self) -> bool:
        return self.interrupted.is_set() or self.left_s <= 0

    def interrupt(self) -> None:
        self.interrupted.set()
        reading = self.reading
        if reading is not None:
            reading.interrupt()


class MemoryReader:
    """``memory``: what the replay under way has, None while there is none. ``wake``: its thread."""

    def __init__(
        self,
        replica: str,
        *,
        memory: Callable[[], Memory | None],
        wake: Callable[[], None],
        switched_on: bool,
        positions: Positions,
        cold: Cold,
    ) -> None:
        self._replica = replica
        self._memory = memory
        self._wake = wake
        self._switched_on = switched_on
        self._positions = positions
        self._cold = cold
        self._ordered: bool | None = None  # once asked

    def answer(self, link: psycopg.Connection, work: Work) -> tuple[Head, Table | None]:
        """What came of it; never raises for what the question says."""
        cold = work.question.cold or self._cold
        try:
            return self._answered(link, work, cold)
        except UsageError as error:  # not one SELECT; or too large
            return Head(Came.LARGE if isinstance(error, QueryRefused) else Came.FAILED, error.message), None
        except _Behind as behind:
            return Head(Came.BEHIND, lsn=behind.lsn), None
        except _Late:
            return Head(Came.LATE), None
        except (Elsewhere, NotResident) as why:
            came = Came.REFUSED if cold is Cold.REFUSE else Came.ELSEWHERE
            return Head(came, why.reason), None

    def _answered(self, link: psycopg.Connection, work: Work, cold: Cold) -> tuple[Head, Table]:
        memory = self._memory()
        if memory is None:
            raise Elsewhere(_ANEW if self._switched_on else "memory is off")
        if work.question.at_least is not None:
            self._reach(work.question.at_least, memory, work)
        select = parsed(work.question.sql)
        self._require_own(link, work, functions_in(select), operators_in(select))
        wanted = names_in(select)
        if len(wanted) > _MOST_NAMES:
            raise Elsewhere("it names more than a hundred tables")
        loaded: dict[Name, None] = {}
        while True:
            found = self._look_up(link, work, wanted)
            self._reach(self._position(link), memory, work)
            try:
                carried, lsn, table = self._read(memory, work, found, ordered=self._orders_by_bytes(link))
                break
            except NotResident as absent:
                if cold is not Cold.LOAD:
                    raise
                self._load(memory, absent.name, work)
                loaded[absent.name] = None
            except MemoryClosed:
                raise Elsewhere(_ANEW) from None
        self._reach_catalog(memory.schema_lsn, lsn, work)
        if self._look_up(link, work, wanted) != found:
            raise Elsewhere("what its names stand for has changed meanwhile")
        memory.used(carried.tables)
        types = tuple(kind.oid for kind in carried.types)
        names = tuple(f"{schema}.{name}" for schema, name in loaded)
        return Head(Came.MEMORY, lsn=lsn, types=types, loaded=names), table

    # -- the catalog -----------------------------------------------------------------------------

    def _look_up(
        self, link: psycopg.Connection, work: Work, wanted: Sequence[Wanted]
    ) -> dict[Wanted, Readable]:
        found = {}
        for schema, name in wanted:
            schemas = work.question.schemas if schema is None else (schema,)
            relation = readable(link, work.asker, schemas, name)
            if relation is not None:
                found[(schema, name)] = relation
        return found

    def _orders_by_bytes(self, link: psycopg.Connection) -> bool:
        if self._ordered is None:
            self._ordered = orders_by_bytes(link)
        return self._ordered

    def _require_own(
        self, link: psycopg.Connection, work: Work, functions: set[str], operators: set[str]
    ) -> None:
        found = takes_the_place(link, work.question.schemas, functions, operators)
        if found is not None:
            raise Elsewhere(f"it may call {found}, which isn't PostgreSQL's own")

    def _position(self, link: psycopg.Connection) -> Lsn:
        row = link.execute(_POSITION, [self._replica]).fetchone()
        if row is None:
            raise Elsewhere("the secondary has no position of the replica")
        return Lsn.parse(row[0])

    def _reach(self, lsn: Lsn, memory: Memory, work: Work) -> None:
        """Wait for memory to be at ``lsn``."""
        if memory.memory_lsn >= lsn:
            return
        if not self._positions.wait(Stage.MEMORY, lsn, work.left_s, work.interrupted.is_set):
            raise _Behind(memory.memory_lsn)

    def _reach_catalog(self, schema_lsn: Lsn, lsn: Lsn, work: Work) -> None:
        """Wait for the secondary to have the last schema change that rows as of ``lsn`` follow, e.g. a REVOKE: memory
        may be ahead of it by that transaction, and by no other."""
        if not Lsn(0) < schema_lsn <= lsn:
            return
        stopped = work.interrupted.is_set
        if not self._positions.wait(Stage.PERSISTENCE, schema_lsn, work.left_s, stopped):
            raise _Late

    def _load(self, memory: Memory, name: Name, work: Work) -> None:
        """Returns when readers see it. `NotResident`: it can't be loaded; `_Late`."""
        asked = memory.request(*name)
        self._wake()
        while True:
            try:
                state = asked.result(min(_LOOK_S, work.left_s))
                break
            except TimeoutError:
                if work.over:
                    raise _Late from None
            except CancelledError:
                raise Elsewhere(_ANEW) from None
        if state.residence not in SHOWN:
            raise NotResident(name, state.reason)

    # -- memory ----------------------------------------------------------------------------------

    def _read(
        self, memory: Memory, work: Work, found: Mapping[Wanted, Readable], *, ordered: bool
    ) -> tuple[Carried, Lsn, Table]:
        with closing(memory.reading()) as reading:
            work.reading = reading
            try:
                resident = {
                    (state.schemaname, state.relname): state.reason or state.residence.value
                    if state.residence in (Residence.COLD, Residence.LOADING)
                    else ""
                    for state in memory.objects()
                }
                carried = carry(
                    work.question.sql,
                    lambda s, n: _relation(found.get((s, n)), reading, resident),
                    ordered=ordered,
                )
                table = _rows(reading, carried, work)
            finally:
                work.reading = None
        return carried, reading.lsn, table


class _Behind(Exception):
    def __init__(self, lsn: Lsn) -> None:
        super().__init__(str(lsn))
        self.lsn = lsn


class _Late(Exception):
    pass


def _relation(known: Readable | None, reading: Reading, resident: Mapping[Name, str]) -> Relation | None:
    if known is None:
        return None
    if known.why_not:
        return Relation(known.schema, known.name, why_not=known.why_not)
    name = (known.schema, known.name)
    why = resident.get(name, "it isn't replicated, or nothing has changed it yet")
    held = None if why else reading.columns(*name)
    if held is None:
        raise NotResident(name, why or "it has just left it")
    columns = []
    for column in known.columns:
        kind = column_type(
            column.type_oid,
            column.typmod,
            equal=column.equal,
            ordered=column.ordered,
            name=column.type_name,
            row=column.row,
        )
        has, why_not = held.get(column.name), ""
        if has is None:
            why_not = "isn't in memory"
        elif has == "VARCHAR" and kind.duckdb != has:
            kind = Type(
                Kind.OPAQUE, column.type_oid, name=f"{column.type_name}, of which one has no exact form"
            )
        elif has != memory_type(column.type_oid, column.typmod).duckdb:
            why_not = "has another type in memory"
        columns.append(Column(column.name, kind, why_not))
    return Relation(known.schema, known.name, tuple(columns))


def _rows(reading: Reading, carried: Carried, work: Work) -> Table:
    if work.over:
        raise _Late
    timer = threading.Timer(work.left_s, work.interrupt)
    timer.daemon = True
    timer.start()
    try:
        table = reading.table(carried.sql, work.question.limit_bytes)
    except CouldNotRead as error:
        if work.over:
            raise _Late from None
        raise Elsewhere(f"DuckDB couldn't compute it ({error})") from error
    finally:
        timer.cancel()
    for nth in carried.floats:
        if pc.any(pc.invert(pc.is_finite(table.column(nth)))).as_py():
            raise Elsewhere("a number that was computed isn't finite, which PostgreSQL may refuse")
    return table
