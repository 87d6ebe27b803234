"""`logship check`: everything that would make init or run fail, or surprise, and what mends it.

In: conninfo of both sides, or connections that are open already. Out: `Report`. Nothing is changed on
either side. init calls `require_ready` before it does anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import psycopg

from logship.connection import Side, connect
from logship.errors import LogshipError, PrimaryError, RefusedAsUnsafe, SecondaryError, UsageError
from logship.service.checks import versions
from logship.service.checks.facts import Asked, Clock, Facts, gather
from logship.service.checks.finding import Finding, Place, Severity
from logship.service.checks.grants import Grant, missing, on_primary_for, on_secondary_for
from logship.service.checks.table import judge
from logship.snapshot.failures import failure

_FAULTS: Final[dict[str, type[LogshipError]]] = {
    "usage": UsageError,
    "unsafe": RefusedAsUnsafe,
    "primary": PrimaryError,
    "secondary": SecondaryError,
    "logship": UsageError,
}
_PLACES: Final[tuple[Place, ...]] = ("primary", "secondary", "logship")


@dataclass(frozen=True, slots=True)
class Report:
    """``findings``: what blocks first, and by side. ``replica`` and ``clock`` are None when a server's version
    is so old that it wasn't asked."""

    findings: tuple[Finding, ...]
    replica: str | None = None
    initialised: bool = False
    clock: Clock | None = None

    @property
    def blocking(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.severity is Severity.BLOCKS)


def check(primary: str, secondary: str, asked: Asked) -> Report:
    """Ask both sides. Raises `PrimaryError` or `SecondaryError` when one can't be reached, `UsageError`."""
    with (
        connect(primary, Side.PRIMARY, application_name="logship check") as here,
        connect(secondary, Side.SECONDARY, application_name="logship check") as there,
    ):
        old = _too_old(here, there)
        if old:
            return Report(tuple(old))
        facts = facts_of(here, there, asked)
        return Report(_sorted(judge(facts)), facts.names.replica, facts.initialised, facts.clock)


def require_ready(primary: psycopg.Connection, secondary: psycopg.Connection, asked: Asked) -> None:
    """Raise every blocking finding as one error: of the kind that the first of them is."""
    findings = _too_old(primary, secondary) or judge(facts_of(primary, secondary, asked))
    blocking = [finding for finding in findings if finding.severity is Severity.BLOCKS]
    if blocking:
        raise error_of(blocking)


def facts_of(primary: psycopg.Connection, secondary: psycopg.Connection, asked: Asked) -> Facts:
    """`gather`, with its errors in our words."""
    try:
        return gather(primary, secondary, asked)
    except psycopg.Error as error:
        # The secondary's link is in a transaction, or broken, only if the error was its.
        side = Side.SECONDARY if _broken(secondary) and not _broken(primary) else Side.PRIMARY
        raise failure(side, "look at what init and run need", error) from error


def _broken(connection: psycopg.Connection) -> bool:
    return connection.broken or connection.closed


def _too_old(primary: psycopg.Connection, secondary: psycopg.Connection) -> list[Finding]:
    sides: tuple[tuple[Place, psycopg.Connection], ...] = (("primary", primary), ("secondary", secondary))
    found = [versions.too_old(place, link.info.server_version // 10000) for place, link in sides]
    return [finding for finding in found if finding is not None]


def _sorted(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    severities = list(Severity)
    return tuple(
        sorted(findings, key=lambda each: (severities.index(each.severity), _PLACES.index(each.place)))
    )


def error_of(blocking: Sequence[Finding]) -> LogshipError:
    """All of them at once, with what mends each: of the kind that the first is."""
    first = blocking[0]
    kind = _FAULTS[first.place if first.fault == "side" else first.fault]
    if len(blocking) == 1:
        return kind(first.what, hint="\n".join(_mended(first)))
    message = f"{len(blocking)} things stand in the way:" + "".join(
        f"\n  {number}. {finding.what}" for number, finding in enumerate(blocking, 1)
    )
    lines = [line for finding in blocking for line in _mended(finding)]
    return kind(message, hint="\n".join(dict.fromkeys(lines)))


def _mended(finding: Finding) -> list[str]:
    """Lines: on the secondary, as a superuser: …; …; and what no statement can do."""
    statements = "; ".join(finding.sql)
    lines = [f"on the {finding.place}, as {finding.by}: {statements};"] if finding.sql else []
    return [*lines, finding.action] if finding.action else lines


def grants_for(
    primary: str, secondary: str, asked: Asked, place: str, *, init_role: str, run_role: str
) -> tuple[str, list[Grant]]:
    """What ``init_role`` and ``run_role`` still lack on ``place``, roles that are to be made included, in an
    order in which it can be run; and the database that it is for."""
    with (
        connect(primary, Side.PRIMARY, application_name="logship check") as here,
        connect(secondary, Side.SECONDARY, application_name="logship check") as there,
    ):
        old = _too_old(here, there)
        if old:
            raise error_of(old)
        facts = facts_of(here, there, asked)
        if place == "primary":
            return facts.primary.database, missing(here, on_primary_for(facts, init_role, run_role))
        return facts.secondary.database, missing(there, on_secondary_for(facts, init_role, run_role))
