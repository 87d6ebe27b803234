"""Says of every message what it is for: rows, schema, metadata, or a message of our own.

In: pgoutput messages in log order. Out: for row messages the `Target` on the secondary that they
change, or None for relations that are left out; for logical messages the schema change that they are
proven to carry, or None; everything else is kept (relations, types) or passed over (begin, commit,
origin). What relation a row belongs to is looked up on the secondary once per shape, when its first
change comes. No I/O of its own: the look-up is given.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from logship import pgoutput
from logship.change import Message, Relation, TypeName
from logship.errors import ReplayError
from logship.kernel import split_run
from logship.lsn import Lsn
from logship.replay.batch import SchemaChange
from logship.replay.ddl.message import PREFIX, Gatherer, SequenceState, Statement, Verdict, Verifier
from logship.replay.ddl.renames import Renamed, now, renamed
from logship.replay.ddl.text import locate
from logship.replay.ddl.whose import made_without_key, tables, without
from logship.replay.target import Target

OWN_SCHEMA = "logship"
OWN_PREFIX = "logship"
# Without content: they only move the log on, so it doesn't matter who wrote them.
MARKS: Final = frozenset({"logship.heartbeat", "logship.mark"})
DDL_MARK: Final = PREFIX.encode() + b"\0"  # in a run that may hold a schema change
MAKES_ROWS: Final = ("CREATE TABLE AS", "SELECT INTO")

Resolve = Callable[[Relation, Mapping[int, TypeName]], Target]


@dataclass(slots=True)
class Classifier:
    """``left_out`` names (schema, relation) pairs that the operator chose not to replicate."""

    resolve: Resolve
    left_out: Container[tuple[str, str]] = ()
    # Their rows are newer than the position: what was committed before the LSN is passed over.
    copied: Mapping[tuple[str, str], Lsn] = field(default_factory=dict)
    # Makes what proves schema changes; None: they aren't carried.
    verifier: Callable[[], Verifier] | None = None
    # Told of tables that are made without key, when those aren't to be replicated: ``left_out`` has them then.
    leave_out: Callable[[tuple[str, str]], None] | None = None
    # What schema changes up to the position have renamed, in order: a journal knows names from before.
    renamed: tuple[Renamed, ...] = ()
    foreign_messages: int = 0  # logical messages of other programs: passed over
    marks: int = 0  # heartbeats and the like
    # Messages that claim to be ours and aren't proven to be, by what is wrong with them.
    refused: Counter[str] = field(default_factory=Counter)
    _relations: dict[int, Relation] = field(default_factory=dict)
    _types: dict[int, TypeName] = field(default_factory=dict)
    _targets: dict[int, Target | None] = field(default_factory=dict)
    _xid: int = 0
    _proving: Verifier | None = None
    _gatherer: Gatherer = field(default_factory=Gatherer)
    _sequences: list[SequenceState] = field(default_factory=list)

    def begin(self, xid: int) -> None:
        """A transaction begins."""
        self._xid = xid
        self._gatherer = Gatherer()
        if self.verifier is not None:
            self._proving = self._proving or self.verifier()
            self._proving.begin(xid)

    def schema(self, message: bytes) -> Relation | TypeName:
        """Take a Relation or Type message into the cache, in force from here on."""
        event = pgoutput.decode(message)
        if isinstance(event, Relation):
            self._relations[event.oid] = event
            # Also when the shape is the same: the operator may have changed the secondary's.
            self._targets.pop(event.oid, None)
            return event
        if not isinstance(event, TypeName):
            raise ReplayError(
                f"a schema record holds a {type(event).__name__} message",
                hint="the journal is not whole: run `logship journal verify` on its directory",
            )
        self._types[event.oid] = event
        return event

    def target(self, relation_oid: int) -> Target | None:
        """Where rows of this relation go; None: nowhere. Raises what the look-up raises."""
        try:
            return self._targets[relation_oid]
        except KeyError:
            target = self._targets[relation_oid] = self._look_up(relation_oid)
            return target

    def forget(self) -> None:
        """The secondary's schema has changed: every target is looked up anew."""
        self._targets.clear()

    def in_force(self, message: bytes) -> None:
        """As `schema`, of a message from before the position: what types have been renamed to since holds for it."""
        event = self.schema(message)
        if isinstance(event, TypeName):
            name = now(event.oid, (event.schema, event.name), self.renamed)
            self._types[event.oid] = TypeName(event.oid, *name)

    def renames(self, change: SchemaChange) -> SchemaChange:
        """``change`` with the types that it renames, which are called so from here on."""
        found = renamed(change.statement, change.found, self._types, self._relations)
        for each in found:
            self._types[each.oid] = TypeName(each.oid, *each.after)
        for one in change.statement.objects:  # it is described anew with its next row
            described = self._relations.get(one.oid) if one.catalog == "pg_class" else None
            if described is not None and len(one.names) == 2:
                self._relations[one.oid] = replace(described, schema=one.names[0], name=one.names[1])
        return replace(change, renamed=found) if found else change

    @property
    def types(self) -> Mapping[int, TypeName]:
        """What the log calls them, as of what was taken in."""
        return self._types

    def passed_over(self, relation_oid: int, commit_lsn: Lsn) -> bool:
        """Whether the table's rows hold this transaction already."""
        relation = self._relations.get(relation_oid)
        if relation is None:
            return False
        copied_lsn = self.copied.get((relation.schema, relation.name))
        return copied_lsn is not None and commit_lsn < copied_lsn

    def logical_message(self, message: bytes) -> int | None:
        """The number of the schema change that is whole with this message. What is not proven to be ours is
        counted, and passed over."""
        event = pgoutput.decode(message)
        if isinstance(event, Message) and event.prefix in MARKS:
            self.marks += 1
            return None
        if not isinstance(event, Message) or event.prefix.partition(".")[0] != OWN_PREFIX:
            self.foreign_messages += 1
            return None
        if event.prefix != PREFIX or self._proving is None:
            self.refused[Verdict.NOT_OURS.value] += 1
            return None
        judged = self._proving.judge(event)
        if judged.captured is None:
            self.refused[judged.verdict.value] += 1
            return None
        self._sequences += judged.captured.sequences
        statement = self._gatherer.add(judged.captured)
        return None if statement is None else statement.last.number

    def take_sequences(self) -> tuple[SequenceState, ...]:
        """How far sequences are to be set, by what was judged since the last call."""
        taken, self._sequences = tuple(self._sequences), []
        return taken

    def schema_changes(self, runs: Iterable[bytes], commit_lsn: Lsn) -> dict[int, SchemaChange]:
        """All of the transaction with these ``runs``, by number: their texts are found together."""
        if self.verifier is None:
            return {}
        verifier, gatherer = self.verifier(), Gatherer()
        verifier.begin(self._xid)
        statements: list[Statement] = []
        for run in runs:
            for message in split_run(run) if DDL_MARK in run else ():
                event = pgoutput.decode(message) if message[0] == pgoutput.MESSAGE else None
                captured = verifier.judge(event).captured if isinstance(event, Message) else None
                statement = gatherer.add(captured) if captured is not None else None
                if statement is not None:
                    statements.append(statement)
        changes = zip(statements, locate(statements), strict=True)
        return {
            one.last.number: SchemaChange(one, found, commit_lsn, leaves_out=self._without_key(one))
            for one, found in changes
        }

    def passes_over(self, change: SchemaChange) -> bool:
        """Whether it is about nothing but tables that aren't replicated. What it says of new ones holds from here
        on."""
        if change.leaves_out and not change.done:
            assert self.leave_out is not None
            for name in change.leaves_out:
                self.leave_out(name)
            return False  # it is noted on the secondary
        named = tables(change.statement)
        return named is not None and all(name in self.left_out for name in named)

    def kept(self, change: SchemaChange) -> SchemaChange:
        """The part of it that is about what is replicated."""
        if change.leaves_out:
            return change
        return replace(change, statement=without(change.statement, self.left_out))

    def _without_key(self, statement: Statement) -> frozenset[tuple[str, str]]:
        made = made_without_key(statement) if self.leave_out is not None else frozenset()
        return made if made == tables(statement) else frozenset()

    def makes(self, change: SchemaChange, relation_oid: int) -> bool:
        """Whether ``change`` makes this relation, and writes its rows before its message."""
        relation = self._relations.get(relation_oid)
        if relation is None or change.statement.tag not in MAKES_ROWS:
            return False
        name = (relation.schema, relation.name)
        return any(made.names == name for made in change.statement.objects)

    def _look_up(self, relation_oid: int) -> Target | None:
        relation = self._relations.get(relation_oid)
        if relation is None:
            raise ReplayError(
                f"a change names relation {relation_oid}, which the log has not described",
                hint="the journal is not whole: run `logship journal verify` on it",
            )
        if relation.schema == OWN_SCHEMA or (relation.schema, relation.name) in self.left_out:
            return None
        return self.resolve(relation, self._types)
