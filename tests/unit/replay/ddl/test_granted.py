"""Who gave a right is who ran the statement, when that is known for certain; else the owner."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest

from logship.replay.ddl.granted import changed_nothing, granted_by
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
    assert by(granted(owned("sue", "=r/sue")), before=("=r/sue",)) == "sue"
    assert by(granted(owned("ann", "=r/ann")), before=("=r/ann",)) is None  # a superuser, or a member of ann
    assert by(granted(owned("ann", "=r/bob"), role="bob")) == "bob"
    assert by(granted(owned("ann", "=r/ann"), tag="REVOKE", role="bob"), before=("=r/bob",)) == "bob"


def test_several_owners_and_none() -> None:
    assert by(granted(owned("ann"), owned("bob"))) == "sue"
    assert by(granted(tag="ALTER DEFAULT PRIVILEGES", role="bob")) == "bob"
    assert by(granted(owned("ann"), tag="DROP OWNED")) == "sue"


@pytest.mark.parametrize("nested", [False, True])
def test_whoever_stands_beside_what_has_changed(nested: bool) -> None:
    found = Located("grant …", "GRANT", nested)
    given = granted(owned("ann", "=r/ann", "joe=r/bob"))  # by sue, a member of bob
    assert by(given, found, before=("=r/ann",)) == "bob"
    assert by(granted(owned("ann", "=r/ann")), found, before=("=rw/ann",)) == "ann"
    column = Object("table", ("public", "t"), (), "public.t", "public", "pg_class", owner="ann",
                    facts={"columns": [{"name": "v", "acl": ["joe=r*/bob"]}]})  # fmt: skip
    assert by(granted(column), found) == "bob"
    # Revoked with what had been given on: two have lost something, and the session says whose statement it was.
    cascade = granted(owned("ann", "=r/ann"), tag="REVOKE", role="bob")
    gone = ("=r/ann", "joe=r*/bob", "eve=r/joe")
    assert by(cascade, found, before=gone) == (None if nested else "bob")


def test_what_changed_nothing() -> None:
    def nothing(statement: Statement, *before: str) -> bool:
        return changed_nothing(statement, lambda _: {"facts": {"acl": list(before)}})

    assert nothing(granted(owned("ann", "=r/ann"), tag="REVOKE"), "=r/ann")
    assert not nothing(granted(owned("ann", "=r/ann")), "=rw/ann")
    assert not nothing(granted())  # nothing is left to look at
    assert not nothing(granted(owned("ann", "=r/ann"), tag="ALTER DEFAULT PRIVILEGES"), "=r/ann")
    assert not nothing(granted(*[owned("ann", "=r/ann")] * 20), "=r/ann")  # there may be more
    assert not changed_nothing(granted(owned("ann", "=r/ann")), lambda _: None)


@pytest.mark.parametrize("found", [Located("grant …", "GRANT", nested=True), Unlocated(Why.AMBIGUOUS)])
def test_inside_of_a_function_nobody_knows_who_it_was(found: Found) -> None:
    several = granted(owned("ann", "=r/sue", "eve=r/bob"))
    assert by(several) == "sue"
    assert by(several, found) is None
    assert by(granted(), found) is None


def test_other_statements_are_their_owners() -> None:
    assert by(granted(owned("ann", "=r/sue"), tag="ALTER TABLE")) is None


def test_maintain_is_no_change_where_one_side_has_not_heard_of_it() -> None:
    given = granted(owned("ann", "ann=arwdDxt/ann", "joe=r/bob"))

    def there(_: object) -> dict[str, Any]:
        return {"facts": {"acl": ["ann=arwdDxtm/ann"]}}

    assert granted_by(given, _SENT, there, both_maintain=False) == "bob"
    assert granted_by(given, _SENT, there) is None  # two seem to have changed something, and sue is neither
    same = granted(owned("ann", "ann=arwdDxt/ann"), tag="REVOKE")
    assert changed_nothing(same, there, both_maintain=False)
    assert not changed_nothing(same, there)
