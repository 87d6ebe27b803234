"""Checks of the secondary's content: what must be there before init, and what must not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from logship.catalog.requirements_relations import Name, quoted
from logship.errors import RefusedAsUnsafe
from logship.service.checks.facts import Facts
from logship.service.checks.finding import Check, Finding, Severity, Stage, named

_BLOCKS, _WARNS, _INFORMS = Severity.BLOCKS, Severity.WARNS, Severity.INFORMS
_DROP: Final = {
    "r": "table",
    "p": "table",
    "v": "view",
    "m": "materialized view",
    "S": "sequence",
    "f": "foreign table",
}


def roles(facts: Facts) -> Iterator[Finding]:
    missing = facts.missing_roles
    makes = facts.asked.roles == "create-nologin" and (
        facts.secondary.superuser or facts.secondary.createrole
    )
    if missing:
        yield Finding(
            _INFORMS if makes else _BLOCKS, "secondary",
            "roles that own or may use the primary's objects don't exist on the secondary: " + ", ".join(missing),
            "its objects can't be given to them",
            sql=tuple(f"create role {quoted(role)} nologin" for role in missing),
            action="init makes them, without login" if makes else "or let init do it: --roles create-nologin; "
            "or name roles that are there: --map-role",
            objects=missing,
        )  # fmt: skip


def mapped_roles(facts: Facts) -> Iterator[Finding]:
    if facts.roles_refused is not None:
        unsafe = isinstance(facts.roles_refused, RefusedAsUnsafe)
        yield Finding(
            _BLOCKS, "secondary", facts.roles_refused.message, "nobody may have more rights there than on the primary",
            action=facts.roles_refused.hint, fault="unsafe" if unsafe else "usage",
        )  # fmt: skip
    elif facts.roles:
        pairs = [f"{one} is {two}" for one, two in sorted(facts.roles.items())]
        yield Finding(
            _INFORMS, "secondary", f"roles that have another name there: {named(pairs)}",
            "owners, privileges and policies are given to them: --map-role", objects=tuple(pairs),
        )  # fmt: skip


def extensions(facts: Facts) -> Iterator[Finding]:
    missing = [name for name in facts.extensions if name not in facts.available]
    if missing:
        yield Finding(
            _BLOCKS, "secondary", "extensions of the primary aren't available on the secondary: " + ", ".join(missing),
            "their types and functions can't be made there",
            action="install their packages on the secondary's machine", objects=tuple(missing),
        )  # fmt: skip


def _rows_in(facts: Facts) -> list[Name]:
    """With rows that nobody said what becomes of."""
    return [] if facts.asked.existing != "refuse" else _all_rows_in(facts)


def _all_rows_in(facts: Facts) -> list[Name]:
    return sorted((facts.with_rows & facts.replicated) - facts.filling)


def rows(facts: Facts) -> Iterator[Finding]:
    """No statement that destroys them is offered: the database may be the wrong one."""
    found = _rows_in(facts)
    tables = [quoted(*key) for key in found]
    if tables:
        yield Finding(
            _BLOCKS, "secondary", f"tables of the secondary hold rows already: {', '.join(tables)}",
            "init fills empty tables only, so that no row is lost or doubled",
            action="is it the right database? Then give an empty one, or say what becomes of these rows: "
            "--existing replace deletes them, --existing keep takes them for right",
            objects=tuple(tables), fault="unsafe",
        )  # fmt: skip


def rows_named(facts: Facts) -> Iterator[Finding]:
    tables = [quoted(*key) for key in _all_rows_in(facts)]
    if tables and facts.asked.existing != "refuse":
        gone = facts.asked.existing == "replace"
        yield Finding(
            _WARNS, "secondary", f"tables of the secondary hold rows already: {named(tables)}",
            "--existing replace: init deletes these rows" if gone
            else "--existing keep: init takes them for right as they are, and copies none",
            action="look at them first" if gone else "`logship verify` compares them afterwards", objects=tuple(tables),
        )  # fmt: skip


def already_there(facts: Facts) -> Iterator[Finding]:
    """With --schema dump, pg_dump's CREATE would fail."""
    if facts.asked.schema == "existing" or facts.again:
        return
    wanted = {relation.key for relation in facts.primary_relations}
    found = [
        r for r in facts.secondary_relations if r.key in wanted - set(_rows_in(facts)) and not r.of_extension
    ]
    if not found:
        return
    full = bool(_rows_in(facts))  # then it may be the wrong database
    yield Finding(
        _BLOCKS, "secondary",
        f"{'tables' if all(r.table for r in found) else 'relations'} exist on the secondary already: "
        + ", ".join(sorted(r.quoted for r in found)),
        "init makes the schema by pg_dump, in an empty database",
        sql=() if full else tuple(f"drop {_DROP[r.kind]} if exists {r.quoted} cascade" for r in found),
        by="their owner",
        action="give an empty database" if full else "they are empty: to use them as they are, pass --schema existing",
        objects=tuple(r.quoted for r in found), fault="unsafe",
    )  # fmt: skip


