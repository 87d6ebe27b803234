"""Whose rights a GRANT, REVOKE or DROP OWNED is repeated with, where that needn't be the owner of the object.

In: the captured statement, where its text was found, and a look at the secondary. Out: a role's name, or None: the
owner's. No I/O of its own.

The role that the session had says who ran a statement only if that was not nested: inside of somebody's
security definer function it was that somebody.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from logship.replay.ddl.acl import grantors
from logship.replay.ddl.message import Dropped, Object, Statement
from logship.replay.ddl.text import Found, Located

_PRIVILEGES: Final = ("GRANT", "REVOKE", "ALTER DEFAULT PRIVILEGES", "DROP OWNED")
Look = Callable[[Object | Dropped], Mapping[str, Any] | None]


def granted_by(statement: Statement, found: Found, look: Look) -> str | None:
    if statement.tag not in _PRIVILEGES or not isinstance(found, Located) or found.nested:
        return None
    role = statement.context.get("role", "none")
    if role == "none":
        role = statement.context.get("session_user", "")
    if statement.tag == "DROP OWNED":
        return role or None  # it also takes back what others gave
    owners = {one.owner for one in statement.objects}
    if len(owners) != 1 or role in owners:
        return role or None  # several owners; or nothing is left of the row that it changed
    before = [look(one) for one in statement.objects]
    facts = [*(one.facts for one in statement.objects), *(one["facts"] for one in before if one)]
    return role if role in grantors(facts) else None
