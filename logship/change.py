"""What the log says: relations, rows and transactions, as plain values.

In: nothing; these are made by `logship.pgoutput`. Out: frozen, slotted records that every later
stage speaks. A *cell* is one column's value as PostgreSQL's text output in UTF-8, without a
terminator, or ``None`` for NULL, or ``UNCHANGED`` for a TOASTed value that an UPDATE left alone and
that the log therefore doesn't carry. A *row* is a list of cells in the order of the relation's columns.

Source: PostgreSQL documentation, "Logical Replication Message Formats".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from logship.kernel import UNCHANGED, Unchanged
from logship.lsn import Lsn

__all__ = [
    "UNCHANGED", "Begin", "Cell", "Column", "Commit", "Delete", "Event", "Insert", "Message",
    "Origin", "Relation", "Row", "Truncate", "TypeName", "Unchanged", "Update",
]  # fmt: skip

Cell: TypeAlias = bytes | Unchanged | None
Row: TypeAlias = list[Cell]


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    type_oid: int
    typmod: int
    is_key: bool  # part of the replica identity; under FULL every column is


@dataclass(frozen=True, slots=True)
class Relation:
    """A relation's shape on the primary, as of the changes that follow it in the log."""

    oid: int
    schema: str
    name: str
    replica_identity: str  # pg_class.relreplident: d, n, f or i
    columns: tuple[Column, ...]

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class TypeName:
    """Names a type that isn't built in; for a domain, the name of its base type."""

    oid: int
    schema: str
    name: str


@dataclass(frozen=True, slots=True)
class Begin:
    commit_lsn: Lsn  # where the commit record starts
    commit_time_us: int  # microseconds since 2000-01-01 00:00 UTC
    xid: int


@dataclass(frozen=True, slots=True)
class Commit:
    commit_lsn: Lsn
    end_lsn: Lsn  # where the commit record ends: the position that is stored and compared
    commit_time_us: int


@dataclass(frozen=True, slots=True)
class Origin:
    lsn: Lsn
    name: str


@dataclass(frozen=True, slots=True)
class Insert:
    relation_oid: int
    new: Row


@dataclass(frozen=True, slots=True)
class Update:
    """``old`` is None when the identity didn't change; with ``old_is_key`` only its key cells are
    meant (the others are None), else it is the whole old row (REPLICA IDENTITY FULL)."""

    relation_oid: int
    old: Row | None
    old_is_key: bool
    new: Row


@dataclass(frozen=True, slots=True)
class Delete:
    relation_oid: int
    old: Row
    old_is_key: bool


@dataclass(frozen=True, slots=True)
class Truncate:
    relation_oids: tuple[int, ...]
    cascade: bool
    restart_identity: bool


@dataclass(frozen=True, slots=True)
class Message:
    """`pg_logical_emit_message`. Anyone who can log in may have written it."""

    transactional: bool
    lsn: Lsn
    prefix: str
    content: bytes


Event: TypeAlias = (
    Begin | Commit | Origin | Relation | TypeName | Insert | Update | Delete | Truncate | Message
)
