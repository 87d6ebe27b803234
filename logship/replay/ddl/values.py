"""Values that the primary chose when a table was altered: the rows of before have the same on the secondary.

In: the statement with its facts, its text, and what the secondary's catalog says before and after it. Out: texts to
be run. ADD COLUMN … DEFAULT now() leaves one value for all rows of before, which the facts have (`missing`):
the text gets it as a literal in the default's place, and the default follows; what came out otherwise all the
same is written by UPDATE. An ALTER that rewrites a table is followed by its rows in the log, or its expressions
are proven to give the same here, or it is refused. No I/O of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from logship.replay.ddl.alterations import Added, alterations
from logship.replay.ddl.message import Dropped, Object, Statement
from logship.replay.ddl.spelled import literal, named, quote
from logship.replay.failures import RowsNotCarried

Look = Callable[[Object | Dropped], Mapping[str, Any] | None]


@dataclass(frozen=True, slots=True)
class Adapted:
    """``text`` as it is to be run, and what sets the defaults behind it ('' for nothing), with names qualified."""

    text: str
    defaults: str = ""


def adapt(statement: Statement, text: str) -> Adapted:
    """The statement with the primary's values for the rows of before, where its own text could give others."""
    table = _table(statement)
    if table is None or statement.rewritten:
        return Adapted(text)
    missing, columns = _missing(table), _columns(table.facts)
    source, defaults = text.encode(), []
    for added in reversed(alterations(text)):
        if not isinstance(added, Added) or added.default is None or added.column not in missing:
            continue
        value, facts = missing[added.column], columns.get(added.column)
        if added.constant == value or facts is None:
            continue
        start, end = added.default
        source = source[:start] + f"{_escaped(value)}::{facts['type']} ".encode() + source[end:]
        action = f"set default {facts['default']}" if facts.get("default") else "drop default"
        defaults.append(f"alter table {named(table)} alter column {quote(added.column)} {action}")
    return Adapted(source.decode(), "; ".join(defaults))


def left_over(statement: Statement, before: Mapping[str, Any] | None, text: str, look: Look) -> Iterator[str]:
    """What gives the rows of before the primary's values, where they have others after the statement."""
    table = _table(statement)
    if table is None or statement.rewritten:
        return
    there = _columns(before["facts"]) if before else {}
    again = (
        {one.column for one in alterations(text) if isinstance(one, Added) and not one.if_not_exists}
        if text
        else set()
    )
    columns = _columns(table.facts)
    for schema, name, column, value in (*_own(table), *table.below):
        if (column in there and column not in again) or column not in columns:
            continue
        one = Dropped("table", (schema, name), (), f"{schema}.{name}", schema, original=True)
        found = look(one)
        here = _columns(found["facts"]) if found else {}
        if here.get(column, {}).get("missing") != value:
            kind = columns[column]["type"]
            yield (
                f"update only {quote(schema)}.{quote(name)} set {quote(column)} = {literal(value)}::{kind}"
            )


def require_rows(statement: Statement, text: str, what: str, prove: Callable[[str], bool]) -> None:
    """That what a rewritten table's rows hold is known here: `RowsNotCarried` otherwise. ``prove`` says whether
    PostgreSQL takes a statement, which is undone."""
    for table in statement.rewritten:
        if table.echo is not None or table.why is None:
            continue
        probes = list(_probes(table, text))
        if (
            table.reason & 1
            or None in probes
            or not all(prove(probe) for probe in probes if probe is not None)
        ):
            raise RowsNotCarried(what, table.identity, table.why)


def _probes(table: Object, text: str) -> Iterator[str | None]:
    """What PostgreSQL takes only if the rows come out alike wherever it is run: a generated column must be
    immutable. None: nothing could prove it."""
    columns = _columns(table.facts)
    for one in alterations(text):
        facts = columns.get(one.column)
        if facts is None:
            yield None
            continue
        if isinstance(one, Added):
            if facts.get("generated"):
                continue  # immutable by PostgreSQL's own rule
            if one.default is None:
                if facts.get("default") or facts.get("identity") or facts.get("type_default"):
                    yield None
                continue
            expression = text.encode()[slice(*one.default)].decode()
        else:
            expression = one.using or quote(one.column)
        collation = f" collate {facts['collation']}" if facts.get("collation") else ""
        yield (
            f"create temporary table pg_temp.logship_probe (like {named(table)}, "
            f'"logship probe" {facts["type"]}{collation} generated always as ({expression}) stored)'
        )


def _table(statement: Statement) -> Object | None:
    """The altered table; None where the statement is another."""
    if statement.tag != "ALTER TABLE":
        return None
    return next((one for one in statement.objects if one.catalog == "pg_class" and one.type == "table"), None)


def _columns(facts: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {column["name"]: column for column in facts.get("columns") or ()}


def _own(table: Object) -> list[tuple[str, str, str, str]]:
    schema, name = table.names
    return [
        (schema, name, column["name"], column["missing"])
        for column in table.facts.get("columns") or ()
        if column.get("missing") is not None
    ]


def _missing(table: Object) -> dict[str, str]:
    """By column, of the table and those below it; one that has several values among them is left to `left_over`."""
    found: dict[str, str] = {}
    for _, _, column, value in (*_own(table), *table.below):
        if found.setdefault(column, value) != value:
            found[column] = ""
    return {column: value for column, value in found.items() if value}


def _escaped(value: str) -> str:
    """Whatever standard_conforming_strings says where it is read."""
    doubled = value.replace("'", "''")
    return "E'" + doubled.replace("\\", "\\\\") + "'" if "\\" in value else f"'{doubled}'"
