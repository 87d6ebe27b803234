"""What stands in a segment, gathered record by record: for its index, and for what the next one opens with.

In: records in their order, the same ones whether they are being appended or read back when a journal
is opened. Out: the Relation and Type messages in force, the relations touched, the transactions with
their ends, the transaction that is open, the whole LSN. No I/O.

The walk over a run looks at the first byte of each message and, where that names a relation, at its
oid; it never looks at rows. It is the only work that appending does per message, and the kernel's where
nothing is described or truncated.
"""

from __future__ import annotations

import struct
from typing import Final

from logship.errors import InternalError
from logship.journal.segment import (
    TRANSACTION_BYTES,
    OpenTransaction,
    Record,
    RecordKind,
    Stretch,
    TouchedRelation,
    Trailer,
    encode_index,
    transaction_entry,
)
from logship.kernel import Encoded, frame, relations_of
from logship.lsn import Lsn

_MESSAGE: Final = struct.Struct(">IBI")  # length, first byte, and the oid that follows in I, U, D, R, Y
_TRUNCATE: Final = struct.Struct(">IB")  # number of relations, options; then their oids
_DESCRIPTIONS: Final = frozenset(b"RY")
_RELATION: Final = ord("R")
_TRUNCATION: Final = ord("T")

Schema = dict[tuple[int, int], bytes]
"""Relation and Type messages in force: (first byte, oid) to the message, in the order they came."""


def walk(run: bytes, schema: Schema, touched: set[int]) -> None:
    """Put the run's Relation and Type messages into ``schema``, the oids of its rows into ``touched``.

    `ValueError` when ``run`` is not framed messages.
    """
    relations, plain = relations_of(run)
    touched |= relations
    if plain:
        return
    at, end = 0, len(run)
    while at + 9 <= end:
        length, tag, oid = _MESSAGE.unpack_from(run, at)
        if tag in _DESCRIPTIONS and length > 5:
            schema[tag, oid] = run[at + 4 : at + 4 + length]
        elif tag == _TRUNCATION:
            touched.update(_truncated(run, at + 5, at + 4 + length))
        at += 4 + length


def _truncated(run: bytes, at: int, end: int) -> tuple[int, ...]:
    end = min(end, len(run))
    count = _TRUNCATE.unpack_from(run, at)[0] if at + _TRUNCATE.size <= end else 0
    if at + _TRUNCATE.size + 4 * count > end:
        raise ValueError(f"a truncation is cut short at byte {at}")
    return struct.unpack_from(f">{count}I", run, at + _TRUNCATE.size)


def schema_record(schema: Schema) -> Record:
    """The record that opens a segment."""
    run = frame(list(schema.values()))
    return Record(RecordKind.SCHEMA, False, False, 0, Lsn(0), Lsn(0), 0, run)


