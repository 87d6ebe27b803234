"""What a query's names stand for: relations of the secondary, as its catalog describes them to the asking role.

In and out: plain records, made by `logship.catalog.readable` and looked at by `logship.replay.query.select`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from logship.replay.query.kinds import Type


@dataclass(frozen=True, slots=True)
class Column:
    """``why_not``: why memory can't show it, when it can't."""

    name: str
    type: Type
    why_not: str = ""


@dataclass(frozen=True, slots=True)
class Relation:
    """``why_not``: why memory may not answer for it whatever it holds (rights, row security, a view); or empty.

    ``columns``: those of the secondary, in its order.
    """

    schema: str
    name: str
    columns: tuple[Column, ...] = ()
    why_not: str = ""


# Schema (None: not given) and name, as PostgreSQL has them; None: there is no such relation.
LookUp: TypeAlias = Callable[[str | None, str], Relation | None]
