"""Who gave a right is who ran the statement, when that is known for certain; else the owner."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest

from logship.replay.ddl.granted import granted_by
from logship.replay.ddl.message import Captured, Object, Statement
from logship.replay.ddl.text import Found, Located, Unlocated, Why

_SENT = Located("grant …", "GRANT", nested=False)


def granted(*objects: Object, tag: str = "GRANT", role: str = "none") -> Statement:
    context = MappingProxyType({"session_user": "sue", "role": role})
    return Statement(Captured(1, 1, "shop", 150018, 1, "end", tag, "grant …", "ours", context, objects))


def owned(owner: str, *acl: str) -> Object:
    return Object(
        "table", ("public", "t"), (), "public.t", "public", "pg_class", owner=owner, facts={"acl": list(acl)}
    )


def by(statement: Statement, found: Found = _SENT, before: tuple[str, ...] = ()) -> str | None:
    there: dict[str, Any] = {"facts": {"acl": list(before)}}
    return granted_by(statement, found, lambda _: there)


def test_the_owner_or_who_has_the_grant_option() -> None:
    assert by(granted(owned("sue", "=r/sue"))) == "sue"
    assert by(granted(owned("ann", "=r/ann"))) is None  # a superuser, or a member of ann: it counts as ann's
    assert by(granted(owned("ann", "=r/bob"), role="bob")) == "bob"
    assert by(granted(owned("ann", "=r/ann"), tag="REVOKE", role="bob"), before=("=r/bob",)) == "bob"


def test_several_owners_and_none() -> None:
    assert by(granted(owned("ann"), owned("bob"))) == "sue"
    assert by(granted(tag="ALTER DEFAULT PRIVILEGES", role="bob")) == "bob"
    assert by(granted(owned("ann"), tag="DROP OWNED")) == "sue"


@pytest.mark.parametrize("found", [Located("grant …", "GRANT", nested=True), Unlocated(Why.AMBIGUOUS)])
def test_inside_of_a_function_nobody_knows_who_it_was(found: Found) -> None:
    assert by(granted(owned("ann", "=r/sue")), found) is None
    assert by(granted(), found) is None


def test_other_statements_are_their_owners() -> None:
    assert by(granted(owned("ann", "=r/sue"), tag="ALTER TABLE")) is None
