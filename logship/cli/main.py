"""`logship`: the group of all commands, and what becomes of an error.

In: arguments, `LOGSHIP_*` variables, `logship.toml`. Out: an exit code, and on standard error one
sentence and a hint (or one JSON object with `--json`). A command's module is imported when that
command runs, so `logship --help` is quick. A command returns `None` or its exit code, and raises
`LogshipError`; it never calls `sys.exit` and never prints an error itself.

SIGTERM and Ctrl-C both arrive as KeyboardInterrupt, so that every `with` block ends; a command for which
being stopped is the normal end (`logship run`) handles them itself.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import re
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Final, NoReturn

import click

from logship import __version__
from logship.cli import options, output, settings
from logship.errors import InternalError, LogshipError, UsageError

INTERRUPTED: Final = 130
# Being stopped is their normal end, also before they have begun.
LASTING: Final = frozenset({"run", "replay", "ship"})
PIPE_CLOSED: Final = 1  # as click has it
_RANGE: Final = re.compile(r"is not in the range (?:x>=)?(-?\d+)(?:<=x<=(-?\d+))?")


@dataclass(frozen=True, slots=True)
class Entry:
    """A command without its module: where it is, and the line that `logship --help` shows."""

    module: str
    attribute: str
    summary: str


COMMANDS: Final[dict[str, Entry]] = {
    "check": Entry(
        "logship.cli.check", "check", "Say what stands in the way of init and run, and what mends it."
    ),
    "init": Entry("logship.cli.init", "init", "Prepare both databases and copy schema and rows."),
    "resync": Entry("logship.cli.resync", "resync", "Copy tables anew while replication goes on."),
    "run": Entry("logship.cli.run", "run", "Ship the primary's log and replay it on the secondary."),
    "replay": Entry("logship.cli.replay", "replay", "Replay on the secondary what a shipper sends."),
    "ship": Entry("logship.cli.ship", "ship", "Ship the primary's log and serve it to replicas."),
    "status": Entry("logship.cli.status", "status", "Show the state of every stage."),
    "lag": Entry("logship.cli.status", "lag", "Show the lag of every stage."),
    "verify": Entry(
        "logship.cli.verify", "verify", "Compare primary and secondary at one LSN, while both work."
    ),
    "repair": Entry("logship.cli.verify", "repair", "Make rows that differ what they are on the primary."),
    "skip": Entry("logship.cli.skip", "skip", "Pass over one transaction that can't be replayed."),
    "verifier": Entry("logship.cli.verifier", "verifier", "Print a line for the relay's file of users."),
    "query": Entry("logship.cli.query", "query", "Ask a running replayer's memory one SELECT."),
    "journal": Entry("logship.cli.journal", "journal", "Read a journal: ls, dump, verify."),
    "ddl": Entry("logship.cli.ddl", "ddl", "Schema changes: ls, show, skip; capture on, off, rotate-key."),
    "drop": Entry(
        "logship.cli.drop", "drop", "Remove a replica; with the last one, everything logship made."
    ),
    "config": Entry("logship.cli.config", "config", "Show every setting, and where its value comes from."),
    "demo": Entry("logship.cli.demo", "demo", "Show it all on two embedded PostgreSQL servers."),
}


class Commands(click.Group):
    """A group that imports a command's module when the command is asked for."""

    def __init__(self, *, entries: dict[str, Entry], **attributes: object) -> None:
        super().__init__(**attributes)  # type: ignore[arg-type]
        self.entries = entries

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = self.entries.get(cmd_name)
        if entry is None:
            return None
        command = getattr(importlib.import_module(entry.module), entry.attribute)
        if not isinstance(command, click.Command):
            raise InternalError(f"{entry.module}.{entry.attribute} is not a command")
        if not any(parameter.name == "config" for parameter in command.params):
            command.params.append(settings.config_option())
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        settings.note_help(ctx, args)
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in self.entries and not name.startswith("-") and not ctx.resilient_parsing:
            raise UsageError(
                f"there is no command {name!r}",
                hint=settings.did_you_mean(name, self.entries) or "`logship --help` lists the commands",
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in self.entries.items()])


