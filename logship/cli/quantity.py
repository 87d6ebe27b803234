"""Sizes, durations and positions as people write them: 64MB, 1 GB; 500ms, 5 min; an LSN, or `current`.

The units are PostgreSQL's, and mean what they mean there: 1 kB is 1024 bytes. What has none of them is
refused, with the nearest right way to write it.
"""

from __future__ import annotations

import difflib
import re
from typing import Any, Final

import click

from logship.errors import MalformedLsn
from logship.lsn import Lsn

_UNITS = {"B": 1, "kB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}
_QUANTITY: Final = re.compile(r"\A\s*([0-9]+)\s*([A-Za-zµ]*)\s*\Z")
_TIMES: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
# What people write elsewhere, and what PostgreSQL calls it.
_OTHERWISE: Final = {
    "k": "kB", "kib": "kB", "m": "MB", "mib": "MB", "g": "GB", "gib": "GB", "t": "TB", "tib": "TB",
    "byte": "B", "bytes": "B", "kilobytes": "kB", "megabytes": "MB", "gigabytes": "GB", "terabytes": "TB",
}  # fmt: skip
_OTHERWISE_TIMES: Final = {
    "µs": "us", "usec": "us", "msec": "ms", "sec": "s", "secs": "s", "second": "s", "seconds": "s",
    "m": "min", "mins": "min", "minute": "min", "minutes": "min", "hr": "h", "hour": "h", "hours": "h",
    "day": "d", "days": "d",
}  # fmt: skip


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
            match = _QUANTITY.match(str(value))
            units = {unit.lower(): factor for unit, factor in _UNITS.items()}
            if match is None or (match[2] and match[2].lower() not in units):
                near = _nearest(match, list(_UNITS), _OTHERWISE)
                self.fail(
                    f"{value!r} is not a size: {near or 'write it like 64MB'} ({', '.join(_UNITS)})",
                    param,
                    ctx,
                )
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


class Duration(click.ParamType[float]):
    """Seconds, between two bounds. Only 0 needs no unit."""

    name = "duration"

    def __init__(self, *, at_least: float, at_most: float = 365 * 86400.0) -> None:
        self.at_least = at_least
        self.at_most = at_most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            seconds = float(value)
        else:
            match = _QUANTITY.match(str(value))
            if match is None or (match[2] not in _TIMES and (match[2] or int(match[1]))):
                near = _nearest(match, list(_TIMES), _OTHERWISE_TIMES, without="s")
                self.fail(
                    f"{value!r} is not a duration: {near or 'write it like 500ms'} ({', '.join(_TIMES)})",
                    param,
                    ctx,
                )
            seconds = int(match[1]) * _TIMES.get(match[2], 1.0)
        if not self.at_least <= seconds <= self.at_most:
            self.fail(
                f"{value} is out of bounds: from {written_s(self.at_least)} to {written_s(self.at_most)}",
                param,
                ctx,
            )
        return seconds

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return "DURATION"


def _nearest(
    match: re.Match[str] | None, units: list[str], otherwise: dict[str, str], *, without: str = ""
) -> str:
    """``did you mean 10min?``: the same number with the unit that was meant; empty when nobody can know."""
    if match is None:
        return ""
    unit = match[2].lower()
    near = difflib.get_close_matches(unit, [*(known.lower() for known in units), *otherwise], n=1)
    meant = otherwise.get(unit) if unit else without
    if not meant and near:
        meant = otherwise.get(near[0]) or next(known for known in units if known.lower() == near[0])
    return f"did you mean {match[1]}{meant}?" if meant else ""


class Listen(click.ParamType["tuple[str, int]"]):
    """HOST:PORT to listen on; an IPv6 address stands in brackets."""

    name = "address"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        if isinstance(value, tuple):
            return value
        host, colon, port = str(value).rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        if not colon or not host or (":" in host) is not bracketed or not re.fullmatch("[0-9]{1,5}", port):
            self.fail(f"{value!r} is not HOST:PORT: write it like 127.0.0.1:9187 or [::1]:9187", param, ctx)
        if int(port) > 65535:
            self.fail(f"{value!r} has no port: they end at 65535", param, ctx)
        return host[1:-1] if bracketed else host, int(port)

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return "HOST:PORT"


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


def written_s(seconds: float) -> str:
    """The largest unit that says it exactly: 500ms, 5min."""
    if seconds == 0:
        return "0"
    microseconds = round(seconds * 1e6)
    for unit, factor in reversed(_TIMES.items()):
        if microseconds % round(factor * 1e6) == 0:
            return f"{microseconds // round(factor * 1e6)}{unit}"
    return f"{microseconds}us"
