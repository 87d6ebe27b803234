"""What capture has cut, as the journal takes it.

In: pieces, in order. Out: records, one for each, and stretches: plain transactions that follow one another, which
are journaled at once, as the same bytes. Pure.
"""

from __future__ import annotations

from typing import Final

from logship.capture.records import Piece, PieceKind
from logship.journal.segment import Record, RecordKind, Stretch

_KINDS: Final = {
    PieceKind.CHANGES: RecordKind.CHANGES,
    PieceKind.POSITION: RecordKind.POSITION,
    PieceKind.ABANDON: RecordKind.ABANDON,
}


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
