"""From records to batches: atomic, in order, bounded, and nothing of an abandoned transaction."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logship.change import (
    Delete,
    Insert,
    Message,
    Relation,
    Truncate,
    TypeName,
    Update,
)  # fmt: skip
from logship.errors import ProtocolViolation, ReplayError
from logship.kernel import frame, split_run
from logship.lsn import Lsn
from logship.replay.assemble import Abandoned
from logship.replay.batch import Batch, NetChanges, Rows, Truncation
from logship.replay.batcher import Batcher, Item
from logship.replay.classify import Classifier
from logship.replay.ddl.message import Verifier, encode
from logship.replay.merge import merged
from logship.replay.target import Target
from tests.kernels import EACH, in_use
from tests.unit.replay.transactions import (
    COLUMNS,
    LEFT_OUT,
    OWN,
    RELATION,
    WIDER,
    Rec,
    batcher,
    feed,
    insert,
    resolve,
    transaction,
)


@pytest.fixture(scope="module", params=EACH, autouse=True)
def each_kernel(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    yield from in_use(request.param)


def inserted(batch: Batch) -> list[bytes]:
    return [
        row[0]  # type: ignore[misc]
        for step in batch.steps
        if isinstance(step, Rows)
        for table in step.tables
        if isinstance(table, NetChanges)
        for row in table.inserts
    ]


def test_whole_transactions_gather_until_they_are_taken() -> None:
    making = batcher()
    assert not making.pending
    assert feed(making, transaction(1, RELATION, insert(1))) == []
    assert feed(making, transaction(2, insert(2), insert(3))) == []
    assert making.pending
    batch = making.take()
    assert (batch.end_lsn, batch.transactions, batch.changes, batch.net) == (Lsn(200), 2, 3, 3)
    assert batch.complete
    assert batch.commit_time_us == 2
    assert inserted(batch) == [b"1", b"2", b"3"]
    assert not making.pending


def test_nothing_of_an_unfinished_transaction_is_taken() -> None:
    making = batcher()
    feed(making, transaction(1, RELATION, insert(1)))
    feed(making, transaction(2, insert(2), insert(3), cuts=2)[:1])
    batch = making.take()
    assert batch.end_lsn == Lsn(100)
    assert inserted(batch) == [b"1"]
    assert not making.pending


def test_a_large_transaction_leaves_in_pieces_that_commit_with_the_last() -> None:
    making = batcher(bound_bytes=200)
    assert feed(making, transaction(1, RELATION, insert(0))) == []
    items = feed(making, transaction(2, *[insert(i) for i in range(1, 41)], cuts=8))
    assert all(isinstance(item, Batch) for item in items)
    batches = [item for item in items if isinstance(item, Batch)]
    assert batches[0].complete, "what was whole before leaves by itself"
    assert [b.complete for b in batches[1:]] == [False] * (len(batches) - 2) + [True]
    assert all(b.end_lsn == Lsn(100) for b in batches[:-1])
    assert batches[-1].end_lsn == Lsn(200)
    assert [key for b in batches[1:] for key in inserted(b)] == [str(i).encode() for i in range(1, 41)]
    assert sum(b.transactions for b in batches) == 2
    assert not making.pending


def test_an_abandoned_transaction_takes_its_pieces_back() -> None:
    making = batcher(bound_bytes=200)
    records = transaction(1, RELATION, *[insert(i) for i in range(40)], cuts=8)
    items = feed(making, records[:5])
    assert items
    assert not any(item.complete for item in items if isinstance(item, Batch))
    assert list(making.abandon()) == [Abandoned()]
    again = feed(making, records)
    assert [key for b in again if isinstance(b, Batch) for key in inserted(b)] == [
        str(i).encode() for i in range(40)
    ]


def test_a_beginning_abandons_what_was_open() -> None:
    """After a crash the journal goes on with the same transaction from its start."""
    making = batcher()
    records = transaction(1, RELATION, insert(1), insert(2), cuts=2)
    feed(making, records[:1])
    feed(making, records)
    assert inserted(making.take()) == [b"1", b"2"]


def test_the_rest_of_a_transaction_without_its_beginning_is_refused() -> None:
    with pytest.raises(ReplayError, match="not its beginning"):
        feed(batcher(), transaction(1, RELATION, insert(1), cuts=2)[1:])


def test_positions_move_without_transactions_and_never_inside_one() -> None:
    making = batcher(at=50)
    making.advance(Lsn(70))
    assert making.pending
    batch = making.take()
    assert (batch.end_lsn, batch.steps, batch.transactions) == (Lsn(70), (), 0)
    making.advance(Lsn(60))
    assert not making.pending


def test_own_and_left_out_relations_go_nowhere() -> None:
    making = batcher()
    feed(
        making,
        transaction(1, OWN, LEFT_OUT, RELATION, insert(1, oid=1001), insert(2, oid=1002), insert(3)),
    )
    batch = making.take()
    assert inserted(batch) == [b"3"]
    assert batch.left_out == {1001, 1002}
    assert batch.changes == 1


def test_a_shape_is_looked_up_when_its_first_row_comes() -> None:
    """A relation that the secondary doesn't have stops nothing before a change of it comes."""
    asked: list[str] = []

    def refuse(relation: Relation, types: Mapping[int, TypeName]) -> Target:
        asked.append(str(relation))
        raise ReplayError("no such relation on the secondary")

    making = Batcher(Classifier(refuse), Lsn(0), bound_bytes=1 << 20)
    feed(making, transaction(1, RELATION))
    assert asked == []
    with pytest.raises(ReplayError, match="no such relation"):
        feed(making, transaction(2, insert(1)))


