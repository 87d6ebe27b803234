"""`logship check`: what stands in the way of init and run, and the grants that each side's roles need.

In: both conninfos and what init would be told. Out: findings, what blocks first, by side; exit code 1 when
something blocks. Nothing is changed on either side.
"""

from __future__ import annotations

import dataclasses
import textwrap
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from logship.cli import options, output

if TYPE_CHECKING:
    from logship.service.check import Report
    from logship.service.checks.finding import Finding


@click.command("check")
@options.primary
@options.secondary
@options.name
@options.setting(
    "--journal",
    metavar="DIR",
    type=click.Path(file_okay=True, path_type=Path),
    help="Look at this directory too: can the journal be written there?",
)
@options.initial_copy
@click.option(
    "--print-grants",
    type=click.Choice(["primary", "secondary"]),
    help="Print instead, as SQL for psql, what the roles still lack on that side.",
)
@click.option(
    "--init-role",
    default="logship_init",
    show_default=True,
    metavar="ROLE",
    help="With --print-grants: who runs init.",
)
@click.option(
    "--run-role",
    default="logship",
    show_default=True,
    metavar="ROLE",
    help="With --print-grants: who runs `logship run`.",
)
@options.as_json
def check(
    *,
    primary: str,
    secondary: str,
    print_grants: str | None,
    init_role: str,
    run_role: str,
    as_json: bool,
    tables: tuple[str, ...],
    exclude: tuple[str, ...],
    map_role: tuple[str, ...],
    jobs: int | None,
    **rest: Any,
) -> int:
    """Say what would make init or run fail, or surprise, and what mends it.

    Give it the options that init is to be given: what is lacking depends on them.
    Before init it looks at what init and run need; afterwards, at what run needs. Nothing is changed. Exit
    code 1: something blocks.
    """
    from logship.catalog import role_map
    from logship.catalog.selection import Selection, split
    from logship.service.checks.facts import Asked

    if jobs is not None:
        rest["jobs"] = jobs
    selection = Selection(split(tables), split(exclude))
    asked = Asked(**rest, selection=selection, map_roles=role_map.parse(map_role))
    if print_grants is not None:
        return _grants(primary, secondary, asked, print_grants, init_role, run_role, as_json=as_json)
    from logship.service.check import check as look

    report = look(primary, secondary, asked)
    if as_json:
        output.record(_object(report), as_json=True)
    else:
        _show(report)
    return 1 if report.blocking else 0


def _object(report: Report) -> dict[str, Any]:
    return {
        "ready": not report.blocking,
        "replica": report.replica,
        "initialised": report.initialised,
        "clock": None if report.clock is None else dataclasses.asdict(report.clock),
        "findings": [
            {
                "id": finding.id,
                "severity": finding.severity.value,
                "side": finding.place,
                "what": finding.what,
                "why": finding.why,
                "sql": list(finding.sql),
                "by": finding.by if finding.sql else None,
                "action": finding.action or None,
                "objects": list(finding.objects),
            }
            for finding in report.findings
        ],
    }


def _show(report: Report) -> None:
    for severity, found in groupby(report.findings, key=lambda each: each.severity):
        for place, findings in groupby(found, key=lambda each: each.place):
            output.line(f"{severity.value}, {'here' if place == 'logship' else 'on the ' + place}:")
            for finding in findings:
                _finding(finding)
            output.line("")
    counts = dict.fromkeys(("blocks", "warns", "informs"), 0)
    for finding in report.findings:
        counts[finding.severity.value] += 1
    summary = f"{counts['blocks']} block, {counts['warns']} warn, {counts['informs']} inform"
    if report.blocking:
        output.line(f"not ready: {summary}")
    else:
        output.line(f"ready for {'`logship run`' if report.initialised else '`logship init`'}: {summary}")


def _finding(finding: Finding) -> None:
    _wrapped(f"  {finding.id:<18}  ", finding.what)
    _wrapped("      why   ", finding.why)
    if finding.sql:
        output.line(f"      mend  on the {finding.place}, as {finding.by}:")
        for statement in finding.sql:  # never wrapped: it is to be pasted
            output.line(f"              {statement};")
    if finding.action:
        _wrapped("            " if finding.sql else "      mend  ", finding.action)


def _wrapped(lead: str, text: str) -> None:
    """Lines of at most 110 characters; an identifier isn't broken."""
    lines = textwrap.wrap(
        text, 110, initial_indent=lead, subsequent_indent=" " * len(lead), break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip
    output.line("\n".join(lines))


def _grants(
    primary: str, secondary: str, asked: Any, place: str, init_role: str, run_role: str, *, as_json: bool
) -> int:
    from logship.service.check import grants_for

    database, found = grants_for(primary, secondary, asked, place, init_role=init_role, run_role=run_role)
    if as_json:
        output.rows(
            [
                {"statement": g.statement, "why": g.why, "by": g.by, "superuser": g.superuser or None,
                 "optional": g.optional}
                for g in found
            ],
            as_json=True,
        )  # fmt: skip
        return 0
    output.line(
        f"-- What {init_role} (init) and {run_role} (run) lack on the {place}, in its database {database!r}."
    )
    output.line("-- Run it in that database; as a superuser, where nobody else is named.")
    for grant in found:
        who = "" if grant.by == "a superuser" else f" ({grant.by} may)"
        output.line(f"\n-- {grant.why}{'; optional' if grant.optional else ''}{who}")
        output.line(f"{grant.statement};")
    if not found:
        output.line("-- nothing is lacking")
    return 0
