"""Ranges of pages: nothing left out, nothing twice, whatever the sizes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from logship.snapshot.ranges import Unit, units
from logship.snapshot.relations import Source, TableName

PAGE = 8192
MIB = 2**20


def table(pages: int, *, in_ranges: bool = True, name: str = "t") -> Source:
    return Source(1, TableName("public", name), "r", pages * PAGE, ("a",), pages if in_ranges else 0)


def read(unit: Unit, pages: int) -> set[int]:
    return set(range(unit.first, pages if unit.behind is None else unit.behind))


@given(
    sizes=st.lists(st.integers(min_value=0, max_value=3000), max_size=6),
    jobs=st.integers(min_value=0, max_value=8),
    smallest=st.integers(min_value=1, max_value=64).map(lambda pages: pages * PAGE),
)
def test_each_page_is_read_by_exactly_one(sizes: list[int], jobs: int, smallest: int) -> None:
    tables = [table(pages) for pages in sizes]
    found = units(tables, jobs, smallest=smallest)
    assert len(found) == len(tables)
    for source, parts in zip(tables, found, strict=True):
        pages = [page for part in parts for page in read(part, source.pages)]
        assert sorted(pages) == list(range(source.pages))
        assert parts[0].first == 0
        assert parts[-1].behind is None  # what it grew by meanwhile is somebody's too
        assert all(part.source is source for part in parts)
        assert (len(parts) == 1) == parts[0].whole
        assert sum(part.size_bytes for part in parts) <= source.size_bytes
        if len(parts) > 1:
            assert min(part.size_bytes for part in parts) >= smallest // 2


@given(pages=st.integers(min_value=0, max_value=10**6))
def test_one_worker_cuts_nothing(pages: int) -> None:
    """So that the table may be frozen, and read in one go."""
    ((whole,),) = units([table(pages)], 1)
    assert whole.whole


def test_what_cant_be_read_in_ranges_is_one() -> None:
    ((whole,),) = units([table(10**6, in_ranges=False)], 4)
    assert whole == Unit(whole.source, 10**6 * PAGE)


def test_a_large_table_is_shared_among_the_workers_and_a_small_one_isnt() -> None:
    large, small = units([table(80_000), table(100, name="small")], 2)
    assert len(large) == 11  # six for each worker, of the whole: the small one's share isn't one of them
    assert max(unit.size_bytes for unit in large) < 64 * MIB
    assert len(small) == 1


def test_a_range_is_never_larger_than_a_gigabyte_by_much() -> None:
    (parts,) = units([table(10**8)], 2)
    assert max(unit.size_bytes for unit in parts) < 1.01 * 2**30
