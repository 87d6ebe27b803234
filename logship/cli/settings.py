"""`logship.toml`: settings for options that neither a flag nor a variable gives.

In: the file named by `--config` or `LOGSHIP_CONFIG`, or `logship.toml` in the working directory if there
is one. Out: click's default_map. A key at the top is for every command that has the option; a table
named like a command is for that command (`[run]`), and wins. Dashes and underscores are the same.
A key that no command knows is refused, with the nearest one that exists: a misspelt setting that is
silently ignored is worse than none.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from logship.errors import UsageError

DEFAULT_FILE: Final = "logship.toml"
_NOT_SETTINGS: Final = frozenset({"help", "version", "config"})


@dataclass(frozen=True, slots=True)
class Known:
    """A command, by its path below `logship`, and the options that the file may set for it."""

    path: tuple[str, ...]
    options: frozenset[str]


def config_option(*, from_directory: bool = False) -> click.Option:
    """`--config`, for `logship` itself (which also looks into the working directory) and for each command."""
    return click.Option(
        ["--config"],
        envvar="LOGSHIP_CONFIG" if from_directory else None,
        type=click.Path(path_type=Path),
        is_eager=True,
        expose_value=False,
        callback=_of_logship if from_directory else _of_command,
        metavar="FILE",
        help=f"Settings file; by default {DEFAULT_FILE} in the working directory, if there is one.",
    )


def _of_logship(ctx: click.Context, parameter: click.Parameter, value: Path | None) -> None:
    if value is None and Path(DEFAULT_FILE).is_file():
        value = Path(DEFAULT_FILE)
    if value is not None and not ctx.resilient_parsing:
        ctx.default_map = default_map(load(value), list(commands(ctx.command, ctx)), value)


def _of_command(ctx: click.Context, parameter: click.Parameter, value: Path | None) -> None:
    if value is not None and not ctx.resilient_parsing:
        root = ctx.find_root()
        whole = default_map(load(value), list(commands(root.command, root)), value)
        ctx.default_map = whole.get(ctx.info_name or "", {})


def load(path: Path) -> dict[str, Any]:
    """The file as it stands; `UsageError` when it can't be read or isn't TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UsageError(
            f"the settings file {path} can't be read: {reason}", hint="check --config and LOGSHIP_CONFIG"
        ) from error
    except tomllib.TOMLDecodeError as error:
        # The decoder's message may quote the file, and a password stands in it: only the place is taken.
        place = str(error).rpartition("(")[2].rstrip(")")
        raise UsageError(
            f"the settings file {path} is not valid TOML ({place})",
            hint="a setting is written like: primary = 'host=db1 dbname=app'",
        ) from None


def commands(command: click.Command, ctx: click.Context, path: tuple[str, ...] = ()) -> Iterator[Known]:
    """``command`` and all below it. Their modules are imported: only they know their options."""
    options = {parameter.name for parameter in command.params if isinstance(parameter, click.Option)}
    yield Known(path, frozenset(name for name in options if name is not None) - _NOT_SETTINGS)
    if isinstance(command, click.Group):
        for name in command.list_commands(ctx):
            child = command.get_command(ctx, name)
            if child is not None:
                yield from commands(child, ctx, (*path, name))


def default_map(table: Mapping[str, Any], known: Iterable[Known], path: Path) -> dict[str, Any]:
    """What click looks up: nested like the commands, at the end the options' values."""
    known = list(known)
    sections = {name: section for name, section in table.items() if isinstance(section, dict)}
    everywhere = {_name(key): value for key, value in table.items() if key not in sections}
    options = frozenset[str]().union(*(command.options for command in known))
    _refuse_unknown(everywhere, options, f"{path}: there is no setting")
    _refuse_unknown(sections, {command.path[0] for command in known if command.path}, f"{path}: no command")
    made: dict[str, Any] = {}
    for command in known:
        section = _section(sections, command.path, known, path)
        place = made
        for name in command.path:
            place = place.setdefault(name, {})
        place.update({key: value for key, value in (everywhere | section).items() if key in command.options})
    return made


def _section(
    sections: Mapping[str, Mapping[str, Any]], command: tuple[str, ...], known: Iterable[Known], path: Path
) -> dict[str, Any]:
    """The settings of the table that is named like the command's first word."""
    if not command or command[0] not in sections:
        return {}
    section = {_name(key): value for key, value in sections[command[0]].items()}
    options = frozenset[str]().union(*(each.options for each in known if each.path[:1] == command[:1]))
    _refuse_unknown(section, options, f"{path}: [{command[0]}] has no setting")
    return section


def _refuse_unknown(given: Iterable[str], known: Iterable[str], sentence: str) -> None:
    for key in given:
        if key not in known:
            raise UsageError(
                f"{sentence} {key!r}",
                hint=did_you_mean(key, known) or "`logship COMMAND --help` lists the settings",
            )


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A question about the nearest known word; empty when none is near."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {near[0]}?" if near else ""


def _name(key: str) -> str:
    return key.replace("-", "_")
