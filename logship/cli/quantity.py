"""Sizes and positions as people write them: 64MB, 1 GB, 512kB; an LSN, or `current`.

The units are PostgreSQL's, and mean what they mean there: 1 kB is 1024 bytes.
"""

from __future__ import annotations

import re
from typing import Any

import click

from logship.errors import MalformedLsn
from logship.lsn import Lsn

_UNITS = {"B": 1, "kB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}
_SIZE = re.compile(r"\A\s*([0-9]+)\s*([A-Za-z]*)\s*\Z")


class Size(click.ParamType[int]):
    """Bytes, between two bounds."""

    name = "size"

    def __init__(self, *, at_least: int, at_most: int = 1 << 50) -> None:
        self.at_least = at_least
        self.at_most = at_most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int) and not isinstance(value, bool):
            size = value
        else:
            match = _SIZE.match(str(value))
            units = {unit.lower(): factor for unit, factor in _UNITS.items()}
            if match is None or (match[2] and match[2].lower() not in units):
                self.fail(f"{value!r} is not a size: write it like 64MB ({', '.join(_UNITS)})", param, ctx)
            size = int(match[1]) * units.get(match[2].lower(), 1)
        if not self.at_least <= size <= self.at_most:
            self.fail(
                f"{value} is out of bounds: from {written(self.at_least)} to {written(self.at_most)}",
                param,
                ctx,
            )
        return size

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return "SIZE"


class StopAt(click.ParamType["Lsn | str"]):
    """An LSN, or ``current``: where the primary's log ends now."""

    name = "lsn"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Lsn | str:
        if isinstance(value, Lsn) or value == "current":
            return str(value) if value == "current" else value
        try:
            return Lsn.parse(str(value))
        except MalformedLsn as error:
            self.fail(f"{error.message}; give one like 0/16B3748, or current", param, ctx)

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return "LSN|current"


def written(size: int) -> str:
    """The largest unit that says it exactly: 64MB."""
    for unit, factor in reversed(_UNITS.items()):
        if size >= factor and size % factor == 0:
            return f"{size // factor}{unit}"
    return f"{size}B"
