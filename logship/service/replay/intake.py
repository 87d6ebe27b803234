"""What a replayer's journal takes of the records that a relay sends.

In: relayed records, in order, of one session after another. Out: records that the journal may be given next.
A transaction that ends at or before the journal's end is left out: a shipper that lost its link, or the end of
its journal, sends some again. The descriptions with which a session opens are put into the first transaction
that follows: no record of a journal but a transaction's can carry them. Those that went into a transaction
that is whole are left out when a later session says the same. What stands in a transaction that was
abandoned counts for nothing: who reads the journal never sees it.

What can't stand there raises `ProtocolViolation`; nothing of it is given then. Pure.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import replace
from typing import Final, TypeAlias

from logship.errors import ProtocolViolation
from logship.journal.contents import walk
from logship.journal.segment import Record, RecordKind, Stretch
from logship.kernel import Transaction, cut, frame, plain
from logship.lsn import INVALID, Lsn
from logship.relay.frames import RelayedKind, RelayedRecord

Descriptions: TypeAlias = dict[tuple[int, int], bytes]

_LENGTH: Final = struct.Struct(">I")


class Intake:
    """For one journal. Call `begin` before each session."""

    def __init__(self, position: Lsn) -> None:
        """``position``: where the journal ends."""
        self._position = position
        self._open: RelayedRecord | None = None  # the first record of the transaction under way
        self._skipping = False
        self._owed: Descriptions = {}
        self._paid: Descriptions = {}  # put into the transaction under way, which may be abandoned yet
        self._known: Descriptions = {}  # were put into transactions that are whole

    @property
    def position(self) -> Lsn:
        return self._position

    @property
    def in_transaction(self) -> bool:
        """Whether the end of a transaction is still to come, without which nothing of it can be committed."""
        return self._open is not None

    def begin(self) -> None:
        """A session begins; the journal has abandoned what was open."""
        self._open, self._skipping = None, False
        self._owed, self._paid = {}, {}

    def take(self, relayed: Iterable[RelayedRecord]) -> list[Record | Stretch]:
        """What of ``relayed`` the journal is to be given, in order."""
        records: list[Record | Stretch] = []
        for record in relayed:
            if record.kind is RelayedKind.CHANGES:
                self._changes(record, records)
            elif record.kind is RelayedKind.STRETCH:
                self._stretch(record, records)
            elif record.kind is RelayedKind.POSITION:
                self._reach(record, records)
            elif record.kind is RelayedKind.SCHEMA:
                self._describe(record)
            else:
                self._abandon(record, records)
        return records

    def _describe(self, record: RelayedRecord) -> None:
        if self._open is not None:
            raise ProtocolViolation(f"descriptions inside transaction {self._open.xid}")
        self._owe(record)

    def _owe(self, record: RelayedRecord) -> None:
        found: Descriptions = {}
        try:
            walk(record.run, found, set())
        except (ValueError, struct.error) as error:
            raise ProtocolViolation("a run that isn't one of framed messages") from error
        for key, message in found.items():
            if self._known.get(key) == message:
                self._owed.pop(key, None)  # another one was in force in between
            else:
                self._owed[key] = message

    def _reach(self, record: RelayedRecord, records: list[Record | Stretch]) -> None:
        if self._open is not None:
            raise ProtocolViolation(f"a position inside transaction {self._open.xid}")
        if record.end_lsn > self._position:
            self._position = record.end_lsn
            records.append(_record(record, record.run))

    def _stretch(self, record: RelayedRecord, records: list[Record | Stretch]) -> None:
        told = plain(record.run)
        if told is None:
            raise ProtocolViolation("a stretch that isn't one of plain transactions")
        if self._open is not None:
            raise ProtocolViolation(f"a stretch inside transaction {self._open.xid}")
        if self._owed or told.first_commit_lsn < self._position:
            for one in cut(record.run):  # some are left out, or the first gets what is owed
                self._changes(_single(record, one), records)
        else:
            self._position = Lsn(told.end_lsn)
            records.append(Stretch.of(record.run, told))

    def _changes(self, record: RelayedRecord, records: list[Record | Stretch]) -> None:
        begun = self._open
        if record.first:
            if begun is not None:
                raise ProtocolViolation(f"transaction {record.xid} begins inside transaction {begun.xid}")
            # A commit record that starts before a position which is the end of a record ends there or before.
            self._skipping = record.commit_lsn < self._position
            self._open = begun = record
        elif begun is None or (record.xid, record.commit_lsn) != (begun.xid, begun.commit_lsn):
            raise ProtocolViolation(f"a part of transaction {record.xid}, which isn't open")
        if self._skipping:
            self._owe(record)  # its descriptions are in force behind it
        else:
            run = self._with_owed(record) if record.first and self._owed else record.run
            records.append(_record(record, run))
        if record.last:
            self._close(record)

    def _close(self, record: RelayedRecord) -> None:
        if self._skipping:
            if record.end_lsn > self._position:
                raise ProtocolViolation(
                    f"the session started at {self._position}, inside the commit that ends at {record.end_lsn}"
                )
        elif not self._position < record.end_lsn > record.commit_lsn:
            raise ProtocolViolation(f"a commit ends at {record.end_lsn}, behind {self._position}")
        else:
            self._position = record.end_lsn
        self._open, self._skipping = None, False
        self._known |= self._paid
        self._paid = {}

    def _with_owed(self, record: RelayedRecord) -> bytes:
        """The run with what is owed behind its Begin."""
        run = record.run
        begin = 4 + _LENGTH.unpack_from(run)[0] if len(run) >= 4 else 0
        if run[4:5] != b"B" or begin > len(run):
            raise ProtocolViolation(f"transaction {record.xid} doesn't begin with its Begin")
        self._paid, self._owed = self._owed, {}
        return b"".join((run[:begin], frame(list(self._paid.values())), run[begin:]))

    def _abandon(self, record: RelayedRecord, records: list[Record | Stretch]) -> None:
        """A transaction that was abandoned may stand in front of all: then nothing of it is here."""
        if self._open is None:
            return
        if not self._skipping:
            records.append(_record(record, b""))
            self._owed = self._paid | self._owed
            self._paid = {}
        self._open, self._skipping = None, False


def _single(stretch: RelayedRecord, one: Transaction) -> RelayedRecord:
    return replace(
        stretch,
        kind=RelayedKind.CHANGES,
        first=True,
        last=True,
        xid=one.xid,
        commit_lsn=Lsn(one.commit_lsn),
        end_lsn=Lsn(one.end_lsn),
        commit_time_us=one.commit_time_us,
        run=one.run,
    )


def _record(relayed: RelayedRecord, run: bytes) -> Record:
    return Record(
        kind=RecordKind(relayed.kind.value),
        first=relayed.first,
        last=relayed.last,
        xid=relayed.xid,
        commit_lsn=relayed.commit_lsn,
        end_lsn=relayed.end_lsn if relayed.last or relayed.kind is RelayedKind.POSITION else INVALID,
        commit_time_us=relayed.commit_time_us,
        run=run,
    )