def test_a_new_shape_inside_a_transaction_cuts_the_batch() -> None:
    making = batcher()
    items = feed(making, transaction(1, RELATION, insert(1), WIDER, Insert(1000, [b"2", b"x", b"y"])))
    (piece,) = [item for item in items if isinstance(item, Batch) and not item.complete]
    assert inserted(piece) == [b"1"]
    assert piece.targets[1000].relation == RELATION
    (rest,) = [item for item in items if isinstance(item, Batch) and item.complete]
    assert inserted(rest) == [b"2"]
    assert rest.targets[1000].relation == WIDER
    assert [m[:1] for m in split_run(piece.runs[0])] == [b"B", b"R", b"I"]
    assert [m[:1] for m in split_run(rest.runs[0])] == [b"R", b"I", b"C"]


def test_the_same_shape_again_does_not_cut() -> None:
    """A walsender describes every relation anew in each session."""
    making = batcher()
    feed(making, transaction(1, RELATION, insert(1)))
    assert feed(making, transaction(2, RELATION, insert(2))) == []
    assert inserted(making.take()) == [b"1", b"2"]


def test_truncate_names_only_what_is_replicated() -> None:
    making = batcher()
    truncate = Truncate((1001, 1000), cascade=True, restart_identity=True)
    feed(making, transaction(1, OWN, RELATION, insert(1), truncate, insert(2)))
    steps = making.take().steps
    assert [type(step) for step in steps] == [Rows, Truncation, Rows]
    assert isinstance(steps[1], Truncation)
    assert [str(target) for target in steps[1].targets] == ["public.t"]
    assert steps[1].restart_identity


def test_messages_change_nothing_and_are_counted() -> None:
    classifier = Classifier(resolve)
    making = Batcher(classifier, Lsn(0), bound_bytes=1 << 20)
    forged = Message(True, Lsn(5), "logship.ddl", b"drop table t")
    foreign = Message(True, Lsn(5), "somebody", b"\xff\x00")
    feed(making, transaction(1, forged, foreign, foreign))
    assert (dict(classifier.refused), classifier.foreign_messages) == ({"not ours": 1}, 2)
    assert making.take().steps == ()


