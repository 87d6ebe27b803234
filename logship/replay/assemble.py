"""Puts the records of the journal together to transactions, and cuts transactions that are too large.

In: records of one journal, in order. Out: `Part`s: a whole transaction, or, when one is larger than
the bound, its pieces in order. A transaction that the journal abandoned is dropped; if pieces of
it went out already, an `Abandoned` follows them. No I/O, no decoding of rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from logship.errors import ReplayError
from logship.lsn import INVALID, Lsn


class Committed(Protocol):
    """What is read here of whatever carries changes of transactions that are committed; of several, of the last."""

    @property
    def xid(self) -> int: ...
    @property
    def commit_lsn(self) -> Lsn: ...
    @property
    def end_lsn(self) -> Lsn: ...
    @property
    def commit_time_us(self) -> int: ...
    @property
    def run(self) -> bytes: ...


class ChangesRecord(Committed, Protocol):
    """A journal record that carries changes."""

    @property
    def first(self) -> bool: ...
    @property
    def last(self) -> bool: ...


class ChangesStretch(Committed, Protocol):
    """Plain transactions that follow one another."""

    @property
    def transactions(self) -> int: ...
    @property
    def first_commit_lsn(self) -> Lsn: ...
    def records(self) -> Sequence[ChangesRecord]: ...


@dataclass(frozen=True, slots=True)
class Part:
    """A transaction, or a piece of one: ``last`` says whether it ends here, at ``end_lsn``."""

    first: bool
    last: bool
    xid: int
    commit_lsn: Lsn
    end_lsn: Lsn  # Lsn(0) unless last
    commit_time_us: int
    runs: tuple[bytes, ...]

    @property
    def size_bytes(self) -> int:
        return sum(map(len, self.runs))


@dataclass(frozen=True, slots=True)
class Abandoned:
    """What was handed out of the open transaction is void: it will come again from its start."""


Assembled: TypeAlias = Part | Abandoned


@dataclass(slots=True)
class Assembler:
    bound_bytes: int
    _runs: list[bytes] = field(default_factory=list)
    _size: int = 0
    _open: bool = False  # between a first record and its last
    _handed_out: bool = False  # pieces of the open transaction have left

    @property
    def begun(self) -> bool:
        """A transaction has begun, and hasn't ended yet."""
        return self._open

    def changes(self, record: ChangesRecord) -> Iterator[Assembled]:
        """Take one record of changes. Raises `ReplayError` for a record without its beginning."""
        if record.first and record.last and not self._open:  # as most are: there is nothing to put together
            yield Part(
                True,
                True,
                record.xid,
                record.commit_lsn,
                record.end_lsn,
                record.commit_time_us,
                (record.run,),
            )
            return
        if record.first:
            yield from self.abandon()
            self._open = True
        elif not self._open:
            raise ReplayError(
                f"the journal holds the rest of the transaction committed at {record.commit_lsn}, "
                "but not its beginning",
                hint="run `logship journal verify` on it; nothing of this transaction was replayed",
            )
        self._runs.append(record.run)
        self._size += len(record.run)
        if record.last or self._size >= self.bound_bytes:
            yield self._cut(record)

    def abandon(self) -> Iterator[Assembled]:
        """Drop the open transaction, if there is one."""
        if self._handed_out:
            yield Abandoned()
        self._reset()

    def _cut(self, record: ChangesRecord) -> Part:
        part = Part(
            first=not self._handed_out,
            last=record.last,
            xid=record.xid,
            commit_lsn=record.commit_lsn,
            end_lsn=record.end_lsn if record.last else INVALID,
            commit_time_us=record.commit_time_us,
            runs=tuple(self._runs),
        )
        if record.last:
            self._reset()
        else:
            self._runs, self._size, self._handed_out = [], 0, True
        return part

    def _reset(self) -> None:
        self._runs, self._size, self._open, self._handed_out = [], 0, False, False
