"""Which objects may be in memory, and when they come there: what the settings say.

In: names of tables. Out: a `Policy` for each, and whether it is pinned. The patterns are somebody else's:
here they are anything that can be asked whether a name is in it. What is off stays off, whatever
else names it; what is pinned or eager comes without waiting for its first change. No I/O.
"""

from __future__ import annotations

import enum
from collections.abc import Container
from dataclasses import dataclass, field
from typing import TypeAlias

Name: TypeAlias = tuple[str, str]  # schema and relation


class Policy(enum.Enum):
    LAZY = "lazy"  # load an object at its first change, or when a reader asks for it
    EAGER = "eager"  # load it as soon as the log has described it
    OFF = "off"  # never: its changes go to persistence only


@dataclass(frozen=True, slots=True)
class Policies:
    usual: Policy = Policy.LAZY
    eager: Container[Name] = field(default=())
    off: Container[Name] = field(default=())
    pinned: Container[Name] = field(default=())

    def of(self, name: Name) -> Policy:
        if name in self.off:
            return Policy.OFF
        if name in self.eager or name in self.pinned:
            return Policy.EAGER
        return self.usual

    def pins(self, name: Name) -> bool:
        """Whether it is never evicted to make room."""
        return name in self.pinned and name not in self.off
