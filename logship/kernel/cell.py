"""What a cell of a row can be: a value's text, NULL, or nothing that the log carries.

Both implementations of the kernel speak of the same three. No I/O.
"""

from __future__ import annotations

import enum
from typing import Final, Literal, TypeAlias


class Unchanged(enum.Enum):
    """The one value of a cell that the log doesn't carry: a TOASTed value that didn't change."""

    UNCHANGED = "unchanged"

    def __repr__(self) -> str:
        return "UNCHANGED"


UNCHANGED: Final = Unchanged.UNCHANGED
Cell: TypeAlias = bytes | Literal[Unchanged.UNCHANGED] | None
