"""Which pg_dump is used, and what of its text is sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from logship.errors import UsageError
from logship.snapshot.schema import find_pg_dump, statements


def fake(directory: Path, version: str) -> Path:
    directory.mkdir(parents=True)
    program = directory / "pg_dump"
    program.write_text(f"#!/bin/sh\necho 'pg_dump (PostgreSQL) {version}'\n")
    program.chmod(0o755)
    return directory


def test_the_oldest_that_is_new_enough(tmp_path: Path) -> None:
    places = [
        fake(tmp_path / version, version) for version in ("18.1", "14.2", "16.3", "15.4 (Debian 15.4-1)")
    ]
    assert (
        find_pg_dump(15, places=places, environment={}).path == tmp_path / "15.4 (Debian 15.4-1)" / "pg_dump"
    )
    assert find_pg_dump(17, places=places, environment={}).major == 18


def test_none_is_new_enough(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"version 18 or newer; found only version 15") as caught:
        find_pg_dump(18, places=[fake(tmp_path / "a", "15.4")], environment={})
    for way in ("apt-get install postgresql-client-18", "pip install", "--pg-dump", "--schema existing"):
        assert way in caught.value.hint


def test_there_is_none() -> None:
    with pytest.raises(UsageError, match=r"no pg_dump of version 16 or newer$"):
        find_pg_dump(16, places=[], environment={})


def test_the_named_one_is_used_or_refused(tmp_path: Path) -> None:
    old, new = fake(tmp_path / "old", "15.1") / "pg_dump", fake(tmp_path / "new", "17.1") / "pg_dump"
    assert find_pg_dump(15, str(new), places=[tmp_path / "old"], environment={}).path == new
    assert find_pg_dump(15, places=[], environment={"LOGSHIP_PG_DUMP": str(old)}).path == old
    with pytest.raises(UsageError, match=r"version 15, older than the primary \(16\)"):
        find_pg_dump(16, str(old), places=[tmp_path / "new"], environment={})
    with pytest.raises(UsageError, match="is not a pg_dump"):
        find_pg_dump(16, str(tmp_path / "none"), environment={})


DUMP = r"""--
-- PostgreSQL database dump
--

\restrict abcDEF123

-- Dumped by pg_dump version 18.1

SET statement_timeout = 0;
SET transaction_timeout = 0;
SELECT pg_catalog.set_config('search_path', '', false);
SET row_security = off;

CREATE FUNCTION public.f() RETURNS text LANGUAGE sql AS $$
\restrict abcDEF123
SET transaction_timeout = 0;
\unrestrict abcDEF123
$$;

--
-- PostgreSQL database dump complete
--

\unrestrict abcDEF123

"""


def test_only_psqls_own_lines_and_unknown_settings_go() -> None:
    kept = statements(DUMP, frozenset({"statement_timeout", "row_security"}))
    assert kept == DUMP.replace("\\restrict abcDEF123\n", "", 1).replace(
        "SET transaction_timeout = 0;\n", "", 1
    ).replace("--\n\n\\unrestrict abcDEF123\n", "--\n\n")


def test_known_settings_stay() -> None:
    assert "SET transaction_timeout = 0;\nSELECT" in statements(
        DUMP, frozenset({"statement_timeout", "row_security", "transaction_timeout"})
    )
