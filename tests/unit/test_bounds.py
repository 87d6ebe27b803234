"""How many sessions apply where nobody says so."""

from __future__ import annotations

import pytest

from logship.config import usual_apply_sessions


@pytest.mark.parametrize(
    ("cores", "replaying", "capturing"), [(1, 1, 1), (2, 2, 1), (3, 3, 1), (4, 4, 2), (6, 4, 4), (64, 4, 4)]
)
def test_a_session_for_each_core_that_nobody_else_needs(cores: int, replaying: int, capturing: int) -> None:
    assert usual_apply_sessions(cores, capturing=False) == replaying
    assert usual_apply_sessions(cores, capturing=True) == capturing
