"""Whether a relation of the log fits the table that the secondary has, and how its rows are found.

In: the relation, and what the secondary's catalog says (`SecondaryTable`). Out: a `SecondaryTarget`,
or `ShapeDiffers` with both shapes side by side. No I/O.

Types are equal when they are the same built-in type, or bear the same name; the log names a domain
by its base type, and doesn't name one over a built-in type at all.
Source: src/backend/replication/logical/proto.c, logicalrep_write_typ.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from logship.change import Column, Relation, TypeName
from logship.replay.failures import ShapeDiffers
from logship.replay.target import Target, TargetColumn

_FIRST_UNPINNED: Final = 10_000  # FirstGenbkiObjectId: below it, oids are the same on every server


class Input(enum.Enum):
    """How a cell becomes a value."""

    CAST = "cast"  # text::type, which calls the type's input function
    ELEMENT = "element"  # as an array's element: a cast function from text stands before the input function
    BYTE = "byte"  # "char": by its number, since servers before 16 print the upper half raw


@dataclass(frozen=True, slots=True)
class SecondaryColumn(TargetColumn):
    """``equals`` is the operator of the type's equality as SQL, '' without one."""

    equals: str = ""
    input: Input = Input.CAST
    array_sql: str = ""  # the type of arrays of this column's type, for Input.ELEMENT
    indexed: bool = False  # first in an index: worth comparing as a type before comparing as text


@dataclass(frozen=True, slots=True)
class SecondaryTarget(Target):
    """What persistence knows beyond `Target`. ``extra``: writable columns that only the secondary has."""

    columns: tuple[SecondaryColumn, ...]
    extra: tuple[str, ...] = ()
    key_indexed: bool = False
    writes_identity: bool = False  # one of all columns is an identity column
    runs_nothing: bool = False  # writing a row ran nothing of users' when it was looked up
    copyable: bool = False  # COPY ran nothing of users' when it was looked up; `copying` asks again


@dataclass(frozen=True, slots=True)
class SecondaryTable:
    """A row of the catalog query in `logship.replay.targets`."""

    oid: int
    kind: str
    owner_oid: int
    owner: str
    columns: Sequence[Mapping[str, Any]]
    indexes: Sequence[Mapping[str, Any]]
    runs_nothing_of_users: bool = False
    may_insert: bool = False


def fit(relation: Relation, types: Mapping[int, TypeName], table: SecondaryTable) -> SecondaryTarget:
    """The target of ``relation``'s rows. Raises `ShapeDiffers`."""
    by_name = {column["name"]: column for column in table.columns}
    reasons = [reason for column in relation.columns if (reason := _differs(column, types, by_name))]
    published = {column.name for column in relation.columns}
    extra = [column for column in table.columns if column["name"] not in published]
    reasons += [
        f'column "{column["name"]}" is NOT NULL without a default, and the primary does not have it'
        for column in extra
        if _must_be_given(column)
    ]
    if reasons:
        raise ShapeDiffers(
            str(relation), reasons,
            [_primary_line(column, types) for column in relation.columns],
            [_secondary_line(column) for column in table.columns],
        )  # fmt: skip
    found = [by_name[column.name] for column in relation.columns]
    leading = {index["columns"][0] for index in table.indexes}
    key = _row_key(relation, found, table.indexes)
    runs_nothing = table.runs_nothing_of_users and bool(found)
    runs_nothing = runs_nothing and not any(column["has_default"] or column["identity"] for column in extra)
    return SecondaryTarget(
        relation=relation, oid=table.oid, kind=table.kind, owner_oid=table.owner_oid, owner=table.owner,
        columns=tuple(_column(column, leading) for column in found),
        key=key,
        extra=tuple(column["name"] for column in extra if not column["generated"]),
        key_indexed=_indexed({found[i]["attnum"] for i in key}, table.indexes),
        writes_identity=any(column["identity"] for column in table.columns),
        runs_nothing=runs_nothing, copyable=runs_nothing and table.may_insert,
    )  # fmt: skip


