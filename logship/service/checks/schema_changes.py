"""Checks of schema changes: whether they are captured, and whether the secondary can run everybody's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import psycopg

from logship.catalog import ddl
from logship.catalog.owners import may_not_make, owners
from logship.catalog.requirements_relations import quoted
from logship.catalog.writers import Function
from logship.service.checks.finding import Check, Finding, Severity, Stage, named

if TYPE_CHECKING:
    from logship.service.checks.facts import Facts

_BLOCKS, _WARNS, _INFORMS = Severity.BLOCKS, Severity.WARNS, Severity.INFORMS
_STOPS: Final = (
    "a table whose columns change on the primary then stops the replica, with both shapes in the error, until the same "
    "is done on the secondary"
)
_FUNCTIONS: Final = """
select p.proname from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
 where n.nspname = 'logship_writers' and p.prosecdef
"""


@dataclass(frozen=True, slots=True)
class CaptureFacts:
    on: bool = False
    may: bool = True  # this user may create event triggers
    without_function: tuple[str, ...] = ()  # owners on the secondary, once the replica is initialised
    lacking: tuple[str, ...] = ()  # GRANT of what roles may make on the primary, and not on the secondary


def capture_facts(
    primary: psycopg.Connection, secondary: psycopg.Connection, *, initialised: bool, roles: Mapping[str, str]
) -> CaptureFacts:
    on = ddl.capturing(primary)
    without: list[str] = []
    lacking: list[str] = []
    if on and initialised:
        have = {name for (name,) in secondary.execute(_FUNCTIONS).fetchall()}
        without = [
            owner.name
            for owner in owners(secondary, primary, roles)
            if owner.owns and f"{Function.DDL.value}_{owner.oid}" not in have
        ]
        lacking = may_not_make(primary, secondary, roles)
    return CaptureFacts(on, ddl.may_capture(primary), tuple(sorted(without)), tuple(lacking))


def carried(facts: Facts) -> bool:
    """Whether they are, or will be once init has run as it was told."""
    capture = facts.capture
    return capture.on or (facts.asked.ddl != "off" and capture.may and not facts.initialised)


def schema_changes(facts: Facts) -> Iterator[Finding]:
    asked = facts.asked.ddl
    if carried(facts):
        yield Finding(
            _INFORMS,
            "primary",
            "schema changes are carried",
            "each command of PostgreSQL, and how: docs/ddl.md",
        )
    elif asked == "off":
        yield Finding(_INFORMS, "primary", "schema changes will not be carried: --ddl off", _STOPS)
    elif facts.initialised:
        yield Finding(
            _WARNS, "primary", "schema changes are not captured", _STOPS,
            action="as a superuser of the primary: logship ddl on",
        )  # fmt: skip
    else:
        yield Finding(
            _BLOCKS if asked == "on" else _WARNS, "primary",
            f'user "{facts.primary.user}" may not create event triggers, so schema changes will not be captured',
            _STOPS, sql=(f"alter role {quoted(facts.primary.user)} superuser",),
            action="or, after init, once, as a superuser of the primary: logship ddl on; or go without: --ddl off",
        )  # fmt: skip


def functions(facts: Facts) -> Iterator[Finding]:
    found = facts.capture.without_function
    if found:
        yield Finding(
            _WARNS, "secondary", f"there is no function to run schema changes as {named(found)}",
            "a schema change of what they own stops the replica",
            action="run `logship init` again, as a superuser of the secondary or a member of these roles",
            objects=found,
        )  # fmt: skip


def makers(facts: Facts) -> Iterator[Finding]:
    lacking = facts.capture.lacking
    if lacking:
        yield Finding(
            _WARNS, "secondary", "some roles may make things on the primary and not on the secondary",
            "what they make runs on the secondary with their rights: without this one it stops the replica",
            sql=lacking,
        )  # fmt: skip


CHECKS: Final = (
    Check("schema-changes", (_BLOCKS, _WARNS, _INFORMS), "whether schema changes are carried", schema_changes),
    Check("schema-owners", (_WARNS,), "owners whose schema changes can't be run", functions, Stage.RUN),
    Check("schema-makers", (_WARNS,), "roles that may make less on the secondary", makers, Stage.RUN),
)  # fmt: skip
