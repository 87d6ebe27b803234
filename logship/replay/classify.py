"""Says of every message what it is for: rows, schema, metadata, or a message of our own.

In: pgoutput messages in log order. Out: for row messages the `Target` on the secondary that they
change, or None for relations that are left out; everything else is kept (relations, types),
counted (logical messages) or passed over (begin, commit, origin). What relation a row belongs to
is looked up on the secondary once per shape, when its first change comes. No I/O of its own: the
look-up is given.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field

from logship import pgoutput
from logship.change import Message, Relation, TypeName
from logship.errors import ReplayError
from logship.lsn import Lsn
from logship.replay.target import Target

OWN_SCHEMA = "logship"
OWN_PREFIX = "logship"
# Without content: they only move the log on, so it doesn't matter who wrote them.
MARKS = frozenset({"logship.heartbeat", "logship.mark"})

Resolve = Callable[[Relation, Mapping[int, TypeName]], Target]


@dataclass(slots=True)
class Classifier:
    """``left_out`` names (schema, relation) pairs that the operator chose not to replicate."""

    resolve: Resolve
    left_out: Container[tuple[str, str]] = ()
    # Their rows are newer than the position: what was committed before the LSN is passed over.
    copied: Mapping[tuple[str, str], Lsn] = field(default_factory=dict)
    foreign_messages: int = 0  # logical messages of other programs: passed over
    marks: int = 0  # heartbeats and the like
    refused_messages: int = 0  # messages that claim to be ours and aren't proven to be
    _relations: dict[int, Relation] = field(default_factory=dict)
    _types: dict[int, TypeName] = field(default_factory=dict)
    _targets: dict[int, Target | None] = field(default_factory=dict)

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

    def passed_over(self, relation_oid: int, commit_lsn: Lsn) -> bool:
        """Whether the table's rows hold this transaction already."""
        relation = self._relations.get(relation_oid)
        if relation is None:
            return False
        copied_lsn = self.copied.get((relation.schema, relation.name))
        return copied_lsn is not None and commit_lsn < copied_lsn

    def logical_message(self, message: bytes) -> None:
        """Count a logical message. None of ours changes anything yet, and anyone may forge one."""
        event = pgoutput.decode(message)
        if isinstance(event, Message) and event.prefix in MARKS:
            self.marks += 1
        elif isinstance(event, Message) and event.prefix.partition(".")[0] == OWN_PREFIX:
            self.refused_messages += 1
        else:
            self.foreign_messages += 1

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
