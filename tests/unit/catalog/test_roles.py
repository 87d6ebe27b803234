"""Names made from a database's name."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from logship.catalog.roles import identifier


def test_a_plain_name_stays() -> None:
    assert identifier("logship_", "app_1") == "logship_app_1"


def test_others_are_told_apart() -> None:
    names = {identifier("logship_", name) for name in ("App", "app", "äpp", "a.p", "a-p", "x" * 63, "x" * 62)}
    assert len(names) == 7


@given(st.text(min_size=1, max_size=63), st.text(min_size=1, max_size=63))
def test_always_a_slots_name_and_never_shared(one: str, other: str) -> None:
    made = identifier("logship_replayer_", one)
    assert re.fullmatch(r"[a-z0-9_]{1,63}", made)
    assert (made == identifier("logship_replayer_", other)) == (one == other)
