"""Checks of what happens on the primary now: what the making of a slot would wait for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from logship.service.checks.facts import Facts
from logship.service.checks.finding import Check, Finding, Severity, Stage, named
from logship.service.checks.grants import literal

_WARNS = Severity.WARNS
_LONG_S: Final = 2.0


def waiting_commits(facts: Facts) -> Iterator[Finding]:
    count = facts.source.traffic.waiting_commits
    if count:
        names = facts.primary.settings.get("synchronous_standby_names", "")
        yield Finding(
            _WARNS, "primary", f"{count} commits on the primary wait for a synchronous standby ({names})",
            "no slot can be made meanwhile: init would wait with them",
            sql=("alter system set synchronous_standby_names = ''", "select pg_catalog.pg_reload_conf()"),
            action="start that standby (if it is logship's own name: `logship run`), or let commits go on without it",
        )  # fmt: skip


def running(facts: Facts) -> Iterator[Finding]:
    found = [(pid, age) for pid, age in facts.source.traffic.running if age > _LONG_S]
    if found:
        yield Finding(
            _WARNS, "primary",
            f"{len(found)} transactions have been writing for a while; the oldest for {found[0][1]:.0f} s "
            f"(process {found[0][0]})",
            "making a slot waits until they end, and the slot keeps the log from their beginning",
            sql=tuple(f"select pg_catalog.pg_terminate_backend({pid})" for pid, _ in found),
            action="let them end; the statements roll them back",
        )  # fmt: skip


def prepared(facts: Facts) -> Iterator[Finding]:
    found = facts.source.traffic.prepared
    if found:
        yield Finding(
            _WARNS, "primary", f"{len(found)} prepared transactions: {named(found)}",
            "making a slot waits for each, and nothing ends them but COMMIT PREPARED or ROLLBACK PREPARED",
            sql=tuple(f"rollback prepared {literal(gid)}" for gid in found),
            by="who prepared them", action="or commit prepared; as their transaction manager decides",
        )  # fmt: skip


CHECKS: Final = (
    Check("waiting-commits", (_WARNS,), "commits that wait for a synchronous standby", waiting_commits, Stage.INIT),
    Check("running", (_WARNS,), "transactions that have been writing for more than 2 s", running, Stage.INIT),
    Check("prepared", (_WARNS,), "prepared transactions", prepared, Stage.INIT),
)  # fmt: skip
