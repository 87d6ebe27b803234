"""The words of a check: a finding, how grave it is, when it matters, and what mends it."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from logship.service.checks.facts import Facts

Place = Literal["primary", "secondary", "logship"]
# Whose fault it is when init raises it: its exit code. "side": that of the place.
Fault = Literal["side", "usage", "unsafe"]


class Severity(enum.Enum):
    BLOCKS = "blocks"
    WARNS = "warns"
    INFORMS = "informs"


class Stage(enum.Flag):
    """What a finding stands in the way of."""

    INIT = enum.auto()
    RUN = enum.auto()


BOTH: Final = Stage.INIT | Stage.RUN
SUPERUSER: Final = "a superuser"


@dataclass(frozen=True, slots=True)
class Finding:
    """``sql`` is pasted into ``place``'s database by ``by``; ``action`` is what no statement can do."""

    severity: Severity
    place: Place
    what: str
    why: str
    sql: tuple[str, ...] = ()
    by: str = SUPERUSER
    action: str = ""
    objects: tuple[str, ...] = ()  # every table, role … concerned; ``what`` names only the first few
    fault: Fault = "side"
    id: str = ""  # the check's; set by whoever runs it


@dataclass(frozen=True, slots=True)
class Check:
    id: str
    severities: tuple[Severity, ...]
    about: str  # one line for the documentation
    function: Callable[[Facts], Iterable[Finding]]
    stages: Stage = BOTH


def named(names: Iterable[str], *, at_most: int = 8) -> str:
    """The names, or the first of them and how many more."""
    listed = list(names)
    shown = ", ".join(listed[:at_most])
    more = len(listed) - at_most
    return f"{shown} and {more} more" if more > 0 else shown
