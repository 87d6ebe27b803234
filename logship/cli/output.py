"""What the commands print: tables or JSON on standard output, errors and the log on standard error.

In: plain values, `Lsn`, times, errors. Out: text. ``None`` is unknown, and shown as such: `-` in a
table, null in JSON, never 0. Never printed: passwords, and texts of errors that nobody has looked at
(a server's message may quote a row).
"""

from __future__ import annotations

import datetime
import decimal
import json
import logging
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click

from logship.errors import InternalError, LogshipError
from logship.lsn import Lsn

_LOG_FORMAT: Final = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


def rows(given: Sequence[Mapping[str, Any]], *, as_json: bool, empty: str = "nothing to show") -> None:
    """A table with a column per key, or a JSON array."""
    if as_json:
        click.echo(_dumps(given, indent=2))
    elif not given:
        click.echo(empty)
    else:
        click.echo("\n".join(_table(given)))


def record(given: Mapping[str, Any], *, as_json: bool) -> None:
    """One thing: a line per key, or a JSON object."""
    if as_json:
        click.echo(_dumps(given, indent=2))
        return
    width = max((len(key) for key in given), default=0)
    for key, value in given.items():
        click.echo(f"{key:<{width}}  {cell(value)}")


def line(text: str) -> None:
    click.echo(text)


def cell(value: object) -> str:
    """A value as people read it."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case datetime.timedelta():
            return duration(value.total_seconds())
        case datetime.datetime():
            return value.isoformat(sep=" ", timespec="milliseconds")
    return str(value)


def duration(seconds: float) -> str:
    """2.5 ms, 340 ms, 1.2 s, 3 min 20 s, 5 h 10 min."""
    if abs(seconds) < 1:
        return f"{seconds * 1000:.3g} ms"
    if abs(seconds) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def size(count: int | None) -> str:
    """Bytes in binary units, as PostgreSQL's pg_size_pretty has them."""
    if count is None:
        return "-"
    value = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if abs(value) < 10240:
            return f"{value:.0f} {unit}"
        value /= 1024
    return f"{value:.0f} TB"


def log_to_stderr(level: str) -> None:
    """Our own loggers at ``level``; everybody else's from warnings on."""
    logging.basicConfig(stream=sys.stderr, format=_LOG_FORMAT, level=logging.WARNING, force=True)
    logging.getLogger("logship").setLevel(level.upper())


def report(error: LogshipError, *, as_json: bool) -> int:
    """Print the error on standard error; its exit code."""
    if as_json:
        click.echo(_dumps(error_object(error)), err=True)
    else:
        click.echo(f"logship: error: {error.message}", err=True)
        if error.hint:
            click.echo(f"hint: {error.hint}", err=True)
    return error.exit_code


def interrupted(exit_code: int, *, as_json: bool) -> None:
    """Say that a command was ended by a signal before it was done. Whatever it did is whole, or is gone on with."""
    hint = "run it again: what was begun is gone on with, or begun anew"
    if as_json:
        said = {"error": "interrupted", "hint": hint, "kind": "Interrupted", "exit_code": exit_code}
        click.echo(_dumps(said), err=True)
    else:
        click.echo(f"logship: interrupted\nhint: {hint}", err=True)


def error_object(error: LogshipError) -> dict[str, Any]:
    """``error``, ``hint``, ``kind``, ``exit_code``, and the error's own fields."""
    fields = {key: value for key, value in vars(error).items() if key not in {"message", "hint"}}
    return {
        "error": error.message,
        "hint": error.hint,
        "kind": type(error).__name__,
        "exit_code": error.exit_code,
        **({"fields": fields} if fields else {}),
    }


def unexpected(error: BaseException) -> InternalError:
    """An exception that no command foresaw. Its text is left out: it may quote a row or a conninfo."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "logship" in frame.filename]
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    sqlstate = getattr(error, "sqlstate", None)  # a psycopg.Error, which isn't imported for this alone
    state = f" (SQLSTATE {sqlstate})" if sqlstate else ""
    return InternalError(
        f"unexpected {type(error).__name__}{state}{place}",
        hint="this is a defect of logship; LOGSHIP_DEBUG=1 shows the traceback that a report needs",
    )


def debug_traceback() -> None:
    """The traceback of the present exception, for who asked for it with LOGSHIP_DEBUG=1."""
    if os.environ.get("LOGSHIP_DEBUG") == "1":
        traceback.print_exc(file=sys.stderr)


def _table(given: Sequence[Mapping[str, Any]]) -> list[str]:
    names = list(given[0])
    cells = [[cell(row.get(name)) for name in names] for row in given]
    right = [all(isinstance(row.get(name), int | float | None) for row in given) for name in names]
    widths = [max(len(name), *(len(row[i]) for row in cells)) for i, name in enumerate(names)]
    return [
        "  ".join(
            text.rjust(width) if to_right else text.ljust(width)
            for text, width, to_right in zip(texts, widths, right, strict=True)
        ).rstrip()
        for texts in [names, *cells]
    ]


def _dumps(value: object, indent: int | None = None) -> str:
    return json.dumps(_plain(value), indent=indent)


def _plain(value: object) -> object:
    """The value in JSON's types. An Lsn is its text (json would take it for the int that it is)."""
    match value:
        case Lsn() | Path() | decimal.Decimal():
            return str(value)
        case None | bool() | int() | float() | str():
            return value
        case datetime.timedelta():
            return value.total_seconds()
        case datetime.datetime():
            return value.isoformat()
        case Mapping():
            return {str(key): _plain(each) for key, each in value.items()}
        case Sequence() | set() | frozenset():
            return [_plain(each) for each in value]
    raise TypeError(f"{type(value).__name__} has no JSON form")
