"""Passwords in OPTIONS are neither kept nor shown; everything else is."""

from __future__ import annotations

import pytest

from logship.replay.ddl.shown import without_secrets


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "create user mapping for a server b options (user 'x''y', password 'pw')",
            "create user mapping for a server b options (user '***', password '***')",
        ),
        ("ALTER SERVER s OPTIONS /* ( */ (SET password $a$p)w$a$, DROP host)",
         "ALTER SERVER s OPTIONS /* ( */ (SET password '***', DROP host)"),
        ("create foreign table \u00e9 (a text options (b E'p\\'w') default 'kept') server s options (c U&'pw')",
         "create foreign table \u00e9 (a text options (b '***') default 'kept') server s options (c '***')"),
        ("comment on server s is 'options (password)'", "comment on server s is 'options (password)'"),
        ("create table t (v text default 'kept')", "create table t (v text default 'kept')"),
        ("", ""),
    ],
)  # fmt: skip
def test_values_of_options(text: str, shown: str) -> None:
    assert without_secrets(text) == shown


def test_what_the_scanner_does_not_take_is_not_kept() -> None:
    assert without_secrets("alter server s options (set password 'pw") == ""
