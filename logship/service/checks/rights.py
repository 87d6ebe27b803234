"""Checks of privileges: what each side's user lacks for what comes next, one finding for each right."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Final

from logship.catalog.requirements_relations import quoted
from logship.service.checks.facts import Facts
from logship.service.checks.finding import Check, Finding, Severity, Stage, named

_BLOCKS, _WARNS, _INFORMS = Severity.BLOCKS, Severity.WARNS, Severity.INFORMS


def rights(facts: Facts) -> Iterator[Finding]:
    """One finding for each reason: eight functions that are needed for the same thing are one."""
    needed = [grant for grant in facts.lacking if not grant.optional]
    for (place, holder, why, by), grants in groupby(needed, key=lambda g: (g.place, g.holder, g.why, g.by)):
        sql = tuple(grant.statement for grant in grants)
        server = facts.primary if place == "primary" else facts.secondary
        whose = "" if holder == server.user else f', in role "{holder}"'
        what = sql[0] if len(sql) == 1 else f"{sql[0]}, and {len(sql) - 1} more"
        yield Finding(
            _BLOCKS, place, f'user "{server.user}" lacks a right on the {place}{whose}: {what}', why,
            sql=sql, by=by, objects=(holder,),
        )  # fmt: skip


def comforts(facts: Facts) -> Iterator[Finding]:
    for grant in facts.lacking:
        if grant.optional:
            yield Finding(
                _INFORMS, grant.place, f"without this right less is shown: {grant.statement}", grant.why,
                sql=tuple(grant.statement.split("; ")), by=grant.by,
            )  # fmt: skip


def superusers(facts: Facts) -> Iterator[Finding]:
    """What PostgreSQL lets only a superuser make."""
    user = facts.secondary.user
    owners = [owner for owner, superuser in facts.owners if superuser and owner != user]
    if facts.secondary.superuser or facts.initialised:
        return
    made = () if facts.asked.schema == "existing" or facts.again else facts.source.superusers_objects
    kinds = [f"{kind} {name}" for kind, name in made]
    extensions = [
        name for name in facts.extensions
        if facts.asked.schema == "dump" and not facts.again and name != "plpgsql"
        and facts.available.get(name) is False
    ]  # fmt: skip
    what = [f"tables of {owner}" for owner in owners] + kinds + [f"extension {name}" for name in extensions]
    if what:
        yield Finding(
            _BLOCKS, "secondary",
            f'user "{user}" is no superuser of the secondary, and only one can make or own: {named(what)}',
            "objects of superusers, event triggers, functions in C, base types, operator classes, "
            "foreign-data wrappers and the comments of extensions are made by superusers only",
            sql=(f"alter role {quoted(user)} superuser",),
            action=f"after init: alter role {quoted(user)} nosuperuser; `logship run` needs no superuser. Or make "
            "the schema yourself and pass --schema existing",
            objects=tuple(what),
        )  # fmt: skip


def superuser_replays(facts: Facts) -> Iterator[Finding]:
    if facts.secondary.superuser:
        yield Finding(
            _WARNS, "secondary", f'user "{facts.secondary.user}", who is to replay, is a superuser',
            "replaying needs far less; what goes wrong in it could then do anything",
            sql=("create role logship login", f"grant {quoted(facts.replayer_role)} to logship"),
            action="and name that user in --secondary; `logship check --print-grants secondary` prints all of it",
        )  # fmt: skip


CHECKS: Final = (
    Check("rights", (_BLOCKS,), "every right that init, or run, needs", rights),
    Check("superuser-needed", (_BLOCKS,), "a schema that takes a superuser to make", superusers, Stage.INIT),
    Check("superuser-replays", (_WARNS,), "`logship run` as a superuser there", superuser_replays, Stage.RUN),
    Check("comforts", (_INFORMS,), "rights without which less is shown", comforts),
)  # fmt: skip
