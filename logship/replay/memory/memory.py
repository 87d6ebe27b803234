"""The in-memory store: the objects that are resident, at one position, for many readers.

In: `Batch`es in order, from one thread; `Readers`, which load objects beside it; persistence, to wait for.
Out: answers to queries from any thread, each with the LSN it is true at, and `ObjectState`s. One batch is
one DuckDB transaction and one new position: readers see whole batches.

A cold object's first change starts a load: a snapshot no older than the position before that change is read
into a hidden table, while other objects' changes are replayed. Its own changes are kept, and replayed on top
when it has been read; it is shown when nothing is left of them (`residency`).

Assumes that batches end at the same positions here and in persistence. Lack of memory, a value that a
type can't hold and a secondary that can't be read are no errors: the object is cold, with the reason,
and persistence has it. A change that doesn't fit the rows is one, always: `MemoryDiffers`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final, TypeAlias

import duckdb

from logship.change import Relation, TypeName
from logship.errors import InternalError
from logship.lsn import Lsn
from logship.replay.batch import Batch, SchemaChange
from logship.replay.memory.changes import SchemaChanges
from logship.replay.memory.follow import agrees
from logship.replay.memory.load import CouldNotLoad, convert
from logship.replay.memory.merge import Merger
from logship.replay.memory.pin import Pinned
from logship.replay.memory.policy import Policies
from logship.replay.memory.query import Reading, TablesRead, answer, snapshot_of
from logship.replay.memory.reading import Readers
from logship.replay.memory.replay import (
    Misses,
    Named,
    OpenTransaction,
    Unholdable,
    carry_out,
    named,
    prepare,
)
from logship.replay.memory.residency import Residency
from logship.replay.memory.resident import Happening, MemoryObject, Name, ObjectState, Residence
from logship.replay.memory.room import Behind
from logship.replay.memory.store import Store
from logship.replay.memory.table import same_shape
from logship.replay.merge import merged
from logship.replay.target import Target

Table: TypeAlias = Any  # pyarrow.Table; pyarrow has no types

_RESULT_BYTES: Final = 256 << 20
_SERVE_S: Final = 0.015  # of loads and the like between two batches: they wait no longer than this


class Memory:
    """What isn't said to be for any thread belongs to one: the first that calls such a method."""

    def __init__(
        self,
        readers: Readers,
        *,
        start_lsn: Lsn,
        budget_bytes: int,
        behind: Behind,
        policies: Policies | None = None,
        spill_directory: Path | None = None,
        threads: int = 2,
        now: Callable[[], float] = time.monotonic,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        """``start_lsn`` is persistence's position, behind which the first batch follows. ``wake`` is called, from any
        thread, when `serve` has something to do."""
        self._now = now
        self._wake = wake
        self._store = Store(
            limit_bytes=budget_bytes, spill_directory=spill_directory, threads=threads, start_lsn=start_lsn
        )
        self._residency = Residency(
            self._store,
            readers,
            behind,
            start_lsn=start_lsn,
            budget_bytes=budget_bytes,
            policies=policies or Policies(),
            catch_up=self._catch_up,
        )
        self._changes = SchemaChanges(self._store, self._residency)
        self._tables_read = TablesRead()
        self._merger = Merger(self._store, now)
        self._open: OpenTransaction | None = None
        self._decisions: dict[tuple[Lsn, int, bool], Future[bool]] = {}
        self._writer: int | None = None
        self._changing_schema = False  # in the transaction that is open
        self._schema_lsn = Lsn(0)

    # -- for any thread ------------------------------------------------------------------------

    @property
    def memory_lsn(self) -> Lsn:
        """What readers see at least. A query's own LSN comes with its answer."""
        return self._residency.lsn

    @property
    def schema_lsn(self) -> Lsn:
        """The end of the last transaction with a schema change, where memory has it; 0: none since the start. Names
        and rights that readers see belong to it, which the secondary's catalog may not have yet."""
        return self._schema_lsn

    @property
    def busy(self) -> bool:
        """Whether `serve` has, or will have, something to do without a batch."""
        return self._residency.busy or self._merger.pending(list(self._residency.objects.values()))

    def objects(self) -> list[ObjectState]:
        """Every object that a batch has named so far."""
        return self._residency.states()

    def query(
        self, query: str, *, as_text: bool = False, limit_bytes: int = _RESULT_BYTES
    ) -> tuple[Table, Lsn]:
        """The result of one SELECT and the LSN it is true at; `QueryRefused` for anything else, `MemoryClosed`.

        With ``as_text`` every cell is text as PostgreSQL would write it.
        """
        table, lsn, names = answer(
            self._store, query, self.objects(), self._tables_read, as_text=as_text, limit_bytes=limit_bytes
        )
        self.used(
            known.name
            for known in list(self._residency.objects.values())
            if f"{known.target.schema}.{known.target.name}" in names or known.target.name in names
        )
        return table, lsn

    def used(self, names: Iterable[Name]) -> None:
        """A query has read these objects in memory: hits, and a later eviction."""
        self._residency.used(names)

    def request(self, schema: str, name: str) -> Future[ObjectState]:
        """Load this object now. The result is its state as soon as readers see it, or when it can't be loaded,
        with the reason; cancelled when memory is closed. `serve` does it: the writer's thread is woken."""
        asked = self._residency.request((schema, name))
        self._wake()
        return asked

    def heard(self, relation: Relation, types: Mapping[int, TypeName]) -> None:
        """The log has described ``relation``: from here on it can be loaded, changed or not."""
        if self._residency.heard(relation, types):
            self._wake()

    def pin(self) -> Pinned:
        """Memory as it is now, to be closed. The caller sees to it that no batch is under way."""
        return Pinned(*self._store.snapshot(), list(self._residency.objects.values()))

    def reading(self) -> Reading:
        """Memory as it is now, for one query in DuckDB's SQL, whatever is replayed meanwhile; to be closed.
        `MemoryClosed`."""
        return Reading(*snapshot_of(self._store))

    # -- for the writer ------------------------------------------------------------------------

    def apply(self, batch: Batch) -> None:
        """Replay ``batch``. Once it returns and the batch is complete, readers see it.

        `MemoryDiffers` when a change doesn't fit: nothing of the transaction stays, stop the replica.
        """
        self.replay([batch])

    def replay(self, batches: Sequence[Batch]) -> None:
        """Whole batches that follow one another, in as few transactions as may be; or one piece alone."""
        self._require_writer()
        self._merger.replayed()
        if batches[0].schema_change is not None:
            self._change_schema(batches[0].schema_change)
            return
        if self._open is None:
            self._residency.begin_wanted()
        for batch in batches:
            self._meet(batch)
        for batch in merged(batches) if len(batches) > 1 else batches:
            self._apply(batch)

    def serve(self) -> bool:
        """What is to be done beside the replay, for a moment: loads, requests, evictions. Whether there may be
        more; call it again then, when no batch has come."""
        self._require_writer()
        began = self._now()
        while self._open is None and (self._residency.serve() or self._merge()):
            if self._now() - began >= _SERVE_S:
                return True
        return False

    def _merge(self) -> bool:
        try:
            return self._merger.step(self._residency.objects.values(), self.memory_lsn)
        except duckdb.OutOfMemoryException:
            self._residency.give_way(())
            return True

    def abandon(self) -> None:
        """Forget the open transaction: its pieces will come again, or never."""
        self._require_writer()
        self._residency.abandon()
        self._changing_schema = False
        if self._open is not None:
            self._roll_back(self._open)
            self._open = None

    def want(self, target: Target) -> None:
        """Load ``target``, changed or not."""
        self._require_writer()
        self._residency.want(target)

    def evict(self, schema: str, name: str, reason: str = "evicted on request") -> None:
        """Drop an object once persistence has all of it; it is loaded again at a later change."""
        self._require_writer()
        if self._open is not None:
            raise InternalError("an object can't be evicted inside a transaction")
        known = self._residency.objects.get((schema, name))
        if known is not None and known.residence is not Residence.COLD:
            self._residency.evict(known, reason)

    def close(self) -> None:
        """After the writer's last call and the readers' last answer."""
        for decided in list(self._decisions.values()):
            decided.cancel()
        self._residency.close()
        self._store.close()

    # -- replay ----------------------------------------------------------------------------------

    def _meet(self, batch: Batch) -> None:
        """Before it is replayed: what has another shape now goes, what is changed and cold is loaded."""
        changed = named(batch)
        opened = self._open
        for name, target in changed.targets.items():
            known = self._shown(name)
            if known is None or (same_shape(known.target, target) and name not in changed.reshaped):
                continue
            if known.provisional and name not in changed.reshaped and agrees(known, target):
                self._changes.adopt(known, target, opened)
            elif opened is not None:
                self._lose(opened, "its shape changed inside a transaction")
            else:
                self._residency.evict(known, "its shape changed")
                known.target, known.not_before = target, 0
        self._residency.meet(batch, changed, may_begin=opened is None)

    def _apply(self, batch: Batch) -> None:
        changed = named(batch)
        if self._open is None:
            if batch.complete and batch.end_lsn <= self.memory_lsn and batch.steps:
                raise InternalError(f"a batch that ends at {batch.end_lsn} came after {self.memory_lsn}")
            self._open = OpenTransaction()
        try:
            self._open.touched.update(changed.targets)
            if not self._open.lost:
                self._replay(batch, changed, self._open)
            if batch.complete:
                self._complete(batch.end_lsn, self._open)
                self._open = None
                self._residency.keep_within_budget()
        except BaseException:
            self.abandon()
            raise

    def _change_schema(self, change: SchemaChange) -> None:
        """In the transaction that is open, or begins: readers see it with the rows of the same one."""
        self._residency.give_up_loads("the schema changed while it was loaded")
        self._changing_schema = True
        if self._open is None:
            self._open = OpenTransaction()
        try:
            carried = self._changes.carry(change, self._open)
        except duckdb.Error as error:  # lack of memory, or a value that its type can't hold
            self._lose(self._open, f"its schema changed, and memory couldn't follow ({type(error).__name__})")
            carried = False
        decided = self._decisions.pop(_key(change), None)
        if decided is not None and not decided.cancelled():
            decided.set_result(carried)

    def decision(self, change: SchemaChange) -> Future[bool]:
        """Whether memory carries ``change`` out, once it has come to it; cancelled when memory is closed. To be
        asked before the change is handed over; any thread."""
        decided: Future[bool] = Future()
        self._decisions[_key(change)] = decided
        return decided

    def _replay(self, batch: Batch, changed: Named, opened: OpenTransaction) -> None:
        """Carry out ``batch``'s steps in the open transaction, which begins here."""
        while True:
            try:
                prepared = prepare(batch, self._store, self._shown)
                if not opened.begun:
                    self._store.begin()
                    opened.begun = True
                carry_out(prepared, opened, self._store, batch.end_lsn)
                break
            except (Misses, Unholdable, duckdb.OutOfMemoryException) as error:
                self._roll_back(opened)
                if opened.pieces:
                    self._lose(opened, "a transaction in pieces didn't fit")
                    self._remember(error)
                    return
                if isinstance(error, Misses):
                    self._convert(error)
                elif isinstance(error, Unholdable):
                    self._residency.evict(self._residency.objects[error.name], error.reason)
                else:
                    self._residency.give_way(changed.targets)
        opened.pieces += 1
        opened.add(prepared)

    def _shown(self, name: Name) -> MemoryObject | None:
        known = self._residency.objects.get(name)
        if known is None or not known.shown or (self._open is not None and name in self._open.leaving):
            return None
        return known

    def _convert(self, misses: Misses) -> None:
        for name, columns in misses.columns.items():
            known = self._residency.objects[name]
            try:
                convert(self._store, known, columns)
            except duckdb.OutOfMemoryException:
                self._residency.evict(known, "out of memory")

    def _remember(self, error: Exception) -> None:
        if isinstance(error, Misses):
            for name, columns in error.columns.items():
                known = self._residency.objects[name]
                known.as_text |= {column.name for column in columns}

    def _catch_up(self, known: MemoryObject, batches: list[Batch]) -> None:
        """Replay what was kept for an object that is being loaded, in a transaction that nobody sees."""
        for batch in batches:
            opened = OpenTransaction()
            while True:
                try:
                    prepared = prepare(batch, self._store, lambda _: known)
                    break
                except Misses as misses:
                    convert(self._store, known, misses.columns[known.name])
                except Unholdable as error:
                    raise CouldNotLoad(error.reason) from None
            self._store.begin()
            opened.begun = True
            try:
                carry_out(prepared, opened, self._store, batch.end_lsn)
                self._store.commit()
            except duckdb.OutOfMemoryException:
                self._roll_back(opened)
                raise CouldNotLoad("there is not enough memory for what changed in it") from None
            except BaseException:
                self._roll_back(opened)
                raise
            opened.add(prepared)
            self._account(batch.end_lsn, opened, {known.name})

    def _lose(self, opened: OpenTransaction, reason: str) -> None:
        """What earlier pieces changed can't be replayed again here: those objects go when it commits."""
        self._roll_back(opened)
        opened.lost = reason

    def _roll_back(self, opened: OpenTransaction) -> None:
        if opened.begun:
            opened.begun = False
            self._store.rollback()
        self._changes.restore(opened)

    # -- commit ----------------------------------------------------------------------------------

    def _complete(self, end_lsn: Lsn, opened: OpenTransaction) -> None:
        if self._changing_schema:  # before a reader sees it
            self._schema_lsn, self._changing_schema = end_lsn, False
        if not opened.lost:
            try:
                self._commit(end_lsn, opened)
            except duckdb.OutOfMemoryException:
                self._lose(opened, "out of memory")
            else:
                self._account(end_lsn, opened, opened.touched)
        if opened.lost:
            self._commit_without(end_lsn, opened)
        for name in opened.gone:
            self._residency.forget(name)
        self._residency.lsn = end_lsn

    def _commit(self, end_lsn: Lsn, opened: OpenTransaction) -> None:
        """Rows and position, for readers at once."""
        if opened.leaving:
            self._residency.wait_behind(self.memory_lsn)
        if not opened.begun:
            self._store.begin()
            opened.begun = True
        self._store.commit(end_lsn)
        opened.begun = False
        self._changes.committed(opened)

    def _account(self, end_lsn: Lsn, opened: OpenTransaction, names: Iterable[Name]) -> None:
        for name in names:
            known = self._residency.objects.get(name)
            if known is None:
                continue
            known.last_change_lsn = max(known.last_change_lsn, end_lsn)
            change = opened.changes.get(name)
            if change is not None:
                self._residency.touch(known)
                known.changes += change.changes
                known.rows += change.rows
                if change.parts is not None:
                    known.lay_out(change.parts)

    def _commit_without(self, end_lsn: Lsn, opened: OpenTransaction) -> None:
        """Move on without the objects of a transaction that was lost; they are loaded anew behind it."""
        objects = self._residency.objects
        going = [objects[name] for name in opened.touched if name in objects and objects[name].shown]
        for known in going:
            if known.residence is not Residence.EVICTING:
                known.on(Happening.LOSE)
        try:
            self._residency.wait_behind(self.memory_lsn)
            self._store.begin()
            opened.begun = True
            for known in going:
                self._store.execute(known.held.drop())
            self._store.commit(end_lsn)
            opened.begun = False
        except BaseException:
            for known in going:
                known.keep()
            raise
        for known in going:
            known.dropped(opened.lost, self._residency.batches)
            known.last_change_lsn = end_lsn
            if known.name not in opened.reshaped:
                self._residency.want_again(known)

    def _require_writer(self) -> None:
        me = threading.get_ident()
        if self._writer is None:
            self._writer = me
        if self._writer != me:
            raise InternalError("memory is written by two threads; DuckDB would lose rows")


def _key(change: SchemaChange) -> tuple[Lsn, int, bool]:
    return change.commit_lsn, change.number, change.done
