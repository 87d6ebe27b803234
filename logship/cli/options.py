"""Options that several commands share, and how a setting is declared.

Each comes from its flag, or its `LOGSHIP_*` variable, or `logship.toml`, in that order.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def setting(flag: str, *more: str, **attributes: Any) -> Callable[[F], F]:
    """An option that is also a variable: `--memory-budget` is LOGSHIP_MEMORY_BUDGET, shown in its help."""
    name = flag.partition("/")[0].removeprefix("--").replace("-", "_").upper()
    return click.option(flag, *more, envvar=f"LOGSHIP_{name}", show_envvar=True, **attributes)


def primary(command: F) -> F:
    """`--primary`, as ``primary: str``."""
    return setting(
        "--primary", required=True, metavar="CONNINFO", help="The primary: libpq conninfo or URI."
    )(command)


def secondary(command: F) -> F:
    """`--secondary`, as ``secondary: str``."""
    return setting(
        "--secondary", required=True, metavar="CONNINFO", help="The secondary: libpq conninfo or URI."
    )(command)


def journal(command: F) -> F:
    """`--journal`, as ``journal: Path``."""
    return setting(
        "--journal",
        required=True,
        metavar="DIR",
        type=click.Path(file_okay=False, path_type=Path),
        help="The journal's directory.",
    )(command)


def name(command: F) -> F:
    """`--name`, as ``name: str | None``."""
    return setting("--name", metavar="NAME", help="The replica's name; by default made from the secondary.")(
        command
    )


def as_json(command: F) -> F:
    """`--json`, as ``as_json: bool``. Errors are JSON then, too."""
    return click.option(
        "--json", "as_json", is_flag=True, envvar="LOGSHIP_JSON", help="Print JSON, for programs."
    )(command)


def where_to_set(option: click.Parameter) -> str:
    """The places that a missing option can be given in."""
    flag = option.opts[0]
    variable = f", {option.envvar}" if isinstance(option.envvar, str) else ""
    return f"give {flag}{variable} or {flag.removeprefix('--')} in logship.toml"
