"""What is said between who asks the replayer's memory and the replayer, as JSON.

In and out: records and their texts. A question says what it wants; a head says what came of it, and the rows of
an answer from memory follow as an Arrow stream in parts. Whoever reads a question believes nothing of it:
`Question.read` refuses what isn't in order. No I/O.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import math
from dataclasses import dataclass
from typing import Any, Final, Self

from logship.config import Cold
from logship.errors import UsageError
from logship.lsn import Lsn

LONGEST_S: Final = 3600.0
PART_BYTES: Final = 4 << 20
MOST_BYTES: Final = 256 << 20  # of a result, as Arrow counts it


@dataclass(frozen=True, slots=True)
class Question:
    """``schemas``: those that names without schema are looked for in, in order."""

    sql: str
    schemas: tuple[str, ...]
    timeout_s: float
    limit_bytes: int
    at_least: Lsn | None = None
    cold: Cold | None = None  # None: as the replayer's setting has it

    def text(self) -> str:
        return json.dumps(
            {
                "sql": self.sql,
                "schemas": self.schemas,
                "timeout_s": self.timeout_s,
                "limit_bytes": self.limit_bytes,
                "at_least": None if self.at_least is None else str(self.at_least),
                "cold": None if self.cold is None else self.cold.value,
            }
        )

    @classmethod
    def read(cls, text: str) -> Self:
        """`UsageError` for what no `text` has written."""
        try:
            given = json.loads(text)
            timeout_s, limit_bytes = float(given["timeout_s"]), int(given["limit_bytes"])
            if not (math.isfinite(timeout_s) and 0 <= timeout_s <= LONGEST_S and limit_bytes > 0):
                raise ValueError  # noqa: TRY301
            return cls(
                str(given["sql"]),
                tuple(map(str, given["schemas"])),
                timeout_s,
                min(limit_bytes, MOST_BYTES),
                None if given["at_least"] is None else Lsn.parse(given["at_least"]),
                None if given["cold"] is None else Cold(given["cold"]),
            )
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise UsageError(
                "the question to memory can't be read", hint="ask with the replayer's own version of logship"
            ) from error


class Came(enum.Enum):
    """What came of a question."""

    MEMORY = "memory"  # the rows follow
    ELSEWHERE = "elsewhere"  # the secondary shall answer
    REFUSED = "refused"  # memory can't answer, and the secondary shall not
    BEHIND = "behind"  # memory has not come to at_least in time
    LATE = "late"  # the time was over
    LARGE = "large"  # the result is larger than was allowed
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Head:
    """``reason``: why it isn't MEMORY. ``types``: OIDs of the result's columns. ``lsn``: what the rows are true
    at, or how far memory is."""

    came: Came
    reason: str = ""
    lsn: Lsn | None = None
    types: tuple[int, ...] = ()
    parts: int = 0
    loaded: tuple[str, ...] = ()  # objects that were loaded for it

    def text(self) -> str:
        given: dict[str, Any] = dataclasses.asdict(self)
        given["came"] = self.came.value
        given["lsn"] = None if self.lsn is None else str(self.lsn)
        return json.dumps(given)

    @classmethod
    def read(cls, text: str) -> Self:
        given = json.loads(text)
        return cls(
            Came(given["came"]),
            given["reason"],
            None if given["lsn"] is None else Lsn.parse(given["lsn"]),
            tuple(given["types"]),
            given["parts"],
            tuple(given["loaded"]),
        )