@click.command(
    cls=Commands,
    entries=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Every option can also come from its LOGSHIP_* variable or from logship.toml, in that order.",
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=lambda ctx, parameter, asked: _version(ctx) if asked else None,
    help="Show the version and which kernel is in use, and exit.",
)
@click.option(
    "--log-level",
    envvar="LOGSHIP_LOG_LEVEL",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="What goes to the log on standard error.",
)
@click.pass_context
def logship(ctx: click.Context, log_level: str) -> None:
    """Keep a second PostgreSQL database in step with a first one by shipping its log and replaying it."""
    output.log_to_stderr(log_level)
    for sentence in settings.unknown_variables(ctx, os.environ):
        logging.getLogger(__name__).warning(sentence)


def _version(ctx: click.Context) -> NoReturn:
    kernel = importlib.import_module("logship.kernel")
    click.echo(f"logship {__version__} (kernel: {kernel.IN_USE})")
    ctx.exit()


logship.params.append(settings.config_option(from_directory=True))


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The entry point: run one command and leave with its exit code."""
    with contextlib.suppress(ValueError):  # not in the main thread: then signals are its owner's
        signal.signal(signal.SIGTERM, _interrupt)
    sys.exit(run_command(logship, list(sys.argv[1:] if arguments is None else arguments)))


def run_command(group: click.Command, arguments: Sequence[str]) -> int:
    """Run ``arguments`` under ``group``; the exit code. Errors are on standard error by then."""
    as_json = "--json" in arguments or os.environ.get("LOGSHIP_JSON", "").lower() in {"1", "true", "yes"}
    try:
        code = group.main(args=list(arguments), prog_name="logship", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help() if error.ctx else "", err=True)
        return UsageError.exit_code
    except (click.Abort, KeyboardInterrupt):
        if next((each for each in arguments if each in COMMANDS), None) in LASTING:
            return 0
        output.interrupted(INTERRUPTED, as_json=as_json)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output (`| head`) is gone; the flush at the interpreter's end must not fail too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except Exception as error:  # noqa: BLE001  the last resort: one sentence, and exit code 70
        if not isinstance(error, click.ClickException):
            output.debug_traceback()
        return output.report(_as_ours(error), as_json=as_json)
    return code if isinstance(code, int) else 0


def _as_ours(error: Exception) -> LogshipError:
    match error:
        case LogshipError():
            return error
        case click.ClickException():
            return _usage(error)
    return output.unexpected(error)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    logging.getLogger("logship").debug("signal %d", number)
    raise KeyboardInterrupt


def _usage(error: click.ClickException) -> UsageError:
    """Click's error in our form: a sentence, and what to write instead."""
    ctx = error.ctx if isinstance(error, click.UsageError) else None
    hint = f"`{ctx.command_path} --help` lists the options" if ctx else ""
    match error:
        case click.NoSuchOption():
            known = [name for parameter in ctx.command.params for name in parameter.opts] if ctx else []
            near = settings.did_you_mean(error.option_name, known)
            return UsageError(f"there is no option {error.option_name}", hint=near or hint)
        case click.MissingParameter() if isinstance(error.param, click.Option):
            return UsageError(
                f"{error.param.opts[0]} is missing", hint=options.where_to_set(error.param) or hint
            )
        case click.BadParameter() if isinstance(error.param, click.Option):
            return UsageError(f"{settings.said_by(ctx, error.param)}: {_sentence(error.message)}", hint=hint)
    return UsageError(_sentence(error.format_message()), hint=hint)


def _bounds(found: re.Match[str]) -> str:
    """Click's range, as our own types say it."""
    least, most = found[1], found[2]
    return f"is out of bounds: from {least} to {most}" if most else f"is out of bounds: at least {least}"


def _sentence(text: str) -> str:
    text = _RANGE.sub(_bounds, " ".join(text.split()).removesuffix("."))
    return text[:1].lower() + text[1:]
