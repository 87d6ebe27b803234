"""What a replayer's journal is given of a relay's records: in order, whole, and described."""

from __future__ import annotations

import struct
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logship.errors import ProtocolViolation
from logship.journal.segment import Record, RecordKind, Stretch
from logship.kernel import cut, frame, split_run
from logship.lsn import INVALID, Lsn
from logship.relay.frames import RelayedKind, RelayedRecord
from logship.service.replay.intake import Intake
from tests.unit.plain import stretches, transaction


def relation(oid: int, name: str = "t") -> bytes:
    return b"R" + struct.pack(">I", oid) + b"public\0" + name.encode() + b"\0d\0\0"


def row(oid: int) -> bytes:
    return b"I" + struct.pack(">I", oid) + b"N\0\0"


def schema(*messages: bytes) -> RelayedRecord:
    return relayed(RelayedKind.SCHEMA, run=frame(list(messages)))


def relayed(kind: RelayedKind, **fields: object) -> RelayedRecord:
    usual: dict[str, object] = {
        "first": False, "last": False, "xid": 0, "commit_lsn": INVALID, "end_lsn": INVALID,
        "commit_time_us": 0, "primary_wal_end": INVALID, "age_us": None, "run": b"",
    }  # fmt: skip
    return RelayedRecord(kind, **(usual | fields))  # type: ignore[arg-type]


def part(commit: int, *messages: bytes, first: bool = False, last: bool = False) -> RelayedRecord:
    inside = [b"B begin"] * first + list(messages) + [b"C commit"] * last
    return relayed(
        RelayedKind.CHANGES, first=first, last=last, xid=commit, commit_lsn=Lsn(commit),
        end_lsn=Lsn(commit + 5) if last else INVALID, run=frame(inside),
    )  # fmt: skip


def whole(commit: int, *messages: bytes) -> RelayedRecord:
    return part(commit, *messages, first=True, last=True)


def position(lsn: int) -> RelayedRecord:
    return relayed(RelayedKind.POSITION, end_lsn=Lsn(lsn))


ABANDON = relayed(RelayedKind.ABANDON)


def begun(at: int) -> Intake:
    intake = Intake(Lsn(at))
    intake.begin()
    return intake


def given_to(intake: Intake, relayed: Iterable[RelayedRecord]) -> list[Record]:
    """What the journal is given, when none of it is a stretch."""
    records: list[Record] = []
    for one in intake.take(relayed):
        assert isinstance(one, Record)
        records.append(one)
    return records


def messages(record: Record) -> list[bytes]:
    return split_run(record.run)


def test_descriptions_stand_behind_the_first_begin_and_once() -> None:
    intake = begun(10)
    first, second = given_to(intake, [schema(relation(1), relation(2)), whole(20, row(1)), whole(30, row(2))])
    assert messages(first) == [b"B begin", relation(1), relation(2), row(1), b"C commit"]
    assert messages(second) == [b"B begin", row(2), b"C commit"]
    assert (first.end_lsn, intake.position) == (Lsn(25), Lsn(35))


def test_a_session_that_describes_the_same_again_adds_nothing() -> None:
    intake = begun(10)
    given_to(intake, [schema(relation(1), relation(2)), whole(20, row(1))])
    intake.begin()
    (found,) = given_to(intake, [schema(relation(1), relation(2, "other")), whole(30, row(1))])
    assert messages(found) == [b"B begin", relation(2, "other"), row(1), b"C commit"]


@pytest.mark.parametrize("by_the_link", [True, False], ids=["link", "shipper"])
def test_descriptions_in_an_abandoned_transaction_come_again(by_the_link: bool) -> None:
    """Who reads the journal never sees what stands in one."""
    intake = begun(10)
    given_to(intake, [schema(relation(1)), part(20, row(1), first=True)])
    if by_the_link:
        intake.begin()
        again = [schema(relation(1)), whole(20, row(1))]
    else:
        again = [ABANDON, whole(20, row(1))]
    *abandoned, found = given_to(intake, again)
    assert [record.kind for record in abandoned] == ([] if by_the_link else [RecordKind.ABANDON])
    assert messages(found) == [b"B begin", relation(1), row(1), b"C commit"]


def test_what_the_journal_has_is_left_out_and_its_descriptions_are_not() -> None:
    """A shipper that lost the end of its journal gets it from the primary again, and sends it again."""
    intake = begun(30)
    again = [part(20, relation(1), first=True), part(20, row(1), last=True), position(28), whole(40, row(1))]
    (found,) = given_to(intake, [schema(), *again])
    assert messages(found) == [b"B begin", relation(1), row(1), b"C commit"]
    assert found.commit_lsn == Lsn(40)


def test_a_shape_that_was_in_force_for_a_while_is_not_owed_any_more() -> None:
    """A table was changed and changed back, in transactions that the journal has: what follows has the old shape."""
    intake = begun(10)
    given_to(intake, [schema(relation(1, "old")), whole(20, row(1)), whole(30, relation(1, "new"), row(1))])
    given_to(intake, [whole(40, relation(1, "old"), row(1))])
    intake.begin()
    again = [
        schema(relation(1, "old")),
        whole(30, relation(1, "new"), row(1)),
        whole(40, relation(1, "old"), row(1)),
    ]
    (taken,) = given_to(intake, [*again, whole(50, row(1))])
    assert messages(taken) == [b"B begin", row(1), b"C commit"]


