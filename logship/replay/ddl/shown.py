"""A statement's text as it may be kept and shown: without the values of OPTIONS, which may be passwords.

In: one statement. Out: the same, with '***' for each string inside OPTIONS ( … ). Cuts by location. No I/O.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import postgast
from postgast.errors import PgQueryError

_OPTIONS: Final = b"OPTIONS"
_STRINGS: Final = frozenset({"SCONST", "USCONST", "BCONST", "XCONST"})
_HIDDEN: Final = b"'***'"


def without_secrets(text: str) -> str:
    """Nothing of it when PostgreSQL's scanner doesn't take it: what is in it is not known then."""
    try:
        tokens = list(postgast.scan(text).tokens)
    except (PgQueryError, ValueError):
        return ""
    source = text.encode()
    shown, reached = [], 0
    for token in _values(source, tokens):
        shown += [source[reached : token.start], _HIDDEN]
        reached = token.end
    return b"".join([*shown, source[reached:]]).decode()


def _values(source: bytes, tokens: list[Any]) -> Iterator[Any]:
    depth, inside = 0, False
    before = b""
    for token in tokens:
        word = source[token.start : token.end]
        if inside:
            depth += (word == b"(") - (word == b")")
            inside = depth > 0
            if _kind(token) in _STRINGS:
                yield token
        elif word == b"(" and before.upper() == _OPTIONS:
            inside, depth = True, 1
        if _kind(token) not in {"SQL_COMMENT", "C_COMMENT"}:
            before = word


def _kind(token: Any) -> str:
    kinds = token.DESCRIPTOR.fields_by_name["token"].enum_type.values_by_number
    return str(kinds[token.token].name)
