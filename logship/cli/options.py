"""Options that several commands share, and how a setting is declared.

Each comes from its flag, or its `LOGSHIP_*` variable, or `logship.toml`, in that order.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from logship.cli.quantity import Duration, Size, written, written_s
from logship.config import GIB, MIB, Intervals, JournalBounds

F = TypeVar("F", bound=Callable[..., Any])

CONNINFO: Final = "CONNINFO"


class Directory(click.Path):
    """A directory, there or to be made. An empty value is no place: it would be the working directory."""

    def __init__(self) -> None:
        super().__init__(file_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("it is empty: name a directory", param, ctx)
        return super().convert(value, param, ctx)


def setting(flag: str, *more: str, **attributes: Any) -> Callable[[F], F]:
    """An option that is also a variable: `--memory-budget` is LOGSHIP_MEMORY_BUDGET, shown in its help."""
    name = flag.partition("/")[0].removeprefix("--").replace("-", "_").upper()
    return click.option(flag, *more, envvar=f"LOGSHIP_{name}", show_envvar=True, **attributes)


def primary(command: F) -> F:
    """`--primary`, as ``primary: str``."""
    return setting("--primary", required=True, metavar=CONNINFO, help="The primary: libpq conninfo or URI.")(
        command
    )


def secondary(command: F) -> F:
    """`--secondary`, as ``secondary: str``."""
    return setting(
        "--secondary", required=True, metavar=CONNINFO, help="The secondary: libpq conninfo or URI."
    )(command)


def journal(command: F) -> F:
    """`--journal`, as ``journal: Path``."""
    return setting(
        "--journal",
        required=True,
        metavar="DIR",
        type=Directory(),
        help="The journal's directory.",
    )(command)


def name(command: F) -> F:
    """`--name`, as ``name: str | None``."""
    return setting("--name", metavar="NAME", help="The replica's name; by default made from the secondary.")(
        command
    )


def intervals(command: F) -> F:
    """`--feedback-interval`, `--report-interval`, `--position-interval`, `--receiver-timeout`, in seconds."""
    usual = Intervals()
    for flag, default, at_least, at_most, text in reversed(
        (
            ("--feedback-interval", usual.feedback_s, 0.01, 30.0,
             "Tell the primary the positions at least this often."),
            ("--report-interval", usual.report_s, 0.1, 300.0,
             "Report to the views, and look at the primary's position, this often."),
            ("--position-interval", usual.position_s, 0.01, 60.0,
             "Store the position of an idle primary at most this often."),
        )
    ):  # fmt: skip
        command = setting(
            flag,
            type=Duration(at_least=at_least, at_most=at_most),
            default=default,
            show_default=written_s(default),
            help=text,
        )(command)
    return receiver_timeout(command)


def receiver_timeout(command: F) -> F:
    """`--receiver-timeout`, in seconds."""
    return setting(
        "--receiver-timeout",
        type=Duration(at_least=0, at_most=86400),
        default=Intervals().receiver_timeout_s,
        show_default=written_s(Intervals().receiver_timeout_s),
        help="A stream on which nothing was heard for so long, though a sign of life was asked for at half of it, is "
        "broken, and opened again; 0: never.",
    )(command)


def initial_copy(command: F) -> F:
    """What init is told and check asks about: `--keyless`, `--schema`, `--pg-dump`, `--jobs`, `--tables`,
    `--exclude`, `--existing`, `--publication`, `--slot`, `--partitions`, `--roles`,
    `--map-role`, `--ddl`."""
    for option in reversed(
        (
            setting(
                "--keyless", type=click.Choice(["full", "refuse", "leave-out"]), default="full", show_default=True,
                help="Tables without replica identity: give them REPLICA IDENTITY FULL; leave them as they are, so "
                "that the primary refuses their UPDATE and DELETE; or don't replicate them.",
            ),
            setting(
                "--schema", type=click.Choice(["dump", "existing"]), default="dump", show_default=True,
                help="Make the primary's schema by pg_dump, or use the empty tables that are there.",
            ),
            setting("--pg-dump", metavar="FILE", help="The pg_dump to use; by default one that is found."),
            setting(
                "--jobs", type=click.IntRange(1, 64), show_default="4", metavar="N",
                help="Workers for rows, and for indexes. Each index takes the secondary's maintenance_work_mem.",
            ),
            setting(
                "--tables", multiple=True, metavar="PATTERN",
                help="Replicate these only: schema.table, with * and ?; several times, or with commas between.",
            ),
            setting("--exclude", multiple=True, metavar="PATTERN", help="Don't replicate these."),
            setting(
                "--existing", type=click.Choice(["refuse", "replace", "keep"]), default="refuse", show_default=True,
                help="Tables of the secondary that hold rows: refuse them, empty and copy them, or take their rows "
                "for right.",
            ),
            setting("--publication", metavar="NAME", help="Use this publication, which exists."),
            setting("--slot", metavar="NAME", help="The replication slot; made when missing."),
            setting(
                "--partitions", type=click.Choice(["leaf", "root"]), default="leaf", show_default=True,
                help="Follow each partition as a table, or the partitioned table as one (other partitions there).",
            ),
            setting(
                "--roles", type=click.Choice(["refuse", "create-nologin"]), default="refuse", show_default=True,
                help="Roles of the primary's objects that the secondary lacks: refuse, or create them, without login.",
            ),
            setting(
                "--map-role", "map_role", multiple=True, metavar="ROLE=ROLE",
                help="The primary's role, and its name on the secondary: app=app_replica; several times, or with "
                "commas between.",
            ),
            setting(
                "--ddl", type=click.Choice(["on", "off"]),
                show_default="on, where the user may create event triggers on the primary",
                help="Carry schema changes.",
            ),
        )
    ):  # fmt: skip
        command = option(command)
    return command


def journal_min_age(command: F) -> F:
    """`--journal-min-age`, as ``journal_min_age: float`` seconds."""
    return setting(
        "--journal-min-age",
        type=Duration(at_least=0),
        default=JournalBounds().min_age_s,
        show_default=written_s(JournalBounds().min_age_s),
        help="Keep journal files at least this long, even when nobody needs them; --journal-limit goes first.",
    )(command)


def journal_bounds(command: F) -> F:
    """`--segment-size`, `--journal-limit` in bytes, and `--journal-min-age` in seconds."""
    usual = JournalBounds()
    command = journal_min_age(command)
    command = setting(
        "--journal-limit",
        type=Size(at_least=2 * MIB),
        default=usual.limit_bytes,
        show_default=written(usual.limit_bytes),
        help="Past this size the journal drops its oldest file, even one that a replica still needs; with --shipper "
        "it takes no more instead, and the rest waits at the shipper.",
    )(command)
    return setting(
        "--segment-size",
        type=Size(at_least=MIB, at_most=GIB),
        default=usual.segment_bytes,
        show_default=written(usual.segment_bytes),
        help="Size of a journal file.",
    )(command)


def application_name(command: F) -> F:
    """`--application-name`, as ``application_name: str``."""
    return setting(
        "--application-name",
        default="logship",
        show_default=True,
        metavar="NAME",
        help="The walsender connection's name, as synchronous_standby_names lists it.",
    )(command)


def heartbeat(command: F) -> F:
    """`--heartbeat`, as ``heartbeat: float`` seconds."""
    usual = Intervals().heartbeat_s
    return setting(
        "--heartbeat",
        type=Duration(at_least=0, at_most=86400),
        default=usual,
        show_default=written_s(usual),
        help="Write something into an idle primary's log this often, so that lag is measured; 0: never.",
    )(command)


def new_journal(command: F) -> F:
    """`--new-journal`, as ``new_journal: bool``. A flag only: a setting that stays would allow it for ever."""
    return click.option(
        "--new-journal",
        is_flag=True,
        help="The journal that the slot was read into is gone for good: go on with this one. Replicas that lack "
        "what only that one held have to be copied anew.",
    )(command)


def as_json(command: F) -> F:
    """`--json`, as ``as_json: bool``. Errors are JSON then, too."""
    return click.option(
        "--json", "as_json", is_flag=True, envvar="LOGSHIP_JSON", help="Print JSON, for programs."
    )(command)


def is_conninfo(option: click.Parameter) -> bool:
    """Whether its value is a conninfo, which may hold a password."""
    return option.metavar == CONNINFO


def where_to_set(option: click.Parameter) -> str:
    """The places that a missing option can be given in."""
    flag = option.opts[0]
    if not isinstance(option.envvar, str):
        return f"give {flag}: {_first(option)}" if isinstance(option, click.Option) else f"give {flag}"
    variable = f", {option.envvar}"
    return f"give {flag}{variable} or {flag.removeprefix('--')} in logship.toml"


def _first(option: click.Option) -> str:
    """Its help, as the rest of a sentence."""
    text = (option.help or "").removesuffix(".")
    return text[:1].lower() + text[1:]
