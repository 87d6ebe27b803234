"""The journal: an append-only log of whole transactions in commit order, in segment files.

In: records, from one writer's thread, each perhaps with a completion. Out: files (`segment` has the
layout), readers that follow them, and the completions, called once their record is fsynced. What a
crash leaves is mended when the journal is opened; what is damaged is refused with file and offset.

`append`, `write` and `abandon` belong to one thread; everything else may be called from any. A failed
write or fsync ends the journal: the same error is raised to everybody until it is opened again, and
what was not acknowledged is to be sent again. Positions never go backwards, and `flushed_lsn` is never
ahead of the disk. Segments that readers may still need are never taken away but by `apply_retention`.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Self

from logship.errors import InternalError, JournalError, UsageError
from logship.failpoints import hit
from logship.journal import identity
from logship.journal.active import ActiveSegment, current_time_us
from logship.journal.chain import Chain
from logship.journal.contents import Contents
from logship.journal.directory import check_source
from logship.journal.files import Files, failure, lock, make_directory
from logship.journal.flush import Completion, Flusher
from logship.journal.opening import Opened, open_segments
from logship.journal.reader import JournalReader
from logship.journal.retention import Retention, Segment, decide
from logship.journal.segment import MAX_BODY_BYTES, Record, RecordKind, Source, Stretch, record_size
from logship.lsn import INVALID, Lsn
from logship.metrics import Distribution

SEGMENT_BYTES: Final = 64 * 1024 * 1024
MIN_SEGMENT_BYTES: Final = 8 * 1024


class Journal:
    """Open with `Journal.open`; close it, or use it in a ``with`` block."""

    def __init__(
        self,
        directory: Path,
        source: Source,
        files: Files,
        *,
        lock_fd: int,
        opened: Opened,
        segment_bytes: int,
    ) -> None:
        sealed, active, marked = opened
        self._directory = directory
        self._source = source
        self._files = files
        self._lock_fd = lock_fd
        self._active = active
        self._segment_bytes = segment_bytes
        self._marked = marked
        self._completions: list[Completion] = []
        self._retention = threading.Lock()
        self._chain = Chain(directory, sealed, active)
        self._flusher = Flusher(files, self._chain.written_lsn, self._chain.notify)
        self._open = True
        # One that lost the file is another journal to whoever remembers it.
        self.identity: Final = identity.read(directory) or identity.make(files, directory)

    @classmethod
    def open(
        cls,
        directory: Path,
        source: Source,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        start: Lsn | Callable[[], Lsn] = INVALID,
        files: Files | None = None,
    ) -> Self:
        """The journal in ``directory``, which is made when missing; an empty one begins at ``start``, which is
        asked for, if it is to be asked, when the directory is locked and holds nothing.

        Cuts a torn tail and makes void a transaction that was left open. Raises `JournalLocked`,
        `JournalForeign`, `JournalDamaged`, `JournalFull`, `JournalReadOnly`.
        """
        if segment_bytes < MIN_SEGMENT_BYTES:
            raise UsageError(
                f"a journal segment of {segment_bytes} bytes is too small: {MIN_SEGMENT_BYTES} at least",
                hint="give a larger --segment-size",
            )
        files = files or Files()
        make_directory(files, directory)
        lock_fd = lock(files, directory)
        try:
            begin = start if callable(start) else lambda: start
            opened = open_segments(files, directory, source, segment_bytes=segment_bytes, start=begin)
            journal = cls(
                directory, source, files, lock_fd=lock_fd, opened=opened, segment_bytes=segment_bytes
            )
        except OSError as error:
            os.close(lock_fd)
            raise failure(error, "open", str(directory)) from error
        except BaseException:
            os.close(lock_fd)
            raise
        journal._abandon_left_open()
        return journal

    def _abandon_left_open(self) -> None:
        try:
            self.abandon()
            self.write()
            hit("journal.open.abandoned")
        except BaseException:
            self._release()
            raise

    # -- writing -----------------------------------------------------------------------------------

    def append(self, record: Record, completion: Completion | None = None) -> Lsn:
        """Buffer ``record``; the position that the journal reaches with it.

        ``completion`` is called with the flushed LSN, once the record is durable, from the thread that saw to
        it: it must not block. `InternalError` when ``record`` may not stand here; nothing is changed then.
        """
        if self._flusher.failure is not None:
            self._flusher.check()
        active = self._active
        active.contents.check(record)
        size = record_size(len(record.run))
        if active.offset + size > active.size:
            active = self._roll(size)
        try:
            active.append(record)
        except (ValueError, struct.error) as error:
            raise InternalError(f"the journal was given a record that can't be coded: {error}") from error
        if completion is not None:
            self._completions.append(completion)
        self._marked = False
        return active.contents.last_lsn

    def append_stretch(self, stretch: Stretch, completion: Completion | None = None) -> Lsn:
        """As `append` of each of its transactions; ``completion`` is for the last."""
        if self._flusher.failure is not None:
            self._flusher.check()
        active = self._active
        active.contents.check_stretch(stretch)
        try:
            appended = active.append_stretch(stretch)
            records = [] if appended else stretch.records()
        except ValueError as error:
            raise InternalError(f"the journal was given a stretch that can't be coded: {error}") from error
        for record in records:  # the segment ends among them
            self.append(record)
        if completion is not None:
            self._completions.append(completion)
        self._marked = False
        return self._active.contents.last_lsn

    def write(self) -> None:
        """Hand the buffer to the file and to readers, and have it fsynced by a thread."""
        if self._hand_out():
            self._flusher.submit(self._active, self._active.contents.last_lsn, self._due())

    def write_through(self, written: Callable[[], None]) -> None:
        """As `write`, and fsync here, while the readers read; ``written`` is called between the two. Where an fsync
        is under way, or where they take long, it is left to the thread, and nothing is waited for."""
        if self._hand_out(hurried=True):
            written()
            self._flusher.sync(self._active, self._active.contents.last_lsn, self._due())

    def _hand_out(self, *, hurried: bool = False) -> bool:
        """False: there was nothing to write."""
        if self._flusher.failure is not None:
            self._flusher.check()
        try:
            wrote = self._active.write()
        except OSError as error:
            raise self._fail(error, "write") from error
        if wrote:
            self._chain.publish(self._active.contents.last_lsn, hurried=hurried)
        return wrote

    def _due(self) -> list[Completion]:
        completions, self._completions = self._completions, []
        return completions

    def space_fsyncs(self, spacing_s: float) -> None:
        """Leave so much time between two fsyncs, from now on, unless somebody waits for one; 0: none."""
        if spacing_s != self._flusher.spacing_s:
            self._flusher.spacing_s = spacing_s

    def abandon(self) -> None:
        """What was appended of the open transaction is void: the link broke, it will come again whole."""
        left = self._active.contents.open
        if left is not None:
            self.append(Record(RecordKind.ABANDON, False, False, left.xid, left.commit_lsn, Lsn(0), 0, b""))

    def wait_flushed(self, lsn: Lsn, timeout_s: float | None = None) -> bool:
        """Wait until everything up to ``lsn``, which was written, is durable; False when time is up."""
        return self._flusher.wait(lsn, timeout_s)

    def _roll(self, room: int) -> ActiveSegment:
        """Seal the active segment, make it durable, and only then make the next one."""
        old = self._active
        if room > MAX_BODY_BYTES:
            raise InternalError(f"a journal record of {room} bytes is too large")
        try:
            self.write()
            old.append_index()
            old.write()
            hit("journal.seal.written")
            self._chain.publish(old.contents.last_lsn)
            self._flusher.submit(old, old.contents.last_lsn, self._due())
            self._flusher.drain()
            old.finish()
            contents = Contents(old.contents.last_lsn, old.contents.open, old.contents.schema)
            part = old.header.part + 1 if contents.last_lsn == old.header.first_lsn else 0
            self._active = ActiveSegment.create(
                self._files,
                self._directory,
                self._source,
                contents,
                part=part,
                room=room,
                size=self._segment_bytes,
            )
        except OSError as error:
            raise self._fail(error, "make a new segment in") from error
        self._chain.turn(self._active)
        old.close()
        return self._active

    def _fail(self, error: OSError, doing: str) -> JournalError:
        failed = failure(error, doing, str(self._directory))
        self._flusher.fail(failed)
        self._flusher.tell()
        return failed

    def require_source(self, source: Source) -> None:
        """`JournalForeign` when ``source`` isn't what this is the journal of."""
        check_source(self._directory, self._source, source)

    # -- positions ---------------------------------------------------------------------------------

    @property
    def written_lsn(self) -> Lsn:
        """End of the last transaction, or position, that is in the file."""
        return self._chain.written_lsn

    @property
    def flushed_lsn(self) -> Lsn:
        """End of the last transaction, or position, that is on disk."""
        return self._flusher.flushed_lsn

    @property
    def oldest_lsn(self) -> Lsn:
        """The smallest position that a reader may ask for."""
        return self._chain.oldest_lsn

    @property
    def size_bytes(self) -> int:
        """On disk, the preallocated part included."""
        return sum(segment.bytes for segment in self._chain.segments())

    @property
    def fsyncs(self) -> Distribution:
        """How long each fdatasync took."""
        return self._flusher.durations.read()

    def segments(self) -> list[Segment]:
        """From the oldest to the one that is being written."""
        return self._chain.segments()

    # -- reading and retention ---------------------------------------------------------------------

    def reader(self, start: Lsn, *, whole: bool = False) -> JournalReader:
        """Reads what ends after ``start``; with ``whole`` nothing of a transaction before it is known to
        end, and nothing of one that was abandoned. `JournalTooOld` when that is no longer kept."""
        return JournalReader(self._chain, self._files, start, whole=whole)

    def apply_retention(
        self,
        needed: Mapping[str, Lsn],
        *,
        limit_bytes: int | None = None,
        min_age_s: float = 0,
        now_us: int | None = None,
    ) -> Retention:
        """Unlink the segments that may go (`retention`), oldest first. ``now_us``: µs since 2000-01-01."""
        with self._retention:  # two at once would unlink the same files
            retention = decide(
                self._chain.segments(),
                needed,
                limit_bytes=limit_bytes,
                min_age_s=min_age_s,
                now_us=current_time_us() if now_us is None else now_us,
            )
            for name in retention.drop:
                path = self._directory / name
                self._chain.drop(name)
                try:
                    self._files.unlink(path)
                    hit("journal.retention.unlinked")
                    # one by one: a crash may keep a later unlink and lose an earlier, which would leave a gap
                    self._files.sync_directory(self._directory)
                except OSError as error:
                    raise failure(error, "remove", str(path)) from error
        return retention

    # -- the end -----------------------------------------------------------------------------------

    def close(self) -> None:
        """Make durable what was appended, and give the directory up.

        A transaction that is open is made void. An empty record goes last, which proves that what
        stands before it was fsynced: damage to it will not pass for a torn tail.
        """
        if not self._open:
            return
        try:
            if self._flusher.failure is None:
                self._mark()
        finally:
            self._release()

    def _mark(self) -> None:
        self.abandon()
        self.write()
        self._flusher.drain()
        if not self._marked:
            lsn = self._active.contents.last_lsn
            self.append(Record(RecordKind.POSITION, False, False, 0, Lsn(0), lsn, 0, b""))
            self.write()
            self._flusher.drain()
            self._marked = True

    def _release(self) -> None:
        self._open = False
        self._chain.close()
        try:
            self._flusher.stop()
        finally:
            self._active.close()
            os.close(self._lock_fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
