"""Which tables a schema change is about, so that those of tables that aren't replicated are passed over.

In: the statement as it was captured. Out: names of tables. No I/O.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace
from typing import Final, TypeAlias

from logship.replay.ddl.message import Dropped, Object, Statement
from logship.replay.ddl.spelled import parts

Name: TypeAlias = tuple[str, str]

MAKES_TABLES: Final = (
    "CREATE TABLE",
    "CREATE TABLE AS",
    "SELECT INTO",
    "CREATE SCHEMA",
    "CREATE FOREIGN TABLE",
)
# Named by the table and their own name; and those that only the facts have a table for.
_OF_TABLE: Final = (
    "table", "foreign table", "table column", "foreign table column", "table constraint", "default value",
    "policy",
)  # fmt: skip


def tables(statement: Statement) -> frozenset[Name] | None:
    """All that it is about; None when it is about anything else too, or about nothing that is known."""
    found = [_table(one) for one in _named(statement)]
    known = [name for name in found if name is not None]
    return frozenset(known) if known and len(known) == len(found) else None


def mentioned(statement: Statement) -> frozenset[Name]:
    """The tables among what it is about."""
    return frozenset(name for one in _named(statement) if (name := _table(one)) is not None)


def without(statement: Statement, left_out: Container[Name]) -> Statement:
    """The statement without objects of tables that aren't there to compare with: a GRANT in a transaction that
    made some reports them, too."""
    objects = tuple(one for one in statement.objects if _table(one) not in left_out)
    if len(objects) == len(statement.objects):
        return statement
    return replace(statement, last=replace(statement.last, objects=objects))


def made_without_key(statement: Statement) -> frozenset[Name]:
    """Tables that the statement makes, with rows that will be published, and that have nothing to tell rows by."""
    if statement.tag not in MAKES_TABLES:
        return frozenset()
    return frozenset(
        _pair(one.names)
        for one in statement.objects
        if one.catalog == "pg_class" and one.type == "table" and one.tag in MAKES_TABLES
        and one.facts.get("kind") == "r" and one.facts.get("persistence") == "p"
        and not any(constraint.get("type") == "p" for constraint in one.facts.get("constraints") or ())
    )  # fmt: skip


def _named(statement: Statement) -> list[Object | Dropped]:
    return list(statement.objects) or [dropped for dropped in statement.dropped if dropped.original]


def _table(named: Object | Dropped) -> Name | None:
    if named.type in _OF_TABLE:
        return _pair(named.names)
    facts = named.facts if isinstance(named, Object) else {}
    if named.type == "trigger":
        # One that stands INSTEAD OF something stands on a view.
        return None if " INSTEAD OF " in str(facts.get("definition", "")) else _pair(named.names)
    if named.type == "index" and facts.get("table"):
        return _pair(parts(str(facts["table"])))
    if named.type == "sequence" and facts.get("owned_by"):
        return _pair(parts(str(facts["owned_by"])))
    return None


def _pair(names: tuple[str, ...]) -> Name:
    return names[0], names[1]
