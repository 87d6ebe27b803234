"""ALTER TABLE, made from what the two catalogs say of a table.

In: the table as the primary has it, and as the secondary has it. Out: one ALTER TABLE that makes the second
like the first, '' when they are the same; None where more is asked than the facts can say: another name, or
values that a changed type would get. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

from logship.replay.ddl.message import Dropped, Object
from logship.replay.ddl.spelled import column, literal, named, option, quote

Facts: TypeAlias = Mapping[str, Any]
_FLAGS: Final = {
    "row_security": ("enable row level security", "disable row level security"),
    "force_row_security": ("force row level security", "no force row level security"),
}
_IDENTITIES: Final = {"d": "default", "n": "nothing", "f": "full"}


def table(one: Object, found: Mapping[str, Any] | None, dropped: Sequence[Dropped]) -> str | None:
    """``found``: what the secondary says of it. ``dropped``: what the statement is known to have dropped."""
    if found is None or one.type != "table":
        return None
    gone = {each.names[-1] for each in dropped if each.type == "table column"}
    here, there = _by_name(one.facts, "columns"), _by_name(found["facts"], "columns")
    if there.keys() - here.keys() - gone:
        return None  # renamed, perhaps
    actions = [*_constraints_gone(one.facts, found["facts"])]
    actions += [f"drop column {quote(name)}" for name in there if name not in here]
    for name, facts in here.items():
        actions += _added(facts) if name not in there else _changed(facts, there[name])
    actions += _constraints_new(one.facts, found["facts"])
    actions += _settings(one.facts, found["facts"])
    return f"alter table {named(one)} {', '.join(actions)}" if actions else ""


def _by_name(facts: Facts, key: str) -> dict[str, Facts]:
    return {each["name"]: each for each in facts.get(key) or ()}


def _added(facts: Facts) -> Iterator[str]:
    """Rows that are there already have the value that the primary's have, whatever the default gives now."""
    if facts.get("missing") is None or facts.get("generated"):
        yield f"add column {column(facts)}"
        return
    yield f"add column {column({**facts, 'default': literal(str(facts['missing'])) + '::' + facts['type']})}"
    yield _default(facts)


def _default(facts: Facts) -> str:
    set_or_drop = f"set default {facts['default']}" if facts.get("default") else "drop default"
    return f"alter column {quote(facts['name'])} {set_or_drop}"


def _changed(here: Facts, there: Facts) -> Iterator[str]:
    altered = f"alter column {quote(here['name'])}"
    if here["type"] != there["type"] or here.get("collation") != there.get("collation"):
        collation = f" collate {here['collation']}" if here.get("collation") else ""
        yield f"{altered} type {here['type']}{collation}"
    if there.get("generated") and not here.get("generated"):
        yield f"{altered} drop expression"
    if (
        here.get("default") != there.get("default")
        and not here.get("generated")
        and not there.get("generated")
    ):
        yield _default(here)
    if here.get("not_null") != there.get("not_null"):
        yield f"{altered} {'set' if here.get('not_null') else 'drop'} not null"
    if here.get("statistics") != there.get("statistics"):
        yield f"{altered} set statistics {here.get('statistics', -1)}"
    if here.get("storage") != there.get("storage") and here.get("storage"):
        kinds = {"p": "plain", "e": "external", "m": "main", "x": "extended"}
        yield f"{altered} set storage {kinds[here['storage']]}"


def _constraints_gone(here: Facts, there: Facts) -> Iterator[str]:
    kept = _by_name(here, "constraints")
    for name, facts in _by_name(there, "constraints").items():
        if name not in kept or _replaced(kept[name], facts):
            yield f"drop constraint {quote(name)}"


def _constraints_new(here: Facts, there: Facts) -> Iterator[str]:
    known = _by_name(there, "constraints")
    for name, facts in _by_name(here, "constraints").items():
        if name not in known or _replaced(facts, known[name]):
            yield f"add constraint {quote(name)} {facts['definition']}"
        elif facts["validated"] and not known[name]["validated"]:
            yield f"validate constraint {quote(name)}"


def _replaced(here: Facts, there: Facts) -> bool:
    """Not the same constraint any more; one that has been validated is."""
    return (here["type"], _valid(here)) != (there["type"], _valid(there))


def _valid(facts: Facts) -> str:
    return str(facts["definition"]).removesuffix(" NOT VALID")


def _settings(here: Facts, there: Facts) -> Iterator[str]:
    for name, (on, off) in _FLAGS.items():
        if bool(here.get(name)) != bool(there.get(name)):
            yield on if here.get(name) else off
    identity = here.get("replica_identity")
    if identity != there.get("replica_identity"):
        by_index = str(identity).removeprefix("index ")
        yield f"replica identity {_IDENTITIES.get(str(identity)) or 'using index ' + quote(by_index)}"
    new, old = set(here.get("options") or ()), set(there.get("options") or ())
    names = {each.partition("=")[0] for each in new}
    if gone := sorted(each.partition("=")[0] for each in old if each.partition("=")[0] not in names):
        yield f"reset ({', '.join(gone)})"
    if new - old:
        yield f"set ({', '.join(option(each) for each in sorted(new - old))})"
    if here.get("owner") != there.get("owner"):
        yield f"owner to {quote(str(here['owner']))}"
