"""What the demo's verdict is made of."""

from __future__ import annotations

from logship.service.comparison import Compared
from logship.service.demo import Verdict

EQUAL = Compared("shop.product", 5, 5, True)


def verdict(compared: Compared, memory: dict[str, int]) -> Verdict:
    return Verdict([compared], memory, committed=1, replayed=1, caught_up_s={})


def test_a_table_that_is_not_resident_needs_no_rows_in_memory() -> None:
    assert verdict(EQUAL, {}).equal


def test_memory_with_other_rows_is_a_difference() -> None:
    assert verdict(EQUAL, {"shop.product": 5}).equal
    assert not verdict(EQUAL, {"shop.product": 4}).equal


def test_other_rows_are_a_difference_even_if_as_many() -> None:
    assert not verdict(Compared("shop.product", 5, 5, False), {}).equal
