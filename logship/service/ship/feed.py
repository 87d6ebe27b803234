"""From the journal to a client's stream: records for our own replayer, pgoutput messages for all others.

In: a reader of the journal. Out: `Outgoing` frames, in the order of the log. Our own client gets a record as soon
as it is written, before it is fsynced here, so that both disks work at the same time; others get whole
transactions only. Reads in the thread of whoever calls `read`, and keeps nothing but the reader's chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from logship.errors import JournalDamaged, JournalError, JournalTooOld
from logship.journal.active import current_time_us
from logship.journal.reader import JournalReader
from logship.journal.segment import Record, RecordKind, Stretch
from logship.kernel import split_run
from logship.lsn import INVALID, Lsn
from logship.relay.described import Described
from logship.relay.frames import RelayedKind, encode_messages, encode_record
from logship.relay.ports import Outgoing
from logship.relay.refusal import Refusal, Refused

R = TypeVar("R")
PrimaryEnd = Callable[[], tuple[Lsn, int | None]]
"""Where the primary's log ended when it was last asked, and how many microseconds ago that was."""


class RecordFeed:
    """For our own client: the journal's records, as they stand."""

    def __init__(self, reader: JournalReader, primary_end: PrimaryEnd, *, awaited: bool = False) -> None:
        """``awaited``: commits may wait for this client."""
        self._reader = reader
        self._primary_end = primary_end
        self._awaited = awaited

    def read(self, max_bytes: int, timeout_s: float) -> list[Outgoing]:
        records = _read(self._reader.read_together, max_bytes, timeout_s)
        if not records:
            return []
        wal_end, age_us = self._primary_end()
        frames = b"".join([_frame(record, wal_end, age_us) for record in records])
        return [Outgoing(frames, _reached(records))]

    def listen(self, listener: Callable[[bool], None]) -> None:
        self._reader.listen(listener if self._awaited else lambda _: listener(False))

    def wake(self) -> None:
        self._reader.wake()

    def close(self) -> None:
        self._reader.close()


class MessageFeed:
    """For standard clients: whole transactions, a pgoutput message in each frame. The reader is a whole one."""

    def __init__(self, reader: JournalReader, *, messages: bool) -> None:
        self._reader = reader
        self._described = Described(messages=messages)

    def read(self, max_bytes: int, timeout_s: float) -> list[Outgoing]:
        records = _read(self._reader.read, max_bytes, timeout_s)
        if not records:
            return []
        found = [self._frames(record) for record in records]
        reached = _reached(records)
        if found[-1] or not reached:
            return [Outgoing(b"".join(found), reached)]
        # Where it ends is in none of the messages: it goes by itself, for a keepalive.
        sent = [record for record, frames in zip(records, found, strict=True) if frames]
        outgoing = [Outgoing(b"".join(found), _reached(sent))] if sent else []
        return [*outgoing, Outgoing(b"", reached)]

    def listen(self, listener: Callable[[bool], None]) -> None:
        self._reader.listen(lambda _: listener(False))

    def wake(self) -> None:
        self._reader.wake()

    def close(self) -> None:
        self._reader.close()

    def _frames(self, record: Record) -> bytes:
        if record.kind is RecordKind.SCHEMA:
            self._described.know(split_run(record.run))
            return b""
        if record.kind is not RecordKind.CHANGES:
            return b""  # a position: `_reached` has it
        messages = self._described.pass_on(split_run(record.run))
        if not messages:
            return b""
        return encode_messages(
            messages,
            commit_lsn=record.commit_lsn,
            end_lsn=record.end_lsn if record.last else INVALID,
            sent_time_us=current_time_us(),
        )


def _read(read: Callable[[int, float], list[R]], max_bytes: int, timeout_s: float) -> list[R]:
    try:
        return read(max_bytes, timeout_s)
    except JournalTooOld as error:
        raise Refused(gone(error)) from error
    except JournalDamaged as error:
        raise Refused(
            Refusal("XX001", "the relay's journal is damaged", "see the relay's log", fatal=True)
        ) from error
    except JournalError as error:
        raise Refused(
            Refusal("57P01", "the relay's journal is being closed", "connect again", fatal=True)
        ) from error


def gone(error: JournalTooOld) -> Refusal:
    """As PostgreSQL says it of WAL that is gone, and what there still is."""
    return Refusal(
        "58P01",
        f"requested log after {Lsn(error.asked)} has already been removed; the oldest that the relay "
        f"keeps begins at {Lsn(error.oldest)}",
        "this replica has to be copied anew: its slot at the relay dropped, then `logship init`, or a new "
        "subscription",
        fatal=True,
    )


def _reached(records: Sequence[Record | Stretch]) -> Lsn:
    """Everything that ends here or before is in ``records`` or came earlier; INVALID: they say nothing new."""
    for record in reversed(records):
        if isinstance(record, Stretch) or record.last or record.kind is RecordKind.POSITION:
            return record.end_lsn
    return INVALID


def _frame(record: Record | Stretch, wal_end: Lsn, age_us: int | None) -> bytes:
    kind, first, last = (
        (RelayedKind.STRETCH.value, True, True)
        if isinstance(record, Stretch)
        else (record.kind.value, record.first, record.last)
    )
    return encode_record(
        kind,
        first=first,
        last=last,
        xid=record.xid,
        commit_lsn=record.commit_lsn,
        end_lsn=record.end_lsn,
        commit_time_us=record.commit_time_us,
        run=record.run,
        primary_wal_end=wal_end,
        age_us=age_us,
    )
