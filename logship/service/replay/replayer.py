"""The replayer: reads the journal, and replays it in memory and in persistence.

In: a journal, open in this process. Out: rows on the secondary and in memory, both in the order of the
log; positions that say how far. Three threads: one reads and makes batches, one feeds memory, one
feeds persistence. Both stores get the same batches through queues bounded by bytes; neither
waits for the other except to load an object into memory.

A batch is handed over as soon as a store has nothing to do, and grows while both are busy; persistence's
thread fetches it by itself where it can. Nothing is
acknowledged here: persistence commits rows and position together, and the positions follow it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeAlias

from logship import pgoutput
from logship.change import Relation, TypeName
from logship.config import Intervals, ReplayBounds
from logship.errors import ReplayError
from logship.journal.log import Journal
from logship.journal.reader import JournalReader
from logship.journal.segment import Record, RecordKind, Stretch
from logship.kernel import split_run
from logship.lsn import INVALID, Lsn
from logship.replay.assemble import Abandoned
from logship.replay.batch import Batch
from logship.replay.batcher import Batcher, Item
from logship.replay.classify import OWN_SCHEMA, Classifier, Resolve
from logship.replay.ddl.message import Verifier
from logship.replay.ddl.renames import Renamed
from logship.replay.persistence import Persistence, TransactionLost
from logship.service.crew import Crew, Stopped
from logship.service.positions import Positions, Stage
from logship.service.replay.backlog import Backlog
from logship.service.replay.behind import Behind
from logship.service.replay.groups import in_groups
from logship.service.replay.hold import Doorkeeper, Gate
from logship.service.replay.persisting import Persisting, committed_us, told
from logship.service.replay.queue import ByteQueue
from logship.service.replay.relations import LookUp, ReadAhead, Relations
from logship.service.replay.replayed import Replayed
from logship.service.replay.work import Work

if TYPE_CHECKING:  # DuckDB and Arrow are imported only when memory is on
    from logship.replay.memory.memory import Memory

log = logging.getLogger(__name__)

_DECIDED_S: Final = 0.2  # how late it is noticed that the replay ends
_SMALL_BYTES: Final = 64 * 1024  # of a queue that isn't a backlog
_GATHER_S: Final = 0.005  # at most: what it adds to memory's lag is half of it on the mean
_LOOK_S: Final = 0.05  # while memory loads something, or lets something go

# Memory is made at persistence's position, with what waits until persistence is at another, and with what wakes
# memory's thread when there is something to do beside batches.
MakeMemory: TypeAlias = Callable[[Lsn, Behind, Callable[[], None]], "Memory"]


class Replayer:
    def __init__(
        self,
        *,
        journal: Journal,
        persistence: Persistence,
        resolve: Resolve,
        verifier: Callable[[], Verifier] | None,
        renamed: Callable[[], tuple[Renamed, ...]],
        make_memory: MakeMemory | None,
        left_out: Container[tuple[str, str]],
        leave_out: Callable[[tuple[str, str]], None] | None = None,
        gate: Gate,
        positions: Positions,
        bounds: ReplayBounds,
        intervals: Intervals,
    ) -> None:
        self._journal = journal
        self._persistence = persistence
        self._resolve = resolve
        self._verifier = verifier
        self._renamed = renamed  # types, by schema changes up to the position
        self._make_memory = make_memory
        self._left_out = left_out
        self._leave_out = leave_out
        self._gate = gate
        gate.memory_on, gate.memory = make_memory is not None, lambda: self.memory
        self._positions = positions
        self._bounds = bounds
        self._intervals = intervals
        self._session: _Session | None = None
        self._stopping = False
        self.replayed = Replayed()
        self.work = {Stage.MEMORY: Work(), Stage.PERSISTENCE: Work()}
        self.restarts = 0  # of a transaction whose pieces were lost
        self._one_by_one_upto = INVALID  # to find the transaction that can't be replayed

    @property
    def queued_bytes(self) -> dict[Stage, int]:
        """What waits before each store."""
        return self._session.queued_bytes if self._session else {}

    @property
    def sessions(self) -> int:
        """How many there are to write to the secondary with."""
        return self._persistence.sessions

    @property
    def memory(self) -> Memory | None:
        """The memory that answers queries now; None while it is off or being made anew."""
        return self._session.memory if self._session else None

    def wake_memory(self) -> None:
        """Somebody has asked memory for something that its thread does."""
        session = self._session
        if session is not None:
            session.wake_memory()

    def run(self) -> None:
        """Replay until `stop`. Raises what stops the replica.

        A link that breaks inside a transaction larger than the bound takes its pieces with it;
        then everything starts again from the position that persistence has.
        """
        while not self._stopping:
            position = self._persistence.open()
            session = self._session = self._begin(position)
            if self._stopping:  # `stop` came before there was a session to stop
                session.stop()
            try:
                session.run()
            except TransactionLost as lost:
                self.restarts += 1
                log.warning("replay starts again from %s: %s", self._persistence.position, lost)
            except ReplayError as error:
                # Memory may have loaded a table that was copied anew before persistence heard of it.
                self._persistence.abandon()
                if self._persistence.copied_anew():
                    why = "tables were copied anew"
                elif (
                    error.upto is not None and error.commit_lsn is None and error.upto > self._one_by_one_upto
                ):
                    self._one_by_one_upto = error.upto
                    why = f"one transaction at a time up to {error.upto}, to find the one that can't be replayed"
                else:
                    raise _with_way_out(error) from error.__cause__
                self.restarts += 1
                log.warning("replay starts again from %s: %s", self._persistence.position, why)
            finally:
                self._session = None
                if session.memory is not None:
                    self.replayed.memory_is_over(session.memory.objects())
                session.close()

    def stop(self) -> None:
        """End after the batch that is being written; what was received stays in the journal."""
        self._stopping = True
        if self._session:
            self._session.stop()

    def _is_ending(self) -> bool:
        """Also when another thread of the replay under way has failed: nobody would hear of it while this one waits."""
        session = self._session
        return self._stopping or (session is not None and session.stopping)

    def _begin(self, position: Lsn) -> _Session:
        self._positions.restart(Stage.PERSISTENCE, position)
        self._positions.restart(Stage.MEMORY, position if self._make_memory else None)
        relations = Relations(self._resolve)
        classifier = Classifier(
            relations.resolve, self._left_out, self._persistence.copied, verifier=self._verifier,
            leave_out=self._leave_out, refused=self.replayed.refused, renamed=self._renamed(),
        )  # fmt: skip
        return _Session(
            reader=self._journal.reader(position),
            batcher=Batcher(
                classifier,
                position,
                bound_bytes=self._bounds.batch_bytes,
                to_skip=self._persistence.to_skip,
                one_by_one_upto=self._one_by_one_upto,
                read_ahead=ReadAhead(self._journal, self._is_ending),
            ),
            types=classifier.types,
            relations=relations,
            persistence=self._persistence,
            make_memory=self._make_memory,
            left_out=self._left_out,
            gate=self._gate,
            positions=self._positions,
            replayed=self.replayed,
            work=self.work,
            bounds=self._bounds,
            intervals=self._intervals,
        )


class _Session:
    """One replay from a position on, until it is stopped or fails."""

    def __init__(
        self,
        *,
        reader: JournalReader,
        batcher: Batcher,
        types: Mapping[int, TypeName],
        relations: Relations,
        persistence: Persistence,
        make_memory: MakeMemory | None,
        left_out: Container[tuple[str, str]],
        gate: Gate,
        positions: Positions,
        replayed: Replayed,
        work: Mapping[Stage, Work],
        bounds: ReplayBounds,
        intervals: Intervals,
    ) -> None:
        self._reader = reader
        self._batcher = batcher
        self._relations = relations
        self._persistence = persistence
        self._positions = positions
        self._work = work
        self._bounds = bounds
        self._intervals = intervals
        self._to_persistence: ByteQueue[Item | LookUp] = ByteQueue(bounds.queue_bytes, self._fetch)
        self._to_memory: ByteQueue[Item] | None = None
        self._left_out = left_out
        self._types = types
        self._backlog = Backlog()
        self._batching = threading.Lock()  # whoever has it may use batcher and backlog
        self.memory: Memory | None = None
        self._crew = Crew(self._close_queues)
        if make_memory is not None:
            queue = self._to_memory = ByteQueue(bounds.queue_bytes, self._is_idle)
            behind = Behind(
                positions, lambda: self._crew.stopping, work[Stage.MEMORY], lambda: persistence.position
            )
            self.memory = make_memory(batcher.position, behind, queue.wake)
        self._persisting = Persisting(
            persistence, self._to_persistence, positions=positions, replayed=replayed,
            work=work[Stage.PERSISTENCE], bounds=bounds, position_s=intervals.position_s,
            wanted=lambda: gate.limit is not None, failed=lambda: self._crew.error is not None,
            figures=replayed.abreast,
        )  # fmt: skip
        self._gate = gate
        gate.on_change = reader.wake
        self._door = Doorkeeper(gate, batcher, self._hand_over, self._settled, lambda: self._crew.stopping)

    def run(self) -> None:
        self._crew.start("replay", self._read)
        self._crew.start("persistence", self._persisting.run)
        if self.memory is not None:
            self._crew.start("memory", self._remember)
        self._crew.join()
        if self._crew.error is not None:
            raise self._crew.error

    def stop(self) -> None:
        self._crew.stop()

    @property
    def stopping(self) -> bool:
        return self._crew.stopping

    @property
    def queued_bytes(self) -> dict[Stage, int]:
        queued = {Stage.PERSISTENCE: self._to_persistence.size_bytes}
        if self._to_memory is not None:
            queued[Stage.MEMORY] = self._to_memory.size_bytes
        return queued

    def close(self) -> None:
        self._reader.close()
        if self.memory is not None:
            self.memory.close()

    def wake_memory(self) -> None:
        if self._to_memory is not None:
            self._to_memory.wake()

    def _close_queues(self) -> None:
        self._to_persistence.close()
        if self._to_memory is not None:
            self._to_memory.close()
        self._relations.close()
        self._reader.wake()
        self._gate.wake()
        self._positions.wake()

    # -- the replay thread: journal to batches ------------------------------------------------------

    def _read(self) -> None:
        while not self._crew.stopping:
            with self._batching:
                self._door.between()
                timeout_s = self._gather_s or 1.0
            found = self._reader.read_together(self._bounds.read_bytes, timeout_s=timeout_s)
            with self._batching:
                self._take_in(found)
                if self._batcher.pending and self._somebody_is_idle() and not self._gather_s:
                    self._hand_over(self._batcher.take())

    def _take_in(self, found: Iterable[Record | Stretch]) -> None:
        for one in found:
            if isinstance(one, Stretch) and self._door.lets_in(one):
                for item in self._batcher.stretch(one):
                    self._hand_over(item)
                continue
            for record in one.records() if isinstance(one, Stretch) else (one,):
                self._door.admit(record)
                for item in self._batches(record):
                    self._hand_over(item)

    @property
    def _gather_s(self) -> float:
        """How long what is pending may grow although a store is idle."""
        if not self._batcher.pending:
            return 0.0
        return self._backlog.gather_s(self._batcher.pending_bytes, self._batcher.commit_time_us)

    def _batches(self, record: Record) -> Iterator[Item]:
        if record.kind is RecordKind.CHANGES:
            yield from self._batcher.changes(record)
        elif record.kind is RecordKind.POSITION:
            self._batcher.advance(record.end_lsn)
        elif record.kind is RecordKind.SCHEMA:
            self._batcher.schema(record.run)
            self._describe(record.run)
        elif record.kind is RecordKind.ABANDON:
            yield from self._batcher.abandon()

    def _is_left_out(self, relation: Relation) -> bool:
        return relation.schema == OWN_SCHEMA or (relation.schema, relation.name) in self._left_out

    def _describe(self, run: bytes) -> None:
        """Memory may load a relation from here on, before it is changed."""
        if self.memory is None:
            return
        relations: list[Relation] = []
        for message in split_run(run):
            event = pgoutput.decode(message)
            if isinstance(event, Relation) and not self._is_left_out(event):
                relations.append(event)
        for relation in relations:
            self.memory.heard(relation, self._types)

    def _is_idle(self) -> None:
        """A store has nothing to do. The replay thread is woken only for what it could hand over: what it takes in
        from now on, it hands over by itself."""
        if self._batcher.pending:
            self._reader.wake()

    def _fetch(self) -> None:
        """The same of persistence, whose thread takes what is pending itself while the replay thread waits for the
        journal: each commit that waits for this one would wait for two threads to be woken. Where handing over might
        have to wait for something, the replay thread does it."""
        if not self._batcher.pending:
            return
        if self._batching.acquire(blocking=False):
            try:
                if self._batcher.pending and not self._gather_s and self._waits_for_nothing():
                    with suppress(Stopped):  # the queue is closed, as its owner sees next
                        self._hand_over(self._batcher.take())
                    return
            finally:
                self._batching.release()
        self._is_idle()

    def _waits_for_nothing(self) -> bool:
        """Whether handing over what is pending waits neither for a schema change nor for room in memory's queue."""
        has_room = self._to_memory is None or self._to_memory.has_room(self._batcher.pending_bytes)
        return has_room and self._relations.committed

    def _somebody_is_idle(self) -> bool:
        return self._to_persistence.idle or (self._to_memory is not None and self._to_memory.idle)

    def _hand_over(self, item: Item) -> None:
        size_bytes = item.size_bytes if isinstance(item, Batch) else 0
        self._backlog.handed_over(size_bytes)
        change = item.schema_change if isinstance(item, Batch) else None
        decided = None if change is None or self.memory is None else self.memory.decision(change)
        if self._to_memory is not None and not self._to_memory.put(item, size_bytes):
            raise Stopped
        if decided is not None and self._is_carried(decided):
            assert isinstance(item, Batch)
            assert change is not None
            item = replace(item, steps=(replace(change, in_memory=True),))
        if not self._to_persistence.put(item, size_bytes):
            raise Stopped
        if isinstance(item, Abandoned):
            self._relations.as_committed()
        elif item.schema_change is not None:
            self._relations.as_seen_by(self._ask)
        elif item.complete and not self._relations.committed:
            self._pass_the_barrier(item.end_lsn)

    def _is_carried(self, decided: Future[bool]) -> bool:
        """Whether memory carries a schema change out: it is written down with the change, in one transaction."""
        while not self._crew.stopping:
            with suppress(TimeoutError, CancelledError):
                return decided.result(_DECIDED_S)
        raise Stopped

    def _pass_the_barrier(self, end_lsn: Lsn) -> None:
        """What follows a schema change is looked up, and loaded, once it is committed on the secondary."""
        if not self._positions.wait(Stage.PERSISTENCE, end_lsn, None, lambda: self._crew.stopping):
            raise Stopped
        self._relations.as_committed()

    def _ask(self, question: LookUp) -> None:
        if not self._to_persistence.put(question, 0):
            raise Stopped

    def _settled(self, position: Lsn, stored: bool) -> bool:
        """Whether both stores have everything up to ``position``; ``stored``: the secondary's row says so."""
        reached = [self._positions.lsn(Stage.PERSISTENCE)]
        if self._to_memory is not None:
            reached.append(self._positions.lsn(Stage.MEMORY))
        there = all(lsn is not None and lsn >= position for lsn in reached)
        return there and (not stored or self._persistence.position >= position)

    # -- the memory thread --------------------------------------------------------------------------

    def _remember(self) -> None:
        assert self._to_memory is not None
        assert self.memory is not None
        more = False  # to be done beside batches
        while not self._to_memory.closed:
            due_in_s = 0.0 if more else _LOOK_S if self.memory.busy else None
            items = self._to_memory.take(self._bounds.batch_bytes, due_in_s)
            began_s = time.thread_time()
            for group in in_groups(items, merge=False):
                if not isinstance(group, list):
                    self.memory.abandon()
                    continue
                with self._work[Stage.MEMORY].on(told(group[-1])):
                    self.memory.replay(group)
                if group[-1].complete:
                    self._positions.reach(
                        Stage.MEMORY, self.memory.memory_lsn, commit_time_us=committed_us(group)
                    )
            more = self.memory.serve()
            if not (more or self.memory.busy):
                self._gather(time.thread_time() - began_s)

    def _gather(self, took_s: float) -> None:
        """Leave the processor to the commits that wait as long as the last batch took it, so that small ones become
        one: each is a transaction of memory's, which costs about the same for one row as for a hundred."""
        assert self._to_memory is not None
        if self._to_memory.size_bytes < _SMALL_BYTES and not self._positions.is_awaited(Stage.MEMORY):
            time.sleep(min(took_s, _GATHER_S))


def _with_way_out(error: ReplayError) -> ReplayError:
    """What an operator may do who can't mend the cause, where it is one transaction that stands in the way."""
    if error.commit_lsn is not None and "logship ddl skip" not in error.hint:
        error.message = f"transaction committed at {error.commit_lsn}: {error.message}"
        way_out = (
            f"pass the whole transaction over, and repair afterwards: logship skip --lsn {error.commit_lsn}"
        )
        error.hint = f"{error.hint}; or {way_out}" if error.hint else way_out
    return error
