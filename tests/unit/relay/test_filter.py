"""Which messages one standard client is sent: each description once, before the change that needs it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from logship import pgoutput
from logship.change import (
    Begin,
    Column,
    Commit,
    Delete,
    Insert,
    Message,
    Relation,
    Truncate,
    TypeName,
    Update,
)
from logship.kernel import frame, split_run
from logship.lsn import Lsn
from logship.relay.filter import Filter

BEGIN = pgoutput.encode(Begin(Lsn(5), 0, 7))
COMMIT = pgoutput.encode(Commit(Lsn(5), Lsn(9), 0))
LOGICAL = pgoutput.encode(Message(True, Lsn(3), "logship", b"x"))
TYPE = pgoutput.encode(TypeName(90, "public", "colour"))


def relation(oid: int, *columns: str) -> bytes:
    listed = tuple(Column(name, 25, -1, False) for name in columns or ("a",))
    return pgoutput.encode(Relation(oid, "public", f"t{oid}", "d", listed))


def insert(oid: int) -> bytes:
    return pgoutput.encode(Insert(oid, [b"1"]))


def truncate(*oids: int) -> bytes:
    return pgoutput.encode(Truncate(oids, False, False))


def test_descriptions_in_force_are_sent_before_the_first_change_that_needs_them() -> None:
    passing = Filter(messages=False)
    passing.describe(frame([relation(1), TYPE, relation(2)]))
    assert passing.pass_on(frame([BEGIN, insert(2), insert(2), COMMIT])) == [
        BEGIN, TYPE, relation(2), insert(2), insert(2), COMMIT,
    ]  # fmt: skip
    update = pgoutput.encode(Update(1, None, False, [b"1"]))
    delete = pgoutput.encode(Delete(1, [b"1"], True))
    assert passing.pass_on(frame([BEGIN, update, delete, COMMIT])) == [
        BEGIN,
        relation(1),
        update,
        delete,
        COMMIT,
    ]
    assert passing.pass_on(frame([BEGIN, insert(1), COMMIT])) == [BEGIN, insert(1), COMMIT]


def test_repeats_are_left_out_and_changes_are_not() -> None:
    passing = Filter(messages=False)
    assert passing.pass_on(frame([BEGIN, relation(1), insert(1)])) == [BEGIN, relation(1), insert(1)]
    assert passing.pass_on(frame([relation(1), insert(1), COMMIT])) == [insert(1), COMMIT]
    again = frame(
        [BEGIN, relation(1, "a", "b"), relation(1), insert(1), relation(1, "a", "b"), insert(1), COMMIT]
    )
    assert passing.pass_on(again) == [BEGIN, insert(1), relation(1, "a", "b"), insert(1), COMMIT]


def test_a_truncate_needs_every_relation_it_names() -> None:
    passing = Filter(messages=False)
    passing.describe(frame([relation(1), relation(2), relation(3)]))
    assert passing.pass_on(frame([BEGIN, truncate(3, 1), COMMIT])) == [
        BEGIN, relation(3), relation(1), truncate(3, 1), COMMIT,
    ]  # fmt: skip


def test_logical_messages_are_for_those_who_ask() -> None:
    run = frame([BEGIN, LOGICAL, COMMIT])
    assert Filter(messages=False).pass_on(run) == [BEGIN, COMMIT]
    assert Filter(messages=True).pass_on(run) == [BEGIN, LOGICAL, COMMIT]


oids = st.integers(1, 3)
items = st.one_of(
    oids.map(relation), oids.map(lambda oid: relation(oid, "b")), oids.map(insert), st.just(TYPE), st.just(LOGICAL),
    st.lists(oids, min_size=1, max_size=3, unique=True).map(lambda named: truncate(*named)),
)  # fmt: skip
DESCRIPTIONS = b"RY"


@settings(deadline=None)
@given(st.lists(st.lists(items, max_size=8), max_size=5))
def test_a_client_knows_each_relation_as_the_log_last_said_it(transactions: list[list[bytes]]) -> None:
    passing = Filter(messages=True)
    start = [relation(oid) for oid in (1, 2, 3)]
    passing.describe(frame(start))
    in_force = {message[1:5]: message for message in start}
    known: dict[bytes, bytes] = {}
    for transaction in transactions:
        run = [BEGIN, *transaction, COMMIT]
        passed = passing.pass_on(frame(run))
        assert [m for m in passed if m[0] not in DESCRIPTIONS] == [m for m in run if m[0] not in DESCRIPTIONS]
        wanted = iter(run)
        for message in passed:
            if message[0] in DESCRIPTIONS:
                assert known.get(message[:5]) != message  # never twice
                known[message[:5]] = message
                continue
            for said in wanted:
                if said[:1] == b"R":
                    in_force[said[1:5]] = said
                if said[0] not in DESCRIPTIONS:
                    assert said == message
                    break
            needed = [message[1:5]] if message[:1] == b"I" else []
            if message[:1] == b"T":
                needed = [message[at : at + 4] for at in range(6, len(message), 4)]
            for oid in needed:
                assert known[b"R" + oid] == in_force[oid]


def test_a_run_without_descriptions_is_passed_as_it_is() -> None:
    passing = Filter(messages=False)
    run = frame([BEGIN, insert(1), insert(2), COMMIT])
    assert passing.pass_on(run) == split_run(run)
