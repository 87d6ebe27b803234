"""A compiled kernel that is older than its sources is refused, not used."""

from __future__ import annotations

from pathlib import Path

import pytest

from logship.errors import UsageError
from logship.kernel import choice
from logship.kernel.choice import CYTHON, PYTHON, implementation, is_built
from logship.kernel.sources import digest


def test_each_change_of_a_source_shows(tmp_path: Path) -> None:
    assert digest(tmp_path) == "", "a wheel has none"
    found = set()
    for name, text in (("a.pyx", "x"), ("b.pxi", ""), ("b.pxi", "y"), ("c.pxi", "y"), ("other.py", "z")):
        (tmp_path / name).write_text(text)
        found.add(digest(tmp_path))
    assert len(found) == 4, "what isn't compiled doesn't count"


@pytest.mark.skipif(not is_built(), reason="the kernel wasn't compiled")
def test_one_that_is_older_than_its_sources_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert digest() == implementation(CYTHON).SOURCES
    monkeypatch.setattr(choice, "digest", lambda: "another")
    with pytest.raises(UsageError, match="other sources") as refused:
        implementation(CYTHON)
    assert "make init" in refused.value.hint
    assert implementation(PYTHON).__name__.endswith("_python")
