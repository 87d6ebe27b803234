"""The assembler: whole transactions, however the stream was cut; what is out of order is refused."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logship import pgoutput
from logship.capture.copydata import Keepalive, Stretch
from logship.capture.records import Assembler, Piece, PieceKind
from logship.change import Begin, Commit, Event, Insert, Message, Relation, Truncate, TypeName
from logship.errors import ProtocolViolation
from logship.kernel import frame, plain, split_run
from logship.lsn import INVALID, Lsn

Item: TypeAlias = bytes | Keepalive

RELATION = pgoutput.encode(Relation(1, "s", "t", "d", ()))
OTHER = pgoutput.encode(Relation(2, "s", "o", "d", ()))
TYPE = pgoutput.encode(TypeName(7, "s", "mood"))
OUTSIDE = pgoutput.encode(Message(False, Lsn(5), "p", b""))


def row(oid: int = 1, value: bytes = b"v") -> bytes:
    return pgoutput.encode(Insert(oid, [value]))


def begin(at: int, xid: int = 7) -> bytes:
    return pgoutput.encode(Begin(Lsn(at), at * 10, xid))


def commit(at: int, end: int | None = None) -> bytes:
    return pgoutput.encode(Commit(Lsn(at), Lsn(end or at + 5), at * 10))


def transaction(at: int, *changes: bytes, xid: int = 7) -> list[Item]:
    """Its commit record reaches from ``at`` to ``at + 5``."""
    return [begin(at, xid), *changes, commit(at)]


def alive(wal_end: int) -> Keepalive:
    return Keepalive(Lsn(wal_end), 0, False)


def stretch(items: Iterable[Item]) -> list[Stretch]:
    """As `SlotStream` gives it."""
    run, marks, keepalives = b"", [], []
    for item in items:
        if isinstance(item, Keepalive):
            keepalives.append((len(run), item))
            continue
        if item[:1] not in (b"I", b"U", b"D", b"T", b"O"):
            marks.append(len(run))
        run += frame([item])
    return [Stretch(run, marks, keepalives)]


def messages(pieces: list[Piece]) -> list[bytes]:
    return [message for piece in pieces for message in split_run(piece.run)]


def test_a_small_transaction_is_one_piece() -> None:
    items = transaction(100, RELATION, row())
    (piece,) = Assembler(INVALID).feed(stretch(items))
    assert piece == Piece(PieceKind.CHANGES, True, True, 7, Lsn(100), Lsn(105), 1000, frame(items))


def test_plain_transactions_that_follow_one_another_are_one_piece() -> None:
    items = [item for number in range(1, 6) for item in transaction(number * 100, row(), xid=number)]
    described, truncated = transaction(700, RELATION, row()), transaction(800, b"T\0\0\0\0\0")
    stretches, single = stretch([*items, *described, *truncated, *transaction(900)]), frame(transaction(900))
    first, second, third, last = Assembler(INVALID).feed(stretches)
    assert first.stretch == plain(frame(items)) == (5, 100, 5, 500, 505, 5000)
    assert first == Piece(
        PieceKind.CHANGES, True, True, 5, Lsn(500), Lsn(505), 5000, frame(items), first.stretch
    )
    assert [piece.run for piece in (second, third, last)] == [frame(described), frame(truncated), single]
    assert [piece.stretch for piece in (second, third, last)] == [None, None, None]


def test_a_large_transaction_is_cut_and_only_its_last_piece_has_a_position() -> None:
    items = transaction(100, *[row(value=b"x" * 100) for _ in range(50)])
    assembler = Assembler(INVALID, piece_bytes=1000)
    pieces = assembler.feed(stretch(items))
    assert len(pieces) > 4
    assert [piece.first for piece in pieces] == [True] + [False] * (len(pieces) - 1)
    assert [piece.last for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert {piece.end_lsn for piece in pieces[:-1]} == {INVALID}
    assert pieces[-1].end_lsn == assembler.position == 105
    assert {(piece.xid, piece.commit_lsn) for piece in pieces} == {(7, 100)}
    assert all(1000 <= len(piece.run) < 1200 for piece in pieces[:-1])
    assert messages(pieces) == items


streams = st.lists(
    st.tuples(st.lists(st.integers(0, 40), max_size=12), st.booleans(), st.booleans()), max_size=8
)


@settings(deadline=None)
@given(streams, st.integers(1, 200), st.lists(st.integers(0, 60), max_size=20))
def test_the_pieces_are_the_stream_however_it_was_cut(
    shape: list[tuple[list[int], bool, bool]], piece_bytes: int, cuts: list[int]
) -> None:
    items: list[Item] = []
    for number, (sizes, keepalive, outside) in enumerate(shape, 1):
        items += transaction(number * 100, *[row(value=b"x" * size) for size in sizes], xid=number)
        items += [alive(number * 100 + 50)] if keepalive else []
        items += [OUTSIDE] if outside else []
    assembler = Assembler(INVALID, piece_bytes=piece_bytes)
    pieces: list[Piece] = []
    edges = [0, *sorted(min(cut, len(items)) for cut in cuts), len(items)]
    for start, end in pairwise(edges):
        pieces += assembler.feed(stretch(items[start:end]))
    assert messages(pieces) == [i for i in items if isinstance(i, bytes) and i != OUTSIDE]
    reached = [piece.end_lsn for piece in pieces if piece.end_lsn]
    assert reached == sorted(set(reached))
    assert assembler.position == (reached[-1] if reached else INVALID)
    assert not assembler.in_transaction
    assert assembler.counters.transactions == len(shape)
    assert assembler.counters.bytes == sum(len(piece.run) for piece in pieces)
    assert assembler.counters.messages_dropped == items.count(OUTSIDE)


def test_keepalives_advance_the_position_only_between_transactions() -> None:
    assembler = Assembler(Lsn(50))
    assert assembler.feed(stretch([alive(40), alive(50)])) == []
    (piece,) = assembler.feed(stretch([alive(60), alive(70), alive(65)]))
    assert (piece.kind, piece.end_lsn, piece.run) == (PieceKind.POSITION, 70, b"")
    assert assembler.feed(stretch([begin(100), alive(110), row(), alive(120)])) == []
    assert assembler.position == 70
    pieces = assembler.feed(stretch([commit(100), alive(130), *transaction(140), alive(150)]))
    assert [(piece.kind.value, piece.end_lsn) for piece in pieces] == [
        ("changes", 105), ("position", 130), ("changes", 145), ("position", 150),
    ]  # fmt: skip


def test_what_was_captured_before_is_dropped_whole() -> None:
    assembler = Assembler(Lsn(205))
    pieces = assembler.feed(
        stretch([*transaction(100, row()), *transaction(200, row()), *transaction(300, row())])
    )
    assert [piece.end_lsn for piece in pieces] == [305]
    assert assembler.counters.transactions_skipped == 2


def test_descriptions_in_what_was_dropped_come_before_the_first_change_that_needs_them() -> None:
    stale = pgoutput.encode(Relation(1, "s", "stale", "d", ()))
    truncate = pgoutput.encode(Truncate((3, 2), False, False))
    assembler = Assembler(Lsn(205))
    assembler.feed(
        stretch([*transaction(100, stale, row()), *transaction(200, TYPE, RELATION, row(), OTHER, row(2))])
    )
    pieces = assembler.feed(stretch([*transaction(300, row(9)), *transaction(400, row(9), row(), row()),
                             *transaction(500, truncate), *transaction(600, row(2))]))  # fmt: skip
    assert [split_run(piece.run)[1:-1] for piece in pieces] == [
        [row(9)], [row(9), TYPE, RELATION, row(), row()], [OTHER, truncate], [row(2)],
    ]  # fmt: skip


def test_descriptions_that_come_anew_replace_those_that_were_dropped() -> None:
    anew = pgoutput.encode(Relation(1, "s", "anew", "d", ()))
    assembler = Assembler(Lsn(105))
    assembler.feed(stretch(transaction(100, TYPE, RELATION, row())))
    (piece,) = assembler.feed(stretch(transaction(300, TYPE, anew, row())))
    assert split_run(piece.run)[1:-1] == [TYPE, anew, row()]


def test_a_broken_link_makes_void_what_was_given_of_the_open_transaction() -> None:
    assembler = Assembler(INVALID, piece_bytes=100)
    assembler.feed(stretch(transaction(100, row())))
    given_pieces = assembler.feed(stretch([begin(200, 9), *[row()] * 20]))
    assert given_pieces
    void = assembler.restart()
    assert void == Piece(PieceKind.ABANDON, False, False, 9, Lsn(200), INVALID, 2000, b"")
    assert assembler.position == 105
    assert not assembler.in_transaction
    again = assembler.feed(stretch([*transaction(100, row()), *transaction(200, *[row()] * 20, xid=9)]))
    assert [piece.end_lsn for piece in again if piece.last] == [205]
    assert again[0].first
    assert assembler.restart() is None


def test_nothing_is_void_when_nothing_was_given() -> None:
    assembler = Assembler(INVALID)
    assert assembler.feed(stretch([begin(100), row()])) == []
    assert assembler.restart() is None
    (piece,) = assembler.feed(stretch(transaction(100, row())))
    assert len(split_run(piece.run)) == 3


@pytest.mark.parametrize(
    ("items", "what"),
    [
        ([row()], "outside of a transaction"),
        ([commit(100)], "outside of a transaction"),
        ([RELATION], "outside of a transaction"),
        ([pgoutput.encode(Message(True, Lsn(1), "p", b""))], "outside of a transaction"),
        ([begin(100), begin(200)], "begins inside"),
        ([begin(100), commit(101)], "ends with the commit"),
        ([begin(100), commit(100, 100)], "ends with the commit"),
        ([begin(100), b"S\0\0\0\1\1"], "unknown kind"),
        ([begin(100), b""], "empty"),
        ([b""], "empty"),
        ([begin(100), begin(100)[:9]], "cut short"),
        ([b"M"], "cut short"),
        ([*transaction(200), *transaction(100)], "comes after position"),
        ([*transaction(200), *transaction(203)], "comes after position"),
        ([begin(45), commit(45, 55)], "inside the commit record"),
    ],
)
def test_what_is_out_of_order_is_refused(items: list[Item], what: str) -> None:
    assembler = Assembler(Lsn(50))
    with pytest.raises(ProtocolViolation, match=what):
        for item in items:
            assembler.feed(stretch([item]))
    with pytest.raises(ProtocolViolation, match=what):
        assembler.feed(stretch(transaction(1000)))
    assembler.restart()
    assert assembler.feed(stretch(transaction(1000)))


def test_what_was_whole_before_a_violation_is_not_lost() -> None:
    assembler = Assembler(INVALID)
    (piece,) = assembler.feed(stretch([*transaction(100, row()), row()]))
    assert piece.end_lsn == assembler.position == 105
    with pytest.raises(ProtocolViolation):
        assembler.feed(stretch([]))


events: st.SearchStrategy[Event] = st.one_of(
    st.builds(Begin, st.integers(0, 50).map(Lsn), st.just(0), st.just(1)),
    st.builds(Commit, st.integers(0, 50).map(Lsn), st.integers(0, 50).map(Lsn), st.just(0)),
    st.just(Insert(1, [])),
)


@settings(deadline=None)
@given(st.lists(events.map(pgoutput.encode) | st.integers(0, 60).map(alive) | st.binary(max_size=3)))
def test_any_stream_is_assembled_or_refused_and_positions_never_move_backwards(items: list[Item]) -> None:
    assembler = Assembler(Lsn(10))
    position = assembler.position
    for item in items:
        try:
            pieces = assembler.feed(stretch([item]))
        except ProtocolViolation:
            void = assembler.restart()
            pieces = [void] if void else []
        for piece in pieces:
            if piece.end_lsn:
                assert piece.end_lsn > position
                position = piece.end_lsn
    assert assembler.position == position