def missing_tables(facts: Facts) -> Iterator[Finding]:
    if facts.asked.schema == "dump":
        return
    for key in sorted(facts.replicated - set(facts.secondary_columns) - _columnless(facts)):
        columns = ", ".join(
            f"{quoted(name)} {type_}" for name, type_ in facts.primary_columns.get(key, {}).items()
        )
        key_text = facts.primary_keys.get(key)
        yield Finding(
            _BLOCKS, "secondary", f"table {quoted(*key)} does not exist on the secondary",
            "with --schema existing init makes no table",
            sql=(f"create table {quoted(*key)} ({columns}{f', {key_text}' if key_text else ''})",),
            by="who is to own it",
            action="make it there, or, if it is partitioned differently there, pass --partitions root",
            objects=(quoted(*key),),
        )  # fmt: skip


def _columnless(facts: Facts) -> set[Name]:
    """Tables that are there and have no columns."""
    return {relation.key for relation in facts.secondary_relations if relation.table}


def missing_columns(facts: Facts) -> Iterator[Finding]:
    if facts.asked.schema == "dump":
        return
    for key in sorted(facts.replicated & _columnless(facts)):
        here, there = facts.primary_columns.get(key, {}), facts.secondary_columns.get(key, {})
        lacking = [name for name in here if name not in there]
        if lacking:
            yield Finding(
                _BLOCKS, "secondary",
                f"table {quoted(*key)} has no column {', '.join(quoted(name) for name in lacking)} on the secondary "
                "that could be written",
                "the secondary may have more columns than the primary, not fewer",
                sql=tuple(f"alter table {quoted(*key)} add column {quoted(n)} {here[n]}" for n in lacking),
                by="its owner", objects=(quoted(*key),),
            )  # fmt: skip


def other_types(facts: Facts) -> Iterator[Finding]:
    if facts.asked.schema == "dump":
        return
    differing = [
        f"{quoted(*key, name)} ({here} and {there})"
        for key in sorted(facts.replicated)
        for name, here in facts.primary_columns.get(key, {}).items()
        if (there := facts.secondary_columns.get(key, {}).get(name, here)) != here
    ]
    if differing:
        yield Finding(
            _WARNS, "secondary", f"columns have other types than on the primary: {named(differing)}",
            "a value that the secondary's type can't hold stops the copy, or the replica",
            action="give them the primary's types, or wider ones", objects=tuple(differing),
        )  # fmt: skip


def disk(facts: Facts) -> Iterator[Finding]:
    """Indexes are about as large as on the primary; bloat isn't copied."""
    needed, free = facts.primary.database_bytes, facts.secondary_free_bytes
    if facts.initialised:
        return
    if free is None:
        yield Finding(
            _INFORMS, "secondary",
            f"whether the copy of {needed // 2**20} MB fits on the secondary's disk is unknown",
            "PostgreSQL doesn't say what is free; it is looked at where the server is on this machine",
            action="df on the secondary's data directory; leave as much again for its WAL",
        )  # fmt: skip
    elif free < needed:
        yield Finding(
            _WARNS, "secondary",
            f"the primary's database has {needed // 2**20} MB, and {free // 2**20} MB are free on the secondary",
            "the copy needs about as much, unless the primary's tables are bloated, and its WAL comes on top",
            action="make room, or move the secondary's data directory",
        )  # fmt: skip


CHECKS: Final = (
    Check("roles", (_BLOCKS, _INFORMS), "roles that own or may use the primary's objects", roles, Stage.INIT),
    Check("role-map", (_BLOCKS, _INFORMS), "roles with another name on the secondary", mapped_roles),
    Check("extensions", (_BLOCKS,), "extensions are available on the secondary", extensions, Stage.INIT),
    Check("rows", (_BLOCKS,), "tables of the secondary are empty", rows, Stage.INIT),
    Check("rows-named", (_WARNS,), "rows that `--existing` replaces or keeps", rows_named, Stage.INIT),
    Check("existing", (_BLOCKS,), "no relation of the same name (`--schema dump`)", already_there, Stage.INIT),
    Check("missing-tables", (_BLOCKS,), "every table is there (`--schema existing`)", missing_tables, Stage.INIT),
    Check("missing-columns", (_BLOCKS,), "every column is there (`--schema existing`)", missing_columns, Stage.INIT),
    Check("other-types", (_WARNS,), "columns have the same types (`--schema existing`)", other_types, Stage.INIT),
    Check("disk", (_WARNS, _INFORMS), "disk space for the copy, where it can be known", disk, Stage.INIT),
)  # fmt: skip
