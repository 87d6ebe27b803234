"""`logship.toml` and the `LOGSHIP_*` variables: settings that no flag gives.

In: the file named by `--config` or `LOGSHIP_CONFIG`, or `logship.toml` in the working directory if there
is one; the environment. Out: click's default_map. A key at the top is for every command that has the
option; a table named like a command is for that command (`[run]`), and wins. Dashes and underscores are
the same. A key that no command knows is refused, with the nearest one that exists: a misspelt setting
that is silently ignored is worse than none. A variable is only warned of, as it may be meant for something
else. Who asks for help gets it, whatever the file says.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
from click.core import ParameterSource

from logship.cli.places import Places, name_of
from logship.errors import UsageError

DEFAULT_FILE: Final = "logship.toml"
HELP: Final = frozenset({"-h", "--help"})
# Variables that are no option of any command, and what they do.
VARIABLES: Final = {
    "LOGSHIP_CONFIG": f"the settings file, like --config; without it, {DEFAULT_FILE} in the working directory",
    "LOGSHIP_DEBUG": "1: an unexpected error shows its traceback",
    "LOGSHIP_KERNEL": "python or cython: what reads the log's bytes; unset, the compiled one where it is",
    "LOGSHIP_FAILPOINTS": "for tests: places at which the process kills itself",
}
_FOR_TESTS: Final = "LOGSHIP_TEST_"
_NOT_SETTINGS: Final = frozenset({"help", "version", "config"})
_FILE: Final = "logship.settings.file"
_HELP_WANTED: Final = "logship.settings.help"


@dataclass(frozen=True, slots=True)
class Known:
    """A command, by its path below `logship`, and the options that the file may set for it."""

    path: tuple[str, ...]
    options: Mapping[str, click.Option]


@dataclass(frozen=True, slots=True)
class File:
    """The settings file that is in force, and where its keys stand."""

    path: Path
    places: Places


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


def note_help(ctx: click.Context, arguments: Iterable[str]) -> None:
    """To be called before parsing: a file that can't be read must not keep help from who needs it."""
    ctx.meta[_HELP_WANTED] = not HELP.isdisjoint(arguments)


def _of_logship(ctx: click.Context, parameter: click.Parameter, value: Path | None) -> None:
    if value is None and Path(DEFAULT_FILE).is_file():
        value = Path(DEFAULT_FILE)
    if value is not None:
        ctx.default_map = _read(ctx, value)


def _of_command(ctx: click.Context, parameter: click.Parameter, value: Path | None) -> None:
    if value is not None:
        ctx.default_map = _read(ctx, value).get(ctx.info_name or "", {})


def _read(ctx: click.Context, path: Path) -> dict[str, Any]:
    if ctx.resilient_parsing or ctx.meta.get(_HELP_WANTED):
        return {}
    root = ctx.find_root()
    table, places = load(path)
    ctx.meta[_FILE] = File(path, places)
    return default_map(table, list(commands(root.command, root)), File(path, places))


def load(path: Path) -> tuple[dict[str, Any], Places]:
    """The file as it stands; `UsageError` when it can't be read or isn't TOML."""
    try:
        text = path.read_text(encoding="utf-8")
        return tomllib.loads(text), Places.of(text)
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
    yield Known(path, options_of(command))
    if isinstance(command, click.Group):
        for name in command.list_commands(ctx):
            child = command.get_command(ctx, name)
            if child is not None:
                yield from commands(child, ctx, (*path, name))


def options_of(command: click.Command) -> dict[str, click.Option]:
    """The options of a command that are settings, by name."""
    return {
        option.name: option
        for option in command.params
        if isinstance(option, click.Option) and option.name and option.name not in _NOT_SETTINGS
    }


