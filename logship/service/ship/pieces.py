"""What capture has cut, as the journal takes it.

In: pieces, in order. Out: records, one for each, and stretches: plain transactions that follow one another, which
are journaled at once, as the same bytes. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from logship.capture.records import Piece, PieceKind
from logship.journal.segment import Record, RecordKind, Stretch
from logship.kernel import plain

_KINDS: Final = {
    PieceKind.CHANGES: RecordKind.CHANGES,
    PieceKind.POSITION: RecordKind.POSITION,
    PieceKind.ABANDON: RecordKind.ABANDON,
}


def together(pieces: Sequence[Piece]) -> list[Record | Stretch]:
    """What the journal is given: plain transactions that follow one another at once, everything else one by one."""
    given: list[Record | Stretch] = []
    whole: list[Piece] = []
    for piece in pieces:
        if piece.first and piece.last:
            whole.append(piece)
            continue
        given += _as_one(whole)
        given.append(_record(piece))
        whole = []
    return given + _as_one(whole)


def _as_one(whole: Sequence[Piece]) -> list[Record | Stretch]:
    if len(whole) > 1:
        run = b"".join([piece.run for piece in whole])
        if told := plain(run):
            return [Stretch.of(run, told)]
    return [_record(piece) for piece in whole]


def _record(piece: Piece) -> Record:
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
