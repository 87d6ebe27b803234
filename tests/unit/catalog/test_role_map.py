"""Pairs of roles, as an operator writes them."""

from __future__ import annotations

import pytest

from logship.catalog.role_map import parse, together
from logship.errors import UsageError


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (["a=b"], {"a": "b"}),
        (["a=b, c = d", "e=f"], {"a": "b", "c": "d", "e": "f"}),
        (['"the app"="Odd, one=two"'], {"the app": "Odd, one=two"}),
        (["the app=x y"], {"the app": "x y"}),
        (['"say ""x"""=b'], {'say "x"': "b"}),
        (["a=b", "a=b"], {"a": "b"}),
        ([], {}),
    ],
)
def test_pairs(given: list[str], found: dict[str, str]) -> None:
    assert parse(given) == found


@pytest.mark.parametrize("text", ["a", "a=", "=b", "a=b=c", '"a=b', 'a="', "a b"])
def test_what_is_no_pair(text: str) -> None:
    with pytest.raises(UsageError, match="--map-role"):
        parse([text])


def test_two_names_for_one() -> None:
    with pytest.raises(UsageError, match="two names"):
        parse(["a=b,a=c"])


def test_what_holds_with_what_was_known() -> None:
    assert together({"a": "b", "c": "d"}, {"a": "x", "c": "c", "e": "f"}) == {"a": "x", "e": "f"}
