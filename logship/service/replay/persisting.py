"""The thread that feeds persistence: whole batches in one transaction, or side by side, or in pieces.

In: batches, abandoned pieces and look-ups, from a queue. Out: rows and position on the secondary, the stage's
position, the figures of what was replayed. Nothing is reported before its commit.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import TypeAlias

from logship.config import ReplayBounds
from logship.replay.abreast import Abreast, Figures
from logship.replay.assemble import Abandoned
from logship.replay.batch import Batch, SchemaChange
from logship.replay.batcher import Item
from logship.replay.ddl.whose import mentioned
from logship.replay.merge import merged
from logship.replay.persistence import Persistence
from logship.service.positions import Positions, Stage
from logship.service.replay.groups import in_groups
from logship.service.replay.idle_position import IdlePosition
from logship.service.replay.queue import ByteQueue
from logship.service.replay.relations import LookUp
from logship.service.replay.replayed import Replayed
from logship.service.replay.work import Work

log = logging.getLogger(__name__)

Waiting: TypeAlias = ByteQueue[Item | LookUp]


class Persisting:
    """``wanted``: whether somebody waits to see where the replica stands; ``failed``: whether another thread of the
    replay has."""

    def __init__(
        self,
        persistence: Persistence,
        queue: Waiting,
        *,
        positions: Positions,
        replayed: Replayed,
        work: Work,
        bounds: ReplayBounds,
        position_s: float,
        wanted: Callable[[], bool],
        failed: Callable[[], bool],
        figures: Figures,
    ) -> None:
        self._persistence = persistence
        self._queue = queue
        self._positions = positions
        self._replayed = replayed
        self._work = work
        self._wanted = wanted
        self._failed = failed
        self._held_bytes = bounds.queue_bytes
        if bounds.apply_sessions > 1:  # a batch of full size for each, and one that stands by
            self._held_bytes = max(bounds.queue_bytes, (bounds.apply_sessions + 1) * bounds.batch_bytes)
        self._in_pieces = False  # persistence has an open transaction, with pieces of one of the log
        self._idle = IdlePosition(persistence, position_s)
        self._abreast = Abreast(
            persistence, WholeBatches(queue), full_bytes=bounds.batch_bytes, held_bytes=self._held_bytes,
            serially=self._merge, committed=self._committed, figures=figures,
        )  # fmt: skip

    def run(self) -> None:
        while not self._queue.closed:
            due_in_s = None if self._in_pieces else self._idle.due_in_s
            for group in in_groups(self._queue.take(self._held_bytes, due_in_s), merge=False):
                self._apply(group)
            if self._in_pieces:
                continue  # their transaction is open: the position moves when it commits
            if self._wanted():
                self._idle.store()
            else:
                self._idle.store_if_due()
        if not self._failed():
            self._persistence.abandon()
            self._idle.store()

    def _apply(self, group: list[Batch] | Abandoned | LookUp) -> None:
        if isinstance(group, LookUp):
            group.answer(self._persistence.look_up)
        elif isinstance(group, Abandoned):
            self._persistence.abandon()
            self._in_pieces = False
        elif _is_whole(group[-1]) and not self._in_pieces and self._abreast.pays(group):
            with self._work.among(f"replaying batches in {self._persistence.sessions} sessions"):
                self._abreast.run(group)
        else:
            self._merge(group)

    def _merge(self, batches: Sequence[Batch]) -> None:
        """Whole ones in one transaction, or one piece."""
        group = list(merged(batches))
        changing = [
            batch
            for batch in group
            if batch.steps or batch.sequences or batch.passed_over or not batch.complete or self._in_pieces
        ]
        if changing:
            began = time.monotonic()
            with self._work.on(told(changing[-1])):
                self._persistence.apply(changing)
            self._note_change(changing[-1].schema_change, time.monotonic() - began)
        self._in_pieces = not group[-1].complete
        self._reached(group, changing)

    def _committed(self, batches: Sequence[Batch], written: Sequence[Batch], seconds: float) -> None:
        """Side by side with others."""
        self._work.done(seconds)
        self._reached(batches, written)

    def _reached(self, group: Sequence[Batch], changing: Sequence[Batch]) -> None:
        for batch in changing:
            self._replayed.add(batch)
            for one in batch.passed_over:
                log.warning(
                    "the transaction committed at %s was passed over, as an operator wanted: "
                    "%d row changes of it are not on the secondary", one.lsn, one.changes,
                )  # fmt: skip
        end_lsn = group[-1].end_lsn
        if group[-1].complete:
            self._idle.reached(end_lsn)
            self._positions.reach(Stage.PERSISTENCE, end_lsn, commit_time_us=committed_us(group))

    def _note_change(self, change: SchemaChange | None, seconds: float) -> None:
        if change is not None and not change.done and not change.leaves_out:
            self._replayed.schema_changes["both" if change.in_memory else "persistence"] += 1
            self._replayed.schema_change_durations.observe(seconds)
            tables = mentioned(change.statement)
            self._replayed.ddl.update(tables)
            if change.in_memory:
                self._replayed.ddl_memory.update(tables)


class WholeBatches:
    """What comes next of whole batches: `logship.replay.abreast.Source`."""

    def __init__(self, queue: Waiting) -> None:
        self._queue = queue

    def more(self, max_bytes: int, timeout_s: float | None) -> Sequence[Batch]:
        taken = self._queue.take_more(max_bytes, _is_whole, timeout_s)
        return [item for item in taken if isinstance(item, Batch)]

    def wake(self) -> None:
        self._queue.wake()


def _is_whole(item: Item | LookUp) -> bool:
    return isinstance(item, Batch) and item.complete and not item.alone


def committed_us(group: Sequence[Batch]) -> int:
    """When the last transaction in it was committed; 0: there is none."""
    return max(batch.commit_time_us for batch in group)


def told(batch: Batch) -> str:
    return (
        f"replaying a batch of {batch.changes} changes" if batch.complete else "replaying a large transaction"
    )
