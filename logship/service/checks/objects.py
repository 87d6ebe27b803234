"""Checks of what isn't replicated, or not all of the way: said plainly, before somebody counts on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from logship.catalog.requirements_relations import RelationFacts
from logship.service.checks.facts import Facts
from logship.service.checks.finding import Check, Finding, Severity, Stage, named

_WARNS, _INFORMS = Severity.WARNS, Severity.INFORMS


def _of_kind(facts: Facts, which: Callable[[RelationFacts], bool]) -> list[str]:
    return [relation.quoted for relation in facts.primary_relations if which(relation)]


def large_objects(facts: Facts) -> Iterator[Finding]:
    if facts.source.large_objects:
        yield Finding(
            _WARNS, "primary", f"{facts.source.large_objects} large objects are neither copied nor replicated",
            "PostgreSQL doesn't publish them; a column that holds their oids arrives, and leads nowhere there",
            action="keep such data in bytea columns, or carry it by other means",
        )  # fmt: skip


def unlogged(facts: Facts) -> Iterator[Finding]:
    tables = _of_kind(facts, lambda r: r.table and r.persistence == "u")
    if tables:
        yield Finding(
            _INFORMS, "primary", f"unlogged tables arrive empty, and stay so: {named(tables)}",
            "what is written to them is in no log",
            sql=tuple(f"alter table {table} set logged" for table in tables), by="their owner",
            action="only where their rows should be replicated", objects=tuple(tables),
        )  # fmt: skip


def foreign_tables(facts: Facts) -> Iterator[Finding]:
    tables = _of_kind(facts, lambda r: r.kind == "f")
    if tables:
        yield Finding(
            _INFORMS, "primary", f"foreign tables are made on the secondary, without rows: {named(tables)}",
            "their rows are elsewhere; asked there, the secondary itself connects to the foreign server",
            objects=tuple(tables),
        )  # fmt: skip


def materialized_views(facts: Facts) -> Iterator[Finding]:
    views = _of_kind(facts, lambda r: r.kind == "m")
    if views:
        yield Finding(
            _INFORMS, "secondary", f"materialized views are filled once, by init: {named(views)}",
            "PostgreSQL publishes neither their rows nor REFRESH",
            sql=tuple(f"refresh materialized view {view}" for view in views), by="their owner",
            action="once they are there, as often as you want them fresh", objects=tuple(views),
        )  # fmt: skip


def sequences(facts: Facts) -> Iterator[Finding]:
    found = _of_kind(facts, lambda r: r.kind == "S")
    if found:
        yield Finding(
            _INFORMS, "primary", f"{len(found)} sequences are set by init, and not followed afterwards",
            "nextval() writes nothing that is published: before the secondary takes over, set them above the "
            "highest values in use, or it hands out keys that exist",
            objects=tuple(found),
        )  # fmt: skip


def schema_changes(facts: Facts) -> Iterator[Finding]:
    yield Finding(
        _INFORMS, "primary", "schema changes are not carried to the secondary yet",
        "a table whose columns changed on the primary only stops the replica, with both shapes in the error",
        action="make the change on the secondary first when it adds, last when it removes",
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
    Check("unlogged", (_INFORMS,), "unlogged tables", unlogged),
    Check("foreign-tables", (_INFORMS,), "foreign tables", foreign_tables),
    Check("materialized-views", (_INFORMS,), "materialized views", materialized_views),
    Check("sequences", (_INFORMS,), "values of sequences", sequences),
    Check("schema-changes", (_INFORMS,), "schema changes", schema_changes),
    Check("subscriptions", (_INFORMS,), "a primary that is a subscriber itself", subscriptions),
)  # fmt: skip
