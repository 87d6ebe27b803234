"""Statements made from what the primary's catalog says, where its text can't be run again.

In: a `Statement` with the facts of its objects, and a look at what the secondary has. Out: SQL, every name
quoted and qualified, to be run under `SETTINGS`, which are those that facts are written under; None where
facts don't say enough (what a thing was called before it was renamed, who was granted what). What comes out
is held against the same facts afterwards. No I/O of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from logship.replay.ddl import altered
from logship.replay.ddl.message import Dropped, Object, Statement
from logship.replay.ddl.spelled import column, literal, named, options, quote

# See logship.ddl_facts. A function's body may name what only its own path finds.
SETTINGS: Final[Mapping[str, str]] = {
    "search_path": "pg_catalog, pg_temp", "DateStyle": "ISO, MDY", "IntervalStyle": "postgres", "TimeZone": "UTC",
    "standard_conforming_strings": "on", "check_function_bodies": "off",
}  # fmt: skip
_COMMENTED: Final = {
    "table column": "column", "foreign table column": "column", "view column": "column",
    "materialized view column": "column", "table constraint": "constraint",
}  # fmt: skip
# Their facts have the whole statement.
_DEFINED: Final = {
    "pg_proc": "create or replace ", "pg_trigger": "", "pg_rewrite": "", "pg_statistic_ext": "",
}  # fmt: skip

Look = Callable[[Object | Dropped], Mapping[str, Any] | None]


def make(statement: Statement, look: Look) -> str | None:
    """What does the same as ``statement``; None when that isn't known. ``look``: the secondary's object."""
    if statement.tag.startswith("DROP ") and statement.tag != "DROP OWNED":
        return _drop(statement)
    if statement.tag.startswith("CREATE "):
        return _all([_created(one, statement) for one in _in_order(statement.objects)])
    if statement.tag == "COMMENT":
        return _comment(statement.objects[0])
    if statement.tag == "ALTER TABLE" and not statement.rewritten:
        return _all([altered.table(one, look(one), statement.dropped) for one in statement.objects])
    if statement.tag == "ALTER SEQUENCE":
        return _all([_sequence("alter", one) if look(one) else None for one in statement.objects])
    return None


def create_table(made: Object) -> str:
    """The table that CREATE TABLE AS or SELECT INTO made, without its rows, which the log brings."""
    columns = ", ".join(column(each) for each in made.facts.get("columns") or ())
    return f"create {_unlogged(made)}table {named(made)} ({columns}){_stored(made)}"


def _all(parts: Sequence[str | None]) -> str | None:
    known = [part for part in parts if part is not None]
    return "; ".join(part for part in known if part) if len(known) == len(parts) else None


def _drop(statement: Statement) -> str:
    """Of what is gone with it, what only belongs to it is named nowhere; CASCADE takes it along in any case."""
    names = ", ".join(dropped.identity for dropped in statement.dropped if dropped.original)
    cascade = " cascade" if any(not dropped.original for dropped in statement.dropped) else ""
    return f"drop {statement.tag.removeprefix('DROP ').lower()} {names}{cascade}"


def _in_order(objects: Sequence[Object]) -> list[Object]:
    """A sequence that a column owns is made before its table, and given to it after."""
    return [one for one in objects if not (one.tag == "CREATE INDEX" and _implied(one, objects))]


def _implied(index: Object, objects: Sequence[Object]) -> bool:
    """Whether a constraint brings the index, or the index of the table that it is a partition of."""
    constraints = {
        (one.schema, each["name"]) for one in objects for each in one.facts.get("constraints") or ()
    }
    return (index.schema, index.names[-1]) in constraints or bool(index.facts.get("index_of"))


def _created(one: Object, statement: Statement) -> str | None:  # noqa: PLR0911  (a line per kind)
    facts = one.facts
    if one.tag.startswith("ALTER ") and one.tag != "ALTER SEQUENCE":
        return ""  # of a constraint that a new table came with
    if one.catalog in _DEFINED and facts.get("definition"):
        return str(facts["definition"])
    match facts.get("kind"), one.catalog:
        case "r" | "p", "pg_class":
            return _table(one, statement)
        case "S", "pg_class":
            if _is_identity(one, statement.objects):
                return ""
            return _owned(one) if one.tag == "ALTER SEQUENCE" else _sequence("create", one)
        case "i" | "I", "pg_class":
            return str(facts["definition"])
        case "v", "pg_class":
            names = ", ".join(quote(each["name"]) for each in facts.get("columns") or ())
            return f"create or replace view {named(one)} ({names}){options(facts)} as {facts['definition']}"
        case "e", "pg_type":
            return (
                f"create type {one.identity} as enum ({', '.join(map(literal, facts.get('labels') or ()))})"
            )
        case _, "pg_namespace":
            return f"create schema {quote(one.names[0])}"
    return None


def _table(one: Object, statement: Statement) -> str | None:
    facts = one.facts
    if facts.get("of_type"):
        return None
    key = f" partition by {facts['partition_key']}" if facts.get("partition_key") else ""
    parents: list[str] = facts.get("inherits") or []
    if facts.get("partition_bound"):
        of = f"partition of {', '.join(parents)} {facts['partition_bound']}"
        return f"create table {named(one)} {of}{key}{_stored(one)}"
    identities = {
        each["name"]: _range(sequence.facts, f"sequence name {named(sequence)} ")
        for each in facts.get("columns") or () if each.get("identity")
        for sequence in statement.objects if _owns(one, each["name"], sequence)
    }  # fmt: skip
    items = [column(each, identities.get(each["name"], "")) for each in facts.get("columns") or ()]
    # Of a key that others refer to, the key comes first.
    constraints = sorted(facts.get("constraints") or (), key=lambda each: bool(each["type"] == "f"))
    items += [f"constraint {quote(each['name'])} {each['definition']}" for each in constraints]
    inherits = f" inherits ({', '.join(parents)})" if parents else ""
    return f"create {_unlogged(one)}table {named(one)} ({', '.join(items)}){inherits}{key}{_stored(one)}"


def _is_identity(sequence: Object, objects: Sequence[Object]) -> bool:
    return any(
        each.get("identity") and _owns(one, each["name"], sequence)
        for one in objects
        for each in one.facts.get("columns") or ()
    )


def _owns(table: Object, name: str, sequence: Object) -> bool:
    owned_by = sequence.facts.get("owned_by")
    return owned_by in (f"{table.identity}.{name}", f"{table.identity}.{quote(name)}")


def _sequence(verb: str, one: Object) -> str:
    return f"{verb} sequence {named(one)} as {one.facts['type']} {_range(one.facts)}"


def _range(facts: Mapping[str, Any], name: str = "") -> str:
    cycle = "cycle" if facts.get("cycle") else "no cycle"
    return (
        f"{name}increment by {facts['increment']} minvalue {facts['min']} maxvalue {facts['max']} "
        f"start with {facts['start']} cache {facts['cache']} {cycle}"
    )


def _owned(sequence: Object) -> str:
    return f"alter sequence {named(sequence)} owned by {sequence.facts.get('owned_by') or 'none'}"


def _comment(one: Object) -> str | None:
    said = one.facts.get("comment")
    what = _COMMENTED.get(one.type, one.type)
    if what == "column":
        found = [each for each in one.facts.get("columns") or () if each["name"] == one.names[-1]]
        said = found[0].get("comment") if found else None
    return f"comment on {what} {one.identity} is {'null' if said is None else literal(said)}"


def _unlogged(one: Object) -> str:
    return "unlogged " if one.facts.get("persistence") == "u" else ""


def _stored(one: Object) -> str:
    facts = one.facts
    method = f" using {quote(facts['access_method'])}" if facts.get("access_method") else ""
    space = f" tablespace {quote(facts['tablespace'])}" if facts.get("tablespace") else ""
    return f"{method}{options(facts)}{space}"
