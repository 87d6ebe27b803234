"""Where a key stands in a TOML file: the parser of the standard library doesn't say.

In: the text of a file that is valid TOML. Out: lines. A key that is written in a way that isn't looked for
here (inside an inline table, on a line of a text that spans lines) has no line, or its table's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

_TABLE: Final = re.compile(r"\s*\[\s*([^\[\]]+?)\s*\]\s*(#.*)?\Z")
_KEY: Final = re.compile(r"""\s*((?:"[^"]*"|'[^']*'|[\w-]+)(?:\s*\.\s*(?:"[^"]*"|'[^']*'|[\w-]+))*)\s*=""")


def name_of(key: str) -> str:
    """The option's name: dashes and underscores are the same."""
    return key.replace("-", "_")


@dataclass(frozen=True, slots=True)
class Places:
    """Line numbers by table ("" at the top) and key ("" for the table itself)."""

    lines: dict[tuple[str, str], int]

    @classmethod
    def of(cls, text: str) -> Self:
        lines: dict[tuple[str, str], int] = {}
        table = ""
        for number, line in enumerate(text.splitlines(), start=1):
            if found := _TABLE.match(line):
                table = _names(found[1])[0]
                lines.setdefault((table, ""), number)
            elif found := _KEY.match(line):
                *before, key = _names(found[1])
                where = table or ".".join(before)
                lines.setdefault((where, name_of(key)), number)
                lines.setdefault((where if before else key, ""), number)
        return cls(lines)

    def describe(self, path: Path, table: str, key: str, *, or_top: bool = False) -> str:
        """``logship.toml line 3``; without a line, the file's name."""
        found = self.lines.get((table, name_of(key)))
        if found is None and or_top:
            found = self.lines.get(("", name_of(key)))
        return str(path) if found is None else f"{path} line {found}"


def _names(dotted: str) -> list[str]:
    return [part.strip().strip("\"'") for part in dotted.split(".")]