def test_states_of_sequences_go_with_the_batch_that_their_transaction_is_in() -> None:
    classifier = Classifier(resolve, verifier=lambda: Verifier(lambda: {1: b"k"}, "shop"))
    making = Batcher(classifier, Lsn(0), bound_bytes=1 << 20)

    def state(xid: int, value: int) -> Message:
        said = {
            "number": value, "xid": xid, "database": "shop", "server": 150018, "at": 5, "event": "sequences", "tag": "",
            "query": "", "stack": "", "context": {}, "objects": [], "error": None,
            "sequences": [["public", "s", value, True]],
        }  # fmt: skip
        return Message(True, Lsn(5), "logship.ddl", encode(b"k", 1, json.dumps(said).encode()))

    feed(making, transaction(1, state(1, 10)))
    first = making.take()
    assert (first.steps, [one.value for one in first.sequences]) == ((), [10])
    feed(making, transaction(2, RELATION, insert(1), state(2, 20)))
    second = making.take()
    assert [one.value for one in second.sequences] == [20]
    assert [one.value for one in next(merged([first, second])).sequences] == [10, 20]
    feed(making, transaction(3, state(2, 30)))  # of another transaction: a copy
    assert making.take().sequences == ()


@pytest.mark.parametrize("prefix", ["logship.heartbeat", "logship.mark"])
def test_a_heartbeat_moves_the_position_and_is_no_transaction_of_anybody(prefix: str) -> None:
    classifier = Classifier(resolve)
    making = Batcher(classifier, Lsn(0), bound_bytes=1 << 20)
    feed(making, transaction(1, Message(True, Lsn(5), prefix, b"")))
    assert (classifier.marks, classifier.refused.total(), classifier.foreign_messages) == (1, 0, 0)
    batch = making.take()
    assert batch.end_lsn > 0
    assert (batch.transactions, batch.changes, batch.steps) == (0, 0, ())


@pytest.mark.parametrize(
    "message",
    [
        b"I\x00\x00\x03\xe8K\x00\x00",
        b"I\x00\x00\x03\xe8N\x00\x01n",
        b"I\x00\x00\x03\xe8",
        b"D\x00\x00\x03\xe8N",
    ],
)
def test_malformed_rows_are_refused_as_such(message: bytes) -> None:
    making = batcher()
    feed(making, transaction(1, RELATION))
    record = Rec(True, True, 2, Lsn(190), Lsn(200), 2, frame([message]))
    with pytest.raises(ProtocolViolation):
        feed(making, [record])


HISTORY = st.lists(
    st.tuples(
        st.integers(1, 6),  # changes
        st.integers(1, 4),  # records
        st.booleans(),  # abandoned half way first
        st.booleans(),  # taken after
    ),
    max_size=12,
)


@given(history=HISTORY, bound=st.sampled_from([30, 120, 100_000]))
@settings(max_examples=150, deadline=None)
def test_every_transaction_arrives_once_and_in_order(history: list, bound: int) -> None:
    making = batcher(bound_bytes=bound)
    feed(making, transaction(1, RELATION))
    items: list[Item] = []
    expected: list[bytes] = []
    key = 0
    for number, (changes, cuts, abandoned, taken) in enumerate(history, start=2):
        rows = [insert(key + i) for i in range(changes)]
        records = transaction(number, *rows, cuts=cuts)
        if abandoned and len(records) > 1:
            items += feed(making, records[:-1])
            items += making.abandon()
        items += feed(making, records)
        expected += [str(key + i).encode() for i in range(changes)]
        key += changes
        if taken and making.pending:
            items.append(making.take())
    if making.pending:
        items.append(making.take())
    assert list(committed(items)) == expected
    ends = [item.end_lsn for item in items if isinstance(item, Batch) and item.complete]
    assert ends == sorted(ends)


def committed(items: list[Item]) -> Iterator[bytes]:
    """What a store shows that commits with each complete batch and rolls back what was abandoned."""
    pending: list[bytes] = []
    for item in items:
        if isinstance(item, Abandoned):
            pending.clear()
            continue
        pending += inserted(item)
        if item.complete:
            yield from pending
            pending.clear()


