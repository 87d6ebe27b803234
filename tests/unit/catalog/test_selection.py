"""Which tables `--tables` and `--exclude` select."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logship.catalog.selection import LeftOut, Selection, split
from logship.errors import UsageError

NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=8)
SIMPLE = st.text("ab_*?", min_size=1, max_size=5)
PLAIN = st.text("ab_", min_size=1, max_size=5)


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@given(schema=NAMES, name=NAMES, other=NAMES)
def test_a_quoted_name_selects_itself_and_no_other(schema: str, name: str, other: str) -> None:
    """Whatever stands in it: dots, commas, quotes, stars, line ends."""
    (pattern,) = split([f"{quoted(schema)}.{quoted(name)}"])
    selection = Selection((pattern,))
    assert selection.selects(schema, name)
    assert selection.selects(schema, other) == (other == name)
    assert selection.selects(other, name) == (other == schema)


@given(schema=SIMPLE, name=SIMPLE, actual_schema=PLAIN, actual=PLAIN)
def test_star_and_question_mark(schema: str, name: str, actual_schema: str, actual: str) -> None:
    expected = fnmatchcase(actual_schema, schema) and fnmatchcase(actual, name)
    assert Selection((f"{schema}.{name}",)).selects(actual_schema, actual) == expected


@given(wanted=st.lists(SIMPLE, max_size=3), unwanted=st.lists(SIMPLE, max_size=3), name=PLAIN)
def test_an_exclusion_wins_and_no_pattern_is_every_table(
    wanted: list[str], unwanted: list[str], name: str
) -> None:
    selection = Selection(tuple(f"s.{one}" for one in wanted), tuple(f"s.{one}" for one in unwanted))
    included = not wanted or any(fnmatchcase(name, one) for one in wanted)
    excluded = any(fnmatchcase(name, one) for one in unwanted)
    assert selection.selects("s", name) == (included and not excluded)
    assert bool(selection) == bool(wanted or unwanted)
    left_out = LeftOut(frozenset({("s", "named")}), selection)
    assert (("s", name) in left_out) != selection.selects("s", name)
    assert ("s", "named") in left_out
    assert "named" not in left_out


@given(names=st.lists(NAMES, min_size=1, max_size=4))
def test_commas_part_patterns_but_not_inside_quotes(names: list[str]) -> None:
    patterns = [f"public.{quoted(name)}" for name in names]
    assert split([", ".join(patterns)]) == tuple(patterns)
    assert split(patterns) == tuple(patterns)


def test_a_star_stays_on_its_side_of_the_dot() -> None:
    assert not Selection(("pub*.t",)).selects("pub", "x.t")
    assert Selection(("*.t",)).selects("any.thing", "t")


@pytest.mark.parametrize("wrong", ["t", "a.b.c", ".t", "a.", "", '"a.b"', 'a."b'])
def test_what_is_no_pattern_is_refused(wrong: str) -> None:
    for given_to in ({"tables": (wrong,)}, {"excluded": (wrong,)}):
        with pytest.raises(UsageError, match="not a pattern of tables") as caught:
            Selection(**given_to)
        assert "schema.table" in caught.value.hint
