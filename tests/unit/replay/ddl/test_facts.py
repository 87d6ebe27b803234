"""Two catalogs are compared; the difference is readable, and what may differ is not one."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

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


def test_roles_are_mapped() -> None:
    there = changed(owner="al", acl=["al=arwdDxtm/al", '"b=/x"=r/al'])
    assert compare(TABLE, there, roles={"alice": "al"}) == ()
    assert [each.path for each in compare(TABLE, there)] == ["owner", "acl"]


def test_another_version_knows_other_privileges_and_writes_views_another_way() -> None:
    there = changed(acl=["alice=arwdDxt/alice", '"b=/x"=r/alice'])
    assert compare(TABLE, there, same_version=False) == ()
    assert [each.path for each in compare(TABLE, there)] == ["acl"]
    assert compare({"definition": "select a.b"}, {"definition": "select b"}, same_version=False) == ()


def test_a_message_about_privileges_says_nothing_else() -> None:
    said = {"acl": TABLE["acl"], "columns": [{"name": "a", "acl": ["bob=r/alice"]}]}
    there = changed(
        columns=[{"name": "a", "type": "integer", "acl": ["bob=r/alice"]}, {"name": "b", "type": "text"}]
    )
    assert compare(said, there) == ()
    assert [each.path for each in compare(said, changed())] == ["columns.a"]


def test_both_sides_ask_with_the_same_text() -> None:
    root = Path(__file__).parents[4]
    ours = (root / "logship/catalog/sql/ddl_facts.sql").read_text()
    for side in ("primary", "secondary"):
        assert (root / f"migrations/{side}/versions/{side}_0001/ddl_facts.sql").read_text() == ours
    keys = [root / f"migrations/{side}/versions/{side}_0001/ddl_key.sql" for side in ("primary", "secondary")]
    assert keys[0].read_text() == keys[1].read_text()