def test_a_position_that_says_nothing_new_is_left_out() -> None:
    intake = begun(10)
    assert given_to(intake, [schema(), position(9), position(10)]) == []
    (found,) = given_to(intake, [position(11)])
    assert (found.kind, found.end_lsn, intake.position) == (RecordKind.POSITION, Lsn(11), Lsn(11))


def test_an_abandoned_transaction_may_stand_in_front() -> None:
    assert begun(10).take([schema(), ABANDON]) == []


@pytest.mark.parametrize(
    "records",
    [
        [part(20, first=True), part(30, first=True)],
        [part(20)],
        [part(20, first=True), part(21)],
        [part(20, first=True), position(30)],
        [part(20, first=True), schema()],
        [relayed(RelayedKind.SCHEMA, run=b"\0\0\0\x09R")],
        [part(9, first=True), part(9, last=True)],  # inside the commit that the journal ends in
        [relayed(RelayedKind.CHANGES, first=True, last=True, xid=1, commit_lsn=Lsn(20), end_lsn=Lsn(20),
                 run=frame([b"B"]))],
        [schema(relation(1)), relayed(RelayedKind.CHANGES, first=True, xid=1, commit_lsn=Lsn(20), run=b"\0")],
        [schema(relation(1)), relayed(RelayedKind.CHANGES, first=True, xid=1, commit_lsn=Lsn(20),
                                      run=frame([row(1)]))],
    ],
)  # fmt: skip
def test_what_can_not_stand_there_is_a_violation(records: list[RelayedRecord]) -> None:
    with pytest.raises(ProtocolViolation):
        begun(10).take(records)


@given(st.data())
def test_however_links_break_each_transaction_is_taken_once(data: st.DataObject) -> None:
    """A log of transactions in parts, sent from where the journal ends, cut anywhere, again and again."""
    log: list[list[RelayedRecord]] = []
    at = 10
    for _ in range(data.draw(st.integers(1, 8))):
        at += 10
        count = data.draw(st.integers(1, 4))
        log.append([part(at, row(at), first=i == 0, last=i == count - 1) for i in range(count)])
    intake = Intake(Lsn(10))
    standing: list[Lsn] = []
    for _ in range(data.draw(st.integers(0, 6))):
        intake.begin()
        sent = _sent(log, intake.position, lost=data.draw(st.integers(0, 2)))
        cut = data.draw(st.integers(0, len(sent)))
        standing += [r.end_lsn for r in given_to(intake, [schema(relation(1)), *sent[:cut]]) if r.last]
    intake.begin()
    standing += [
        r.end_lsn for r in given_to(intake, [schema(relation(1)), *_sent(log, intake.position)]) if r.last
    ]
    assert standing == [transaction[-1].end_lsn for transaction in log]


def _sent(log: list[list[RelayedRecord]], position: Lsn, *, lost: int = 0) -> list[RelayedRecord]:
    """What follows ``position``, and ``lost`` transactions before it that the shipper has anew."""
    index = sum(transaction[-1].end_lsn <= position for transaction in log)
    return [record for transaction in log[max(0, index - lost) :] for record in transaction]


def stretch(runs: list[bytes]) -> RelayedRecord:
    *_, last = cut(b"".join(runs))
    return relayed(
        RelayedKind.STRETCH, first=True, last=True, xid=last.xid, commit_lsn=Lsn(last.commit_lsn),
        end_lsn=Lsn(last.end_lsn), commit_time_us=last.commit_time_us, run=b"".join(runs),
    )  # fmt: skip


def singles(runs: list[bytes]) -> list[RelayedRecord]:
    return [
        relayed(
            RelayedKind.CHANGES, first=True, last=True, xid=one.xid, commit_lsn=Lsn(one.commit_lsn),
            end_lsn=Lsn(one.end_lsn), commit_time_us=one.commit_time_us, run=one.run,
        )
        for one in cut(b"".join(runs))
    ]  # fmt: skip


@settings(deadline=None)
@given(stretches(), stretches(start=300), st.integers(90, 230), st.booleans())
def test_a_stretch_is_taken_in_as_each_of_its_transactions(
    runs: list[bytes], more: list[bytes], at: int, described: bool
) -> None:
    """Also where the journal has some of them, and where descriptions are owed."""
    ends = [at] + [one.end_lsn for one in cut(b"".join(runs))]
    start = max(end for end in ends if end <= max(at, ends[1]))
    together, alone = begun(start), begun(start)
    told = [schema(relation(1))] if described else []
    expected: list[Record] | None
    try:
        expected = given_to(alone, [*told, *singles(runs), *singles(more)])
    except ProtocolViolation:
        with pytest.raises(ProtocolViolation):
            together.take([*told, stretch(runs), stretch(more)])
        return
    found = together.take([*told, stretch(runs), stretch(more)])
    assert [
        one for some in found for one in (some.records() if isinstance(some, Stretch) else [some])
    ] == expected
    assert together.position == alone.position
    assert isinstance(found[-1], Stretch) or (described and len(more) == len(found))


@pytest.mark.parametrize("run", [b"", frame([b"B begin", b"C commit"]), transaction(20)[:-1]])
def test_what_is_no_stretch_is_refused(run: bytes) -> None:
    with pytest.raises(ProtocolViolation, match="plain"):
        begun(10).take([relayed(RelayedKind.STRETCH, first=True, last=True, run=run)])


def test_a_stretch_stands_in_no_transaction() -> None:
    intake = begun(10)
    intake.take([part(20, row(1), first=True)])
    with pytest.raises(ProtocolViolation, match="inside transaction 20"):
        intake.take([stretch([transaction(30)])])
