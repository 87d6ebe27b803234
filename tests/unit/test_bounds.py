"""How many sessions apply where nobody says so."""

from __future__ import annotations

import pytest

from logship.config import usual_apply_sessions


@pytest.mark.parametrize(("cores", "sessions"), [(1, 1), (2, 2), (3, 3), (4, 4), (64, 4)])
def test_a_session_for_each_core(cores: int, sessions: int) -> None:
    assert usual_apply_sessions(cores) == sessions
