"""Checks of the primary's tables: what identifies their rows, and what of the users' runs on the secondary."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from logship.catalog.requirements_relations import quoted
from logship.service.checks.facts import Facts
from logship.service.checks.finding import Check, Finding, Severity, Stage, named

_BLOCKS, _WARNS, _INFORMS = Severity.BLOCKS, Severity.WARNS, Severity.INFORMS


def keyless(facts: Facts) -> Iterator[Finding]:
    """Without a key that identifies rows, or with one that is deferrable: it identifies none at a given moment."""
    tables = [quoted(*key) for key in facts.keyless]
    if not tables:
        return
    sql = tuple(f"alter table only {table} replica identity full" for table in tables)
    without = f"{len(tables)} tables of the primary have no replica identity: {named(tables)}"
    if facts.initialised:
        yield Finding(
            _WARNS, "primary", without, "published as they are, their UPDATEs and DELETEs fail on the primary",
            sql=sql, by="their owner", objects=tuple(tables),
        )  # fmt: skip
    elif facts.asked.keyless == "refuse":
        yield Finding(
            _WARNS, "primary", without,
            "FOR ALL TABLES publishes them, and --keyless refuse leaves them as they are: from init on, their "
            "UPDATEs and DELETEs fail on the primary",
            sql=sql, by="their owner", objects=tuple(tables),
            action="or a primary key, which is quicker to replay",
        )  # fmt: skip
    elif facts.asked.keyless == "leave-out":
        yield Finding(
            _WARNS, "primary", without,
            "--keyless leave-out: init gives them REPLICA IDENTITY FULL, so that their UPDATEs don't fail on the "
            "primary, and doesn't replicate them",
            action="give them a primary key to have them replicated", objects=tuple(tables),
        )  # fmt: skip
    else:
        yield Finding(
            _INFORMS, "primary", without,
            "FOR ALL TABLES would make their UPDATEs and DELETEs fail on the primary; --keyless full: init gives "
            "them REPLICA IDENTITY FULL first, for which it locks each for a moment. Whole old rows go into the "
            "log, and each changed row is searched for on the secondary",
            action="a primary key is quicker; --keyless refuse and leave-out are the other choices",
            objects=tuple(tables),
        )  # fmt: skip


def selected(facts: Facts) -> Iterator[Finding]:
    if facts.selection and not facts.initialised and not facts.replicated:
        yield Finding(
            _BLOCKS, "primary", "no table of the primary is selected",
            "--tables and --exclude leave nothing to replicate",
            action="compare the patterns with the primary's tables: \\dt *.*, or "
            "select schemaname, tablename from pg_catalog.pg_tables", fault="usage",
        )  # fmt: skip


def of_extensions(facts: Facts) -> Iterator[Finding]:
    tables = [r.quoted for r in facts.primary_relations if r.of_extension and r.key in facts.replicated]
    if tables:
        yield Finding(
            _WARNS, "primary", f"tables that belong to extensions would be replicated: {named(tables)}",
            "pg_dump doesn't carry their rows as those of a user's table, CREATE EXTENSION makes them on the "
            "secondary, and without replica identity their UPDATEs fail on the primary; init doesn't change them",
            action="publish the tables that you want with a publication of your own, and name it with --publication",
            objects=tuple(tables),
        )  # fmt: skip


def forced_row_security(facts: Facts) -> Iterator[Finding]:
    """Rows are written with the owner's rights, whom FORCE ROW LEVEL SECURITY subjects to the policies."""
    for relation in facts.replicated_relations():
        _, bypasses = facts.secondary_roles.get(relation.owner, (False, False))
        if not (relation.rls and relation.forced_rls) or bypasses:
            continue
        yield Finding(
            _BLOCKS, "secondary",
            f"table {relation.quoted} has FORCE ROW LEVEL SECURITY, and its owner {quoted(relation.owner)} "
            "is bound by it",
            "rows are written with the owner's rights: a policy could keep one from being written, so PostgreSQL "
            "refuses",
            sql=(f"alter role {quoted(relation.owner)} bypassrls",), objects=(relation.quoted,),
        )  # fmt: skip


