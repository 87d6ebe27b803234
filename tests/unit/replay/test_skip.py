"""What an operator named is passed over, whole and alone; and a log whose errors name one transaction."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logship.change import Delete, Insert
from logship.errors import ReplayError
from logship.lsn import Lsn
from logship.replay.batch import Batch, NetChanges, PassedOver, Rows
from logship.replay.batcher import Batcher, Item
from logship.replay.merge import merged
from tests.kernels import EACH, in_use
from tests.unit.replay.test_stretch import Together
from tests.unit.replay.transactions import RELATION, WIDER, batcher, feed, insert, transaction


@pytest.fixture(scope="module", params=EACH, autouse=True)
def each_kernel(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    yield from in_use(request.param)


def batches(items: list[Item], making: Batcher) -> list[Batch]:
    taken = [making.take()] if making.pending else []
    return [item for item in [*items, *taken] if isinstance(item, Batch)]


def contents(found: list[Batch]) -> dict[bytes, bytes]:
    """What a table is that was empty, keys and values."""
    rows: dict[bytes, bytes] = {}
    for step in (step for batch in found for step in batch.steps):
        assert isinstance(step, Rows)
        for table in step.tables:
            assert isinstance(table, NetChanges)
            for (key,) in table.deletes:
                rows.pop(key, None)  # type: ignore[arg-type]
            rows |= dict(table.inserts)  # type: ignore[arg-type]
    return rows


def delete(key: int) -> Delete:
    return Delete(1000, [str(key).encode(), None], True)


@given(
    log=st.lists(
        st.tuples(
            st.lists(st.tuples(st.integers(1, 4), st.booleans()), max_size=6),
            st.integers(1, 3),  # records that it stands in
            st.sampled_from(["replayed", "named by its commit", "named by its end"]),
        ),
        max_size=8,
    ),
    bound=st.sampled_from([60, 400, 100_000]),
    together=st.booleans(),
    one_by_one=st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_what_is_named_is_as_if_it_had_never_been(
    log: list[tuple[list[tuple[int, bool]], int, str]], bound: int, together: bool, one_by_one: bool
) -> None:
    """Equal to a log without it, but for the position and the note; however it comes, and whatever is around it."""
    to_skip, noted, kept = set(), [], []
    records = [(transaction(1, RELATION), True)]
    for number, (changes, cuts, named) in enumerate(log, 2):
        events: list[Insert | Delete] = []
        for key, gone in changes:
            events += [delete(key)] if gone else [delete(key), insert(key, b"%d" % number)]
        # The end of a transaction in pieces isn't known when it begins: the error names its commit.
        by_end = named == "named by its end" and cuts == 1
        parts = transaction(number, *events, cuts=1 if together else cuts)
        if named != "replayed":
            lsn = parts[-1].end_lsn if by_end else parts[0].commit_lsn
            to_skip.add(lsn)
            noted.append(PassedOver(lsn, len(events)))
        else:
            kept.append(parts)
        records.append((parts, together))
    making = batcher(
        bound_bytes=bound, to_skip=frozenset(to_skip), one_by_one_upto=Lsn(500 if one_by_one else 0)
    )
    items: list[Item] = []
    if together:
        items += feed(making, records[0][0])
        if len(records) > 1:
            items += making.stretch(Together([part for parts, _ in records[1:] for part in parts]))
    else:
        for parts, _ in records:
            items += feed(making, parts)
    found = batches(items, making)
    without = batcher(bound_bytes=100_000)
    expected = batches(feed(without, [part for parts in [records[0][0], *kept] for part in parts]), without)
    assert contents(found) == contents(expected)
    assert [one for batch in found for one in batch.passed_over] == noted
    assert found[-1].end_lsn == Lsn(100 * len(records))
    assert found[-1].complete


def test_what_it_says_of_a_relation_holds_behind_it() -> None:
    making = batcher(to_skip=frozenset({Lsn(190)}))
    feed(making, transaction(1, RELATION, insert(1)))
    (before,) = feed(making, transaction(2, WIDER, Insert(1000, [b"2", b"x", b"y"])))
    assert isinstance(before, Batch)
    assert before.end_lsn == Lsn(100)
    feed(making, transaction(3, Insert(1000, [b"3", b"x", b"y"])))
    batch = making.take()
    assert batch.targets[1000].relation == WIDER
    assert batch.passed_over == (PassedOver(Lsn(190), 1),)


def test_one_that_comes_again_is_noted_once() -> None:
    """Abandoned in the middle, as after a crash of the shipper."""
    making = batcher(to_skip=frozenset({Lsn(190)}))
    records = transaction(2, RELATION, insert(1), insert(2), cuts=3)
    feed(making, records[:2])
    assert list(making.abandon()) == []
    assert batches(feed(making, records), making)[0].passed_over == (PassedOver(Lsn(190), 2),)


def test_batches_that_are_merged_keep_the_note() -> None:
    making = batcher(to_skip=frozenset({Lsn(190)}))
    parts = []
    for number in (1, 2, 3):
        feed(making, transaction(number, RELATION, insert(number)))
        parts.append(making.take())
    (one,) = merged(parts)
    assert one.passed_over == (PassedOver(Lsn(190), 1),)


def test_one_by_one_each_batch_is_a_transaction_that_it_names() -> None:
    making = batcher(one_by_one_upto=Lsn(300))
    items = feed(making, transaction(1, RELATION))
    items += making.stretch(Together([transaction(n, insert(n))[0] for n in range(2, 6)]))
    found = batches(items, making)
    assert [(batch.end_lsn, batch.commit_lsn, batch.alone) for batch in found] == [
        (Lsn(100), None, True),
        (Lsn(200), Lsn(190), True),
        (Lsn(300), Lsn(290), True),
        (Lsn(500), None, False),
    ]


def test_an_error_names_its_transaction() -> None:
    making = batcher()
    feed(making, transaction(1, RELATION, insert(1)))
    with pytest.raises(ReplayError) as raised:
        feed(making, transaction(2, insert(2, oid=77)))
    assert raised.value.commit_lsn == Lsn(190)
    several = batcher()
    feed(several, transaction(1, RELATION))
    together = Together([transaction(n, insert(n, oid=77 if n == 3 else 1000))[0] for n in (2, 3, 4)])
    with pytest.raises(ReplayError) as raised:
        list(several.stretch(together))
    assert (raised.value.commit_lsn, raised.value.upto) == (None, Lsn(400)), "one of these"
