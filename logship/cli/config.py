"""`logship config show [COMMAND]`: every setting, its value, its default, and where the value comes from.

In: what any other command would get: flags, variables, the file. Out: a row per setting. What a command
would refuse is refused here in the same words. Never shown: passwords; of a conninfo only host, port,
database and user, and whether a password is given.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
import psycopg
from click.core import ParameterSource
from psycopg import conninfo as libpq

from logship.cli import options, output, settings
from logship.cli.quantity import Duration, Size, written, written_s
from logship.connection import describe
from logship.errors import UsageError
from logship.kernel.choice import VARIABLE, chosen

_SOURCES: Final = {
    ParameterSource.COMMANDLINE: "flag",
    ParameterSource.ENVIRONMENT: "variable",
    ParameterSource.DEFAULT_MAP: "file",
}
# Read before there is a command line: it has no flag, and goes by the name of its variable.
_KERNEL: Final = click.Option([f"--{VARIABLE}"], envvar=VARIABLE)
SECRETS: Final = ("password", "sslpassword", "oauth_client_secret")


@dataclass(frozen=True, slots=True)
class Setting:
    """One option of one command. ``where``: the flag, the variable, or the line; empty for the default."""

    command: str
    option: click.Option
    value: Any
    default: Any
    source: str
    where: str

    @property
    def name(self) -> str:
        return self.option.opts[0].removeprefix("--")


@click.group()
def config() -> None:
    """Look at the settings."""


@config.command(
    "show", context_settings={"ignore_unknown_options": True}, options_metavar="[--json] [OPTIONS]"
)
@click.argument("words", metavar="[COMMAND [ITS OPTIONS]]", nargs=-1, type=click.UNPROCESSED)
@options.as_json
@click.pass_context
def show(ctx: click.Context, words: tuple[str, ...], as_json: bool) -> None:
    """Show every setting of every command, or of COMMAND, as it would run with these options.

    For each: its value, its default, and where the value comes from. Passwords are not shown.
    """
    found = of_all(ctx) if not words else of_command(ctx, words)
    output.rows([_as_object(each) if as_json else _as_row(each) for each in found], as_json=as_json)


def of_all(ctx: click.Context) -> list[Setting]:
    root = ctx.find_root()
    found = [*_of_root(root), _kernel()]
    for known in settings.commands(root.command, root):
        if known.path:
            found += _of(root, known.path, ())
    return found


def of_command(ctx: click.Context, words: Sequence[str]) -> list[Setting]:
    """The settings of the command that ``words`` begin with (a group: of all its commands), with its options."""
    root = ctx.find_root()
    paths = [known.path for known in settings.commands(root.command, root) if known.path]
    named = max((path for path in paths if tuple(words[: len(path)]) == path), key=len, default=None)
    if named is None:
        raise UsageError(
            f"there is no command {words[0]!r}",
            hint=settings.did_you_mean(
                "" if words[0].startswith("-") else words[0], [path[0] for path in paths]
            )
            or "`logship --help` lists them; a settings file stands in front: logship --config FILE config show",
        )
    return [
        setting
        for path in paths
        if path[: len(named)] == named
        for setting in _of(root, path, words[len(named) :])
    ]


def _of_root(root: click.Context) -> list[Setting]:
    """The options before the command: they have been read already."""
    return [
        _setting("(all)", option, root.params[name], _default(option), root)
        for name, option in settings.options_of(root.command).items()
    ]


def _kernel() -> Setting:
    """Which implementation of the kernel is in use: `logship.kernel`."""
    given = bool(os.environ.get(VARIABLE))
    source, where = ("variable", VARIABLE) if given else ("default", "")
    return Setting("(all)", _KERNEL, chosen(os.environ), chosen({}), source, where)


def _of(root: click.Context, path: tuple[str, ...], arguments: Sequence[str]) -> list[Setting]:
    """Parsed as click parses the command, except that nothing is missing and nothing is carried out."""
    ctx, command = root, root.command
    for word in path[:-1]:
        command = _below(command, ctx, word)
        ctx = click.Context(command, parent=ctx, info_name=word)
    command = _below(command, ctx, path[-1])
    if isinstance(command, click.Group):
        return []
    found = settings.options_of(command)
    parsed = _parse(list(found.values()), path[-1], arguments, ctx)
    return [
        _setting(" ".join(path), option, parsed.params.get(name), _default(option), parsed)
        for name, option in found.items()
    ]


def _below(command: click.Command, ctx: click.Context, word: str) -> click.Command:
    assert isinstance(command, click.Group)
    found = command.get_command(ctx, word)
    assert found is not None
    return found


def _parse(
    given: Sequence[click.Option], name: str, arguments: Sequence[str], parent: click.Context | None
) -> click.Context:
    """``arguments`` may hold what isn't an option, as a directory: it is passed over."""
    params: list[click.Parameter] = []
    for option in given:
        free = copy.copy(option)
        free.required, free.callback, free.expose_value = False, None, True
        if parent is None:
            free.envvar = None
        params.append(free)
    reader = click.Command(
        name, params=params, add_help_option=False, context_settings={"allow_extra_args": True}
    )
    return reader.make_context(name, list(arguments), parent=parent)


def _default(option: click.Option) -> Any:
    """What it is when nobody says anything: as its help has it, where that is a sentence."""
    if isinstance(option.show_default, str):
        return option.show_default
    return _parse([option], "defaults", (), None).params.get(option.name or "")


def _setting(command: str, option: click.Option, value: Any, default: Any, ctx: click.Context) -> Setting:
    source = _SOURCES.get(ctx.get_parameter_source(option.name or "") or ParameterSource.DEFAULT, "default")
    match source:
        case "flag":
            where = option.opts[0]
        case "variable":
            where = str(option.envvar)
        case "file":
            where = settings.place_in_file(ctx, option)
        case _:
            where = ""
            source = "not given" if option.required else "default"
            if isinstance(option.show_default, str) and value is None:
                value = default
    return Setting(command, option, value, default, source, where)


def shown(option: click.Option, value: Any) -> Any:
    """The value as it may be shown, in the units that it is written in."""
    if isinstance(value, str) and options.is_conninfo(option):
        return describe(value) + (", with a password" if has_password(value) else "")
    if isinstance(value, int) and isinstance(option.type, Size):
        return written(value)
    if isinstance(value, float) and isinstance(option.type, Duration):
        return written_s(value)
    if isinstance(value, tuple | list):
        return ", ".join(str(each) for each in value) or None
    return str(value) if isinstance(value, Path) else value


def has_password(conninfo: str) -> bool:
    try:
        given = libpq.conninfo_to_dict(conninfo)
    except psycopg.ProgrammingError:
        return False
    return any(given.get(name) for name in SECRETS)


def _as_row(setting: Setting) -> dict[str, Any]:
    return {
        "command": setting.command,
        "setting": setting.name,
        "value": shown(setting.option, setting.value),
        "default": shown(setting.option, setting.default),
        "from": f"{setting.source} ({setting.where})" if setting.where else setting.source,
    }


def _as_object(setting: Setting) -> dict[str, Any]:
    secret = options.is_conninfo(setting.option) and isinstance(setting.value, str)
    return {
        "command": setting.command,
        "setting": setting.name,
        "value": shown(setting.option, setting.value),
        "default": shown(setting.option, setting.default),
        "source": setting.source,
        "where": setting.where or None,
        **({"password_given": has_password(setting.value)} if secret else {}),
    }
