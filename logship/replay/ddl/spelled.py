"""Names, literals and columns as SQL spells them, and a qualified name taken apart. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from logship.replay.ddl.message import Object

_PART: Final = re.compile(r'"((?:[^"]|"")*)"|([^".]+)')


def quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def parts(name: str) -> tuple[str, ...]:
    """public."Odd.name" as two."""
    return tuple(
        match[1].replace('""', '"') if match[1] is not None else match[2] for match in _PART.finditer(name)
    )


def literal(text: str) -> str:
    """For standard_conforming_strings = on."""
    return "'" + text.replace("'", "''") + "'"


def named(one: Object) -> str:
    """A relation by its qualified name."""
    return ".".join(quote(part) for part in one.names)


def options(facts: Mapping[str, Any]) -> str:
    return f" with ({', '.join(map(option, facts['options']))})" if facts.get("options") else ""


def option(text: str) -> str:
    """``name=value``, or ``toast.name=value``, as the catalog has it."""
    name, _, value = text.partition("=")
    return f"{name} = {literal(value)}"


def column(facts: Mapping[str, Any], identity: str = "") -> str:
    """A column's definition. ``identity``: the options of its sequence."""
    parts = [quote(facts["name"]), facts["type"]]
    if facts.get("collation"):
        parts.append(f"collate {facts['collation']}")
    if facts.get("generated"):
        stored = "stored" if facts["generated"] == "s" else "virtual"
        parts.append(f"generated always as ({facts['default']}) {stored}")
    elif facts.get("default"):
        parts.append(f"default {facts['default']}")
    if facts.get("identity"):
        always = "always" if facts["identity"] == "a" else "by default"
        parts.append(f"generated {always} as identity" + (f" ({identity})" if identity else ""))
    if facts.get("not_null"):
        parts.append("not null")
    return " ".join(parts)
