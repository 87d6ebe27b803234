"""What the demo's verdict is made of."""

from __future__ import annotations

from logship.service.compare.comparison import Compared
from logship.service.demo.demo import Verdict
from logship.service.demo.shop_migrations import Migrated, Revision, revisions

ARRIVED = Migrated(Revision("shop_0001", "Points"), 0.1)
EQUAL = Compared("shop.product", 5, 5, True)


def verdict(
    compared: Compared, memory: dict[str, int], migrated: Migrated = ARRIVED, schema: tuple[str, ...] = ()
) -> Verdict:
    return Verdict([migrated], schema, [compared], memory, committed=1, replayed=1, caught_up_s={})


def test_a_table_that_is_not_resident_needs_no_rows_in_memory() -> None:
    assert verdict(EQUAL, {}).equal


def test_memory_with_other_rows_is_a_difference() -> None:
    assert verdict(EQUAL, {"shop.product": 5}).equal
    assert not verdict(EQUAL, {"shop.product": 4}).equal


def test_other_rows_are_a_difference_even_if_as_many() -> None:
    assert not verdict(Compared("shop.product", 5, 5, False), {}).equal


def test_a_migration_that_did_not_arrive_is_a_difference() -> None:
    assert not verdict(EQUAL, {}, Migrated(ARRIVED.revision, None)).equal


def test_another_schema_is_a_difference() -> None:
    assert not verdict(EQUAL, {}, schema=("table shop.review: only on the primary",)).equal


def test_the_revisions_come_in_their_order_and_say_what_they_do() -> None:
    found = revisions()
    assert [revision.name for revision in found] == [f"shop_{number:04}" for number in range(1, 9)]
    assert all(revision.what for revision in found)
