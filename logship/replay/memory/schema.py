"""Which objects in memory a schema change concerns.

In: the statement as it was captured, and the objects that memory knows. Out: the names of those that may
not be what they were, and of those that are gone. Told apart by the primary's oid where the message has
it, since after a rename it has only the new name. What changes a type or a schema may concern any table
that uses it: too many is safe, since an object is loaded again at its next change.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from logship.replay.ddl.message import Statement
from logship.replay.memory.resident import MemoryObject, Name

_FIRST_UNPINNED: Final = 10_000  # type oids below it are built in: no statement changes them
_TYPES: Final = ("pg_type", "pg_collation", "pg_operator", "pg_opclass", "pg_opfamily", "pg_cast")


def concerned(statement: Statement, known: Iterable[MemoryObject]) -> set[Name]:
    """Names of ``known`` objects whose shape, name or values the statement may have changed."""
    names = {named.names for named in statement.objects} | {named.names for named in statement.dropped}
    oids = {named.oid for named in statement.objects if named.catalog == "pg_class"}
    types = any(named.catalog in _TYPES for named in statement.objects)
    types |= any(dropped.type in ("type", "domain") for dropped in statement.dropped)
    schemas = statement.tag == "ALTER SCHEMA"
    return {
        one.name
        for one in known
        if schemas
        or one.name in names
        or one.target.relation.oid in oids
        or (types and any(column.type_oid >= _FIRST_UNPINNED for column in one.target.relation.columns))
    }


def gone(statement: Statement, known: Iterable[MemoryObject]) -> set[Name]:
    """Names of ``known`` objects that the statement dropped."""
    names = {
        tuple(dropped.names) for dropped in statement.dropped if dropped.type in ("table", "foreign table")
    }
    return {one.name for one in known if one.name in names}
