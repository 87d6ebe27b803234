"""What capture has cut, as the journal takes it.

In: pieces, in order. Out: records, one for each, and stretches: plain transactions that follow one another, which
are journaled at once, as the same bytes. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from logship import pgoutput
from logship.capture.records import Piece, PieceKind
from logship.journal.segment import Record, RecordKind, Stretch
from logship.lsn import Lsn

_KINDS: Final = {
    PieceKind.CHANGES: RecordKind.CHANGES,
    PieceKind.POSITION: RecordKind.POSITION,
    PieceKind.ABANDON: RecordKind.ABANDON,
}
_BEGIN: Final = slice(4, 25)  # of a stretch: the first message, behind its length


def journaled(piece: Piece) -> Record | Stretch:
    """What the journal is given."""
    if piece.stretch is not None:
        return Stretch.of(piece.run, piece.stretch)
    return Record(
        kind=_KINDS[piece.kind],
        first=piece.first,
        last=piece.last,
        xid=piece.xid,
        commit_lsn=piece.commit_lsn,
        end_lsn=piece.end_lsn,
        commit_time_us=piece.commit_time_us,
        run=piece.run,
    )


def dates(pieces: Sequence[Piece]) -> Iterator[tuple[Lsn, int]]:
    """Of the first and the last transaction that are whole with ``pieces``: a position in its commit record or at its
    end, and the commit time."""
    whole = [piece for piece in pieces if piece.last]
    if whole and whole[0].stretch is not None:
        begin = pgoutput.begin_of(whole[0].run[_BEGIN])
        yield Lsn(begin.commit_lsn + 1), begin.commit_time_us
    elif len(whole) > 1:
        yield whole[0].end_lsn, whole[0].commit_time_us
    if whole:
        yield whole[-1].end_lsn, whole[-1].commit_time_us