class Contents:
    """Of one segment. ``last_lsn`` is the end of the last whole transaction, or the position after it."""

    __slots__ = (
        "_touched", "_transactions", "first_commit_time_us", "last_commit_time_us", "last_lsn",
        "open", "schema", "whole_lsn",
    )  # fmt: skip

    def __init__(self, first_lsn: Lsn, open_transaction: OpenTransaction | None, schema: Schema) -> None:
        self.schema = schema
        self.open = open_transaction
        self.last_lsn = first_lsn
        self.whole_lsn = first_lsn if open_transaction is None else None
        self.first_commit_time_us = 0
        self.last_commit_time_us = 0
        self._touched: set[int] = set()
        self._transactions = bytearray()

    def check(self, record: Record) -> None:
        """`InternalError` unless ``record`` may stand next: transactions contiguous, positions growing."""
        kind, now_open = record.kind, self.open
        if kind is RecordKind.CHANGES:
            if record.first is not (now_open is None):
                self._refuse(
                    record, "a transaction begins in another" if now_open else "no transaction is open"
                )
            if now_open is not None and record.xid != now_open.xid:
                self._refuse(record, f"transaction {now_open.xid} is open")
            if record.last and not self.last_lsn < record.end_lsn > record.commit_lsn:
                self._refuse(record, "a commit ends where the log has been already")
        elif kind is RecordKind.POSITION:
            if now_open is not None:
                self._refuse(record, f"transaction {now_open.xid} is open")
            if record.end_lsn < self.last_lsn:
                self._refuse(record, "positions never go backwards")
        elif kind is not RecordKind.ABANDON:
            self._refuse(record, "only the journal itself writes this")
        elif now_open is None:
            self._refuse(record, "no transaction is open")

    def check_stretch(self, stretch: Stretch) -> None:
        """As `check`; inside of it a stretch is as it should be."""
        if self.open is not None:
            self._refuse(stretch, "a transaction begins in another")
        if stretch.first_commit_lsn < self.last_lsn:
            self._refuse(stretch, "a commit ends where the log has been already")

    def _refuse(self, record: Record | Stretch, why: str) -> None:
        kind = record.kind.name if isinstance(record, Record) else "stretch"
        raise InternalError(
            f"the journal refuses a {kind} record (xid {record.xid}, end {record.end_lsn}) "
            f"after {self.last_lsn}: {why}"
        )

    def note(self, record: Record) -> None:
        """``record`` stands in the segment now."""
        kind = record.kind
        if kind is RecordKind.CHANGES:
            walk(record.run, self.schema, self._touched)
            time = record.commit_time_us
            if time > self.last_commit_time_us:
                self.first_commit_time_us = self.first_commit_time_us or time
                self.last_commit_time_us = time
            if record.last:
                self.open = None
                self.last_lsn = end = record.end_lsn
                self._transactions += transaction_entry(record.xid, end)
                if self.whole_lsn is None:
                    self.whole_lsn = end
            elif record.first:
                self.open = OpenTransaction(record.xid, record.commit_lsn)
        elif kind is RecordKind.POSITION:
            self.last_lsn = record.end_lsn
        elif kind is RecordKind.ABANDON:
            self.open = None
            self.whole_lsn = self.last_lsn if self.whole_lsn is None else self.whole_lsn
        elif kind is RecordKind.SCHEMA:
            walk(record.run, self.schema, set())

    def note_stretch(self, stretch: Stretch, encoded: Encoded) -> None:
        """Its records stand in the segment now."""
        self._touched |= encoded.relations
        self._transactions += encoded.entries
        self.last_lsn = stretch.end_lsn
        if encoded.latest_time_us > self.last_commit_time_us:
            self.first_commit_time_us = self.first_commit_time_us or encoded.first_time_us
            self.last_commit_time_us = encoded.latest_time_us

    @property
    def transactions(self) -> int:
        """That end in the segment."""
        return len(self._transactions) // TRANSACTION_BYTES

    def relations(self) -> list[TouchedRelation]:
        """Those whose rows are in the segment, named as of its end."""
        return [TouchedRelation(oid, *self._names(oid)) for oid in sorted(self._touched)]

    def _names(self, oid: int) -> tuple[str, str]:
        message = self.schema.get((_RELATION, oid))
        if message is None:
            return "", ""
        schema, _, rest = message[5:].partition(b"\0")
        return schema.decode(errors="replace") or "pg_catalog", rest.partition(b"\0")[0].decode(
            errors="replace"
        )

    def trailer(self, index_offset: int) -> Trailer:
        return Trailer(
            index_offset=index_offset,
            last_lsn=self.last_lsn,
            whole_lsn=self.whole_lsn,
            transactions=self.transactions,
            first_commit_time_us=self.first_commit_time_us,
            last_commit_time_us=self.last_commit_time_us,
        )

    def index_record(self, index_offset: int, salt: int) -> Record:
        """The record that ends the segment when it is sealed at ``index_offset``."""
        body = encode_index(self.relations(), bytes(self._transactions), self.trailer(index_offset), salt)
        return Record(RecordKind.INDEX, False, False, 0, Lsn(0), Lsn(0), 0, body)
