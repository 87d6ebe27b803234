"""Which objects are in memory: what comes, what stays, what goes. Not what a batch does to them.

In: the names and shapes that batches bring, what the readers have read, what readers ask for, the
budget. Out: `MemoryObject`s whose tables hold what the log says at the position that is shown; tables that
come and go between transactions. Loads are read elsewhere (`reading`): the writer only puts slices of
them into hidden tables, between batches. What goes, and when, is in `room`.

Assumes memory's writer thread, but for `heard`, `request`, `used` and `states`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Final

import duckdb

from logship.change import Relation, TypeName
from logship.lsn import Lsn
from logship.replay.batch import Batch
from logship.replay.memory.load import CouldNotLoad, Load, truncates
from logship.replay.memory.policy import Policies, Policy
from logship.replay.memory.reading import Brought, Ended, Event, Opened, Order, Readers, reason_of
from logship.replay.memory.replay import Named
from logship.replay.memory.resident import Happening, MemoryObject, Name, ObjectState, Residence
from logship.replay.memory.room import Behind, Room
from logship.replay.memory.store import Store
from logship.replay.memory.table import same_shape, why_not
from logship.replay.target import Target, TargetColumn

_log: Final = logging.getLogger(__name__)
_KEPT_SHARE: Final = (1, 8)  # of the budget, for changes of objects that are being loaded

# Replays batches on one object's hidden table, in one transaction.
CatchUp = Callable[[MemoryObject, list[Batch]], None]


@dataclass(slots=True)
class Wanted:
    """What to load an object from: its target, or the relation as the log described it."""

    target: Target | None = None
    relation: Relation | None = None
    types: Mapping[int, TypeName] = field(default_factory=dict)


class Residency(Room):
    def __init__(
        self,
        store: Store,
        readers: Readers,
        behind: Behind,
        *,
        start_lsn: Lsn,
        budget_bytes: int,
        policies: Policies,
        catch_up: CatchUp,
    ) -> None:
        super().__init__(store, behind, start_lsn=start_lsn, budget_bytes=budget_bytes)
        self._readers = readers
        self._policies = policies
        self._catch_up = catch_up
        self._kept_budget = budget_bytes * _KEPT_SHARE[0] // _KEPT_SHARE[1]
        self.met = start_lsn  # the end of the last batch that loads under way have heard of
        self._loads: dict[Name, Load] = {}
        self._wanted: dict[Name, Wanted] = {}  # to be loaded as soon as that is possible
        # Filled by other threads, emptied by the writer.
        self._described: dict[Name, Wanted] = {}
        self._news: list[Name] = []
        self._asked: list[tuple[Name, Future[ObjectState]]] = []
        self._waiting: dict[Name, list[Future[ObjectState]]] = {}
        self._closed = False

    # -- for any thread ------------------------------------------------------------------------------

    def states(self) -> list[ObjectState]:
        return [known.state() for known in list(self.objects.values())]

    def heard(self, relation: Relation, types: Mapping[int, TypeName]) -> bool:
        """The log has described ``relation``. Whether that calls for a load."""
        name = (relation.schema, relation.name)
        with self._lock:
            self._described[name] = Wanted(None, relation, dict(types))
            calls = self._policies.of(name) is Policy.EAGER
            if calls:
                self._news.append(name)
        return calls

    def request(self, name: Name) -> Future[ObjectState]:
        """Load it now. The result is the object's state once it is shown, or once it can't be."""
        asked: Future[ObjectState] = Future()
        with self._lock:
            if self._closed:
                asked.cancel()
            else:
                self._asked.append((name, asked))
        return asked

    def used(self, names: Iterable[Name]) -> None:
        """A query has read them in memory."""
        with self._lock:
            for name in names:
                known = self.objects.get(name)
                if known is not None:
                    known.hits += 1
                    self._uses += 1
                    known.last_used = self._uses

    @property
    def busy(self) -> bool:
        """Whether something is being loaded, or going."""
        return bool(self._loads) or self._going()

    # -- what batches bring --------------------------------------------------------------------------

    def object(self, target: Target) -> MemoryObject:
        name = (target.schema, target.name)
        known = self.objects.get(name)
        if known is None:
            known = self.objects[name] = MemoryObject(target, pinned=self._policies.pins(name))
        return known

    def meet(self, batch: Batch, changed: Named, *, may_begin: bool) -> None:
        """Before ``batch`` is replayed. ``may_begin``: no earlier piece of its transaction was missed."""
        self.batches += batch.complete
        for name, target in changed.targets.items():
            load = self._loads.get(name)
            if load is not None and not self._goes_on(load, batch, target, changed):
                continue
            known = self.object(target)
            if known.residence is not Residence.COLD:
                continue
            known.target = target
            if name not in changed.rows:
                continue
            self.touch(known)
            if self.batches >= known.not_before or name in self._wanted:
                self._wanted[name] = Wanted(target)
                # A TRUNCATE waits for whoever reads the table: it goes first.
                if may_begin and name not in changed.reshaped and not truncates(batch, name):
                    self._begin(name)
        for load in list(self._loads.values()):
            self._kept(load, batch)
        if batch.complete:
            self.met = max(self.met, batch.end_lsn)

    def _goes_on(self, load: Load, batch: Batch, target: Target, changed: Named) -> bool:
        known = load.known
        if known.name in changed.reshaped or (known.target.oid and not same_shape(known.target, target)):
            self.put_off(load, "its shape changed while it was loaded")
            known.target = target
            return False
        if truncates(batch, known.name):
            self.put_off(load, "it was emptied while it was loaded")
            return False
        known.target = target
        return True

    def _kept(self, load: Load, batch: Batch) -> None:
        try:
            load.keep(batch, self.met)
        except CouldNotLoad as error:
            self._fail(load, error.message)
            self._wanted[load.known.name] = Wanted(load.known.target)
            return
        if sum(one.kept_bytes for one in self._loads.values()) > self._kept_budget:
            self._fail(load, "too much changed in it while it was loaded")

    def abandon(self) -> None:
        for load in self._loads.values():
            load.abandon()

    def want(self, target: Target) -> None:
        """Load it as soon as possible, changed or not."""
        self.object(target)
        self._wanted[(target.schema, target.name)] = Wanted(target)

    def want_again(self, known: MemoryObject) -> None:
        self._wanted[known.name] = Wanted(known.target)

    # -- between transactions ------------------------------------------------------------------------

    def serve(self) -> bool:
        """One slice of each thing that is to be done. Whether anything was."""
        did = self._hear()
        did |= self._evict_what_may_go()
        for name in self._in_order():
            did |= self._begin(name)
        for load in list(self._loads.values()):
            if self._loads.get(load.known.name) is load:
                did |= self._advance(load)
        return did

    def begin_wanted(self) -> None:
        """Loads that were put off begin before the next transaction."""
        for name in self._in_order():
            self._begin(name)

    def _in_order(self) -> list[Name]:
        """Pinned objects first, then those that somebody waits for, then eager ones."""

        def rank(name: Name) -> tuple[bool, bool, bool]:
            eager = self._policies.of(name) is Policy.EAGER
            return not self._policies.pins(name), name not in self._waiting, not eager

        return sorted(self._wanted, key=rank)

    def _hear(self) -> bool:
        with self._lock:
            news, self._news = self._news, []
            asked, self._asked = self._asked, []
            described = dict(self._described) if asked or news else {}
        for name in news:
            known = self.objects.get(name)
            if known is None or known.residence is Residence.COLD:
                self._wanted.setdefault(name, described[name])
        for name, future in asked:
            self._ask(name, future, described.get(name))
        return bool(news or asked)

    def _ask(self, name: Name, future: Future[ObjectState], described: Wanted | None) -> None:
        known = self.objects.get(name)
        if known is not None and known.shown:
            _tell(future, known.state())
        elif known is None and described is None:
            _tell(
                future,
                _unknown(
                    name, "the log hasn't described it: it isn't replicated, or nothing has changed it yet"
                ),
            )
        else:
            self._waiting.setdefault(name, []).append(future)
            if name not in self._loads:
                self._wanted.setdefault(name, described or Wanted(known.target if known else None))

    def _begin(self, name: Name) -> bool:
        """Start the load, if there is room for one more. Whether anything came of it."""
        wanted = self._wanted[name]
        if len(self._loads) >= self._readers.most or self._closed or self._going():
            return False
        target = wanted.target
        if target is None:
            assert wanted.relation is not None
            target = _provisional(wanted.relation)
        known = self.object(target)
        if known.residence is not Residence.COLD:
            if known.shown or name in self._loads:
                del self._wanted[name]
            return False
        if self.batches < known.not_before and name not in self._waiting:
            return False
        del self._wanted[name]
        known.target = target
        refusal = self._refusal(known)
        if refusal:
            known.reason = refusal
            self._answer(known)
            return True
        known.on(Happening.LOAD)
        known.reason = "it is being read"
        order = Order(name, self.met, wanted.target, wanted.relation, wanted.types, known.as_text)
        self._loads[name] = Load(known, self._readers.start(order, self._store.caster()))
        return True

    def _refusal(self, known: MemoryObject) -> str:
        if self._policies.of(known.name) is Policy.OFF:
            every = self._policies.usual is Policy.OFF and known.name not in self._policies.off
            return "memory is off" if every else "the settings keep it out of memory"
        folded = (known.name[0].lower(), known.name[1].lower())
        for other in self.objects.values():
            same = (other.name[0].lower(), other.name[1].lower()) == folded
            if same and other is not known and other.residence is not Residence.COLD:
                return (
                    f"its name differs from {other.target}, which is in memory, in upper and lower case only"
                )
        return why_not(known.target)

    def _advance(self, load: Load) -> bool:
        """One slice of ``load``. Whether there was any."""
        known = load.known
        try:
            event = None if load.filled else load.reading.poll()
            if event is not None:
                self._take(load, event)
                return True
            if not load.filled:
                return False
            if load.kept:
                self._catch_up(known, load.take(max(1 << 20, load.kept_bytes // 2)))
                return True
            if load.lsn is None or self.lsn < load.lsn or self.lsn != self.met:
                return False
            self._show(load)
        except CouldNotLoad as error:
            self._fail(load, error.message)
        except duckdb.OutOfMemoryException:
            if not self._make_way(load):
                self._fail(load, "there is not enough memory for it")
        except duckdb.Error as error:
            self._fail(load, f"DuckDB can't hold it ({type(error).__name__})")
        return True

    def _take(self, load: Load, event: Event) -> None:
        known = load.known
        if isinstance(event, Opened):
            if known.target.oid and not same_shape(known.target, event.target):
                raise CouldNotLoad("its shape changed while it was loaded")
            refusal = why_not(event.target)
            if refusal:
                raise CouldNotLoad(refusal)
            load.open(self._store, event)
            self._reserve(load, event.size.size_bytes)
        elif isinstance(event, Brought):
            load.fill(self._store, event)
            if known.size_bytes > load.reserved_bytes:  # the estimate was too small, or there was none
                self._reserve(load, known.size_bytes)
        else:
            self._end(load, event)

    def _end(self, load: Load, event: Ended) -> None:
        if event.error is None:
            load.filled = True
            load.reserved_bytes = 0
            return
        reason = reason_of(event.error)
        if reason is None:
            raise event.error
        self._fail(load, reason)

    def _show(self, load: Load) -> None:
        known = load.known
        hidden = known.held
        self._store.execute(hidden.show(known.parts))
        known.lay_out(replace(known.parts, shown=True))
        del self._loads[known.name]
        known.show(hidden)
        self._store.give_back()  # what it was read into
        self.touch(known)
        self._answer(known)
        _log.info("%s is in memory at %s, %d rows", known.target, self.lsn, known.rows)

    # -- the end of a load ---------------------------------------------------------------------------

    def _fail(self, load: Load, reason: str) -> None:
        """It stays cold, for a while."""
        self._drop(load)
        load.known.failed(reason, self.batches)
        if load.known.pinned or self._policies.of(load.known.name) is Policy.EAGER:
            self._wanted[load.known.name] = Wanted(load.known.target if load.known.target.oid else None)
            if not load.known.target.oid:
                self._wanted[load.known.name] = self._described[load.known.name]
        log = _log.warning if load.known.pinned else _log.info
        log("%s stays out of memory: %s", load.known.target, reason)
        self._answer(load.known)

    def put_off(self, load: Load, reason: str) -> None:
        """It begins again, for a reason that lies elsewhere."""
        self._drop(load)
        load.known.put_off(reason)
        target = load.known.target
        self._wanted[load.known.name] = Wanted(target) if target.oid else self._described[load.known.name]

    def _drop(self, load: Load) -> None:
        load.reading.cancel()
        del self._loads[load.known.name]
        if load.known.table is not None:
            self._store.execute(load.known.held.drop())

    def give_up_loads(self, reason: str) -> None:
        """All of them; they begin again later. Their locks on the secondary go."""
        for load in list(self._loads.values()):
            self.put_off(load, reason)

    def _answer(self, known: MemoryObject) -> None:
        for future in self._waiting.pop(known.name, []):
            _tell(future, known.state())

    def _break_off(self, known: MemoryObject, reason: str) -> None:
        self._fail(self._loads[known.name], reason)

    def _gone(self, known: MemoryObject) -> None:
        if known.pinned or self._policies.of(known.name) is Policy.EAGER:
            self._wanted[known.name] = Wanted(known.target)

    def _announced_bytes(self) -> int:
        return sum(max(one.reserved_bytes, one.known.size_bytes) for one in self._loads.values())

    # -- room for a load -----------------------------------------------------------------------------

    def _reserve(self, load: Load, size_bytes: int) -> None:
        """Make room for it; `CouldNotLoad` when there is none, and `put_off` when it comes later."""
        load.reserved_bytes = size_bytes
        if size_bytes > self._tables_budget:
            pinned = "pinned, but " if load.known.pinned else ""
            raise CouldNotLoad(
                f"{pinned}it is larger ({size_bytes} bytes) than memory is for ({self._tables_budget} bytes)"
            )
        while self._used_bytes() > self._tables_budget:
            victim = self.least_used()
            if victim is None:
                raise CouldNotLoad("there is no room beside what is pinned or being loaded")
            self._evict_soon(victim, "made room for another object")
        if self._going():
            self.put_off(load, "it waits for others to make room")

    def _make_way(self, load: Load) -> bool:
        """After lack of memory in a load: whether something else went, or goes."""
        victim = self.least_used()
        if victim is not None:
            self._evict_soon(victim, "out of memory")
        if victim is not None or self._going():
            self.put_off(load, "it waits for others to make room")
            return True
        return False

    def renamed(self, known: MemoryObject, old: Name) -> None:
        """The object that was called ``old`` has another name."""
        if self.objects.get(old) is known:
            del self.objects[old]
        self.objects[known.name] = known
        known.pinned = self._policies.pins(known.name)

    def forget(self, name: Name) -> None:
        """It was dropped."""
        self.objects.pop(name, None)
        self._wanted.pop(name, None)
        with self._lock:
            self._described.pop(name, None)
        for future in self._waiting.pop(name, []):
            _tell(future, _unknown(name, "it was dropped"))

    def close(self) -> None:
        with self._lock:
            self._closed = True
            asked, self._asked = self._asked, []
        for _, future in asked:
            future.cancel()
        for futures in self._waiting.values():
            for future in futures:
                future.cancel()
        self._readers.close()


def _tell(future: Future[ObjectState], state: ObjectState) -> None:
    """Who asked may have given up, at any moment."""
    if future.set_running_or_notify_cancel():
        future.set_result(state)


def _unknown(name: Name, reason: str) -> ObjectState:
    return ObjectState(*name, Residence.COLD, None, None, 0, 0, 0, None, reason)


def _provisional(relation: Relation) -> Target:
    """What is known of it before the secondary was asked; its oid 0 says so."""
    columns = tuple(
        TargetColumn(column.name, "", column.type_oid, column.typmod, False, "", "", False)
        for column in relation.columns
    )
    key = tuple(index for index, column in enumerate(relation.columns) if column.is_key)
    return Target(relation, 0, "r", 0, "", columns, key)
