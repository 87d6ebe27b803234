"""The statements that sum rows up: their parameters are numbered, and names can't be taken for any."""

from __future__ import annotations

import itertools
import re
import threading
import time
from typing import Any

import pytest

from logship.snapshot import verify_rows as rows
from logship.snapshot.relations import TableName
from logship.snapshot.verify_compare import Found, Sums, TableResult, Throttle, blocks_of
from logship.snapshot.verify_rows import Blocks, Query
from logship.snapshot.verify_tables import Column, Pair, Table

TABLE = Table("r", 10_000, 1_000_000)
KEYED = Pair(
    TableName("a.b", 't"%s'),
    (Column("v", "text", False), Column("k1", "integer", False), Column('k%(x)s "2"', "text", False)),
    (1, 2),
    ordered=True,
    primary=TABLE,
    secondary=TABLE,
)
KEYLESS = Pair(
    TableName("a", "t"), (Column("c", '"char"', True),), (), ordered=True, primary=TABLE, secondary=TABLE
)


def text(query: Query) -> str:
    return query.statement.as_string(None)


@pytest.mark.parametrize(
    ("query", "count"),
    [
        (rows.next_range(KEYED, None, 10), 0),
        (rows.next_range(KEYED, ("1", "a"), 10), 2),
        (rows.range_sums(KEYED, TABLE, None, ("1", "a")), 2),
        (rows.range_sums(KEYED, TABLE, ("1", "a"), ("2", "b")), 4),
        (rows.range_rows(KEYED, TABLE, ("1", "a"), None), 2),
        (rows.bucket_sums(KEYED, TABLE, Blocks(0, None), 8), 0),
        (rows.bucket_rows(KEYED, TABLE, 8, [1, 2]), 1),
        (rows.bucket_rows(KEYLESS, TABLE, 8, [1, 2]), 1),
        (rows.rows_by_key(KEYED, TABLE, [("1", "a"), ("2", "b")]), 2),
        (rows.rows_by_hash(KEYLESS, TABLE, ["00"]), 1),
    ],
)
def test_as_many_parameters_as_places(query: Query, count: int) -> None:
    places = {int(number) for number in re.findall(r"\$(\d+)", text(query))}
    assert places == set(range(1, count + 1))
    assert len(query.parameters) == count
    assert '"a' in text(query)


def test_values_are_never_in_the_text_and_names_are_quoted() -> None:
    query = rows.range_sums(KEYED, TABLE, ("1", "it's"), None)
    assert "it's" not in text(query)
    assert '("x"."k1", "x"."k%(x)s ""2""") > ($1::integer, $2::text)' in text(query)
    assert 'from only "a.b"."t""%s" x' in text(query)


def test_no_cast_to_text_that_a_user_could_have_made() -> None:
    for query in (rows.next_range(KEYED, None, 10), rows.rows_by_key(KEYED, TABLE, [("1", "a")])):
        assert "pg_catalog.format('%s', row(" in text(query)
        assert not re.search(r'"x"\."[^:,)]*::(pg_catalog\.)?text', text(query))


def test_a_partitioned_table_is_its_partitions() -> None:
    parted = Table("p", 0, 10)
    assert "from only" not in text(rows.bucket_sums(KEYED, parted, None, 1))
    assert list(blocks_of(parted)) == [None]


@pytest.mark.parametrize("blocks", [0, 1, 4096, 4097, 10_000])
def test_blocks_cover_the_file_and_what_grew_behind_it(blocks: int) -> None:
    portions: list[Any] = list(blocks_of(Table("r", blocks, 0)))
    assert portions[0].start == 0
    assert portions[-1].to is None
    assert all(one.to == following.start for one, following in itertools.pairwise(portions))
    assert portions[-1].start < max(blocks, 1)


def test_sums_add_up_and_sizes_are_not_compared() -> None:
    assert Sums(1, 2, 3, 4) + Sums(10, 20, 30, 40) == Sums(11, 22, 33, 0)
    assert Sums(1, 2, 3) != Sums(1, 2, 4)


def test_a_table_is_equal_only_when_nothing_speaks_against_it() -> None:
    assert TableResult("t", "s", "t").equal
    assert not TableResult("t", "s", "t", reason="gone").equal
    assert not TableResult("t", "s", "t", more=True).equal
    assert not TableResult("t", "s", "t", found=[Found(("1",), 1, 0)]).equal
    kinds = [Found(("1",), 1, 0), Found(("1",), 2, 3), Found(("1",), 1, 1, differs=True)]
    assert [one.kind for one in kinds] == ["missing", "extra", "differs"]


def test_throttle() -> None:
    stop = threading.Event()
    began = time.monotonic()
    slow = Throttle(1_000_000)
    for _ in range(3):
        slow.pay(50_000, stop)
    assert time.monotonic() - began >= 0.15
    stop.set()
    slow.pay(1_000_000_000, stop)  # returns at once
    Throttle(None).pay(1 << 60, threading.Event())
    assert time.monotonic() - began < 10
