"""The one table of all checks, in the order in which init would meet what they find."""

from __future__ import annotations

import dataclasses
from typing import Final

from logship.service.checks import (
    identity,
    journal,
    objects,
    rights,
    schema_changes,
    settings,
    tables,
    target,
    traffic,
    versions,
)
from logship.service.checks.facts import Facts
from logship.service.checks.finding import Check, Finding, Stage

CHECKS: Final[tuple[Check, ...]] = (
    *identity.CHECKS[:2],
    *settings.CHECKS,
    *identity.CHECKS[2:],
    *versions.CHECKS,
    *target.CHECKS,
    *rights.CHECKS,
    *tables.CHECKS,
    *traffic.CHECKS,
    *objects.CHECKS,
    *schema_changes.CHECKS,
    *journal.CHECKS,
)


def judge(facts: Facts) -> list[Finding]:
    """Every finding that matters now: before init all, afterwards those that concern `logship run`."""
    stage = Stage.RUN if facts.initialised else Stage.INIT | Stage.RUN
    found = [
        dataclasses.replace(finding, id=check.id)
        for check in CHECKS
        if check.stages & stage
        for finding in check.function(facts)
    ]
    mistaken = identity.mistaken(facts)
    return [each for each in found if each.place not in mistaken or each.id in identity.WHO]
