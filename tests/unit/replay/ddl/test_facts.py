"""Two catalogs are compared; the difference is readable, and what may differ is not one."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from logship.replay.ddl.acl import grantors
from logship.replay.ddl.facts import Difference, compare

TABLE: dict[str, Any] = {
    "kind": "r", "owner": "alice", "acl": ["alice=arwdDxtm/alice", '"b=/x"=r/alice'],
    "columns": [{"name": "a", "type": "integer"}, {"name": "b", "type": "text", "missing": "now"}],
    "constraints": [{"name": "p", "type": "p", "definition": "PRIMARY KEY (a)", "validated": True}],
}  # fmt: skip


def changed(**keys: Any) -> dict[str, Any]:
    return copy.deepcopy(TABLE) | keys


def test_equal_facts() -> None:
    assert compare(TABLE, changed()) == ()
    assert compare(TABLE, changed(columns=[TABLE["columns"][0], {"name": "b", "type": "text"}])) == ()
    assert compare({"last_value": 4}, {"last_value": 9}) == ()


def test_what_is_not_there() -> None:
    assert [str(each) for each in compare(TABLE, None)] == [
        "object: there on the primary, nothing on the secondary"
    ]


def test_a_column() -> None:
    found = compare(TABLE, changed(columns=[{"name": "a", "type": "bigint"}, {"name": "c", "type": "text"}]))
    assert str(found[0]) == "columns.a.type: integer on the primary, bigint on the secondary"
    assert [each.path for each in found] == ["columns.a.type", "columns.b", "columns.c"]
    swapped = compare(TABLE, changed(columns=TABLE["columns"][::-1]))
    assert swapped == (Difference("columns in order", ["a", "b"], ["b", "a"]),)


def test_another_version_knows_other_privileges_and_writes_views_another_way() -> None:
    there = changed(acl=["alice=arwdDxt/alice", '"b=/x"=r/alice'])
    assert compare(TABLE, there, same_version=False) == ()
    assert [each.path for each in compare(TABLE, there)] == ["acl"]
    view = {"kind": "v", "definition": "select a.b"}
    assert compare(view, view | {"definition": "select b"}, same_version=False) == ()
    assert compare(view, view | {"definition": "select b"}) != ()


@pytest.mark.parametrize(
    "definition",
    ["CREATE RULE r AS ON DELETE TO t DO SELECT t.a",
     "CREATE FUNCTION f()\n RETURNS int\nBEGIN ATOMIC\n SELECT t.a;\nEND",
     "CREATE FUNCTION f()\nRETURN (SELECT t.a FROM t)"],
)  # fmt: skip
def test_a_definition_with_a_query_in_it_is_not_held_against_another_version(definition: str) -> None:
    one, two = {"definition": definition}, {"definition": definition.replace("t.a", "a")}
    assert compare(one, two, same_version=False) == ()
    assert compare(one, two) != ()


@pytest.mark.parametrize(
    "definition",
    [
        "CHECK ((a > 1))",
        "CREATE INDEX i ON public.t USING btree (a)",
        "CREATE FUNCTION f()\nAS $$ select 1 $$",
    ],
)
def test_other_definitions_are_held_against_another_version(definition: str) -> None:
    one, two = {"definition": definition}, {"definition": definition + " other"}
    assert [each.path for each in compare(one, two, same_version=False)] == ["definition"]
    constraint = {"constraints": [{"name": "c"} | one]}
    found = compare(constraint, {"constraints": [{"name": "c"} | two]}, same_version=False)
    assert [each.path for each in found] == ["constraints.c.definition"]


def test_another_version_brings_its_own_version_of_an_extension() -> None:
    one, two = (
        {"owner": "a", "version": "1.6", "schema": "public"},
        {"owner": "a", "version": "1.8", "schema": "public"},
    )
    assert compare(one, two, same_version=False) == ()
    assert [each.path for each in compare(one, two)] == ["version"]
    server = {"owner": "a", "version": "1.6", "type": "x"}
    assert compare(server, server | {"version": "1.8"}, same_version=False) != ()


def test_what_an_option_of_foreign_data_is_set_to_is_never_said() -> None:
    one, two = (
        {"foreign_options": ["host=aa", "password=bb"]},
        {"foreign_options": ["host=aa", "password=cc", "user=dd"]},
    )
    (found,) = compare(one, two)
    assert str(found) == "foreign_options: ['password'] on the primary, ['password', 'user'] on the secondary"
    assert compare(one, dict(one)) == ()


def test_who_gave_privileges() -> None:
    column = {"name": "a", "acl": ["bob=r/carol"]}
    assert grantors([TABLE, {"acl": ["=r/eve"]}, {"columns": [column]}]) == {"alice", "eve", "carol"}


def test_a_message_about_privileges_says_nothing_else() -> None:
    said = {"acl": TABLE["acl"], "columns": [{"name": "a", "acl": ["bob=r/alice"]}]}
    there = changed(
        columns=[{"name": "a", "type": "integer", "acl": ["bob=r/alice"]}, {"name": "b", "type": "text"}]
    )
    assert compare(said, there) == ()
    assert [each.path for each in compare(said, changed())] == ["columns.a"]
