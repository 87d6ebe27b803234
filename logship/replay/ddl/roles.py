"""Roles of the primary that have another name on the secondary (`--map-role`), in a schema change and in a dump.

In: statements, or facts, as the primary has them, and names of its roles with those of the secondary. Out: the same
in the secondary's names: owners, grantees and grantors, roles of policies and of default privileges, users of
user mappings, and what a SET ROLE names, also in a function's definition; and CURRENT_USER and the like as the role
that it was, since a statement isn't repeated by whoever ran it. In a text they are found by PostgreSQL's grammar
and cut out by location. Not touched: what a function's body or a string says. No I/O.

A role that isn't mapped, and is called what another one is mapped onto, would be one with it on the secondary: refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final, TypeAlias

import postgast

from logship.errors import ReplayError
from logship.replay.batch import SchemaChange
from logship.replay.ddl import acl
from logship.replay.ddl.message import Dropped, Json, Object
from logship.replay.ddl.spelled import literal, quote

Roles: TypeAlias = Mapping[str, str]

_SETTINGS: Final = frozenset({"role", "session_authorization"})
_OF_FUNCTIONS: Final = tuple(f" SET {name} TO " for name in _SETTINGS)
# Objects whose address begins with a role.
_BEGIN_WITH_ONE: Final = frozenset({"user mapping", "default acl"})
_CSTRING: Final = "ROLESPEC_CSTRING"
_OF_SESSION: Final = re.compile("user|current_role", re.IGNORECASE)  # USER alone may stand there, too


class RoleTaken(ReplayError):
    def __init__(self, role: str, mapped: str) -> None:
        super().__init__(
            f'role "{role}" of the primary has no name of its own on the secondary: --map-role gives "{mapped}" '
            "that one",
            hint=f'give "{role}" another: logship init … --map-role {role}=…; then start the replayer again',
        )


def name(role: str, roles: Roles) -> str:
    """The secondary's. `RoleTaken`."""
    if role in roles:
        return roles[role]
    for other, taken in roles.items():
        if taken == role:
            raise RoleTaken(role, other)
    return role


def mapped(change: SchemaChange, roles: Roles) -> SchemaChange:
    """Everything but its text, which `with_roles` is for: it is matched with the facts before."""
    if not roles:
        return change
    statement = change.statement
    context = dict(statement.last.context)
    for setting in ("role", "session_user"):
        if setting in context:
            context[setting] = roles.get(context[setting], context[setting])
    last = replace(
        statement.last, context=context, objects=tuple(_object(one, roles) for one in statement.objects)
    )
    return replace(
        change,
        statement=replace(
            statement,
            last=last,
            dropped=tuple(_dropped(one, roles) for one in statement.dropped),
            rewritten=tuple(_object(one, roles) for one in statement.rewritten),
        ),
    )


def with_roles(text: str, roles: Roles) -> str:
    """One statement or many. postgast's error for what isn't SQL; `RoleTaken`."""
    return _edited(text, _edits(text, roles)) if roles else text


def with_session(text: str, context: Mapping[str, str]) -> str:
    """One statement, with the roles that its session had (``context``, of a message) where it says CURRENT_USER,
    CURRENT_ROLE or SESSION_USER for the name of a role. Not behind GRANTED BY, which takes no other."""
    session = context.get("session_user", "")
    role = session if context.get("role", "none") == "none" else context["role"]
    if not role or not _OF_SESSION.search(text):
        return text
    given = {"ROLESPEC_CURRENT_USER": role, "ROLESPEC_CURRENT_ROLE": role, "ROLESPEC_SESSION_USER": session}
    tokens = {token.start: token.end for token in postgast.scan(text).tokens}
    return _edited(
        text,
        (
            (spec.location, tokens[spec.location], quote(given[kind]))
            for statement in postgast.parse(text).stmts
            for spec in _specified(statement.stmt)
            if (kind := _enum(spec, "roletype")) in given
        ),
    )