def shut_out_owners(facts: Facts) -> Iterator[Finding]:
    """An owner without USAGE on the schema: the primary's other roles can write to the table, and its owner can't."""
    there = facts.initialised or facts.again or facts.asked.schema == "existing"
    originals = {theirs: ours for ours, theirs in facts.roles.items()}
    shut: dict[tuple[str, str], list[str]] = {}
    for relation in facts.replicated_relations():
        if not relation.owner_may_enter and not relation.owner_superuser:
            owner = relation.owner if there else originals.get(relation.owner, relation.owner)
            shut.setdefault((relation.schema, owner), []).append(relation.quoted)
    for (schema, owner), tables in shut.items():
        yield Finding(
            _BLOCKS, "secondary" if there else "primary",
            f"{quoted(owner)} owns tables in schema {quoted(schema)} and may not use that schema: {named(tables)}",
            "rows are written with the rights of each table's owner: the first change of these would stop the replica",
            sql=(f"grant usage on schema {quoted(schema)} to {quoted(owner)}",), by="the schema's owner",
            action="on the primary, too" if there else "", objects=tuple(tables),
        )  # fmt: skip


def row_security(facts: Facts) -> Iterator[Finding]:
    tables = [r.quoted for r in facts.replicated_relations() if r.rls]
    if tables:
        yield Finding(
            _INFORMS, "secondary", f"tables with row security: {named(tables)}",
            "who replays reads whole tables into memory, which PostgreSQL refuses here without BYPASSRLS; these "
            "then stay in persistence. Memory has no policies: whoever may ask it sees every row of what it holds",
            objects=tuple(tables),
        )  # fmt: skip


def always_triggers(facts: Facts) -> Iterator[Finding]:
    triggers = [
        f"{quoted(trigger)} on {relation.quoted}"
        for relation in facts.replicated_relations()
        for trigger in relation.always_triggers
    ]
    if triggers:
        yield Finding(
            _WARNS, "secondary", f"triggers that fire on replayed rows too: {named(triggers)}",
            "ENABLE ALWAYS and ENABLE REPLICA triggers run on the secondary, for net changes and not for each "
            "statement, with the rights of the table's owner; what they write is written there a second time",
            sql=tuple(
                f"alter table {relation.quoted} enable trigger {quoted(trigger)}"
                for relation in facts.replicated_relations()
                for trigger in relation.always_triggers
            )
            if facts.initialised or facts.asked.schema == "existing"
            else (),
            by="their owner", action="make them ordinary (ENABLE) on the secondary, unless that is wanted",
            objects=tuple(triggers),
        )  # fmt: skip


def inheritance(facts: Facts) -> Iterator[Finding]:
    tables = [r.quoted for r in facts.primary_relations if r.inherits and r.key in facts.replicated]
    if tables:
        yield Finding(
            _INFORMS, "primary", f"tables that inherit from others: {named(tables)}",
            "each is followed as a table of its own; asked in memory, a parent shows its own rows only",
            objects=tuple(tables),
        )  # fmt: skip


CHECKS: Final = (
    Check("selected", (_BLOCKS,), "`--tables` and `--exclude` select something", selected, Stage.INIT),
    Check("forced-row-security", (_BLOCKS,), "`FORCE ROW LEVEL SECURITY` on replicated tables", forced_row_security),
    Check("owners-shut-out", (_BLOCKS,), "owners of replicated tables may use the schemas that these are in",
          shut_out_owners),
    Check("keyless", (_WARNS, _INFORMS), "tables without replica identity (also: a deferrable primary key), and what "
          "`--keyless` does", keyless),
    Check("extension-tables", (_WARNS,), "tables of extensions", of_extensions, Stage.INIT),
    Check("always-triggers", (_WARNS,), "`ENABLE ALWAYS` and `ENABLE REPLICA` triggers", always_triggers),
    Check("row-security", (_INFORMS,), "tables with row security", row_security),
    Check("inheritance", (_INFORMS,), "inheritance children", inheritance),
)  # fmt: skip
