"""`logship init --write-config [FILE]`: what init was given, as a commented logship.toml for the commands that follow.

In: the context of init. Out: a file that `logship.cli.settings` reads back, with init's values, and every other
setting of `logship run` as a comment with its default. Passwords are left out, and the file says so. It
never overwrites a file: that is refused before init begins.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import click
import psycopg
from click.core import ParameterSource
from psycopg import conninfo as libpq

from logship.cli import options
from logship.cli.config import SECRETS, has_password, shown
from logship.cli.options import F
from logship.cli.settings import DEFAULT_FILE, options_of
from logship.errors import UsageError

_WANTED: Final = "logship.settings_file.path"
_HEAD: Final = """\
# Settings of logship. A flag wins over a LOGSHIP_* variable, and that over this file.
# `logship config show` says what is in force, and where it comes from.
"""
_PASSWORD: Final = """\
# A password was given and is left out here: keep it in ~/.pgpass (mode 0600), or in PGPASSWORD.
"""


def write_config(command: F) -> F:
    """`--write-config`: the command calls `write` when it has succeeded."""
    option: Callable[[F], F] = click.option(
        "--write-config",
        is_flag=False,
        flag_value=DEFAULT_FILE,
        metavar="[FILE]",
        type=click.Path(dir_okay=False, path_type=Path),
        expose_value=False,
        callback=_note,
        help=f"Write these settings to FILE ({DEFAULT_FILE} unless named), without passwords.",
    )
    return option(command)


def _note(ctx: click.Context, parameter: click.Parameter, value: Path | None) -> None:
    if value is None or ctx.resilient_parsing:
        return
    if value.exists():
        raise UsageError(
            f"{value} exists already", hint="name another file with --write-config FILE, or remove this one"
        )
    if not value.absolute().parent.is_dir():
        raise UsageError(f"{value.absolute().parent} is no directory", hint="make it, or name another file")
    ctx.meta[_WANTED] = value


def write(ctx: click.Context) -> None:
    """Write the file if it was asked for, and say so on standard error."""
    path = ctx.meta.get(_WANTED)
    if not isinstance(path, Path):
        return
    root = ctx.find_root()
    assert isinstance(root.command, click.Group)
    run = root.command.get_command(ctx, "run")
    text = composed(ctx, options_of(run).values() if run else ())
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(
            f"{path} can't be written: {error.strerror}",
            hint="init itself is done; write the settings by hand",
        ) from error
    click.echo(f"settings written to {path}, without passwords", err=True)


def has_sides(ctx: click.Context) -> bool:
    """Whether the commands that follow find both databases: in the file just written, or where init did."""
    flags = [
        ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE for name in ("primary", "secondary")
    ]
    return ctx.meta.get(_WANTED) == Path(DEFAULT_FILE) or not any(flags)


def composed(ctx: click.Context, options_of_run: Iterable[click.Option]) -> str:
    """The file's text: what several commands have in common at the top, then a table for each command."""
    of_init = options_of(ctx.command)
    of_run = {option.name: option for option in options_of_run if option.name}
    shared = [option for name, option in of_init.items() if name in of_run]
    lines = [
        _HEAD,
        *_entries(ctx, shared),
        *_entries(None, [of_run["journal"]] if "journal" in of_run else []),
    ]
    lines += ["[init]\n", *_entries(ctx, [o for name, o in of_init.items() if name not in of_run])]
    # What is asked for once, and never set for good.
    own = [o for name, o in of_run.items() if name not in {*of_init, "journal", "stop_at"}]
    lines += ["[run]\n", *_entries(None, own)]
    return "\n".join(lines)


def _entries(ctx: click.Context | None, found: Iterable[click.Option]) -> Iterator[str]:
    for option in found:
        name = option.opts[0].removeprefix("--")
        if name == "json" or option.name == "write_config":
            continue
        given = ctx is not None and ctx.get_parameter_source(option.name or "") is not ParameterSource.DEFAULT
        value = ctx.params.get(option.name or "") if ctx is not None and given else None
        text = _comment(option)
        if value is None or value == ():
            yield f"{text}#{name} = {quoted(_example(option))}\n"
        elif options.is_conninfo(option):
            yield f"{text}{_PASSWORD if has_password(value) else ''}{name} = {quoted(without_password(value))}\n"
        else:
            yield f"{text}{name} = {quoted(_plain(option, value))}\n"


def _comment(option: click.Option) -> str:
    said = option.help or ""
    if isinstance(option.show_default, str) and _default(option) is None:
        said += f" By default {option.show_default}."
    return textwrap.fill(said, 100, initial_indent="# ", subsequent_indent="# ") + "\n"


def _example(option: click.Option) -> Any:
    """Its default, or the word that its help has for a value."""
    default = _default(option)
    if default is not None:
        return default
    if isinstance(option.type, click.Choice):
        return "|".join(map(str, option.type.choices))
    return False if option.is_flag else option.make_metavar(click.Context(click.Command("")))


def _default(option: click.Option) -> Any:
    """As it can be written; None where it has to be described."""
    default = option.default
    return _plain(option, default) if isinstance(default, bool | int | float | str) else None


def _plain(option: click.Option, value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [str(each) for each in value]
    return shown(option, value)


def without_password(conninfo: str) -> str:
    """The same conninfo, less its secrets; as it was written if it holds none."""
    if not has_password(conninfo):
        return conninfo
    try:
        given = libpq.conninfo_to_dict(conninfo)
    except psycopg.ProgrammingError:
        return ""
    return libpq.make_conninfo("", **{key: value for key, value in given.items() if key not in SECRETS})


def quoted(value: Any) -> str:
    """JSON's strings, numbers, booleans and lists are TOML's; DEL is the one character that only TOML refuses."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
