"""Finds where reading begins: the first record of the first transaction that ends after a position.

In: the records of a segment and of those behind it, each with its place; the segment's whole LSN is
not after the position. Out: a verdict for each, and the Relation and Type messages in force where
reading begins. Pure.

Only a transaction's last record says where it ends. Its first says where its commit record starts: a
commit that starts at or after the position ends after it, so reading begins there, before its end is
known. One that starts before it may still end after it, when the position isn't the end of a commit:
then its last record tells, and reading goes back to its first.
"""

from __future__ import annotations

import enum

from logship.journal.contents import Schema, walk
from logship.journal.segment import Record, RecordKind
from logship.lsn import Lsn

Place = tuple[str, int]
"""A segment's name, and an offset in it."""


class Verdict(enum.Enum):
    SKIP = "skip"
    BEGIN = "begin"  # with this record
    GO_BACK = "go back"  # begin at `Beginning.mark`, with a new Beginning that aims at it


class Beginning:
    def __init__(self, position: Lsn, *, aim: Place | None = None) -> None:
        self.schema: Schema = {}
        self.mark: Place | None = None
        self._position = position
        self._aim = aim

    def judge(self, record: Record, place: Place) -> Verdict:
        if place == self._aim or (self._aim is None and self._begins(record)):
            return Verdict.BEGIN
        kind = record.kind
        if kind in (RecordKind.CHANGES, RecordKind.SCHEMA):
            if self._aim is None and record.last and not record.first and record.end_lsn > self._position:
                return Verdict.GO_BACK if self.mark is not None else Verdict.SKIP
            walk(record.run, self.schema, set())
        if kind is RecordKind.CHANGES or kind is RecordKind.ABANDON:
            opens = record.first and not record.last
            self.mark = place if opens else None if record.last or kind is RecordKind.ABANDON else self.mark
        return Verdict.SKIP

    def passes_over(self, end_lsn: Lsn, name: str, offsets: range) -> bool:
        """Whether each verdict on transactions that are whole, with nothing but rows in them, the last of which ends
        at ``end_lsn``, is to skip it; they stand there in that segment."""
        aim = self._aim
        if end_lsn > self._position if aim is None else aim[0] == name and aim[1] in offsets:
            return False
        self.mark = None
        return True

    def _begins(self, record: Record) -> bool:
        if record.kind is RecordKind.POSITION or (record.first and record.last):
            return record.end_lsn > self._position
        return record.first and record.commit_lsn >= self._position
