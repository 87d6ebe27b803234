"""Makes durable what was written: one fdatasync for all that arrived meanwhile, one at a time.

In: how far a segment was written, and the completions that wait for it. Out: the flushed LSN, and the
completions called with it, in order. `submit` leaves the fdatasync to a thread, which may be told to
leave time between two of them (`spacing_s`) while nobody waits; `sync` does it in the caller's own
thread, which spares a commit that waits two hand-overs between threads. An error of the disk ends the
journal: the same error is raised to everyone who appends, writes or waits from then on, and nothing is
synced again, since a second fsync may succeed without having written anything.

A completion must not block and must not raise; one that raises ends the journal, too.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from logship.errors import InternalError, LogshipError
from logship.failpoints import hit
from logship.journal.active import ActiveSegment
from logship.journal.files import Files, failure
from logship.lsn import Lsn
from logship.metrics import FSYNC_BOUNDS_S, Durations

Completion = Callable[[Lsn], None]

_QUICK_S: Final = 0.003  # an fdatasync that takes longer is the thread's: what is written is told meanwhile


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
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)  # what the thread waits for
        self._progress = threading.Condition(self._lock)  # what everybody else waits for
        self._target: _Target | None = None
        self._completions: list[Completion] = []
        self._busy = False  # an fdatasync is under way, here or in a caller's thread
        self._waiting = 0  # threads that wait for one: it is not put off
        self._spacing_s = 0.0
        self._began_s = self._took_s = 0.0  # the last fdatasync
        self._stopping = False
        self._told = False
        self._thread = threading.Thread(target=self._run, name="journal fsync", daemon=True)
        self._thread.start()

    @property
    def spacing_s(self) -> float:
        """From the beginning of one fdatasync of the thread to the next, unless somebody waits for it."""
        return self._spacing_s

    @spacing_s.setter
    def spacing_s(self, spacing_s: float) -> None:
        with self._lock:
            self._spacing_s = spacing_s
            self._work.notify()

    def submit(self, segment: ActiveSegment, lsn: Lsn, completions: Sequence[Completion]) -> None:
        """``segment`` is written as far as it says; ``lsn`` is reached when that is durable."""
        with self._lock:
            known = self._target is not None
            self._target = _Target(segment, segment.written, lsn)
            self._completions += completions
            if not known:  # else the thread knows that there is something to do
                self._work.notify()

    def sync(self, segment: ActiveSegment, lsn: Lsn, completions: Sequence[Completion]) -> bool:
        """As `submit`, and durable on return, completions called; False: it is left to the thread, as one is under
        way, or as they take long on this disk. Raises what ended the journal."""
        with self._lock:
            if self._busy or self._took_s > _QUICK_S or self.failure is not None:
                mine = None
            else:
                mine, due = _Target(segment, segment.written, lsn), [*self._completions, *completions]
                self._target, self._completions, self._busy = None, [], True
        if mine is None:
            self.check()
            self.submit(segment, lsn, completions)
            return False
        self._make_durable(mine, due)
        self.check()
        return True

    def check(self) -> None:
        """Raise what ended the journal."""
        if self.failure is not None:
            self._told = True
            raise self.failure.with_traceback(None)

    def fail(self, error: LogshipError) -> None:
        """End the journal; the first reason stays."""
        with self._lock:
            self.failure = self.failure or error
            self._work.notify()
            self._progress.notify_all()
        self._on_failure()

    def tell(self) -> None:
        """The caller raises the failure itself."""
        self._told = True

    def drain(self) -> None:
        """Wait until all that was submitted is durable."""
        self._wait_for(lambda: bool(self.failure) or not (self._target or self._busy), None)
        self.check()

    def wait(self, lsn: Lsn, timeout_s: float | None) -> bool:
        """Wait until ``lsn`` is durable; False when time is up."""
        self._wait_for(lambda: bool(self.failure) or self.flushed_lsn >= lsn, timeout_s)
        self.check()
        return self.flushed_lsn >= lsn

    def _wait_for(self, there: Callable[[], bool], timeout_s: float | None) -> None:
        with self._lock:
            self._waiting += 1
            self._work.notify()
            try:
                self._progress.wait_for(there, timeout_s)
            finally:
                self._waiting -= 1

    def stop(self) -> None:
        """End the thread; what is submitted is still made durable. Raises a failure nobody has heard of."""
        with self._lock:
            self._stopping = True
            self._work.notify()
        self._thread.join()
        if not self._told:
            self.check()

    def _run(self) -> None:
        while True:
            with self._lock:
                self._work.wait_for(self._is_due)
                target, completions = self._target, self._completions
                if target is None or self.failure is not None:
                    return
                self._target, self._completions, self._busy = None, [], True
            if not self._make_durable(target, completions):
                return

    def _is_due(self) -> bool:
        """With the lock held: whether the thread has something to do now. It leaves time for more to gather."""
        while self._target is not None and not (self._busy or self._hurried()):
            left_s = self._began_s + self._spacing_s - time.monotonic()
            if left_s <= 0:
                break
            self._work.wait(left_s)
        return bool(self.failure) or (not self._busy and (self._target is not None or self._stopping))

    def _hurried(self) -> bool:
        return self._stopping or self._waiting > 0 or self.failure is not None

    def _make_durable(self, target: _Target, completions: list[Completion]) -> bool:
        """By whoever has made us busy. False: the journal has failed."""
        try:
            return self._sync(target) and self._complete(completions)
        finally:
            with self._lock:
                self._busy = False
                if self._target is not None or self._stopping:
                    self._work.notify()
                self._progress.notify_all()

    def _sync(self, target: _Target) -> bool:
        try:
            hit("journal.fsync.before")
            began = self._began_s = time.monotonic()
            self._files.fdatasync(target.segment.fd)
            self._took_s = time.monotonic() - began
            self.durations.observe(self._took_s)
            hit("journal.fsync.after")
        except OSError as error:
            self.fail(failure(error, "fsync", target.segment.header.name))
            return False
        with self._lock:
            target.segment.synced = target.written
            self.flushed_lsn = target.lsn
            self._progress.notify_all()
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
