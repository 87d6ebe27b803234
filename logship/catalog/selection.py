"""Which tables a replica keeps, as `--tables` and `--exclude` say it.

In: patterns ``schema.table`` with ``*`` and ``?``; a part with other signs in it stands in double
quotes, as in SQL. Out: whether a table is selected. No pattern: every table is. What an exclusion
names is never selected. A new table of the primary is judged by the same patterns.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from logship.errors import UsageError

_PART: Final = r'"(?:[^"]|"")+"|[^".]+'
_PATTERN: Final = re.compile(rf"(?P<schema>{_PART})\.(?P<name>{_PART})", re.S)


@dataclass(frozen=True, slots=True)
class Selection:
    """``(schema, name) in selection.left_out`` is what the classifier asks."""

    tables: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    _wanted: re.Pattern[str] | None = field(init=False, repr=False, compare=False, default=None)
    _unwanted: re.Pattern[str] | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_wanted", _any_of(self.tables))
        object.__setattr__(self, "_unwanted", _any_of(self.excluded))

    def selects(self, schema: str, name: str) -> bool:
        full = f"{schema}\0{name}"
        if self._unwanted is not None and self._unwanted.fullmatch(full):
            return False
        return self._wanted is None or self._wanted.fullmatch(full) is not None

    def __bool__(self) -> bool:
        """Whether anything at all is left out by it."""
        return bool(self.tables or self.excluded)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """The relations that a replica doesn't replicate: those named, and those not selected."""

    names: frozenset[tuple[str, str]]
    selection: Selection = field(default_factory=Selection)

    def __contains__(self, table: object) -> bool:
        if not isinstance(table, tuple):
            return False
        schema, name = table
        return (schema, name) in self.names or not self.selection.selects(schema, name)


def split(given: Sequence[str]) -> tuple[str, ...]:
    """``--tables a.b,c.d --tables e.f`` as three patterns; a comma in double quotes is a sign like others."""
    found = [part.strip() for text in given for part in re.findall(r'(?:"(?:[^"]|"")*"|[^",])+', text)]
    return tuple(part for part in found if part)


def _any_of(patterns: Iterable[str]) -> re.Pattern[str] | None:
    alternatives = [_one(pattern) for pattern in patterns]
    return re.compile("|".join(alternatives), re.S) if alternatives else None


def _one(pattern: str) -> str:
    parts = _PATTERN.fullmatch(pattern)
    if parts is None:
        raise UsageError(
            f"{pattern!r} is not a pattern of tables",
            hint="write schema.table, like public.orders, shop.* or 'public.\"Odd name\"'; "
            "* stands for anything, ? for one sign",
        )
    return f"{_part(parts['schema'])}\0{_part(parts['name'])}"


def _part(text: str) -> str:
    if text.startswith('"'):
        return re.escape(text[1:-1].replace('""', '"'))
    return "".join({"*": ".*", "?": "."}.get(sign, re.escape(sign)) for sign in text).replace(".*", "[^\0]*")
