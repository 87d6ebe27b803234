"""Which column a name means, inside one SELECT and those around it.

In: what FROM brings, in order. Out: the typed expression of a column, as DuckDB is told it. Every source has
an alias of ours, so that nothing a query is written with can be taken for another name. No I/O.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from logship.replay.query.functions import Typed
from logship.replay.query.kinds import Elsewhere, Type


@dataclass(frozen=True, slots=True)
class Named:
    """A column of a source, or of a SELECT's result. ``why_not``: why memory can't show it, when it can't."""

    name: str
    expression: str
    type: Type
    computed: bool = False
    why_not: str = ""

    def typed(self) -> Typed:
        if self.why_not:
            raise Elsewhere(f'column "{self.name}" {self.why_not}')
        return Typed(self.expression, self.type, computed=self.computed)


@dataclass(slots=True)
class Scope:
    """``sources``: by the name that the query calls them. ``common``: WITH queries that are seen here."""

    parent: Scope | None = None
    sources: dict[str, Sequence[Named]] = field(default_factory=dict)
    common: Mapping[str, tuple[str, Sequence[Named]]] = field(default_factory=dict)

    def add(self, name: str, columns: Sequence[Named]) -> None:
        if name in self.sources:
            raise Elsewhere(f'it uses the name "{name}" twice')
        self.sources[name] = columns

    def column(self, parts: Sequence[str]) -> Typed:
        if len(parts) > 2:
            raise Elsewhere("it names a column with its schema")
        found = self._all(parts)
        if len(found) > 1:
            raise Elsewhere(f'"{parts[-1]}" can mean several columns')
        if found:
            return found[0].typed()
        if self.parent is None:
            raise Elsewhere(f'"{".".join(parts)}" is no column of its tables in memory')
        return self.parent.column(parts)

    def _all(self, parts: Sequence[str]) -> list[Named]:
        if len(parts) == 2:
            sources = [self.sources.get(parts[0], ())]
        else:
            sources = list(self.sources.values())
            if parts[0] in self.sources:
                raise Elsewhere(f'"{parts[0]}" can mean a whole row')
        return [column for source in sources for column in source if column.name == parts[-1]]

    def star(self, source: str | None) -> list[Named]:
        if source is None:
            return [column for each in self.sources.values() for column in each]
        if source not in self.sources:
            raise Elsewhere(f'"{source}" is none of its tables')
        return list(self.sources[source])

    def with_query(self, name: str) -> tuple[str, Sequence[Named]] | None:
        scope: Scope | None = self
        while scope is not None:
            if name in scope.common:
                return scope.common[name]
            scope = scope.parent
        return None