def test_update_and_delete_find_their_rows() -> None:
    making = batcher()
    old_key = [b"1", None]
    feed(
        making,
        transaction(
            1, RELATION, Update(1000, None, False, [b"1", b"y"]), Delete(1000, [b"2", None], True),
            Update(1000, old_key, True, [b"3", b"z"]),
        ),
    )  # fmt: skip
    (step,) = making.take().steps
    assert isinstance(step, Rows)
    (changes,) = step.tables
    assert isinstance(changes, NetChanges)
    assert changes.deletes == [(b"2",)]
    assert (changes.move_keys, changes.move_rows) == ([(b"1",)], [[b"3", b"z"]])
    assert changes.count == 2


def test_batches_that_wait_are_merged_and_hot_rows_written_once() -> None:
    making = batcher()
    feed(making, transaction(1, RELATION, insert(1), insert(2)))
    waiting = [making.take()]
    for number in range(2, 6):
        feed(making, transaction(number, Update(1000, None, False, [b"1", str(number).encode()])))
        waiting.append(making.take())
    (one,) = merged(waiting)
    assert (one.end_lsn, one.transactions, one.changes, one.net) == (Lsn(500), 5, 6, 2)
    assert inserted(one) == [b"1", b"2"]
    assert b"".join(one.runs) == b"".join(run for batch in waiting for run in batch.runs)


def test_batches_of_different_shapes_stay_apart() -> None:
    making = batcher()
    feed(making, transaction(1, RELATION, insert(1)))
    first = making.take()
    feed(making, transaction(2, WIDER, Insert(1000, [b"2", b"x", b"y"])))
    assert [batch.end_lsn for batch in merged([first, making.take()])] == [Lsn(100), Lsn(200)]


def test_transactions_that_change_nothing_replicated_are_not_counted() -> None:
    making = batcher()
    feed(making, transaction(1, OWN, LEFT_OUT, insert(1, oid=1001), insert(2, oid=1002)))
    feed(making, transaction(2, RELATION, insert(1)))
    feed(making, transaction(3))
    batch = making.take()
    assert (batch.end_lsn, batch.transactions, batch.changes) == (Lsn(300), 1, 1)


OTHER = Relation(1003, "public", "other", "d", COLUMNS)


@pytest.mark.parametrize("cuts", [1, 3])
def test_a_table_that_is_newer_than_the_position_is_passed_over_up_to_its_own(cuts: int) -> None:
    """t was copied at LSN 250: it holds transactions 1 and 2 already, and gets 3 and what follows."""
    classifier = Classifier(resolve, copied={("public", "t"): Lsn(250)})
    making = Batcher(classifier, Lsn(0), bound_bytes=1 << 20)
    items: list[Item] = []
    for number in range(1, 6):
        shapes = (RELATION, OTHER) if number == 1 else ()
        rows = (insert(number), insert(number + 100, oid=1003))
        items += feed(making, transaction(number, *shapes, *rows, cuts=cuts))
    items.append(making.take())
    before, after = (item for item in items if isinstance(item, Batch))
    assert (before.end_lsn, inserted(before)) == (Lsn(200), [b"101", b"102"])
    assert before.left_out == {1000}
    assert after.end_lsn == Lsn(500)
    assert sorted(inserted(after)) == [b"103", b"104", b"105", b"3", b"4", b"5"]
    assert after.left_out == frozenset(), "replay one by one would leave the table out otherwise"


def test_a_large_transaction_of_a_newer_table_is_passed_over_whole() -> None:
    classifier = Classifier(resolve, copied={("public", "t"): Lsn(200)})
    making = Batcher(classifier, Lsn(0), bound_bytes=200)
    rows = [insert(key) for key in range(40)]
    items = feed(making, transaction(2, RELATION, *rows, cuts=8))
    assert not any(inserted(item) for item in items if isinstance(item, Batch))
    items = feed(making, transaction(3, *rows, cuts=8))
    assert [key for item in items if isinstance(item, Batch) for key in inserted(item)] == [
        str(key).encode() for key in range(40)
    ]
