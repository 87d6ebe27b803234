"""Whose rights a GRANT, REVOKE or DROP OWNED is repeated with, where that needn't be the owner of the object.

In: the captured statement, where its text was found, and a look at the secondary. Out: a role's name, or None: the
owner's; and whether the statement gave and took nothing. No I/O of its own.

Who gave a privilege stands beside it in the catalog, so what the statement changed there says whose rights it ran
with. The role that the session had says it only of a statement that was not nested: inside of somebody's
security definer function it was that somebody. A REVOKE by who may not take what others gave
succeeds with a warning and does nothing: with the owner's rights it would do something here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from logship.replay.ddl.acl import grantors, item, without_maintain
from logship.replay.ddl.message import Dropped, Json, Object, Statement
from logship.replay.ddl.text import Found, Located

_PRIVILEGES: Final = ("GRANT", "REVOKE", "ALTER DEFAULT PRIVILEGES", "DROP OWNED")
# A message names the newest that a transaction has changed, up to so many: logship.ddl_granted.
_MOST_NAMED: Final = 20
Look: TypeAlias = Callable[[Object | Dropped], Mapping[str, Any] | None]
# Whose it is, the column ('': the object itself), and the privilege as the catalog has it.
_Given: TypeAlias = tuple[str, str, str]


def granted_by(statement: Statement, found: Found, look: Look, *, both_maintain: bool = True) -> str | None:
    """``both_maintain``: both servers have the privilege MAINTAIN, or neither."""
    if statement.tag not in _PRIVILEGES or not isinstance(found, Located):
        return None
    changed = {item(privilege)[2] for _, _, privilege in _changed(statement, look, both_maintain) or ()}
    if statement.tag != "DROP OWNED" and len(changed) == 1:
        return changed.pop()
    return None if found.nested else _session_role(statement, look)


def _session_role(statement: Statement, look: Look) -> str | None:
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


def changed_nothing(statement: Statement, look: Look, *, both_maintain: bool = True) -> bool:
    """Whether a GRANT or REVOKE left every privilege as the secondary has it already, and that is certain."""
    return statement.tag in ("GRANT", "REVOKE") and _changed(statement, look, both_maintain) == set()


def _changed(statement: Statement, look: Look, both_maintain: bool) -> set[_Given] | None:
    """What was given or taken; None when not all is known that the statement was about."""
    if not 0 < len(statement.objects) < _MOST_NAMED:
        return None
    changed: set[_Given] = set()
    for one in statement.objects:
        found = look(one)
        if found is None:
            return None
        changed |= _given(one, one.facts, both_maintain) ^ _given(one, found["facts"], both_maintain)
    return changed


def _given(one: Object, facts: Json, both_maintain: bool) -> set[_Given]:
    there = [("", facts), *((column["name"], column) for column in facts.get("columns") or ())]
    return {
        (one.identity, column, each if both_maintain else without_maintain(each))
        for column, having in there
        for each in having.get("acl") or ()
    }
