"""Many transactions taken in at once make the batches that each of them would."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logship.change import Delete, Insert, Relation
from logship.lsn import Lsn
from logship.replay.assemble import Abandoned
from logship.replay.batch import NetChanges, Rows
from logship.replay.batcher import Batcher, Item
from logship.replay.classify import Classifier
from tests.kernels import EACH, in_use
from tests.unit.replay.transactions import RELATION, Rec, feed, insert, resolve, transaction


@pytest.fixture(scope="module", params=EACH, autouse=True)
def each_kernel(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    yield from in_use(request.param)


@dataclass(frozen=True, slots=True)
class Together:
    """Plain transactions taken in at once."""

    parts: list[Rec]

    @property
    def transactions(self) -> int:
        return len(self.parts)

    @property
    def first_commit_lsn(self) -> Lsn:
        return self.parts[0].commit_lsn

    @property
    def xid(self) -> int:
        return self.parts[-1].xid

    @property
    def commit_lsn(self) -> Lsn:
        return self.parts[-1].commit_lsn

    @property
    def end_lsn(self) -> Lsn:
        return self.parts[-1].end_lsn

    @property
    def commit_time_us(self) -> int:
        return self.parts[-1].commit_time_us

    @property
    def run(self) -> bytes:
        return b"".join(part.run for part in self.parts)

    def records(self) -> list[Rec]:
        return self.parts


OTHER = Relation(1001, "public", "left", "d", RELATION.columns)
THIRD = Relation(1002, "public", "u", "d", RELATION.columns)
ROWS = st.lists(
    st.builds(
        lambda key, oid, deleted: (
            Delete(oid, [str(key).encode(), None], True) if deleted else insert(key, oid=oid)
        ),
        st.integers(1, 4),
        st.sampled_from([1000, 1001, 1002]),
        st.booleans(),
    ),
    max_size=4,
)


@given(
    log=st.lists(st.tuples(st.lists(ROWS, min_size=1, max_size=5), st.booleans(), st.booleans()), max_size=6),
    bound=st.sampled_from([30, 300, 100_000]),
    begun=st.booleans(),
    copied=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_a_stretch_is_taken_in_as_each_of_its_transactions(
    log: list[tuple[list[list[Insert | Delete]], bool, bool]], bound: int, begun: bool, copied: bool
) -> None:
    """The same batches, whatever is left out, comes twice, has been copied later or doesn't fit."""
    newer = {("public", "u"): Lsn(450)} if copied else {}
    making = [
        Batcher(Classifier(resolve, {("public", "left")}, copied=newer), Lsn(0), bound_bytes=bound)
        for _ in range(2)
    ]
    items: list[list[Item]] = [feed(one, transaction(1, RELATION, OTHER, THIRD)) for one in making]
    number = 2
    for several, described, taken in log:
        if begun and number == 2:  # a transaction that doesn't end
            for one, found in zip(making, items, strict=True):
                found.extend(feed(one, transaction(2, insert(9), insert(8), cuts=2)[:-1]))
        stretch = [transaction(number + n, *rows)[0] for n, rows in enumerate(several)]
        number += len(several)
        items[0] += making[0].stretch(Together(stretch))
        items[1] += feed(making[1], stretch)
        for one, found in zip(making, items, strict=True):
            if described:
                found.extend(feed(one, transaction(number, RELATION, insert(7))))
            if taken and one.pending:
                found.append(one.take())
        number += described
        assert making[0].position == making[1].position
        assert making[0].pending == making[1].pending
    assert [told(item) for item in items[0]] == [told(item) for item in items[1]]


def told(item: Item) -> object:
    """All of it that is promised, with the runs as one. Which of many is the one that changed something isn't."""
    if isinstance(item, Abandoned):
        return item
    tables = [
        (str(table.target), [list(rows) for rows in (table.deletes, table.move_rows, table.inserts)])
        for step in item.steps
        if isinstance(step, Rows)
        for table in step.tables
        if isinstance(table, NetChanges)
    ]
    return replace(item, steps=(), runs=(b"".join(item.runs),), commit_lsn=None), tables
