"""Transactions of a log as the journal's records hold them, for the tests of what is made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from logship import pgoutput
from logship.change import Begin, Column, Commit, Insert, Relation, TypeName
from logship.kernel import frame
from logship.lsn import INVALID, Lsn
from logship.replay.batcher import Batcher, Item
from logship.replay.classify import Classifier
from logship.replay.target import Target, TargetColumn

COLUMNS = (Column("id", 23, -1, True), Column("v", 25, -1, False))
RELATION = Relation(1000, "public", "t", "d", COLUMNS)
WIDER = Relation(1000, "public", "t", "d", (*COLUMNS, Column("w", 25, -1, False)))
OWN = Relation(1001, "logship", "position", "d", COLUMNS)
LEFT_OUT = Relation(1002, "public", "left", "d", COLUMNS)


@dataclass(frozen=True, slots=True)
class Rec:
    first: bool
    last: bool
    xid: int
    commit_lsn: Lsn
    end_lsn: Lsn
    commit_time_us: int
    run: bytes


def resolve(relation: Relation, types: Mapping[int, TypeName]) -> Target:
    columns = tuple(TargetColumn(c.name, "text", 25, -1, False, "", "", True) for c in relation.columns)
    return Target(relation, relation.oid, "r", 10, "owner", columns, (0,))


def batcher(
    *,
    bound_bytes: int = 1 << 20,
    at: int = 0,
    to_skip: frozenset[Lsn] = frozenset(),
    one_by_one_upto: Lsn = INVALID,
) -> Batcher:
    return Batcher(
        Classifier(resolve, {("public", "left")}), Lsn(at), bound_bytes=bound_bytes, to_skip=to_skip,
        one_by_one_upto=one_by_one_upto,
    )  # fmt: skip


def transaction(number: int, *events: object, cuts: int = 1) -> list[Rec]:
    """The records of transaction ``number``, which ends at LSN number * 100."""
    end = Lsn(number * 100)
    commit = Lsn(end - 10)
    messages = [
        pgoutput.encode(event)  # type: ignore[arg-type]
        for event in (Begin(commit, number, number), *events, Commit(commit, end, number))
    ]
    size = max(1, -(-len(messages) // cuts))
    slices = [messages[index : index + size] for index in range(0, len(messages), size)]
    last = len(slices) - 1
    return [
        Rec(i == 0, i == last, number, commit, end if i == last else Lsn(0), number, frame(part))
        for i, part in enumerate(slices)
    ]


def insert(key: int, value: bytes = b"x", oid: int = 1000) -> Insert:
    return Insert(oid, [str(key).encode(), value])


def feed(into: Batcher, records: list[Rec]) -> list[Item]:
    return [item for record in records for item in into.changes(record)]
