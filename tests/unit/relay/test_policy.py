"""The grammar of synchronous_standby_names, as PostgreSQL has it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logship.errors import UsageError
from logship.relay.policy import Choice, Policy, parse


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("ANY 2 (a, b, c)", Policy(Choice.ANY, 2, ("a", "b", "c"))),
        ("any 1(a,b)", Policy(Choice.ANY, 1, ("a", "b"))),
        ("FIRST 1 (a, b)", Policy(Choice.FIRST, 1, ("a", "b"))),
        ("2 (a, b)", Policy(Choice.FIRST, 2, ("a", "b"))),
        ("a, b", Policy(Choice.FIRST, 1, ("a", "b"))),
        (" replica_1\n", Policy(Choice.FIRST, 1, ("replica_1",))),
        ("*", Policy(Choice.FIRST, 1, ("*",))),
        ("ANY 3 (*)", Policy(Choice.ANY, 3, ("*",))),
        ('"db2 app", "say ""hi"""', Policy(Choice.FIRST, 1, ("db2 app", 'say "hi"'))),
        ('"first"', Policy(Choice.FIRST, 1, ("first",))),
        ("1, 2", Policy(Choice.FIRST, 1, ("1", "2"))),  # names may be numbers
        ("anyone, first2", Policy(Choice.FIRST, 1, ("anyone", "first2"))),
        ("größe", Policy(Choice.FIRST, 1, ("größe",))),
    ],
)
def test_reads(text: str, policy: Policy) -> None:
    assert parse(text) == policy


@pytest.mark.parametrize("text", [None, "", "  \t"])
def test_nothing_is_asynchronous(text: str | None) -> None:
    assert parse(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "ANY (a)", "ANY 1 a", "ANY 1 ()", "ANY 1 (a", "ANY 1 (a))", "a b", "a,", ",a", "first", "any, b", "a-b",
        '"a', '""b', "ANY 1 (a) b", "ANY -1 (a)", "1 (a", "()", "ANY 1 (any)", "a; drop",
    ],
)  # fmt: skip
def test_refuses_what_postgresql_refuses(text: str) -> None:
    with pytest.raises(UsageError, match="syntax error"):
        parse(text)


@pytest.mark.parametrize("text", ["ANY 0 (a)", "0 (a)", "FIRST 4294967296 (a)", "ANY 9" + 40 * "9" + " (*)"])
def test_refuses_a_count_that_is_none(text: str) -> None:
    with pytest.raises(UsageError, match="greater than zero"):
        parse(text)


@pytest.mark.parametrize("text", ["ANY 2 (a)", "FIRST 3 (a, b)", "ANY 2 (a, A)"])
def test_refuses_what_could_never_be_met(text: str) -> None:
    with pytest.raises(UsageError, match="never be met"):
        parse(text)


def test_priority_is_the_place_in_the_list_without_regard_to_case() -> None:
    policy = Policy(Choice.FIRST, 1, ("a", "B", "*"))
    assert [policy.priority(name) for name in ("A", "b", "zzz")] == [1, 2, 3]
    assert Policy(Choice.ANY, 1, ("a", "b")).priority("c") == 0


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        policy = parse(text)
    except UsageError as error:
        assert error.hint
    else:
        assert policy is None or parse(str(policy)) == policy


@given(
    st.sampled_from(Choice),
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, max_size=5, unique=True
    ),
)
def test_what_is_written_reads_back(choice: Choice, names: list[str]) -> None:
    assert parse(str(Policy(choice, 1, tuple(names)))) == Policy(choice, 1, tuple(names))
