"""The options of START_REPLICATION: what standard clients and our own send, and what is refused."""

from __future__ import annotations

import pytest

from logship.relay.options import StreamOptions, parse
from logship.relay.refusal import Refused

GOOD = {"proto_version": "1", "publication_names": '"p"'}


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, StreamOptions(("p",))),
        ({"publication_names": 'p, "q q" , P'}, StreamOptions(("p", "q q"))),
        (
            {"proto_version": "4", "streaming": "parallel", "origin": "any", "binary": "true"},
            StreamOptions(("p",)),
        ),
        ({"proto_version": "2", "streaming": "on", "two_phase": "off"}, StreamOptions(("p",))),
        ({"messages": "true"}, StreamOptions(("p",), messages=True)),
        ({"logship": "1"}, StreamOptions(("p",), records=True)),
    ],
)
def test_options_that_are_taken(more: dict[str, str], expected: StreamOptions) -> None:
    assert parse(GOOD | more, ["p", "q q"]) == expected


@pytest.mark.parametrize(
    ("options", "sqlstate"),
    [
        ({}, "0A000"),
        ({"proto_version": "1"}, "22023"),
        ({"publication_names": "p"}, "0A000"),
        (GOOD | {"proto_version": "0"}, "0A000"),
        (GOOD | {"proto_version": "5"}, "0A000"),
        (GOOD | {"proto_version": "x"}, "22023"),
        (GOOD | {"proto_version": "-1"}, "22023"),
        (GOOD | {"proto_version": "1" * 5000}, "22023"),
        (GOOD | {"proto_version": "true"}, "22023"),
        (GOOD | {"streaming": "on"}, "22023"),
        (GOOD | {"proto_version": "3", "streaming": "parallel"}, "22023"),
        (GOOD | {"streaming": "maybe"}, "42601"),
        (GOOD | {"binary": "maybe"}, "42601"),
        (GOOD | {"two_phase": "on"}, "0A000"),
        (GOOD | {"origin": "here"}, "22023"),
        (GOOD | {"bogus": "1"}, "42601"),
        (GOOD | {"logship": "2"}, "0A000"),
        (GOOD | {"publication_names": ""}, "22023"),
        (GOOD | {"publication_names": '"p'}, "42602"),
        (GOOD | {"publication_names": "p,"}, "42602"),
        (GOOD | {"publication_names": "p q"}, "42602"),
        (GOOD | {"publication_names": "p, nope"}, "42704"),
    ],
)
def test_options_that_are_refused(options: dict[str, str], sqlstate: str) -> None:
    with pytest.raises(Refused) as refused:
        parse(options, ["p"])
    assert refused.value.refusal.sqlstate == sqlstate


def test_an_unknown_publication_is_refused_with_those_there_are() -> None:
    with pytest.raises(Refused) as refused:
        parse(GOOD, ["b", "a"])
    assert refused.value.refusal.hint == 'there is: "a", "b"'
