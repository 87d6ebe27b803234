"""The in-memory store: the objects that are resident, at one position, for many readers.

In: `Batch`es in order, from one thread; a `SnapshotSource` to load objects from; the function that
waits for persistence. Out: answers to queries from any thread, each with the LSN it is true at, and
`ObjectState`s. One batch is one DuckDB transaction and one new position: readers see whole batches.

An object is loaded at its first change, before the batch: persistence is waited for up to the position
readers see, then rows and position are read in one snapshot. A snapshot that is ahead stays hidden, and
batches up to its position are passed over, until the position readers see has caught up.

Assumes that batches end at the same positions here and in persistence. Lack of memory, a value that a
type can't hold and a secondary that can't be read are no errors: the object is cold, with the reason,
and persistence has it. A change that doesn't fit the rows is one, always: `MemoryDiffers`.
"""

from __future__ import annotations

import enum
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeAlias

import duckdb

from logship.errors import InternalError, ReplayError
from logship.lsn import Lsn
from logship.replay.batch import Batch, SchemaChange
from logship.replay.load import SnapshotSource
from logship.replay.memory_load import CouldNotLoad, convert, load
from logship.replay.memory_pin import Pinned
from logship.replay.memory_query import Reading, answer
from logship.replay.memory_replay import Misses, Named, OpenTransaction, carry_out, named, prepare
from logship.replay.memory_schema import concerned, gone
from logship.replay.memory_store import Store
from logship.replay.memory_table import same_shape, why_not
from logship.replay.resident import Happening, MemoryObject, Name, ObjectState, Residence
from logship.replay.target import Target

Table: TypeAlias = Any  # pyarrow.Table; pyarrow has no types

_log: Final = logging.getLogger(__name__)

_RESULT_BYTES: Final = 256 << 20
_TABLES_SHARE: Final = (3, 4)  # of the budget; the rest is for batches, loads and queries at work


class Policy(enum.Enum):
    LAZY = "lazy"  # load an object at its first change
    OFF = "off"  # load nothing; only the position moves


