"""Cuts the stream of pgoutput messages into pieces of whole transactions, framed as the journal keeps them.

In: stretches of a walsender's stream in order: pgoutput messages of protocol version 1, framed, and
keepalives. Out: `Piece`s: a small transaction is one, a large one is cut at `PIECE_BYTES`; where
nothing but the position moved, a POSITION piece; where the link broke in the middle, an ABANDON piece.
Begin and Commit are inside the run, and Relation and Type messages stand where they came.

Assumes that one `Assembler` follows one slot, and that `restart` is called before each further session. A
transaction that ends at or before the position of the session's start has been captured already and
is dropped whole; Relation and Type messages in it are given in front of the first change that needs
them, since a walsender sends each only once.

Logical messages outside of transactions are dropped and counted: what logship itself writes into the
log (schema changes, heartbeats) is transactional, and a message without a transaction has no place in
commit order. Plain changes are passed on as they stand, many at once; contents of rows aren't looked at.
Never does I/O, and never moves a position backwards.
"""

from __future__ import annotations

import enum
import struct
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from logship import pgoutput
from logship.capture.copydata import Keepalive, Stretch
from logship.change import Begin, Truncate
from logship.errors import ProtocolViolation
from logship.kernel import Plain, plain_at
from logship.lsn import INVALID, Lsn

PIECE_BYTES: Final = 256 * 1024

_pack_length: Final = struct.Struct(">I").pack
_length_at: Final = struct.Struct(">I").unpack_from
_ROWS: Final = frozenset(b"IUD")
_DESCRIPTIONS: Final = frozenset(b"RY")
_NO_TRANSACTION: Final = Begin(INVALID, 0, 0)


class PieceKind(enum.Enum):
    CHANGES = "changes"
    POSITION = "position"  # end_lsn is reached, and nothing stood before it
    ABANDON = "abandon"  # what was given of the open transaction is void: it will come again


@dataclass(frozen=True, slots=True)
class Piece:
    """Part of a transaction, in order: ``first`` has its Begin, ``last`` its Commit. ``end_lsn`` is the
    position reached, on ``last`` and POSITION pieces, and invalid on all others. Plain transactions
    (`logship.kernel.plain_at`) that follow one another are one piece, a stretch: what isn't said of the first of
    them, by ``stretch``, is said of the last."""

    kind: PieceKind
    first: bool
    last: bool
    xid: int
    commit_lsn: Lsn
    end_lsn: Lsn
    commit_time_us: int
    run: bytes
    stretch: Plain | None = None  # of two and more


@dataclass(slots=True)
class Counters:
    """Since the assembler was made. ``bytes`` are those of the pieces' runs."""

    transactions: int = 0
    bytes: int = 0
    messages_dropped: int = 0  # non-transactional logical messages
    transactions_skipped: int = 0  # captured before, sent again


