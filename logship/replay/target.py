"""A relation of the primary as the secondary has it.

In: what the secondary's catalog says of it. Out: `Target`, whose columns stand in the order of the
primary's relation, so that a row of the log fits it cell by cell. No I/O.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from logship.change import Cell, Relation, Row


@dataclass(frozen=True, slots=True)
class TargetColumn:
    name: str
    type_sql: str  # format_type(): what a cell is cast to, e.g. numeric(10,2)
    type_oid: int
    typmod: int
    not_null: bool
    identity: str  # pg_attribute.attidentity: '', a (always) or d (by default)
    generated: str  # pg_attribute.attgenerated: '', s or v; such a column is never written
    has_equality: bool  # the type has a default btree or hash equality; json, xml, point have none


@dataclass(frozen=True, slots=True)
class Target:
    relation: Relation
    oid: int  # on the secondary
    kind: str  # pg_class.relkind: r or p
    owner_oid: int
    owner: str
    columns: tuple[TargetColumn, ...]  # one for each of relation.columns, in that order
    key: tuple[int, ...] = field(default=())  # indexes of the columns that find a row; () = keyless

    @property
    def schema(self) -> str:
        return self.relation.schema

    @property
    def name(self) -> str:
        return self.relation.name

    def key_of(self, row: Row) -> tuple[Cell, ...]:
        return tuple([row[index] for index in self.key])

    def __str__(self) -> str:
        return str(self.relation)
