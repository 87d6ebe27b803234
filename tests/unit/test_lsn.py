"""LSNs: one text form, the order of integers, and nothing that isn't an LSN."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logship.errors import MalformedLsn, UsageError
from logship.lsn import INVALID, Lsn

values = st.integers(0, 2**64 - 1)


@settings(deadline=None)
@given(values)
def test_parse_is_the_inverse_of_str(value: int) -> None:
    lsn = Lsn(value)
    assert Lsn.parse(str(lsn)) == lsn == value
    assert f"{lsn}" == str(lsn)
    assert f"{lsn:>20}" == f"{lsn!s:>20}"


def test_the_text_is_postgresqls() -> None:
    assert str(Lsn(0x16B3748)) == "0/16B3748"
    assert str(Lsn(0x1_0000_00AB)) == "1/AB"
    assert str(INVALID) == "0/0"
    assert repr(Lsn(0x16B3748)) == "Lsn(0/16B3748)"
    assert Lsn.parse("a/b") == Lsn(0xA_0000_000B)


@settings(deadline=None)
@given(values, values)
def test_order_and_distance_are_those_of_the_integers(a: int, b: int) -> None:
    assert (Lsn(a) < Lsn(b)) == (a < b)
    assert Lsn(a) - Lsn(b) == a - b


@pytest.mark.parametrize(
    "text", ["", "0", "/", "0/", "/0", "0/0/0", "0/16B3748 ", "g/0", "123456789/0", "-1/0", "0/0\n"]
)
def test_other_text_is_refused_with_what_an_lsn_is(text: str) -> None:
    with pytest.raises(MalformedLsn) as caught:
        Lsn.parse(text)
    assert caught.value.text == text
    assert "0/16B3748" in caught.value.hint
    assert isinstance(caught.value, UsageError)


@pytest.mark.parametrize("value", [-1, 2**64])
def test_64_bits_and_no_more(value: int) -> None:
    with pytest.raises(MalformedLsn):
        Lsn(value)
