"""Checks of who is who: both databases, logship's own schemas, and the names of slot, publication, origin."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from logship import __version__
from logship.catalog import migrate
from logship.catalog.requirements import ServerFacts
from logship.catalog.requirements_relations import quoted
from logship.connection import Side
from logship.service.checks.facts import Facts, OwnSchema
from logship.service.checks.finding import Check, Finding, Place, Severity, Stage, named
from logship.service.checks.grants import literal

_BLOCKS, _WARNS, _INFORMS = Severity.BLOCKS, Severity.WARNS, Severity.INFORMS


def same_database(facts: Facts) -> Iterator[Finding]:
    if facts.primary.identity == facts.secondary.identity:
        yield Finding(
            _BLOCKS, "secondary", f'primary and secondary are the same database ("{facts.primary.database}")',
            "rows would be written over themselves",
            sql=(f"create database {quoted(facts.primary.database + '_replica')}",),
            action="give --secondary another database, or another server", fault="unsafe",
        )  # fmt: skip


# Findings that say which database it is.
WHO: Final = frozenset({"same-database", "own-schema"})


def mistaken(facts: Facts) -> frozenset[Place]:
    """Sides whose database is certainly another than was meant. Nothing else is said of these: what mends it would
    be done to the wrong one."""
    found: set[Place] = set()
    if facts.primary.identity == facts.secondary.identity or _of(Side.PRIMARY, facts.secondary_schema):
        found.add("secondary")
    if _of(Side.SECONDARY, facts.primary_schema):
        found.add("primary")
    return frozenset(found)


def _of(side: Side, found: OwnSchema) -> bool:
    return (found.revision or "").startswith(f"{side.value}_")


def recovery(facts: Facts) -> Iterator[Finding]:
    for place, server in _servers(facts):
        if server.in_recovery:
            yield Finding(
                _BLOCKS, place, f"the {place} is a standby in recovery", "init and run write on both sides",
                sql=("select pg_catalog.pg_promote()",) if place == "secondary" else (),
                action="name the server that it follows" if place == "primary" else "or name another server",
            )  # fmt: skip


def own_schema(facts: Facts) -> Iterator[Finding]:
    sides: tuple[tuple[Place, Side, OwnSchema], ...] = (
        ("primary", Side.PRIMARY, facts.primary_schema),
        ("secondary", Side.SECONDARY, facts.secondary_schema),
    )
    for place, side, found in sides:
        if found.stranger is not None:
            name = found.stranger_schema
            yield Finding(
                _BLOCKS, place,
                f'the {place} has a schema "{name}" that logship did not make (it holds "{found.stranger}")',
                "logship keeps its own tables in a schema of that name",
                sql=(f"alter schema {quoted(name)} rename to {quoted(name + '_old')}",), by="the schema's owner",
                fault="unsafe",
            )  # fmt: skip
        elif found.revision is not None and found.revision not in migrate.known(side):
            other = not found.revision.startswith(f"{place}_")
            yield Finding(
                _BLOCKS, place,
                f"the {place} holds logship's schema of the other side (revision {found.revision})"
                if other
                else f"schema logship on the {place} is at revision {found.revision}, "
                f"which logship {__version__} does not know: a newer logship made it",
                "a database is the primary or the secondary, not both"
                if other
                else "an older program can't tell what a newer one keeps there",
                action="check --primary and --secondary; each replica needs a database of its own"
                if other
                else "use that version of logship, or a later one",
                fault="unsafe" if other else "side",
            )  # fmt: skip


def other_primary(facts: Facts) -> Iterator[Finding]:
    replica = facts.replica
    if replica is None or not replica.initialised:
        return
    ours = (facts.primary.system_identifier % 2**64, facts.primary.database)
    if (replica.system_identifier % 2**64, replica.database) != ours:
        yield Finding(
            _BLOCKS, "secondary",
            f'replica "{replica.name}" follows another primary (database "{replica.database}")',
            "its position is one of that primary's log",
            action="choose another --name, and an empty secondary database", fault="unsafe",
        )  # fmt: skip


def slot(facts: Facts) -> Iterator[Finding]:
    found, name = facts.source.slot, facts.names.slot
    drop = f"select pg_catalog.pg_drop_replication_slot({literal(name)})"
    if found is None:
        if facts.initialised and facts.replica is not None:
            yield Finding(
                _BLOCKS, "primary",
                f'replica "{facts.replica.name}" is initialised, but its slot "{name}" is gone from the primary: '
                "what was written since is in no log",
                "the slot kept the log for it; it is never made anew quietly",
                action="to copy from the start, give an empty secondary database (drop and create it) and run init",
                fault="unsafe",
            )  # fmt: skip
        return
    if found.plugin != "pgoutput" or found.database != facts.primary.database or found.temporary:
        yield Finding(
            _BLOCKS, "primary",
            f'replication slot "{name}" exists, and is not a pgoutput slot of database "{facts.primary.database}"',
            "logship reads what the plugin pgoutput writes, of one database",
            sql=(drop,), action="choose another name with --slot; the statement takes it away from whoever uses it",
            fault="usage",
        )  # fmt: skip
    elif found.wal_status == "lost":
        yield Finding(
            _BLOCKS, "primary",
            f'replication slot "{name}" is lost: the primary has removed WAL that it needs (wal_status is lost)',
            "it can't be read any more", sql=(drop,),
            action="raise max_slot_wal_keep_size; then run `logship init` again"
            + (", with an empty secondary database" if facts.initialised else ""),
        )  # fmt: skip


def slot_in_use(facts: Facts) -> Iterator[Finding]:
    """After init that is `logship run` itself."""
    found = facts.source.slot
    if found is not None and found.active and not facts.initialised:
        yield Finding(
            _WARNS, "primary", f'somebody reads from replication slot "{facts.names.slot}" now',
            "one slot has one reader at a time. `logship ship` serves any number of replicas from it; with "
            "`logship run` of another replica this one needs a slot of its own",
            action="follow it with `logship replay --shipper`, or choose another name with --slot",
        )  # fmt: skip


def publication(facts: Facts) -> Iterator[Finding]:
    found, name = facts.source.publication, facts.names.publication
    root = facts.asked.partitions == "root"
    quoted_name = quoted(name)
    if found is None:
        if facts.asked.publication is not None or (facts.initialised and facts.replica is not None):
            yield Finding(
                _BLOCKS, "primary", f'publication "{name}" does not exist on the primary',
                "the log is read through it" + (
                    ", with the catalog of its own time: one that is made now doesn't mend what was written before"
                    if facts.initialised else ""
                ),
                sql=(f"create publication {quoted_name} for all tables",),
                action="" if facts.initialised else "or leave --publication out",
                fault="side" if facts.initialised else "usage",
            )  # fmt: skip
        return
    if not found.complete:
        yield Finding(
            _BLOCKS, "primary", f'publication "{name}" does not publish insert, update, delete and truncate',
            "logship replays all of them",
            sql=(f"alter publication {quoted_name} set (publish = 'insert, update, delete, truncate')",),
            by="its owner", fault="usage",
        )  # fmt: skip
    if found.via_root != root and not facts.initialised:
        word = "root" if found.via_root else "leaf"
        yield Finding(
            _BLOCKS, "primary", f'publication "{name}" publishes partitions by {word}',
            "a partition is followed as a table, or the partitioned table as one",
            sql=(f"alter publication {quoted_name} set (publish_via_partition_root = {str(root).lower()})",),
            by="its owner", action=f"or pass --partitions {word}", fault="usage",
        )  # fmt: skip
    for key in found.partial:
        table = quoted(*key)
        yield Finding(
            _BLOCKS, "primary", f'publication "{name}" publishes only part of {table}',
            "logship follows whole tables: a row filter or a column list leaves holes",
            sql=(
                f"alter publication {quoted_name} drop table {table}",
                f"alter publication {quoted_name} add table {table}",
            ),
            by="its owner", fault="usage",
        )  # fmt: skip


def publication_misses(facts: Facts) -> Iterator[Finding]:
    found = facts.source.publication
    if found is None or found.all_tables:
        return
    tables = [
        relation.quoted
        for relation in facts.primary_relations
        if relation.kind == "r" and relation.persistence == "p" and not relation.of_extension
        and relation.key not in set(found.tables)
        and not (found.via_root and relation.partition)
    ]  # fmt: skip
    if tables:
        yield Finding(
            _INFORMS, "primary",
            f'publication "{facts.names.publication}" leaves these tables out: {named(tables)}',
            "they are not replicated" if found.open_ended
            else "they are not replicated, and tables that are made later aren't either",
            objects=tuple(tables),
        )  # fmt: skip


def origin(facts: Facts) -> Iterator[Finding]:
    if facts.origin_exists and facts.replica is None:
        yield Finding(
            _WARNS, "secondary",
            f'replication origin "{facts.names.origin}" exists, and logship knows no replica of it',
            "it is left over from a database that was dropped, or another program uses it; init takes it",
            sql=(f"select pg_catalog.pg_replication_origin_drop({literal(facts.names.origin)})",),
        )  # fmt: skip


def _servers(facts: Facts) -> tuple[tuple[Place, ServerFacts], ...]:
    return ("primary", facts.primary), ("secondary", facts.secondary)


CHECKS: Final = (
    Check("same-database", (_BLOCKS,), "primary and secondary are two databases", same_database),
    Check("recovery", (_BLOCKS,), "neither side is a standby", recovery),
    Check("own-schema", (_BLOCKS,), "a schema `logship` is logship's, of that side, not newer", own_schema),
    Check("other-primary", (_BLOCKS,), "the replica was made from this primary", other_primary),
    Check("slot", (_BLOCKS,), "the slot is pgoutput's, of this database, and not lost", slot),
    Check("publication", (_BLOCKS,), "the publication publishes whole tables and all four operations", publication),
    Check("slot-in-use", (_WARNS,), "nobody reads from the slot before init", slot_in_use, Stage.INIT),
    Check("origin", (_WARNS,), "no replication origin of that name is left over", origin, Stage.INIT),
    Check("publication-misses", (_INFORMS,), "tables that a publication of your own leaves out", publication_misses),
)  # fmt: skip
