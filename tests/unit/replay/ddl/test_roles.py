"""Roles with another name on the secondary: in texts by their place, in facts by what they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from logship.lsn import Lsn
from logship.replay.batch import SchemaChange
from logship.replay.ddl.message import Captured, Dropped, Object, Statement
from logship.replay.ddl.roles import RoleTaken, mapped, with_roles, with_session
from logship.replay.ddl.text import Located

ROLES = {"app": "the app", "bob": "b2"}


@pytest.mark.parametrize(
    ("text", "there"),
    [
        ("alter table app owner to app", 'alter table app owner to "the app"'),
        ('alter table t owner to "app"', 'alter table t owner to "the app"'),
        ('/* é */ alter table t owner to U&"\\0061pp"', '/* é */ alter table t owner to "the app"'),
        (
            "grant select (app) on t to app, public, eve granted by bob",
            'grant select (app) on t to "the app", public, eve granted by "b2"',
        ),
        (
            "create policy app on t to app using (u = 'app')",
            "create policy app on t to \"the app\" using (u = 'app')",
        ),
        (
            "alter default privileges for user app grant select on tables to bob",
            'alter default privileges for user "the app" grant select on tables to "b2"',
        ),
        (
            "create schema authorization app create table t (a int)",
            'create schema "app" authorization "the app" create table t (a int)',
        ),
        ("create schema s authorization app", 'create schema s authorization "the app"'),
        ("create user mapping for app server app", 'create user mapping for "the app" server app'),
        (
            "create function f() returns int language sql set role to 'app' return 1",
            "create function f() returns int language sql set role to 'the app' return 1",
        ),
        (
            "SET SESSION AUTHORIZATION app;\n\nGRANT ALL ON TABLE x TO bob; RESET ALL",
            'SET SESSION AUTHORIZATION "the app";\n\nGRANT ALL ON TABLE x TO "b2"; RESET ALL',
        ),
        ("drop owned by app, current_user", 'drop owned by "the app", current_user'),
        ("select 'app'; alter table t owner to eve", "select 'app'; alter table t owner to eve"),
    ],
)
def test_texts(text: str, there: str) -> None:
    assert with_roles(text, ROLES) == there
    assert with_roles(text, {}) == text


@pytest.mark.parametrize(
    ("text", "there"),
    [
        ("alter table t owner to CURRENT_USER", 'alter table t owner to "a""pp"'),
        (
            "/* é */ grant select on t to session_user, current_role, eve",
            '/* é */ grant select on t to "sue", "a""pp", eve',
        ),
        (
            "revoke all on t from session_user granted by current_user",
            'revoke all on t from "sue" granted by current_user',
        ),
        ("create schema authorization current_user", 'create schema authorization "a""pp"'),
        ("create user mapping for user server s", 'create user mapping for "a""pp" server s'),
        ("create policy p on t to current_user using (u = current_user)",
         'create policy p on t to "a""pp" using (u = current_user)'),
        ("create table t (u text default session_user)", "create table t (u text default session_user)"),
        ("create table current_role_ (a int)", "create table current_role_ (a int)"),
    ],
)  # fmt: skip
def test_the_session_that_it_was(text: str, there: str) -> None:
    assert with_session(text, {"session_user": "sue", "role": 'a"pp'}) == there
    assert with_session(text, {"session_user": 'a"pp', "role": "none"}) == there.replace('"sue"', '"a""pp"')
    assert with_session(text, {}) == text


def test_a_name_that_another_has_been_given() -> None:
    with pytest.raises(RoleTaken, match='role "b2" of the primary'):
        with_roles("grant select on t to b2", ROLES)
    assert with_roles("grant select on t to b2", {"bob": "b2", "b2": "bob"}) == 'grant select on t to "bob"'


def _object(kind: str, names: tuple[str, ...], owner: str | None, facts: Mapping[str, Any]) -> Object:
    return Object(kind, names, (), ".".join(names), None, "pg_class", owner=owner, facts=facts)


def test_facts() -> None:
    table = {
        "owner": "app", "comment": "app", "acl": ["app=arwd/app", "=r/app", 'eve=r/"o=/"'],
        "columns": [{"name": "app", "acl": ["bob=r/app"]}, {"name": "b"}],
    }  # fmt: skip
    policy = {"owner": "app", "roles": ["app", "eve", "public"], "using": "(u = 'app')"}
    function = {"owner": "eve", "definition": "CREATE OR REPLACE FUNCTION public.f()\n RETURNS integer\n"
                " LANGUAGE sql\n SET role TO 'app'\nAS $function$ select 'app' $function$\n"}  # fmt: skip
    objects = (
        _object("table", ("public", "app"), "app", table),
        _object("policy", ("public", "t", "app"), "app", policy),
        _object("function", ("public", "f"), "eve", function),
        _object("user mapping", ("app",), None, {}),
    )
    captured = Captured(
        1, 1, "d", 180000, 0, "end", "GRANT", "…", "", {"role": "app", "session_user": "bob", "search_path": "app"},
        objects,
    )  # fmt: skip
    dropped = Dropped("default acl", ("app", "s"), ("r",), "…", None, original=True)
    change = SchemaChange(Statement(captured, (dropped,)), Located("…", "GRANT", nested=False), Lsn(1))
    there = mapped(change, ROLES).statement
    one, two, three, four = there.objects
    assert there.context == {"role": "the app", "session_user": "b2", "search_path": "app"}
    assert (one.names, one.owner) == (("public", "app"), "the app")
    assert one.facts == {
        "owner": "the app", "comment": "app",
        "acl": ['"the app"=arwd/"the app"', '=r/"the app"', 'eve=r/"o=/"'],
        "columns": [{"name": "app", "acl": ['b2=r/"the app"']}, {"name": "b"}],
    }  # fmt: skip
    assert two.facts == {"owner": "the app", "roles": ["the app", "eve", "public"], "using": "(u = 'app')"}
    assert three.facts["definition"] == function["definition"].replace(
        "SET role TO 'app'", "SET role TO 'the app'"
    )
    assert four.names == ("the app",)
    assert there.dropped[0].names == ("the app", "s")
    assert mapped(change, {}) is change