class Memory:
    """``apply``, ``abandon``, ``want`` and ``evict`` belong to one thread: the first that calls one."""

    def __init__(
        self,
        loader: SnapshotSource,
        *,
        start_lsn: Lsn,
        budget_bytes: int,
        wait_for_persistence: Callable[[Lsn], None],
        policy: Policy = Policy.LAZY,
        may_be_resident: Callable[[Target], bool] = lambda _: True,
        spill_directory: Path | None = None,
        threads: int = 2,
    ) -> None:
        """``start_lsn`` is persistence's position, behind which the first batch follows.

        ``wait_for_persistence(lsn)`` returns once persistence has committed everything up to ``lsn``;
        what it raises goes through, with nothing changed here.
        """
        self._loader = loader
        self._wait = wait_for_persistence
        self._policy = policy
        self._may_be_resident = may_be_resident
        self._tables_budget = budget_bytes * _TABLES_SHARE[0] // _TABLES_SHARE[1]
        self._store = Store(
            limit_bytes=budget_bytes, spill_directory=spill_directory, threads=threads, start_lsn=start_lsn
        )
        self._lsn = start_lsn
        self._objects: dict[Name, MemoryObject] = {}
        self._wanted: dict[Name, Target] = {}  # to be loaded before the next transaction
        self._open: OpenTransaction | None = None
        self._batches = 0
        self._uses = 0
        self._writer: int | None = None

    # -- for any thread ------------------------------------------------------------------------

    @property
    def memory_lsn(self) -> Lsn:
        """What readers see at least. A query's own LSN comes with its answer."""
        return self._lsn

    def objects(self) -> list[ObjectState]:
        """Every object that a batch has named so far."""
        return [known.state() for known in list(self._objects.values())]

    def query(
        self, query: str, *, as_text: bool = False, limit_bytes: int = _RESULT_BYTES
    ) -> tuple[Table, Lsn]:
        """The result of one SELECT and the LSN it is true at; `QueryRefused` for anything else.

        With ``as_text`` every cell is text as PostgreSQL would write it.
        """
        table, lsn, names = answer(
            self._store, query, self.objects(), as_text=as_text, limit_bytes=limit_bytes
        )
        for known in list(self._objects.values()):
            if f"{known.target.schema}.{known.target.name}" in names or known.target.name in names:
                self._used(known)
        return table, lsn

    def pin(self) -> Pinned:
        """Memory as it is now, to be closed. The caller sees to it that no batch is under way."""
        return Pinned(self._store.reader(), list(self._objects.values()))

    def reading(self) -> Reading:
        """Memory as it is now, for one query in DuckDB's SQL, whatever is replayed meanwhile; to be closed."""
        return Reading(self._store.reader())

    # -- for the writer ------------------------------------------------------------------------

    def apply(self, batch: Batch) -> None:
        """Replay ``batch``. Once it returns and the batch is complete, readers see it.

        `MemoryDiffers` when a change doesn't fit: nothing of the transaction stays, stop the replica.
        """
        self._require_writer()
        self._batches += 1
        if batch.schema_change is not None:
            self._change_schema(batch.schema_change)
            return
        changed = named(batch)
        if self._open is None:
            if batch.complete and batch.end_lsn <= self._lsn and batch.steps:
                raise InternalError(f"a batch that ends at {batch.end_lsn} came after {self._lsn}")
            self._make_resident(changed)
            self._open = OpenTransaction()
        else:
            self._put_off(changed, self._open)
        try:
            self._open.touched.update(changed.targets)
            if not self._open.lost:
                self._replay(batch, changed, self._open)
            if batch.complete:
                self._complete(batch.end_lsn, self._open)
                self._open = None
                self._keep_within_budget()
        except BaseException:
            self.abandon()
            raise

    def _change_schema(self, change: SchemaChange) -> None:
        """What it concerns goes when the transaction commits, and comes back at its next change."""
        if self._open is None:
            self._open = OpenTransaction()
        known = self._objects.values()
        concerns = concerned(change.statement, known)
        self._open.touched |= concerns
        self._open.reshaped |= concerns
        self._open.gone |= gone(change.statement, known)
        if concerns:
            self._lose(self._open, "its schema changed")

    def holds(self, change: SchemaChange) -> bool:
        """Whether it concerns anything that is resident, or on its way. Any thread may ask."""
        known = [one for one in list(self._objects.values()) if one.residence is not Residence.COLD]
        return bool(concerned(change.statement, known))

    def abandon(self) -> None:
        """Forget the open transaction: its pieces will come again, or never."""
        self._require_writer()
        if self._open is not None:
            self._roll_back(self._open)
            self._open = None

    def want(self, target: Target) -> None:
        """Load ``target`` before the next batch, changed or not."""
        self._require_writer()
        self._wanted[(target.schema, target.name)] = target

    def evict(self, schema: str, name: str, reason: str = "evicted on request") -> None:
        """Drop an object once persistence has all of it; it is loaded again at a later change."""
        self._require_writer()
        if self._open is not None:
            raise InternalError("an object can't be evicted inside a transaction")
        known = self._objects.get((schema, name))
        if known is not None and known.residence is not Residence.COLD:
            self._evict(known, reason)

    def close(self) -> None:
        """After the writer's last call and the readers' last answer."""
        self._loader.close()
        self._store.close()

    # -- residence -------------------------------------------------------------------------------

    def _make_resident(self, changed: Named) -> None:
        """Before a transaction: drop what has another shape now, load what it changes."""
        for name, target in changed.targets.items():
            known = self._objects.setdefault(name, MemoryObject(target))
            if not same_shape(known.target, target) or name in changed.reshaped:
                if known.residence is not Residence.COLD:
                    self._evict(known, "its shape changed")
                known.target = target
                known.not_before = 0
        wanted = dict(self._wanted)
        wanted.update({name: target for name, target in changed.targets.items() if name in changed.rows})
        for name, target in wanted.items():
            known = self._objects.setdefault(name, MemoryObject(target))
            self._used(known)
            if name in changed.reshaped:
                self._wanted[name] = target
            elif known.residence is Residence.COLD and self._batches >= known.not_before:
                self._wanted.pop(name, None)
                self._load(known, protected=set(wanted))

    def _put_off(self, changed: Named, opened: OpenTransaction) -> None:
        """What a later piece changes first is loaded after the transaction: half of it may have been
        replayed by then in persistence, or none, and no snapshot lies between."""
        for name, target in changed.targets.items():
            known = self._objects.setdefault(name, MemoryObject(target))
            if known.residence is Residence.COLD:
                known.target = target
                if name in changed.rows:
                    self._wanted[name] = target
            elif not same_shape(known.target, target) or name in changed.reshaped:
                self._lose(opened, "its shape changed inside a transaction")

    def _load(self, known: MemoryObject, protected: set[Name]) -> None:
        refusal = self._refusal(known)
        if refusal:
            known.reason = refusal
            return
        known.on(Happening.LOAD)
        try:
            self._wait(self._lsn)
        except BaseException:
            known.failed("waiting for persistence was broken off", self._batches)
            raise
        try:
            self._read(known, protected)
        except CouldNotLoad as error:
            known.failed(error.message, self._batches)
            _log.info("%s stays out of memory: %s", known.target, error.message)
        except BaseException:
            known.failed("loading was broken off", self._batches)
            raise

    def _read(self, known: MemoryObject, protected: set[Name]) -> None:
        while True:
            try:
                load(self._store, self._loader, known, self._lsn, lambda size: self._room(size, protected))
                break
            except duckdb.OutOfMemoryException:
                victim = self._least_used(protected)
                if victim is None:
                    raise CouldNotLoad("there is not enough memory for it") from None
                self._evict(victim, "out of memory")
        if known.loaded_lsn == self._lsn:
            self._show(known)
        _log.info("%s loaded at %s, %d rows", known.target, known.loaded_lsn, known.rows)

    def _refusal(self, known: MemoryObject) -> str:
        if self._policy is Policy.OFF:
            return "memory is off"
        if not self._may_be_resident(known.target):
            return "the settings keep it out of memory"
        for other in self._objects.values():
            same = (other.name[0].lower(), other.name[1].lower()) == (
                known.name[0].lower(),
                known.name[1].lower(),
            )
            if same and other is not known and other.residence is not Residence.COLD:
                return (
                    f"its name differs from {other.target}, which is in memory, in upper and lower case only"
                )
        return why_not(known.target)

    def _show(self, known: MemoryObject) -> None:
        shown = known.held
        self._store.execute(shown.rename(known.target.name))
        known.table = shown.shown()
        known.on(Happening.SHOW)

    def _evict(self, known: MemoryObject, reason: str) -> None:
        """Outside of transactions. Readers lose it only when persistence can answer in its place."""
        if known.residence is Residence.LOADING:
            self._store.execute(known.held.drop())
            known.failed(reason, self._batches)
            return
        known.on(Happening.EVICT)
        try:
            self._wait(self._lsn)
        except BaseException:
            known.on(Happening.KEEP)
            raise
        self._store.execute(known.held.drop())
        known.dropped(reason, self._batches)
        _log.info("%s evicted: %s", known.target, reason)

    # -- budget ----------------------------------------------------------------------------------

    def _used(self, known: MemoryObject) -> None:
        self._uses += 1
        known.last_used = self._uses

    def _least_used(self, protected: set[Name]) -> MemoryObject | None:
        held = [
            known
            for known in self._objects.values()
            if known.table is not None and known.name not in protected
        ]
        return min(held, key=lambda known: known.last_used, default=None)

    def _used_bytes(self) -> int:
        return sum(known.size_bytes for known in self._objects.values())

    def _room(self, size_bytes: int, protected: set[Name]) -> None:
        """Evict until ``size_bytes`` more fit; `CouldNotLoad` when they can't."""
        if size_bytes > self._tables_budget:
            raise CouldNotLoad(
                f"it is larger ({size_bytes} bytes) than memory is for ({self._tables_budget} bytes)"
            )
        while self._used_bytes() + size_bytes > self._tables_budget:
            victim = self._least_used(protected)
            if victim is None:
                raise CouldNotLoad("there is no room beside what the same batch changes")
            self._evict(victim, "made room for another object")

    def _keep_within_budget(self) -> None:
        while self._used_bytes() > self._tables_budget:
            victim = self._least_used(set())
            if victim is None:
                return
            self._evict(victim, "memory is full, and it was used least recently")

    def _give_way(self, changed: Named) -> None:
        """After lack of memory in a batch: the least used object goes, or one that the batch changes."""
        victim = self._least_used(set(changed.targets)) or max(
            (known for known in self._objects.values() if known.table is not None),
            key=lambda known: known.size_bytes,
            default=None,
        )
        if victim is None:
            raise ReplayError(
                "memory is too small to move its position", hint="raise the memory budget, or set memory off"
            )
        self._evict(victim, "out of memory")

    # -- replay ------------------------------------------------------------------------------------

    def _replay(self, batch: Batch, changed: Named, opened: OpenTransaction) -> None:
        """Carry out ``batch``'s steps in the open transaction, which begins here."""
        while True:
            try:
                prepared = prepare(batch, self._store, self._resident)
                if not opened.begun:
                    self._store.begin()
                    opened.begun = True
                carry_out(prepared, opened, self._store, batch.end_lsn)
                break
            except (Misses, duckdb.OutOfMemoryException) as error:
                self._roll_back(opened)
                if opened.pieces:
                    self._lose(opened, "a transaction in pieces didn't fit")
                    self._remember(error)
                    return
                if isinstance(error, Misses):
                    self._convert(error)
                else:
                    self._give_way(changed)
        opened.pieces += 1
        opened.add(prepared)

    def _resident(self, name: Name) -> MemoryObject | None:
        known = self._objects[name]
        return known if known.residence is Residence.RESIDENT else None

    def _convert(self, misses: Misses) -> None:
        for name, columns in misses.columns.items():
            known = self._objects[name]
            try:
                convert(self._store, known, columns)
            except duckdb.OutOfMemoryException:
                self._evict(known, "out of memory")

    def _remember(self, error: Exception) -> None:
        if isinstance(error, Misses):
            for name, columns in error.columns.items():
                known = self._objects[name]
                known.as_text |= {column.name for column in columns}

    def _lose(self, opened: OpenTransaction, reason: str) -> None:
        """What earlier pieces changed can't be replayed again here: those objects go when it commits."""
        self._roll_back(opened)
        opened.lost = reason

    def _roll_back(self, opened: OpenTransaction) -> None:
        if opened.begun:
            opened.begun = False
            self._store.rollback()

    def _complete(self, end_lsn: Lsn, opened: OpenTransaction) -> None:
        if not opened.lost:
            try:
                shown = self._commit(end_lsn, opened)
            except duckdb.OutOfMemoryException:
                self._lose(opened, "out of memory")
            else:
                self._account(end_lsn, opened, shown)
        if opened.lost:
            self._commit_without(end_lsn, opened)
        for name in opened.gone:
            self._objects.pop(name, None)
            self._wanted.pop(name, None)
        self._lsn = end_lsn

    def _commit(self, end_lsn: Lsn, opened: OpenTransaction) -> list[MemoryObject]:
        """Rows, position and the objects that the position has caught up with, for readers at once."""
        if not opened.begun:
            self._store.begin()
            opened.begun = True
        caught_up = [
            known
            for known in self._objects.values()
            if known.residence is Residence.LOADING and known.loaded_lsn <= end_lsn
        ]
        for known in caught_up:
            if known.loaded_lsn == end_lsn or known.name not in opened.touched:
                self._store.execute(known.held.rename(known.target.name))
            else:  # its snapshot lies inside this batch: it can't be told which changes it has
                self._store.execute(known.held.drop())
        self._store.move(end_lsn)
        self._store.commit()
        opened.begun = False
        return caught_up

    def _account(self, end_lsn: Lsn, opened: OpenTransaction, caught_up: list[MemoryObject]) -> None:
        for known in caught_up:
            if known.loaded_lsn == end_lsn or known.name not in opened.touched:
                known.table = known.held.shown()
                known.on(Happening.SHOW)
            else:
                known.failed("persistence was inside a batch when it was read", self._batches)
                self._wanted[known.name] = known.target
        for name in opened.touched:
            known = self._objects[name]
            known.last_change_lsn = end_lsn
            self._used(known)
            change = opened.changes.get(name)
            if change is not None:
                known.changes += change.changes
                known.rows += change.rows
                known.size_bytes = max(0, known.size_bytes + change.size_bytes)

    def _commit_without(self, end_lsn: Lsn, opened: OpenTransaction) -> None:
        """Move on without the objects of a transaction that was lost; they are loaded anew behind it."""
        going = [self._objects[name] for name in opened.touched if self._objects[name].table is not None]
        for known in going:
            if known.residence is Residence.RESIDENT:
                known.on(Happening.EVICT)
        try:
            self._wait(self._lsn)
            self._store.begin()
            opened.begun = True
            for known in going:
                self._store.execute(known.held.drop())
            self._store.move(end_lsn)
            self._store.commit()
            opened.begun = False
        except BaseException:
            for known in going:
                if known.residence is Residence.EVICTING:
                    known.on(Happening.KEEP)
            raise
        for known in going:
            if known.residence is Residence.LOADING:
                known.failed(opened.lost, self._batches)
            else:
                known.dropped(opened.lost, self._batches)
            known.last_change_lsn = end_lsn
            if known.name not in opened.reshaped:
                self._wanted[known.name] = known.target

    def _require_writer(self) -> None:
        me = threading.get_ident()
        if self._writer is None:
            self._writer = me
        if self._writer != me:
            raise InternalError("memory is written by two threads; DuckDB would lose rows")
