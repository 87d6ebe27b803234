"""Turns the journal's records into batches for the stores.

In: records in order. Out: `Batch`es of whole transactions, as large as the bound allows and as small
as the caller takes them (`take`): a caller that keeps up takes after each read, one that is behind
lets them grow. A transaction larger than the bound leaves in pieces. No I/O, no thread: what a
relation is on the secondary is looked up through the classifier.

A batch is cut, in the middle of a transaction if need be, where a relation that it has changes for
takes another shape: inside one batch each relation has one `Target`. A transaction with a schema change
leaves alone and in pieces: the rows before it, the change by itself, the rows behind it; the caller
looks relations up, from there to the transaction's end, as the open transaction of persistence sees them.
CREATE TABLE AS writes its rows before its message: where a row's relation isn't there, the rest of the
transaction is read ahead for the statement that makes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

from logship import kernel, pgoutput
from logship.change import Relation, Row, Truncate
from logship.errors import ProtocolViolation, ReplayError
from logship.lsn import INVALID, Lsn
from logship.replay.assemble import Abandoned, Assembler, ChangesRecord, ChangesStretch, Part
from logship.replay.batch import Batch, PassedOver, SchemaChange
from logship.replay.classify import DDL_MARK, Classifier
from logship.replay.coalesce import Coalescer, Keyed, Keyless
from logship.replay.failures import RelationMissing
from logship.replay.target import Target

Item: TypeAlias = Batch | Abandoned
# The rest of the transaction with this commit LSN, from its start; nothing when it is abandoned.
ReadAhead: TypeAlias = Callable[[Lsn, Lsn], Iterable[bytes]]

_INSERT: Final = ord("I")
_UPDATE: Final = ord("U")
_DELETE: Final = ord("D")
_TRUNCATE: Final = ord("T")
_RELATION: Final = ord("R")
_TYPE: Final = ord("Y")
_MESSAGE: Final = ord("M")


@dataclass(slots=True)
class _Making:
    """The batch in the making."""

    coalescer: Coalescer = field(default_factory=Coalescer)
    runs: list[bytes] = field(default_factory=list)
    targets: dict[int, Target] = field(default_factory=dict)
    left_out: set[int] = field(default_factory=set)
    size_bytes: int = 0
    transactions: int = 0
    changes: int = 0
    commit_lsn: Lsn | None = None  # of the only transaction that changed something so far
    passed_over: list[PassedOver] = field(default_factory=list)


class Batcher:
    """``position`` is where the replica stands: the end of the last transaction it has."""

    def __init__(
        self,
        classifier: Classifier,
        position: Lsn,
        *,
        bound_bytes: int,
        to_skip: frozenset[Lsn] = frozenset(),
        one_by_one_upto: Lsn = INVALID,
        read_ahead: ReadAhead = lambda position, commit_lsn: (),
    ) -> None:
        """``to_skip``: transactions of which nothing is replayed, by their commit's LSN, or its end. Up to
        ``one_by_one_upto`` each transaction leaves alone.
        ``read_ahead(position, commit_lsn)``: the runs of the first transaction behind ``position``."""
        self._classifier = classifier
        self._read_ahead = read_ahead
        self._assembler = Assembler(bound_bytes)
        self._bound_bytes = bound_bytes
        self._position = position  # end of the last transaction or idle position taken in
        self._handed_out = position
        self._commit_time_us = 0
        self._in_transaction = False  # a part without its end has been taken in
        self._changing = False  # the transaction changes something that is replicated
        self._pieces_out = False  # a piece of the open transaction has left in a batch
        self._making = _Making()
        # A table that was copied later than the position is passed over up to here: batches are cut there,
        # so that inside one of them a relation is either left out or not.
        self._copied = sorted(lsn for lsn in set(classifier.copied.values()) if lsn > position)
        self._commit_lsn = position  # of the transaction that is being taken in
        self._whole: tuple[bytes, ...] | None = None  # its runs, when they have all come
        self._changes: dict[int, SchemaChange] | None = None  # its schema changes, once they are asked for
        self._done_ahead: set[int] = set()  # numbers of those that were carried out early
        self._to_skip = to_skip
        self._skipping: PassedOver | None = None  # the transaction that is being taken in is passed over
        self._one_by_one_upto = one_by_one_upto

    @property
    def position(self) -> Lsn:
        """The end of all that was taken in."""
        return self._position

    @property
    def pending(self) -> bool:
        """Whether `take` would give something."""
        return not self._in_transaction and self._position > self._handed_out

    @property
    def pending_bytes(self) -> int:
        """Of the log's messages in the batch in the making."""
        return self._making.size_bytes

    @property
    def commit_time_us(self) -> int:
        """When the last transaction that was taken in was committed; 0: there was none."""
        return self._commit_time_us

    def schema(self, run: bytes) -> None:
        """Relations and types in force where reading begins, which was described before."""
        self._making.coalescer.ask_again()
        for message in kernel.split_run(run):
            self._classifier.in_force(message)

    def advance(self, lsn: Lsn) -> None:
        """Nothing happened up to ``lsn``."""
        if not self._in_transaction and lsn > self._position:
            self._position = lsn

    def changes(self, record: ChangesRecord) -> Iterator[Item]:
        """Take one record of changes; yields the batches that it filled."""
        for assembled in self._assembler.changes(record):
            if isinstance(assembled, Abandoned):
                yield from self._abandon()
            else:
                yield from self._take_in(assembled)

    def stretch(self, stretch: ChangesStretch) -> Iterator[Item]:
        """Take many plain transactions at once; gives what `changes` would give for them one by one."""
        fits = self._making.size_bytes + len(stretch.run) <= self._bound_bytes
        each = stretch.first_commit_lsn < self._one_by_one_upto or any(
            stretch.first_commit_lsn <= lsn <= stretch.end_lsn for lsn in self._to_skip
        )
        if (
            not fits
            or each
            or self._in_transaction
            or self._assembler.begun
            or self._pieces_out
            or self._copied
        ):
            for record in stretch.records():
                yield from self.changes(record)
            return
        self._commit_lsn, self._whole, self._changes = stretch.commit_lsn, (), None
        self._done_ahead.clear()
        self._classifier.begin(stretch.xid)
        self._in_transaction = True
        try:
            yield from self._run(stretch.run)
        except ReplayError as error:
            error.commit_lsn = stretch.commit_lsn if stretch.transactions == 1 else None
            error.upto = stretch.end_lsn
            raise
        self._in_transaction = self._changing = False
        self._position = stretch.end_lsn
        self._commit_time_us = stretch.commit_time_us
        changing = kernel.changing(stretch.run, self._making.left_out)
        self._count(changing, stretch.commit_lsn if stretch.transactions == 1 else None)

    def abandon(self) -> Iterator[Item]:
        """The open transaction is void."""
        for _ in self._assembler.abandon():
            yield from self._abandon()

    def take(self) -> Batch:
        """All whole transactions so far, as one batch. Call it only when `pending`."""
        return self._cut()

    def _take_in(self, part: Part) -> Iterator[Item]:
        try:
            if part.first:
                yield from self._begin(part)
            self._in_transaction = True
            if self._skipping is not None:
                self._pass_over(part, self._skipping)
            else:
                yield from self._replay(part)
        except ReplayError as error:
            error.commit_lsn = part.commit_lsn
            raise

    def _begin(self, part: Part) -> Iterator[Item]:
        making = self._making
        passes = self._passes_a_copy(part.commit_lsn)
        too_large = making.size_bytes + part.size_bytes > self._bound_bytes
        reshapes = any(DDL_MARK in run for run in part.runs)
        self._skipping = self._named(part)
        if making.runs and (passes or too_large or reshapes or self._alone or self._skipping is not None):
            yield self._cut()
        if not part.last and self.pending:
            yield self._cut()  # so that pieces hold nothing but their own transaction
        self._commit_lsn = part.commit_lsn
        self._whole = part.runs if part.last else None
        self._changes = None
        self._changing = False
        self._done_ahead.clear()
        self._classifier.begin(part.xid)

    def _replay(self, part: Part) -> Iterator[Item]:
        for run in part.runs:
            yield from self._run(run)
        if part.last:
            self._end(part)
            self._count(int(self._changing), part.commit_lsn)
            if self._pieces_out:
                yield self._cut()
        else:
            yield self._cut()

    def _end(self, part: Part) -> None:
        self._in_transaction = False
        self._position = part.end_lsn
        self._commit_time_us = part.commit_time_us

    def _count(self, transactions: int, commit_lsn: Lsn | None) -> None:
        """That so many have changed something; ``commit_lsn`` is of the only one, where that is known."""
        making = self._making
        if transactions:
            making.commit_lsn = commit_lsn if transactions == 1 and not making.transactions else None
            making.transactions += transactions

    @property
    def _alone(self) -> bool:
        """Whether what is in the making leaves as one transaction."""
        return self._handed_out < self._one_by_one_upto

    def _named(self, part: Part) -> PassedOver | None:
        """Whether an operator named this transaction, to be passed over."""
        lsn = part.end_lsn if part.last and part.end_lsn in self._to_skip else part.commit_lsn
        return PassedOver(lsn, 0) if lsn in self._to_skip else None

    def _pass_over(self, part: Part, skipping: PassedOver) -> None:
        """Nothing of it is replayed; what it says of relations and types holds for those behind it."""
        rows = 0
        for run in part.runs:
            for message in kernel.split_run(run):
                tag = pgoutput.tag(message)
                if tag in (_RELATION, _TYPE):
                    self._classifier.schema(message)
                    self._making.coalescer.ask_again()
                rows += tag in (_INSERT, _UPDATE, _DELETE, _TRUNCATE)
        self._skipping = replace(skipping, changes=skipping.changes + rows)
        if part.last:
            self._end(part)
            self._making.passed_over.append(self._skipping)
            self._skipping = None

    def _run(self, run: bytes) -> Iterator[Item]:
        offset = start = 0  # of the next message; of what isn't kept yet
        while True:
            offset = self._rows(run, offset)
            if offset == len(run):
                break
            message, following = _message_at(run, offset)
            tag = pgoutput.tag(message)
            if tag in (_INSERT, _UPDATE, _DELETE):
                try:
                    self._row(tag, message)
                except RelationMissing:
                    made = self._made_later(message)
                    if made is None:
                        raise
                    self._keep_run(run[start:offset])
                    start = offset
                    yield from self._change_schema(made)
                    self._row(tag, message)
            elif tag == _RELATION:
                if self._reshapes(message):
                    self._keep_run(run[start:offset])
                    start = offset
                    yield self._cut()
                self._classifier.schema(message)
                self._making.coalescer.ask_again()
            elif tag == _TYPE:
                self._classifier.schema(message)
            elif tag == _TRUNCATE:
                self._truncate(message)
            elif tag == _MESSAGE:
                number = self._classifier.logical_message(message)
                if number is not None:
                    self._keep_run(run[start:offset])
                    start = following
                    change = self._schema_changes()[number]
                    yield from self._change_schema(replace(change, done=number in self._done_ahead))
            offset = following
        self._keep_run(run[start:])

    def _rows(self, run: bytes, offset: int) -> int:
        """Take in the rows of relations that the batch knows. Where the first message stands that isn't one."""
        offset, changes = kernel.feed(run, offset, self._making.coalescer.fed)
        if changes:
            self._making.changes += changes
            self._changing = True
        return offset

    def _change_schema(self, change: SchemaChange) -> Iterator[Item]:
        """What came before it in the transaction, then the change; no target is known behind it."""
        if self._classifier.passes_over(change):
            return
        change = self._classifier.kept(change)
        if self._making.changes:
            yield self._cut()
        self._pieces_out = self._changing = True
        self._classifier.forget()
        change = self._classifier.renames(change)
        self._making.coalescer.ask_again()
        yield Batch(
            end_lsn=self._position, commit_time_us=0, complete=False, steps=(change,), transactions=0,
            changes=0, net=0, size_bytes=0, runs=(), targets={}, left_out=frozenset(), commit_lsn=self._commit_lsn,
        )  # fmt: skip

    def _made_later(self, row: bytes) -> SchemaChange | None:
        """The statement further on in this transaction that makes the relation whose ``row`` has come."""
        oid = int.from_bytes(row[1:5], "big")
        for number, change in self._schema_changes().items():
            if number not in self._done_ahead and self._classifier.makes(change, oid):
                self._done_ahead.add(number)
                return replace(change, ahead=True)
        return None

    def _schema_changes(self) -> dict[int, SchemaChange]:
        """Of the whole transaction, also of what hasn't been taken in yet."""
        if self._changes is None:
            runs: Iterable[bytes] | None = self._whole
            if runs is None:
                runs = self._read_ahead(self._position, self._commit_lsn)
            self._changes = self._classifier.schema_changes(runs, self._commit_lsn)
        return self._changes

    def _keep_run(self, run: bytes) -> None:
        self._making.runs.append(run)
        self._making.size_bytes += len(run)

    def _row(self, tag: int, message: bytes) -> None:
        oid = pgoutput.relation_oid(message)
        target = self._target(oid)
        if target is None:
            self._making.coalescer.feed_by(oid, None)
            return
        coalescer = self._making.coalescer
        try:
            old, old_is_key, new = kernel.row_change(message)
            if not _change(coalescer.table(target), tag, old, old_is_key, new):
                coalescer.close_step()
                _change(coalescer.table(target), tag, old, old_is_key, new)
        except ValueError as error:
            raise ProtocolViolation(f"{error}, in a change of {target}") from None
        self._making.changes += 1
        self._changing = True
        coalescer.feed_by(oid, target)

    def _truncate(self, message: bytes) -> None:
        event = pgoutput.decode(message)
        assert isinstance(event, Truncate)
        targets = [target for oid in event.relation_oids if (target := self._target(oid)) is not None]
        if targets:
            self._making.changes += len(targets)
            self._changing = True
            self._making.coalescer.truncate(targets, event.restart_identity)

    def _passes_a_copy(self, commit_lsn: Lsn) -> bool:
        if not self._copied:
            return False
        passed = [lsn for lsn in self._copied if lsn <= commit_lsn]
        del self._copied[: len(passed)]
        return bool(passed)

    def _target(self, oid: int) -> Target | None:
        passed_over = self._copied and self._classifier.passed_over(oid, self._commit_lsn)
        target = None if passed_over else self._classifier.target(oid)
        if target is None:
            self._making.left_out.add(oid)
        else:
            self._making.targets[oid] = target
        return target

    def _reshapes(self, message: bytes) -> bool:
        """Whether this Relation message gives another shape to a relation that the batch changes."""
        oid = int.from_bytes(message[1:5], "big")
        target = self._making.targets.get(oid)
        if target is None:
            return False
        relation = pgoutput.decode(message)
        assert isinstance(relation, Relation)
        return relation != target.relation

    def _abandon(self) -> Iterator[Item]:
        self._making = _Making()
        self._classifier.take_sequences()
        self._classifier.forget()  # what was looked up behind its schema changes was never there
        self._in_transaction = False
        self._skipping = None
        if self._pieces_out:
            self._pieces_out = False
            yield Abandoned()

    def _cut(self) -> Batch:
        making, self._making = self._making, _Making()
        complete = not self._in_transaction
        of_pieces, alone = self._pieces_out or not complete, self._alone
        self._pieces_out = not complete
        self._handed_out = self._position
        steps = making.coalescer.take()
        return Batch(
            end_lsn=self._position,
            commit_time_us=self._commit_time_us if making.transactions else 0,
            complete=complete,
            steps=steps,
            transactions=making.transactions,
            changes=making.changes,
            net=making.coalescer.net,
            size_bytes=making.size_bytes,
            runs=tuple(making.runs),
            targets=making.targets,
            left_out=frozenset(making.left_out),
            sequences=self._classifier.take_sequences(),
            commit_lsn=self._commit_lsn if of_pieces else making.commit_lsn,
            alone=alone,
            passed_over=tuple(making.passed_over),
        )


def _message_at(run: bytes, offset: int) -> tuple[bytes, int]:
    try:
        return kernel.message_at(run, offset)
    except ValueError as error:
        raise ProtocolViolation(str(error)) from None


def _change(table: Keyed | Keyless, tag: int, old: Row | None, old_is_key: bool, new: Row | None) -> bool:
    if tag == _DELETE:
        if old is None:
            raise ProtocolViolation("a Delete without an old row", offset=5)
        return table.delete(old)
    if new is None:
        raise ProtocolViolation("a row message without a new row", offset=5)
    return table.insert(new) if tag == _INSERT else table.update(old, old_is_key, new)
