"""What user types are called after a schema change: the walsender announces a type once in a session, with the first
relation that has it, and doesn't say when it is called otherwise.

In: a schema change, and the types and relations that the log has described. Out: the types that it renames, with both
names; and from names of before, those of now. A type is renamed itself, or with its schema, or is a table's row type.
A type of an extension that goes to another schema isn't known to be one. No I/O.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import postgast

from logship.change import Relation, TypeName
from logship.replay.ddl.grammar import split
from logship.replay.ddl.message import Object, Statement
from logship.replay.ddl.spelled import parts
from logship.replay.ddl.text import Found, Located, Unlocated

_NAME_BYTES: Final = 63
_OF_TYPES: Final = frozenset({"ALTER TYPE", "ALTER DOMAIN"})
_WITH_ROW_TYPE: Final = frozenset({"table", "view", "materialized view", "foreign table", "composite type"})

Name = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Renamed:
    oid: int  # the primary's
    before: Name
    after: Name


def renamed(
    statement: Statement, found: Found, types: Mapping[int, TypeName], relations: Mapping[int, Relation]
) -> tuple[Renamed, ...]:
    """Of ``types``, those that the statement renamed, or brought into another schema."""
    if not types or not statement.tag.startswith("ALTER "):
        return ()
    names = {oid: (known.schema, known.name) for oid, known in types.items()}
    changes = dict(_changes(statement, found, names, relations))
    return tuple(
        Renamed(oid, name, changes[name])
        for oid, name in sorted(names.items())
        if changes.get(name, name) != name
    )


def now(oid: int, name: Name, since: Iterable[Renamed]) -> Name:
    """What a type is called that was announced as ``name``, ``since`` in order; one that was announced again since
    then isn't called as it was before, and stays as it is."""
    for each in since:
        if each.oid == oid and each.before == name:
            name = each.after
    return name


def encode(renames: Iterable[Renamed]) -> str:
    return json.dumps([[each.oid, each.before, each.after] for each in renames])


def decode(said: Iterable[Iterable[Any]]) -> tuple[Renamed, ...]:
    return tuple(Renamed(oid, (before[0], before[1]), (after[0], after[1])) for oid, before, after in said)


def _changes(
    statement: Statement, found: Found, names: Mapping[int, Name], relations: Mapping[int, Relation]
) -> Iterator[tuple[Name, Name]]:
    if statement.tag == "ALTER SCHEMA":
        schemas = _of_schema(found)
        if schemas is not None:
            yield from ((name, (schemas[1], name[1])) for name in names.values() if name[0] == schemas[0])
        return
    for one in statement.objects:
        before: Name | None
        if one.catalog == "pg_type" and statement.tag in _OF_TYPES:
            spelled = parts(one.names[0]) if one.names else ()
            before, after = _of_type(statement, spelled, found, names.get(one.oid)), spelled
        elif one.catalog == "pg_class" and one.type in _WITH_ROW_TYPE:
            before, after = _of_relation(one, found, relations), one.names
        else:
            continue
        if before is not None and len(after) == 2:
            yield before, (after[0], after[1])
            yield _array(before), _array((after[0], after[1]))


def _array(name: Name) -> Name:
    return name[0], f"_{name[1]}".encode()[:_NAME_BYTES].decode(errors="ignore")


def _of_schema(found: Found) -> Name | None:
    """The name before, and after."""
    node = _node(found, "rename_stmt")
    return (node.subname, node.newname) if node is not None and node.subname else None


def _of_type(statement: Statement, after: tuple[str, ...], found: Found, known: Name | None) -> Name | None:
    """What a type was called before. The log calls a domain as its base type: the text says which one is meant."""
    if len(after) != 2:
        return None
    node = _node(found, "rename_stmt")
    if node is not None:
        old = _last(node.object)
        return (after[0], old) if old and not node.subname else None
    node = _node(found, "alter_object_schema_stmt")
    if node is not None:
        items = node.object.list.items
        schema = items[-2].string.sval if len(items) > 1 else known[0] if known else ""
        return (schema, after[1]) if schema else None
    return known if isinstance(found, Unlocated) and statement.tag == "ALTER TYPE" else None


def _of_relation(one: Object, found: Found, relations: Mapping[int, Relation]) -> Name | None:
    """What a relation was called before: the text may not say its schema, and the log may not have described it."""
    node = _node(found, "rename_stmt")
    if node is not None:
        old = node.relation.relname or _last(node.object)
        return (one.names[0], old) if old and not node.subname and len(one.names) == 2 else None
    node = _node(found, "alter_object_schema_stmt")
    if node is not None and node.relation.schemaname:
        return node.relation.schemaname, node.relation.relname
    described = relations.get(one.oid)
    return None if described is None else (described.schema, described.name)


def _last(node: Any) -> str:
    items = node.list.items
    return str(items[-1].string.sval) if items else ""


def _node(found: Found, kind: str) -> Any | None:
    if not isinstance(found, Located) or split(found.text) is None:
        return None
    statements = postgast.parse(found.text).stmts
    if len(statements) != 1 or statements[0].stmt.WhichOneof("node") != kind:
        return None
    return getattr(statements[0].stmt, kind)