def _column(found: Mapping[str, Any], leading: set[int]) -> SecondaryColumn:
    if found["base_oid"] == 18:
        how = Input.BYTE
    elif found["hijacked"] and found["array_sql"]:
        how = Input.ELEMENT
    else:
        how = Input.CAST
    operator = found["operator"]
    return SecondaryColumn(
        name=found["name"], type_sql=found["type_sql"], type_oid=found["type_oid"], typmod=found["typmod"],
        not_null=found["not_null"], identity=found["identity"], generated=found["generated"],
        has_equality=found["has_equality"],
        equals=f"operator({_quote(operator[0])}.{operator[1]})" if operator else "",
        input=how, array_sql=found["array_sql"] or "", indexed=found["attnum"] in leading,
    )  # fmt: skip


def _differs(column: Column, types: Mapping[int, TypeName], by_name: Mapping[str, Any]) -> str:
    found = by_name.get(column.name)
    if found is None:
        return f'column "{column.name}" is missing'
    if not _same_type(column, types, found):
        return f'column "{column.name}" has another type'
    return ""


def _same_type(column: Column, types: Mapping[int, TypeName], found: Mapping[str, Any]) -> bool:
    if column.type_oid < _FIRST_UNPINNED:
        return bool(column.type_oid == found["type_oid"] and column.typmod == found["typmod"])
    announced = types.get(column.type_oid)
    if announced is None:  # a domain over a built-in type: its name isn't in the log
        return bool(found["is_domain"] and found["base_oid"] < _FIRST_UNPINNED)
    name = [announced.schema, announced.name]
    if found["is_domain"]:
        return name in (found["type_name"], found["base_name"])
    return bool(name == found["type_name"] and column.typmod == found["typmod"])


def _must_be_given(column: Mapping[str, Any]) -> bool:
    return bool(
        column["not_null"] and not (column["has_default"] or column["generated"] or column["identity"])
    )


def _row_key(
    relation: Relation, found: Sequence[Mapping[str, Any]], indexes: Sequence[Mapping[str, Any]]
) -> tuple[int, ...]:
    """Indexes into the relation's columns. Under FULL, a unique index of the secondary."""
    if relation.replica_identity == "n":
        return ()
    if relation.replica_identity != "f":
        return tuple(i for i, column in enumerate(relation.columns) if column.is_key)
    place = {column["attnum"]: i for i, column in enumerate(found)}
    not_null = {column["attnum"] for column in found if column["not_null"] and not column["generated"]}
    for index in sorted(indexes, key=lambda i: (not i["primary"], len(i["columns"]), i["columns"])):
        if index["unique"] and index["immediate"] and set(index["columns"]) <= not_null:
            return tuple(sorted(place[attnum] for attnum in index["columns"]))
    return ()


def _indexed(key: set[int], indexes: Sequence[Mapping[str, Any]]) -> bool:
    """Whether some index leads to few rows per key: its columns are the key's, or begin with them."""
    return bool(key) and any(
        key <= set(index["columns"][: len(key)]) or (index["unique"] and set(index["columns"]) <= key)
        for index in indexes
    )


def _primary_line(column: Column, types: Mapping[int, TypeName]) -> str:
    named = types.get(column.type_oid)
    if named:
        name = f"{named.schema}.{named.name}"
    else:
        name = f"type {column.type_oid}" if column.type_oid < _FIRST_UNPINNED else "domain"
    typmod = "" if column.typmod < 0 else f" (typmod {column.typmod})"
    return f"{column.name} {name}{typmod}{' key' if column.is_key else ''}"


def _secondary_line(column: Mapping[str, Any]) -> str:
    oid = f" (type {column['type_oid']}" if column["type_oid"] < _FIRST_UNPINNED else " ("
    typmod = f"typmod {column['typmod']}" if column["typmod"] >= 0 else ""
    inside = ", ".join(part for part in (oid[2:], typmod) if part)
    notes = (f" ({inside})" if inside else "") + (" not null" if column["not_null"] else "")
    return f"{column['name']} {column['type_sql']}{notes}{' generated' if column['generated'] else ''}"


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
