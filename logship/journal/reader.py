"""Reads an open journal while it is being written, from any position on.

In: the chain of segments of this process's journal, and a position. Out: first a SCHEMA record with the
Relation and Type messages in force there, then every record of every transaction that ends after the
position, and the positions after it, in order; each transaction from its first record on. ABANDON
makes void what came of the open transaction; one that was abandoned may stand in front, and behind it a
position that is not after the asked one. SCHEMA and INDEX records of further segments stay out.

`read` gives each record by itself; `read_together` gives plain transactions that stand one behind the other as
one `Stretch`, for those who take in many at once. It never waits for more of them.

A *whole* reader is for those who can't take anything back: it gives a transaction's first record only
once the log has its last one, and nothing of one that was abandoned.

Reads what was handed to the file, which may not be fsynced yet. Every record's checksum is checked;
bad bytes raise `JournalDamaged`, and segments that retention has taken away raise `JournalTooOld`. One
thread reads; `wake` may be called from any.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Self

from logship.errors import JournalError, JournalTooOld
from logship.journal.ahead import Ahead, Fate
from logship.journal.beginning import Beginning, Place, Verdict
from logship.journal.chain import Chain
from logship.journal.contents import schema_record
from logship.journal.cursor import Cursor, SegmentFile
from logship.journal.directory import following_name
from logship.journal.files import Files
from logship.journal.segment import TRAILER_BYTES, Malformed, Record, RecordKind, Stretch, decode_trailer
from logship.lsn import Lsn

_INTERNAL = frozenset({RecordKind.SCHEMA, RecordKind.INDEX})
_STRIDE_BYTES = (
    256 << 10
)  # of plain transactions, looked at together for where reading begins; then of an eighth …
_LEAST_STRIDE_BYTES = 4 << 10


class JournalReader:
    """Made by `Journal.reader`."""

    def __init__(self, chain: Chain, files: Files, start: Lsn, *, whole: bool = False) -> None:
        self._chain = chain
        self._files = files
        self._start = start
        self._woken = False
        self._closed = False
        self._beginning: Beginning | None = None
        self._stride_bytes = 0
        self._file: SegmentFile | None = None
        self._cursor: Cursor | None = None
        self._name = ""
        self._limit = 0  # up to where the segment may be read, as of the last time it was asked for
        self._whole = whole
        self._held: Record | None = None  # of a whole reader: a first record whose transaction may not end
        self._ahead: Ahead | None = None  # what looks for that end
        self._voiding = False  # of a whole reader: what comes up to ABANDON is void
        self._latest: Record | None = None  # that was read by itself, whether or not it was given
        self._described = False  # the Relation and Type messages in force have been given
        self._listener: Callable[[bool], None] | None = None
        self._begin(None)

    def listen(self, listener: Callable[[bool], None]) -> None:
        """Call ``listener`` when there may be more to read, until this is closed: see `Chain.listen`. Once only."""
        self._listener = listener
        self._chain.listen(listener)

    def read(self, max_bytes: int, timeout_s: float | None) -> list[Record]:
        """The next records, about ``max_bytes`` of runs, at least one; waits for one up to ``timeout_s``.

        Empty when time is up or `wake` was called. `JournalError` once the journal is closed and all is read.
        """
        return [one for one in self._read(max_bytes, timeout_s, together=False) if isinstance(one, Record)]

    def read_together(self, max_bytes: int, timeout_s: float | None) -> list[Record | Stretch]:
        """As `read`; whole transactions with nothing but rows in them come together."""
        return self._read(max_bytes, timeout_s, together=not self._whole)

    def _read(self, max_bytes: int, timeout_s: float | None, *, together: bool) -> list[Record | Stretch]:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            if self._closed:
                raise JournalError("this reader of the journal is closed")
            records = self._collect(max_bytes, together=together)
            if records:
                return records
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not self._chain.wait(self._ready, left) or self._take_wake():
                return []
            if self._chain.closed and not self._more():
                raise JournalError("the journal is closed")

    def wake(self) -> None:
        """Make a `read` that waits, or the next one that would, return at once."""
        self._woken = True
        self._chain.notify()

    def close(self) -> None:
        self._closed = True
        if self._listener is not None:
            self._chain.unlisten(self._listener)
        self._let_go()
        if self._file is not None:
            self._file.close()
        self._file = self._cursor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _take_wake(self) -> bool:
        woken, self._woken = self._woken, False
        return woken

    def _ready(self) -> bool:
        return self._woken or self._more()

    def _more(self) -> bool:
        """Whether something may be read: more of this segment, or the next one."""
        if self._ahead is not None:
            return self._ahead.more
        if self._cursor is None:
            return self._chain.has(self._name) or self._chain.gone(self._name)
        limit = self._chain.limit(self._name)
        return limit is None or self._cursor.offset < limit

    def _begin(self, aim: Place | None) -> None:
        name = self._chain.begin(self._start)
        if name is None:
            raise self._too_old()
        self._beginning = Beginning(self._start, aim=aim)
        self._stride_bytes = _STRIDE_BYTES
        self._enter(name)

    def _enter(self, name: str) -> None:
        self._leave()
        self._name = name
        try:
            self._file = SegmentFile(self._chain.directory / name, self._files)
        except FileNotFoundError:
            raise self._too_old() from None
        self._cursor = Cursor(self._file)
        self._limit = 0

    def _leave(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = self._cursor = None

    def _too_old(self) -> JournalTooOld:
        return JournalTooOld(self._start, self._chain.oldest_lsn)

    def _collect(self, max_bytes: int, *, together: bool) -> list[Record | Stretch]:
        records: list[Record | Stretch] = []
        size = 0
        while size < max_bytes or not records:
            if self._held is not None:
                released = self._release(self._held)
                if released is None:
                    break
                records += released
                size += sum(len(record.run) for record in released)
                continue
            if self._cursor is None and self._chain.gone(self._name):
                records += self._admit(self._begin_anew())
            if self._cursor is None and not self._enter_next():
                break
            if self._beginning is not None and self._passed_over(self._beginning):
                continue
            stretch = self._gather(max_bytes - size) if together else None
            if stretch is not None:
                records.append(stretch)
                size += len(stretch.run)
                continue
            record = self._step()
            if record is None:
                break
            if self._beginning is not None:
                records += self._admit(self._search(self._beginning, record))
                size = len(record.run) if records else 0
            elif record.kind not in _INTERNAL:
                records += self._admit([record])
                size += len(record.run)
            if record.kind is RecordKind.INDEX:
                self._pass(record)
            else:
                self._latest = record
        return records

    def _admit(self, records: list[Record]) -> list[Record]:
        """Of a whole reader: without what is void, and without what isn't known to end, which is held."""
        if not self._whole:
            return records
        return [record for record in records if self._may_pass(record)]

    def _may_pass(self, record: Record) -> bool:
        if record.kind is RecordKind.ABANDON:
            self._voiding = False
            return False
        if self._voiding:
            return False
        if record.kind is RecordKind.CHANGES and record.first and not record.last and self._cursor:
            self._held = record
            self._ahead = Ahead(
                self._chain, self._files, start=self._start, name=self._name, offset=self._cursor.offset
            )
            return False
        return True

    def _release(self, held: Record) -> list[Record] | None:
        """The held record, when its transaction ends; nothing, when it is void; None: that isn't known yet."""
        fate = self._ahead.look() if self._ahead is not None else Fate.OPEN
        if fate is Fate.OPEN:
            return None
        self._let_go()
        self._voiding = fate is Fate.ABANDONED
        return [] if self._voiding else [held]

    def _let_go(self) -> None:
        if self._ahead is not None:
            self._ahead.close()
        self._held = self._ahead = None

    def _step(self) -> Record | None:
        file, cursor = self._file, self._cursor
        if file is None or cursor is None:
            return None
        sealed = self._look(file, cursor)
        try:
            record = cursor.step(self._limit)
        except Malformed as error:
            raise file.damaged(cursor.offset, error.message) from error
        if record is None and sealed:
            raise file.damaged(cursor.offset, "a sealed segment ends without its index")
        return record

    def _look(self, file: SegmentFile, cursor: Cursor) -> bool:
        """How far ``file`` may be read, once all that was known is read. Whether it is at the end of a sealed one."""
        if cursor.offset < self._limit:
            return False
        limit = self._chain.limit(self._name)
        self._limit = file.size if limit is None else limit
        return limit is None

    def _gather(self, max_bytes: int) -> Stretch | None:
        file, cursor = self._file, self._cursor
        if file is None or cursor is None or self._beginning is not None:
            return None
        self._look(file, cursor)
        try:
            stretch = cursor.gather(max(max_bytes, 1), self._limit)
        except Malformed as error:
            raise file.damaged(cursor.offset, error.message) from error
        if stretch is not None:
            self._latest = None  # a transaction that is whole
        return stretch

    def _passed_over(self, beginning: Beginning) -> bool:
        """Whether reading begins behind the plain transactions that stand next, which are many in a segment."""
        file, cursor = self._file, self._cursor
        if file is None or cursor is None or self._stride_bytes < _LEAST_STRIDE_BYTES:
            return False
        self._look(file, cursor)
        before = cursor.at, cursor.offset, cursor.synced
        try:
            stretch = cursor.gather(self._stride_bytes, self._limit)
        except Malformed as error:
            raise file.damaged(cursor.offset, error.message) from error
        if stretch is None:
            return False
        if beginning.passes_over(stretch.end_lsn, self._name, range(before[1], cursor.offset)):
            self._latest = None
            return True
        cursor.at, cursor.offset, cursor.synced = before
        self._stride_bytes //= 8
        return False

    def _search(self, beginning: Beginning, record: Record) -> list[Record]:
        verdict = beginning.judge(record, (self._name, self._cursor.at if self._cursor else 0))
        if verdict is Verdict.GO_BACK:
            self._begin(beginning.mark)
        if verdict is not Verdict.BEGIN:
            return []
        self._beginning = None
        if self._described:
            return [record]
        self._described = True
        return [schema_record(beginning.schema), record]

    def _pass(self, index: Record) -> None:
        """The segment is read to its end; the next one may not be there yet."""
        file, cursor = self._file, self._cursor
        if file is None or cursor is None:
            return
        header = file.header
        try:
            # Not the whole index: it names each transaction, of which a segment may have some hundred thousand.
            last_lsn = decode_trailer(index.run[-TRAILER_BYTES:], header.salt).last_lsn
        except Malformed as error:
            raise file.damaged(cursor.at, error.message) from error
        self._start = max(self._start, last_lsn)
        self._leave()
        self._name = following_name(header.first_lsn, header.part, last_lsn)

    def _begin_anew(self) -> list[Record]:
        """The next segment was taken away. Where nothing that ends after the last position went with it, what did was
        void: a transaction that spanned segments and was abandoned, which is what comes of it here too. Whatever
        it described is described again: it was a link that broke."""
        if self._chain.oldest_lsn > self._start:
            raise self._too_old()
        self._begin(None)
        void = self._latest
        if void is None or void.kind is not RecordKind.CHANGES or void.last:
            return []
        return [Record(RecordKind.ABANDON, False, False, void.xid, void.commit_lsn, Lsn(0), 0, b"")]

    def _enter_next(self) -> bool:
        if not self._chain.has(self._name):
            return False
        self._enter(self._name)
        return True
