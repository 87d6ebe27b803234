"""Pieces of the stream, as the journal takes them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from logship import pgoutput
from logship.capture.records import Piece, PieceKind
from logship.change import Begin, Column, Commit, Insert, Relation
from logship.journal.segment import Record, RecordKind, Stretch
from logship.kernel import frame, plain
from logship.lsn import INVALID, Lsn
from logship.service.ship.pieces import journaled

RELATION = Relation(1000, "public", "t", "d", (Column("id", 23, -1, True),))


def transaction(number: int, *events: Insert | Relation, first: bool = True, last: bool = True) -> Piece:
    end = Lsn(number * 100)
    commit = Lsn(end - 10)
    messages = [pgoutput.encode(Begin(commit, number, number))] if first else []
    messages += [pgoutput.encode(event) for event in (*events, Insert(1000, [b"%d" % number]))]
    messages += [pgoutput.encode(Commit(commit, end, number))] if last else []
    return Piece(
        PieceKind.CHANGES, first, last, number, commit, end if last else INVALID, number, frame(messages)
    )


def stretch(first: int, last: int) -> Piece:
    pieces = [transaction(number) for number in range(first, last + 1)]
    run = b"".join(piece.run for piece in pieces)
    told = plain(run)
    assert told is not None
    return replace(pieces[-1], run=run, stretch=told)


def as_record(piece: Piece) -> Record:
    return Record(
        RecordKind.CHANGES, piece.first, piece.last, piece.xid, piece.commit_lsn, piece.end_lsn,
        piece.commit_time_us, piece.run,
    )  # fmt: skip


def test_a_stretch_stays_together_as_it_came() -> None:
    given = journaled(stretch(1, 5))
    assert isinstance(given, Stretch)
    assert given.records() == [as_record(transaction(number)) for number in range(1, 6)]


@pytest.mark.parametrize("piece", [transaction(1), transaction(2, RELATION), transaction(3, last=False)])
def test_any_other_piece_is_a_record(piece: Piece) -> None:
    assert journaled(piece) == as_record(piece)
