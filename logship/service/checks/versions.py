"""Checks of versions, encodings, collations, clocks: whether both servers mean the same by the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from logship.catalog.requirements import ServerFacts
from logship.catalog.requirements_relations import quoted
from logship.errors import UsageError
from logship.service.checks.facts import Facts
from logship.service.checks.finding import Check, Finding, Place, Severity, Stage, named
from logship.service.checks.grants import literal

_BLOCKS, _WARNS = Severity.BLOCKS, Severity.WARNS
OLDEST: Final = 15
NEWEST_TRIED: Final = 18
_CLOCK_S: Final = 0.5


def _sides(facts: Facts) -> tuple[tuple[Place, ServerFacts], ...]:
    return ("primary", facts.primary), ("secondary", facts.secondary)


def too_old(place: Place, major: int) -> Finding | None:
    """The one check that needs no facts: older servers lack what the others ask for."""
    if major >= OLDEST:
        return None
    return Finding(
        _BLOCKS, place, f"the {place} is PostgreSQL {major}; logship needs {OLDEST} or newer",
        "older versions lack rights and functions that replay stands on",
        action=f"upgrade the {place}", id="version",
    )  # fmt: skip


def version(facts: Facts) -> Iterator[Finding]:
    for place, server in _sides(facts):
        finding = too_old(place, server.major)
        if finding is not None:
            yield finding
        elif server.major > NEWEST_TRIED:
            yield Finding(
                _WARNS, place, f"the {place} is PostgreSQL {server.major}; logship was tried up to {NEWEST_TRIED}",
                "a newer server may say things that this logship doesn't know",
                action="look for a newer logship",
            )  # fmt: skip


def secondary_older(facts: Facts) -> Iterator[Finding]:
    if facts.secondary.major < facts.primary.major:
        yield Finding(
            _WARNS, "secondary",
            f"the secondary ({facts.secondary.version}) is older than the primary ({facts.primary.version})",
            "what the primary's schema uses of its version can't be made there",
            action="upgrade the secondary; or make the schema yourself, and pass --schema existing",
        )  # fmt: skip


def pg_dump(facts: Facts) -> Iterator[Finding]:
    if isinstance(facts.pg_dump, UsageError):
        yield Finding(
            _BLOCKS, "logship", facts.pg_dump.message,
            "the primary's schema is made on the secondary by it; it must be as new as the primary",
            action=facts.pg_dump.hint, fault="usage",
        )  # fmt: skip


def encoding(facts: Facts) -> Iterator[Finding]:
    here, there = facts.primary, facts.secondary
    if here.encoding == "SQL_ASCII":
        yield Finding(
            _WARNS, "primary", "the primary's database has the encoding SQL_ASCII",
            "text that isn't UTF-8 stops the copy, or the replica: nobody knows what it means",
            action="find such text, and convert the database to UTF8",
        )  # fmt: skip
    if there.encoding not in {here.encoding, "UTF8"}:
        yield Finding(
            _WARNS, "secondary", f"the encodings differ: {here.encoding} on the primary, {there.encoding} here",
            "a character that the secondary's encoding lacks stops the copy, or the replica",
            sql=(_anew(facts, "UTF8"),), action="and name the new database in --secondary",
        )  # fmt: skip


def _anew(facts: Facts, encoding: str) -> str:
    """A database like the primary's, beside the present one."""
    name = f"{facts.secondary.database}_utf8" if encoding == "UTF8" else f"{facts.secondary.database}_same"
    here = facts.primary
    provider = (
        f" locale_provider icu icu_locale {literal(here.locale)}"
        if here.provider == "i" and here.locale
        else ""
    )
    return (
        f"create database {quoted(name)} template template0 encoding {literal(encoding)} "
        f"lc_collate {literal(here.collate)} lc_ctype {literal(here.ctype)}{provider}"
    )


def locale(facts: Facts) -> Iterator[Finding]:
    here, there = facts.primary, facts.secondary
    parts = {
        "locale provider": (here.provider, there.provider),
        "collation": (here.collate, there.collate),
        "character types": (here.ctype, there.ctype),
        "locale": (here.locale, there.locale),
    }
    differing = [f"{name} {p or 'none'} and {s or 'none'}" for name, (p, s) in parts.items() if p != s]
    if differing:
        yield Finding(
            _WARNS, "secondary", f"the databases' locales differ (primary and secondary): {', '.join(differing)}",
            "text sorts and compares otherwise there: ORDER BY, upper(), and what a CHECK lets pass may differ",
            sql=(_anew(facts, here.encoding if here.encoding != "SQL_ASCII" else "UTF8"),),
            action="and name the new database in --secondary",
        )  # fmt: skip


def collation_version(facts: Facts) -> Iterator[Finding]:
    for place, server in _sides(facts):
        recorded, actual = server.collation_recorded, server.collation_actual
        if recorded and actual and recorded != actual:
            name = quoted(server.database)
            yield Finding(
                _WARNS, place, f"the operating system's collation is {actual}, the database was made with {recorded}",
                "indexes on text may be in the wrong order: rows aren't found by their key",
                sql=(f"reindex database {name}", f"alter database {name} refresh collation version"),
                by="the database's owner",
            )  # fmt: skip


def collations(facts: Facts) -> Iterator[Finding]:
    if facts.missing_collations and facts.asked.schema == "dump":
        yield Finding(
            _BLOCKS, "secondary",
            "collations that the primary's columns name don't exist on the secondary: "
            + named(facts.missing_collations),
            "the tables can't be made without them",
            sql=("select pg_catalog.pg_import_system_collations('pg_catalog')",),
            action="if the operating system lacks them too: generate the locale there first",
            objects=facts.missing_collations,
        )  # fmt: skip


def clock(facts: Facts) -> Iterator[Finding]:
    measured = facts.clock
    if abs(measured.difference_s) - measured.uncertainty_s > _CLOCK_S:
        ahead = "ahead of" if measured.difference_s > 0 else "behind"
        yield Finding(
            _WARNS, "secondary",
            f"the secondary's clock is {abs(measured.difference_s):.3f} s {ahead} the primary's "
            f"(± {measured.uncertainty_s:.3f} s)",
            "a lag in seconds compares commit times of the primary with clocks elsewhere, and is wrong by as much",
            action="let both follow the same time (chrony, systemd-timesyncd)",
        )  # fmt: skip


CHECKS: Final = (
    Check("version", (_BLOCKS, _WARNS), "PostgreSQL 15 to 18 on both sides", version),
    Check("pg-dump", (_BLOCKS,), "a `pg_dump` that runs and is as new as the primary", pg_dump, Stage.INIT),
    Check("collations", (_BLOCKS,), "collations that columns name exist on the secondary", collations, Stage.INIT),
    Check("secondary-older", (_WARNS,), "the secondary is at least as new as the primary", secondary_older, Stage.INIT),
    Check("encoding", (_WARNS,), "server encodings", encoding),
    Check("locale", (_WARNS,), "locale provider, collation, character types", locale),
    Check("collation-version", (_WARNS,), "the collation version that each database was made with", collation_version),
    Check("clock", (_WARNS,), "the difference of the clocks, beyond what the round trips leave open", clock),
)  # fmt: skip
