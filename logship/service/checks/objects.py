"""Checks of what isn't replicated, or not all of the way: said plainly, before somebody counts on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from logship.catalog.requirements_relations import RelationFacts
from logship.service.checks.facts import Facts
from logship.service.checks.finding import Check, Finding, Place, Severity, Stage, named
from logship.service.checks.schema_changes import carried

_WARNS, _INFORMS = Severity.WARNS, Severity.INFORMS


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of relation, and what is said when there are any. ``what``: {0} their number, {1} their names.
    ``sql``, for each of them, is for their owner."""

    which: Callable[[RelationFacts], bool]
    what: str
    why: str
    place: Place = "primary"
    sql: str = ""
    action: str = ""

    def __call__(self, facts: Facts) -> Iterator[Finding]:
        found = tuple(relation.quoted for relation in facts.primary_relations if self.which(relation))
        if found:
            yield Finding(
                _INFORMS, self.place, self.what.format(len(found), named(found)), self.why,
                sql=tuple(self.sql.format(name) for name in found) if self.sql else (),
                by="their owner", action=self.action, objects=found,
            )  # fmt: skip


_UNLOGGED: Final = _Kind(
    lambda relation: relation.table and relation.persistence == "u",
    "unlogged tables arrive empty, and stay so: {1}",
    "what is written to them is in no log",
    sql="alter table {} set logged",
    action="only where their rows should be replicated",
)
_FOREIGN: Final = _Kind(
    lambda relation: relation.kind == "f",
    "foreign tables are made on the secondary, without rows: {1}",
    "their rows are elsewhere; asked there, the secondary itself connects to the foreign server",
)
_MATERIALIZED: Final = _Kind(
    lambda relation: relation.kind == "m",
    "materialized views are filled once, by init: {1}",
    "PostgreSQL publishes neither their rows nor REFRESH, and schema changes aren't carried",
    place="secondary",
    sql="refresh materialized view {}",
    action="once they are there, as often as you want them fresh",
)
_REFRESHED: Final = _Kind(
    lambda relation: relation.kind == "m",
    "materialized views are refreshed on the secondary when the primary's were: {1}",
    "PostgreSQL doesn't publish their rows: each REFRESH costs the secondary what it costs the primary",
    place="secondary",
    action="where that is too much: logship run --materialized-views leave",
)
_SEQUENCES: Final = _Kind(
    lambda relation: relation.kind == "S",
    "{0} sequences are set by init, and not followed afterwards",
    "nextval() writes nothing that is published, and schema changes aren't carried: before the secondary takes "
    "over, set them above the highest values in use, or it hands out keys that exist",
)
_FOLLOWED: Final = _Kind(
    lambda relation: relation.kind == "S",
    "{0} sequences are followed, and stand ahead of the primary's on the secondary",
    "what they have reached travels with the log, and more, so that no value is handed out twice after a "
    "failover: docs/ddl-values.md",
)


def materialized_views(facts: Facts) -> Iterator[Finding]:
    return (_REFRESHED if carried(facts) else _MATERIALIZED)(facts)


def sequences(facts: Facts) -> Iterator[Finding]:
    return (_FOLLOWED if carried(facts) else _SEQUENCES)(facts)


def large_objects(facts: Facts) -> Iterator[Finding]:
    if facts.source.large_objects:
        yield Finding(
            _WARNS, "primary", f"{facts.source.large_objects} large objects are neither copied nor replicated",
            "PostgreSQL doesn't publish them; a column that holds their oids arrives, and leads nowhere there",
            action="keep such data in bytea columns, or carry it by other means",
        )  # fmt: skip


def event_triggers(facts: Facts) -> Iterator[Finding]:
    if facts.source.event_triggers:
        yield Finding(
            _WARNS, "primary", f"event triggers come along: {named(facts.source.event_triggers)}",
            "they fire on the secondary for what is done there, logship's own upgrades included",
            action="where that isn't wanted, on the secondary, after init: alter event trigger … disable",
            objects=facts.source.event_triggers,
        )  # fmt: skip


def subscriptions(facts: Facts) -> Iterator[Finding]:
    if facts.source.subscriptions:
        yield Finding(
            _INFORMS, "primary", f"the primary is itself a subscriber ({facts.source.subscriptions} subscriptions)",
            "what arrives through them is replicated further; the subscriptions themselves aren't copied",
        )  # fmt: skip


CHECKS: Final = (
    Check("large-objects", (_WARNS,), "large objects", large_objects),
    Check("event-triggers", (_WARNS,), "event triggers", event_triggers, Stage.INIT),
    Check("unlogged", (_INFORMS,), "unlogged tables", _UNLOGGED),
    Check("foreign-tables", (_INFORMS,), "foreign tables", _FOREIGN),
    Check("materialized-views", (_INFORMS,), "materialized views", materialized_views),
    Check("sequences", (_INFORMS,), "values of sequences", sequences),
    Check("subscriptions", (_INFORMS,), "a primary that is a subscriber itself", subscriptions),
)  # fmt: skip
