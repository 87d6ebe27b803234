"""Compares what the two catalogs say of an object, as ``logship.ddl_facts`` writes it on both sides.

In: facts as the primary's message has them, and as the secondary has them after the replay. Out:
differences, each a line for people. Left out: what may differ in databases that are the same (values
that a sequence has reached, missing values of columns, how another version writes a view down). No I/O.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from logship.replay.ddl.acl import item, spelled, without_maintain
from logship.replay.ddl.message import Json

# Values, not definitions: they are carried for themselves.
VALUES: Final = frozenset({"last_value", "missing"})
# Kinds of relation whose definition is a query.
_QUERIES: Final = frozenset({"v", "m"})
_RULE: Final = "CREATE RULE"
_SQL_BODY: Final = re.compile(r"^(?:BEGIN ATOMIC|RETURN )", re.MULTILINE)
_NAMED: Final = frozenset({"columns", "constraints"})  # lists of things with a name
_SECRETS: Final = frozenset({"foreign_options"})  # name=mark of the value, which may be a password


@dataclass(frozen=True, slots=True)
class Difference:
    """``path`` as in ``columns.price.type``; None: it isn't there."""

    path: str
    primary: object
    secondary: object

    def __str__(self) -> str:
        return (
            f"{self.path}: {_shown(self.primary)} on the primary, {_shown(self.secondary)} on the secondary"
        )


def compare(
    primary: Json,
    secondary: Json | None,
    *,
    same_version: bool = True,
) -> tuple[Difference, ...]:
    """Every difference, in the order of the primary's facts; ``secondary`` None: the object isn't there.

    ``same_version``: whether both servers are of one major version.
    """
    if secondary is None:
        return (Difference("object", "there", None),)
    rules = _Rules(same_version)
    # A message about privileges says nothing else.
    only = set(primary) if set(primary) <= {"acl", "columns"} else None
    other = {key: value for key, value in secondary.items() if only is None or key in only}
    if only is not None and "columns" in other:
        other["columns"] = [
            {"name": column["name"], "acl": column["acl"]}
            for column in other["columns"] if column.get("acl")
        ]  # fmt: skip
    return tuple(rules.of(dict(primary), other, ""))


@dataclass(frozen=True, slots=True)
class _Rules:
    same_version: bool

    def of(self, one: Any, two: Any, path: str) -> Iterator[Difference]:
        if isinstance(one, dict) and isinstance(two, dict):
            for key in dict.fromkeys([*one, *two]):
                if key not in VALUES and (self.same_version or _comparable(key, one, two)):
                    yield from self._key(key, one.get(key), two.get(key), f"{path}.{key}" if path else key)
        elif one != two:
            yield Difference(path, one, two)

    def _key(self, key: str, one: Any, two: Any, path: str) -> Iterator[Difference]:
        if key in _NAMED and isinstance(one or [], list) and isinstance(two or [], list):
            yield from self._list(one or [], two or [], path)
        elif key in _SECRETS:
            if one != two:
                yield Difference(path, _without_values(one, two), _without_values(two, one))
        elif key == "acl":
            expected, found = self._acl(one or []), self._acl(two or [])
            if expected != found:
                yield Difference(path, expected, found)
        elif key == "roles" and isinstance(one, list):
            yield from self.of(sorted(one), sorted(two or []), path)
        else:
            yield from self.of(one, two, path)

    def _list(self, one: list[Any], two: list[Any], path: str) -> Iterator[Difference]:
        here = {each["name"]: each for each in one}
        there = {each["name"]: each for each in two}
        for name in dict.fromkeys([*here, *there]):
            yield from self.of(here.get(name), there.get(name), f"{path}.{name}")
        if here.keys() == there.keys() and list(here) != list(there):
            yield Difference(f"{path} in order", list(here), list(there))

    def _acl(self, items: Iterable[str]) -> list[str]:
        return sorted(self._item(each) for each in items)

    def _item(self, text: str) -> str:
        return spelled(*item(text)) if self.same_version else without_maintain(text)


def _comparable(key: str, one: Json, two: Json) -> bool:
    """Whether two major versions must say the same of this."""
    if key == "version":
        return "schema" not in one  # an extension's is that of the server's own files
    if key != "definition":
        return True
    # A query is written down by each version in its own way.
    if {one.get("kind"), two.get("kind")} & _QUERIES:
        return False
    texts = (str(one.get("definition", "")), str(two.get("definition", "")))
    return not any(text.startswith(_RULE) or _SQL_BODY.search(text) for text in texts)


def _without_values(options: Iterable[str] | None, others: Iterable[str] | None) -> list[str]:
    """The names of what the other side hasn't got, or not with that value."""
    return sorted(each.partition("=")[0] for each in set(options or ()) - set(others or ()))


def _shown(value: object) -> str:
    if value is None:
        return "nothing"
    text = str(value)
    return text if len(text) <= 200 else text[:200] + " …"
