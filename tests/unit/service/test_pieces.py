"""Pieces of the stream, as the journal takes them."""

from __future__ import annotations

from logship import pgoutput
from logship.capture.records import Piece, PieceKind
from logship.change import Begin, Column, Commit, Insert, Relation
from logship.journal.segment import Record, RecordKind, Stretch
from logship.kernel import frame
from logship.lsn import INVALID, Lsn
from logship.service.ship.pieces import together

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


def one_by_one(given: list[Record | Stretch]) -> list[Record]:
    return [record for each in given for record in (each.records() if isinstance(each, Stretch) else [each])]


def as_record(piece: Piece) -> Record:
    return Record(
        RecordKind.CHANGES, piece.first, piece.last, piece.xid, piece.commit_lsn, piece.end_lsn,
        piece.commit_time_us, piece.run,
    )  # fmt: skip


def test_small_transactions_go_together() -> None:
    pieces = [transaction(number) for number in range(1, 6)]
    given = together(pieces)
    assert [type(each) for each in given] == [Stretch]
    assert one_by_one(given) == [as_record(piece) for piece in pieces]


def test_a_single_one_is_a_record() -> None:
    assert together([transaction(1)]) == [as_record(transaction(1))]


def test_what_is_no_whole_transaction_stands_between_them() -> None:
    position = Piece(PieceKind.POSITION, False, False, 0, INVALID, Lsn(350), 0, b"")
    pieces = [
        transaction(1), transaction(2), transaction(3, last=False), transaction(3, first=False), position,
        transaction(4), transaction(5),
    ]  # fmt: skip
    given = together(pieces)
    assert [type(each) for each in given] == [Stretch, Record, Record, Record, Stretch]
    assert [record.run for record in one_by_one(given)] == [piece.run for piece in pieces]
    assert [record.end_lsn for record in one_by_one(given)] == [piece.end_lsn for piece in pieces]


def test_with_a_description_among_them_they_go_one_by_one() -> None:
    pieces = [transaction(1), transaction(2, RELATION), transaction(3)]
    assert together(pieces) == [as_record(piece) for piece in pieces]