def default_map(table: Mapping[str, Any], known: Iterable[Known], file: File) -> dict[str, Any]:
    """What click looks up: nested like the commands, at the end the options' values."""
    known = list(known)
    first_words = {command.path[0] for command in known if command.path}
    options = frozenset[str]().union(*(command.options for command in known))
    # A table is a command's; one that is named like an option and no command is that option, written wrongly.
    sections = {
        key: value
        for key, value in table.items()
        if isinstance(value, dict) and not (name_of(key) in options and key not in first_words)
    }
    everywhere = {name_of(key): value for key, value in table.items() if key not in sections}
    for key in table.keys() - sections.keys():
        _require_known(key, options, f"{_at(file, '', key)}: there is no setting")
    for key in sections:
        _require_known(key, first_words, f"{_at(file, key, '')}: no command")
    made: dict[str, Any] = {}
    for command in known:
        section = _section(sections, command.path, known, file)
        place = made
        for name in command.path:
            place = place.setdefault(name, {})
        for name, option in command.options.items():
            if name in section or name in everywhere:
                at = _at(file, command.path[0] if name in section else "", name)
                place[name] = _value(option, section.get(name, everywhere.get(name)), at)
    return made


def _section(
    sections: Mapping[str, Mapping[str, Any]], command: tuple[str, ...], known: Iterable[Known], file: File
) -> dict[str, Any]:
    """The settings of the table that is named like the command's first word."""
    if not command or command[0] not in sections:
        return {}
    options = frozenset[str]().union(*(each.options for each in known if each.path[:1] == command[:1]))
    for key in sections[command[0]]:
        _require_known(key, options, f"{_at(file, command[0], key)}: [{command[0]}] has no setting")
    return {name_of(key): value for key, value in sections[command[0]].items()}


def _value(option: click.Option, value: Any, at: str) -> Any:
    """As if it had been typed: click then refuses the same things in the same words."""
    name = option.opts[0].removeprefix("--")
    if option.is_flag:
        if not isinstance(value, bool):
            raise UsageError(f"{at}: {name} is true or false", hint=f"write: {name} = true")
        return value
    if isinstance(value, list) and option.multiple:
        return [_text(each) for each in value]
    if isinstance(value, list | dict):
        kind = "list" if isinstance(value, list) else "table"
        raise UsageError(f"{at}: {name} takes one value, not a {kind}", hint=f"write: {name} = '…'")
    return [_text(value)] if option.multiple else _text(value)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _at(file: File, section: str, key: str) -> str:
    return file.places.describe(file.path, section, key)


def place_in_file(ctx: click.Context, option: click.Parameter) -> str:
    """File and line of the key that gives ``option`` of the command of ``ctx``; just the file's name without one."""
    file = ctx.meta.get(_FILE)
    if not isinstance(file, File):
        return DEFAULT_FILE
    words = ctx.command_path.split()[1:]
    return file.places.describe(file.path, words[0] if words else "", option.name or "", or_top=True)


def said_by(ctx: click.Context | None, option: click.Parameter) -> str:
    """What gave the option's value, as the operator wrote it: the flag, the variable, or the line of the file."""
    source = ctx.get_parameter_source(option.name or "") if ctx else None
    if source is ParameterSource.ENVIRONMENT and isinstance(option.envvar, str):
        return option.envvar
    if source is ParameterSource.DEFAULT_MAP and ctx is not None:
        return f"{place_in_file(ctx, option)}: {option.opts[0].removeprefix('--')}"
    return option.opts[0]


def unknown_variables(ctx: click.Context, environment: Mapping[str, str]) -> list[str]:
    """A sentence for each `LOGSHIP_*` variable that means nothing, with the nearest one that does."""
    given = [
        name
        for name in sorted(environment)
        if name.startswith("LOGSHIP_") and name not in VARIABLES and not name.startswith(_FOR_TESTS)
    ]
    if not given:
        return []
    root = ctx.find_root()
    known = {
        option.envvar
        for command in commands(root.command, root)
        for option in command.options.values()
        if isinstance(option.envvar, str)
    }
    return [
        f"{name} is set, and no command knows it" + (f": {near}" if near else "")
        for name in given
        if name not in known
        for near in [did_you_mean(name, known | VARIABLES.keys())]
    ]


def _require_known(key: str, known: Iterable[str], sentence: str) -> None:
    known = list(known)
    if name_of(key) not in known:
        near = did_you_mean(name_of(key), known).replace("_", "-")
        raise UsageError(f"{sentence} {key!r}", hint=near or "`logship COMMAND --help` lists the settings")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A question about the nearest known word; empty when none is near."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {near[0]}?" if near else ""