class Assembler:
    """Feed it what the stream delivers; append what it returns to the journal, in order."""

    def __init__(self, position: Lsn, *, piece_bytes: int = PIECE_BYTES) -> None:
        """``position`` is where the journal ends: everything that ends there or before is in it."""
        self.counters = Counters()
        self._piece_bytes = piece_bytes
        self._start = self._position = position
        self._reached = INVALID  # by keepalives that no piece tells of yet
        self._begin: Begin | None = None
        self._given = False  # a piece of the open transaction has been returned
        self._skipping = False
        self._parts: list[bytes] = []
        self._held, self._from, self._to = b"", 0, 0  # behind the parts: a part of the run that is being read
        self._size = 0  # of the parts and what is held
        self._owed: dict[tuple[int, int], bytes] = {}  # (kind, oid): descriptions in skipped transactions
        self._violation: ProtocolViolation | None = None

    @property
    def position(self) -> Lsn:
        """The end of the last whole transaction, or what a keepalive said after it."""
        return self._position

    @property
    def in_transaction(self) -> bool:
        return self._begin is not None

    def feed(self, stretches: Iterable[Stretch]) -> list[Piece]:
        """The pieces that ``stretches`` complete. What is out of order raises `ProtocolViolation`, at once or,
        when pieces came before it, at the next call; after that only `restart` helps."""
        if self._violation is not None:
            raise self._violation
        pieces: list[Piece] = []
        try:
            for stretch in stretches:
                self._assemble(stretch, pieces)
        except ProtocolViolation as violation:
            self._violation = violation
            if not pieces:
                raise
        self._settle()
        self._tell_position(pieces)
        return pieces

    def restart(self) -> Piece | None:
        """To be called when the link broke, before the next session starts at `position`: forgets the
        open transaction. The piece, if there is one, makes void what was returned of it."""
        begin, given = self._begin, self._given
        self._start = self._position
        self._begin, self._given, self._skipping = None, False, False
        self._forget()
        self._owed.clear()  # a new session describes everything anew
        self._violation = None
        if begin is None or not given:
            return None
        return _piece(PieceKind.ABANDON, begin=begin)

    def _assemble(self, stretch: Stretch, pieces: list[Piece]) -> None:
        run, marks, alive = stretch.run, stretch.marks, stretch.keepalives
        at, heard, number = 0, 0, 0
        while number <= len(marks):
            if self._begin is None and not self._owed:
                heard = self._hear(alive, heard, at)
                at = self._whole(run, at, alive[heard][0] if heard < len(alive) else len(run), pieces)
                number = bisect_left(marks, at, number)
            mark = marks[number] if number < len(marks) else len(run)
            number += 1
            if at < mark:
                heard = self._hear(alive, heard, at)
                self._changes(run, at, mark, pieces)
            if heard < len(alive):
                heard = self._hear(alive, heard, mark)
            if mark < len(run):
                at = mark + 4 + _length_at(run, mark)[0]
                self._turn(run, mark, at, pieces)

    def _whole(self, run: bytes, at: int, end: int, pieces: list[Piece]) -> int:
        """Small transactions that stand one behind the other, before anything else. Where the next thing stands,
        which goes its way message by message: what is out of order is found there."""
        found = plain_at(run, at, end, self._position, self._piece_bytes)
        if found is None:
            return at
        self._tell_position(pieces)
        told, behind = found
        count, _, xid, commit_lsn, end_lsn, time_us = told
        self.counters.transactions += count
        self.counters.bytes += behind - at
        self._position = Lsn(end_lsn)
        pieces.append(
            Piece(
                PieceKind.CHANGES, True, True, xid, Lsn(commit_lsn), self._position, time_us, run[at:behind],
                told if count > 1 else None,
            )
        )  # fmt: skip
        return behind

    def _hear(self, alive: Sequence[tuple[int, Keepalive]], heard: int, upto: int) -> int:
        """The keepalives from ``heard`` on that came before offset ``upto``; which comes next."""
        while heard < len(alive) and alive[heard][0] <= upto:
            wal_end = alive[heard][1].wal_end
            if self._begin is None and wal_end > self._position:
                self._reached = self._position = wal_end
            heard += 1
        return heard

    def _changes(self, run: bytes, at: int, end: int, pieces: list[Piece]) -> None:
        """Plain changes, one frame behind the other."""
        if self._begin is None:
            raise ProtocolViolation(f"a message of kind {run[at + 4 : at + 5]!r} outside of a transaction")
        if self._skipping:
            return
        while self._owed and at < end:
            behind = at + 4 + _length_at(run, at)[0]
            self._pay(run[at + 4], run[at + 4 : behind])
            self._pass_on(run, at, behind, pieces)
            at = behind
        if at < end:
            self._pass_on(run, at, end, pieces)

    def _pass_on(self, run: bytes, at: int, end: int, pieces: list[Piece]) -> None:
        """Frames as they stand, cut behind the first that brings the piece to its size."""
        while self._size + end - at >= self._piece_bytes:
            cut = _frame_end(run, at, self._piece_bytes - self._size)
            self._keep(run, at, cut)
            pieces.append(self._cut(None))
            at = cut
        if at < end:
            self._keep(run, at, end)

    def _turn(self, run: bytes, at: int, end: int, pieces: list[Piece]) -> None:
        """The frame of a message that is no plain change."""
        message = run[at + 4 : end]
        kind = pgoutput.tag(message)
        if kind == pgoutput.MESSAGE and not pgoutput.is_transactional(message):
            self.counters.messages_dropped += 1
        elif kind == pgoutput.BEGIN:
            self._tell_position(pieces)
            self._open(message)
            if not self._skipping:
                self._keep(run, at, end)
        elif self._begin is None:
            raise ProtocolViolation(f"a message of kind {message[:1]!r} outside of a transaction")
        elif kind == pgoutput.COMMIT:
            self._close(self._begin, message)
            if not self._skipping:
                self._keep(run, at, end)
                pieces.append(self._cut(self._position))
            self._begin, self._skipping = None, False
        elif kind not in _DESCRIPTIONS and kind != pgoutput.MESSAGE:
            raise ProtocolViolation(f"a message of the unknown kind {message[:1]!r}")
        elif self._skipping:
            if kind in _DESCRIPTIONS:
                self._owed[kind, pgoutput.relation_oid(message)] = message
        else:
            self._pay(kind, message)
            self._pass_on(run, at, end, pieces)

    def _open(self, message: bytes) -> None:
        begin = pgoutput.begin_of(message)
        if self._begin is not None:
            raise ProtocolViolation(f"transaction {begin.xid} begins inside transaction {self._begin.xid}")
        # A commit record that starts before a position which is the end of a record ends there or before:
        # the rule by which the server itself decides (SnapBuildXactNeedsSkip).
        self._skipping = begin.commit_lsn < self._start
        if not self._skipping and begin.commit_lsn < self._position:
            raise ProtocolViolation(
                f"a transaction committed at {begin.commit_lsn} comes after position {self._position}"
            )
        self._begin, self._given = begin, False

    def _close(self, begin: Begin, message: bytes) -> None:
        commit = pgoutput.commit_of(message)
        if commit.commit_lsn != begin.commit_lsn or commit.end_lsn <= commit.commit_lsn:
            raise ProtocolViolation(
                f"transaction {begin.xid}, committed at {begin.commit_lsn}, ends with the commit at "
                f"{commit.commit_lsn} to {commit.end_lsn}"
            )
        if self._skipping:
            if commit.end_lsn > self._start:
                raise ProtocolViolation(
                    f"the session started at {self._start}, inside the commit record that ends at "
                    f"{commit.end_lsn}"
                )
            self.counters.transactions_skipped += 1
        else:
            self._position = commit.end_lsn
            self.counters.transactions += 1

    def _pay(self, kind: int, message: bytes) -> None:
        """Put owed descriptions in front of the first change that needs them."""
        if not self._owed:
            return
        if kind in _DESCRIPTIONS:
            self._owed.pop((kind, pgoutput.relation_oid(message)), None)
            return
        needed: Iterable[int] = ()
        if kind in _ROWS:
            needed = (pgoutput.relation_oid(message),)
        elif kind == pgoutput.TRUNCATE:
            event = pgoutput.decode(message)
            needed = event.relation_oids if isinstance(event, Truncate) else ()
        for oid in needed:
            relation = self._owed.pop((pgoutput.RELATION, oid), None)
            if relation is None:
                continue
            for key in [key for key in self._owed if key[0] == pgoutput.TYPE]:
                self._add(self._owed.pop(key))
            self._add(relation)

    def _keep(self, run: bytes, at: int, end: int) -> None:
        """Frames go behind what has gathered of the piece."""
        if self._held is run and self._to == at:
            self._to = end
        else:
            self._settle()
            self._held, self._from, self._to = run, at, end
        self._size += end - at

    def _add(self, message: bytes) -> None:
        self._keep(_pack_length(len(message)) + message, 0, len(message) + 4)

    def _settle(self) -> None:
        """What is held becomes a part: the run it stands in is let go."""
        if self._held:
            self._parts.append(self._held[self._from : self._to])
            self._held = b""

    def _forget(self) -> None:
        self._parts.clear()
        self._held = b""
        self._size = 0

    def _cut(self, end_lsn: Lsn | None) -> Piece:
        """What has gathered of the open transaction; ``end_lsn`` when it ends there."""
        assert self._begin is not None
        first, self._given = not self._given, True
        self.counters.bytes += self._size
        self._settle()
        run = b"".join(self._parts)  # a single part isn't copied
        self._forget()
        return _piece(
            PieceKind.CHANGES, begin=self._begin, first=first, last=end_lsn is not None,
            end_lsn=end_lsn or INVALID, run=run,
        )  # fmt: skip

    def _tell_position(self, pieces: list[Piece]) -> None:
        if self._reached:
            pieces.append(_piece(PieceKind.POSITION, end_lsn=self._reached))
            self._reached = INVALID


def _frame_end(run: bytes, at: int, size: int) -> int:
    """Where the first frame from ``at`` on ends with which they come to ``size`` bytes."""
    least = at + size
    at += 4 + _length_at(run, at)[0]
    while at < least:
        at += 4 + _length_at(run, at)[0]
    return at


def _piece(
    kind: PieceKind,
    *,
    begin: Begin = _NO_TRANSACTION,
    first: bool = False,
    last: bool = False,
    end_lsn: Lsn = INVALID,
    run: bytes = b"",
) -> Piece:
    return Piece(kind, first, last, begin.xid, begin.commit_lsn, end_lsn, begin.commit_time_us, run)
