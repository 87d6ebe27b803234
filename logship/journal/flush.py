"""Makes durable what was written: one thread, one fdatasync for all that arrived meanwhile.

In: how far a segment was written, and the completions that wait for it. Out: the flushed LSN, and the
completions called with it, in order, from this thread. An error of the disk ends the journal: the
same error is raised to everyone who appends, writes or waits from then on, and nothing is synced
again, since a second fsync may succeed without having written anything.

A completion must not block and must not raise; one that raises ends the journal, too.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from logship.errors import InternalError, LogshipError
from logship.failpoints import hit
from logship.journal.active import ActiveSegment
from logship.journal.files import Files, failure
from logship.lsn import Lsn
from logship.metrics import FSYNC_BOUNDS_S, Durations

Completion = Callable[[Lsn], None]


@dataclass(frozen=True, slots=True)
class _Target:
    segment: ActiveSegment
    written: int
    lsn: Lsn


class Flusher:
    def __init__(self, files: Files, flushed_lsn: Lsn, on_failure: Callable[[], None]) -> None:
        self.failure: LogshipError | None = None
        self.flushed_lsn = flushed_lsn
        self.durations = Durations(FSYNC_BOUNDS_S)
        self._files = files
        self._on_failure = on_failure
        self._condition = threading.Condition()
        self._target: _Target | None = None
        self._completions: list[Completion] = []
        self._busy = False
        self._stopping = False
        self._told = False
        self._thread = threading.Thread(target=self._run, name="journal fsync", daemon=True)
        self._thread.start()

    def submit(self, segment: ActiveSegment, lsn: Lsn, completions: Sequence[Completion]) -> None:
        """``segment`` is written as far as it says; ``lsn`` is reached when that is durable."""
        target = _Target(segment, segment.written, lsn)
        with self._condition:
            self._target = target
            self._completions += completions
            self._condition.notify_all()

    def check(self) -> None:
        """Raise what ended the journal."""
        if self.failure is not None:
            self._told = True
            raise self.failure.with_traceback(None)

    def fail(self, error: LogshipError) -> None:
        """End the journal; the first reason stays."""
        with self._condition:
            self.failure = self.failure or error
            self._condition.notify_all()
        self._on_failure()

    def tell(self) -> None:
        """The caller raises the failure itself."""
        self._told = True

    def drain(self) -> None:
        """Wait until all that was submitted is durable."""
        with self._condition:
            self._condition.wait_for(lambda: self.failure or not (self._target or self._busy))
        self.check()

    def wait(self, lsn: Lsn, timeout_s: float | None) -> bool:
        """Wait until ``lsn`` is durable; False when time is up."""
        with self._condition:
            self._condition.wait_for(lambda: self.failure or self.flushed_lsn >= lsn, timeout_s)
        self.check()
        return self.flushed_lsn >= lsn

    def stop(self) -> None:
        """End the thread; what is submitted is still made durable. Raises a failure nobody has heard of."""
        with self._condition:
            self._stopping = True
            self._condition.notify_all()
        self._thread.join()
        if not self._told:
            self.check()

    def _run(self) -> None:
        while True:
            with self._condition:
                self._busy = False
                self._condition.notify_all()
                self._condition.wait_for(lambda: self._target or self._stopping or self.failure)
                target, completions = self._target, self._completions
                if target is None or self.failure is not None:
                    return
                self._target, self._completions, self._busy = None, [], True
            if not self._sync(target) or not self._complete(completions):
                return

    def _sync(self, target: _Target) -> bool:
        try:
            hit("journal.fsync.before")
            began = time.monotonic()
            self._files.fdatasync(target.segment.fd)
            self.durations.observe(time.monotonic() - began)
            hit("journal.fsync.after")
        except OSError as error:
            self.fail(failure(error, "fsync", target.segment.header.name))
            return False
        with self._condition:
            target.segment.synced = target.written
            self.flushed_lsn = target.lsn
            self._condition.notify_all()
        return True

    def _complete(self, completions: list[Completion]) -> bool:
        lsn = self.flushed_lsn
        try:
            for completion in completions:
                completion(lsn)
        except Exception as error:  # noqa: BLE001 - a caller's defect must not leave a journal that never flushes again
            broken = InternalError(f"a completion of the journal raised {type(error).__name__}")
            broken.__cause__ = error
            self.fail(broken)
            return False
        return True
