"""Privileges as PostgreSQL writes them: ``grantee=privileges/grantor``, names in double quotes where they need them.

In: items. Out: their parts, and items again. Source of the form: utils/adt/acl.c, putid(). No I/O.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from logship.replay.ddl.message import Json

_MAINTAIN: Final = "m"
_BARE: Final = re.compile(r"[A-Za-z0-9_]*\Z", re.ASCII)


def item(text: str) -> tuple[str, str, str]:
    """Grantee ('' for PUBLIC), privileges, grantor."""
    grantee, rest = _cut(text, "=")
    privileges, grantor = _cut(rest, "/")
    return _plain(grantee), privileges, _plain(grantor)


def spelled(grantee: str, privileges: str, grantor: str) -> str:
    return f"{_quoted(grantee)}={privileges}/{_quoted(grantor)}"


def without_maintain(text: str) -> str:
    """The item as a server before 17 has it, where MAINTAIN doesn't exist and an owner has one privilege fewer."""
    grantee, privileges, grantor = item(text)
    return spelled(grantee, privileges.replace(_MAINTAIN + "*", "").replace(_MAINTAIN, ""), grantor)


def grantors(facts: Iterable[Json]) -> set[str]:
    """The roles that gave the privileges which these objects and their columns have."""
    given: list[Any] = []
    for one in facts:
        given += one.get("acl") or ()
        given += [each for column in one.get("columns") or () for each in column.get("acl") or ()]
    return {item(each)[2] for each in given}


def _quoted(name: str) -> str:
    return name if _BARE.match(name) else '"' + name.replace('"', '""') + '"'


def _plain(quoted: str) -> str:
    return quoted[1:-1].replace('""', '"') if quoted.startswith('"') else quoted


def _cut(text: str, mark: str) -> tuple[str, str]:
    """At the first ``mark`` outside of double quotes."""
    quoted = False
    for place, letter in enumerate(text):
        if letter == '"':
            quoted = not quoted
        elif letter == mark and not quoted:
            return text[:place], text[place + 1 :]
    return text, ""