def _edited(text: str, edits: Iterable[tuple[int, int, str]]) -> str:
    source = text.encode()
    done, reached = [], 0
    for start, end, put in sorted(edits):
        done += [source[reached:start], put.encode()]
        reached = end
    return b"".join([*done, source[reached:]]).decode()


def _object(one: Object, roles: Roles) -> Object:
    owner = None if one.owner is None else name(one.owner, roles)
    return replace(one, owner=owner, names=_names(one, roles), facts=_facts(one.facts, roles))


def _dropped(one: Dropped, roles: Roles) -> Dropped:
    return replace(one, names=_names(one, roles))


def _names(one: Object | Dropped, roles: Roles) -> tuple[str, ...]:
    if one.type not in _BEGIN_WITH_ONE or not one.names:
        return one.names
    return (name(one.names[0], roles), *one.names[1:])


def _facts(facts: Json, roles: Roles) -> dict[str, Any]:
    found: dict[str, Any] = dict(facts)
    if isinstance(found.get("owner"), str):
        found["owner"] = name(found["owner"], roles)
    if isinstance(found.get("roles"), list):
        found["roles"] = [name(role, roles) for role in found["roles"]]
    if found.get("acl"):
        found["acl"] = [_privileges(each, roles) for each in found["acl"]]
    if found.get("columns"):
        found["columns"] = [
            {**column, "acl": [_privileges(each, roles) for each in column["acl"]]} if column.get("acl") else column
            for column in found["columns"]
        ]  # fmt: skip
    definition = found.get("definition")
    if isinstance(definition, str) and any(setting in definition for setting in _OF_FUNCTIONS):
        found["definition"] = with_roles(definition, roles)
    return found


def _privileges(text: str, roles: Roles) -> str:
    grantee, privileges, grantor = acl.item(text)
    return acl.spelled(name(grantee, roles), privileges, name(grantor, roles))


def _edits(text: str, roles: Roles) -> Iterator[tuple[int, int, str]]:
    """From where to where something else is to be put, in bytes."""
    tokens = {token.start: token.end for token in postgast.scan(text).tokens}
    source = text.encode()
    starts = sorted(tokens)
    for statement in postgast.parse(text).stmts:
        for location, role, makes_schema in _named(statement.stmt):
            other = name(role, roles)
            if other == role:
                continue
            end = tokens[location]
            quotes = literal if source[location:end].endswith(b"'") else quote
            yield location, end, quotes(other)
            if makes_schema:  # CREATE SCHEMA AUTHORIZATION x: it is called x
                before = starts[starts.index(location) - 1]
                yield before, before, quote(role) + " "


def _named(message: Any) -> Iterator[tuple[int, str, bool]]:
    """Where a role is named, which, and whether that names a schema too."""
    kind = message.DESCRIPTOR.name
    if kind == "RoleSpec":
        if _enum(message, "roletype") == _CSTRING:
            yield message.location, message.rolename, False
        return
    if kind == "VariableSetStmt" and message.name in _SETTINGS:
        for each in message.args:
            if each.WhichOneof("node") == "a_const" and each.a_const.WhichOneof("val") == "sval":
                yield each.a_const.location, each.a_const.sval.sval, False
        return
    if kind == "CreateSchemaStmt" and not message.schemaname and message.HasField("authrole"):
        for location, role, _ in _named(message.authrole):
            yield location, role, True
        for element in message.schema_elts:
            yield from _named(element)
        return
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for each in [value] if hasattr(value, "DESCRIPTOR") else value:
            yield from _named(each)


def _specified(message: Any) -> Iterator[Any]:
    """Every name of a role, but that of who grants."""
    if message.DESCRIPTOR.name == "RoleSpec":
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is None or field.name == "grantor":
            continue
        for each in [value] if hasattr(value, "DESCRIPTOR") else value:
            yield from _specified(each)


def _enum(message: Any, field: str) -> str:
    values = message.DESCRIPTOR.fields_by_name[field].enum_type.values_by_number
    return str(values[getattr(message, field)].name)
