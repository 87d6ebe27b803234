"""`logship ddl ls | show | skip | on | off | rotate-key`: schema changes, and how they are carried.

In: conninfos. Out: a line or a JSON object for each statement; what was done. Statements are shown whole: they may
hold what whoever wrote them put there.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final

import click

from logship.cli import options, output
from logship.cli.journal import LsnType
from logship.errors import UsageError

if TYPE_CHECKING:
    from logship.catalog.ddl_history import Carried
    from logship.lsn import Lsn

_SHOWN: Final = 60

# An option that may be given several times would be split at spaces when it comes from its variable.
_others = click.argument("others", nargs=-1, metavar="[SECONDARY]...")


@click.group()
def ddl() -> None:
    """Schema changes: those that were carried, those to pass over, their capture and its key."""


@ddl.command()
@options.secondary
@click.option(
    "--last", type=click.IntRange(min=1), default=50, show_default=True, help="Show so many, the newest."
)
@options.as_json
def ls(secondary: str, last: int, as_json: bool) -> None:
    """List the schema changes that were replayed on the secondary, the newest last."""
    found = _carried(secondary, last=last)
    shown = [dataclasses.asdict(one) if as_json else _line(one) for one in found]
    output.rows(shown, as_json=as_json, empty="no schema change was replayed yet")


@ddl.command()
@options.secondary
@click.option("--lsn", type=LsnType(), required=True, help="The commit's, as `logship ddl ls` shows it.")
@options.as_json
def show(secondary: str, lsn: Lsn, as_json: bool) -> None:
    """Show the schema changes of one commit, with the whole text that ran."""
    found = _carried(secondary, lsn=lsn)
    if not found:
        raise UsageError(
            f"no schema change was replayed at {lsn}", hint="`logship ddl ls` lists those that were"
        )
    if as_json:
        output.rows([dataclasses.asdict(one) for one in found], as_json=True)
        return
    for number, one in enumerate(found):
        if number:
            output.line("")
        output.record({k: v for k, v in dataclasses.asdict(one).items() if k != "statement"}, as_json=False)
        output.line("")
        output.line(one.statement or "(nothing had to be run)")


@ddl.command()
@options.secondary
@options.name
@click.option(
    "--lsn",
    type=LsnType(),
    required=True,
    help="The commit's, as the replica's error (`logship status`) names it.",
)
@click.option(
    "--number", type=click.IntRange(min=1), default=None,
    help="Of the statement, as the error names it; without it, every schema change of that commit is passed over.",
)  # fmt: skip
@options.as_json
def skip(secondary: str, name: str | None, lsn: Lsn, number: int | None, as_json: bool) -> None:
    """Pass a schema change over, once you have done it on the secondary by hand.

    The rows of its transaction are replayed all the same. Start the replayer again afterwards.
    """
    from logship.service.skip import skip_schema_change

    skipped = skip_schema_change(secondary, name, lsn, number or 0)
    if as_json:
        said = {"replica": skipped.replica, "lsn": lsn, "number": number, "new": skipped.new}
        output.record({**said, "failing": skipped.other or None}, as_json=True)
        return
    which = "every schema change" if number is None else f"schema change {number}"
    again = "" if skipped.new else ", as was asked for before"
    output.line(f'replica "{skipped.replica}" will pass over {which} of the commit at {lsn}{again}')
    if skipped.other:
        output.line(f"warning: the replica's last error is about another one: {skipped.other}")


@ddl.command()
@options.primary
@options.secondary
@_others
@options.as_json
def on(primary: str, secondary: str, others: tuple[str, ...], as_json: bool) -> None:
    """Capture schema changes on the primary, and give the secondaries what carrying them takes.

    SECONDARY: the conninfos of further ones, where several follow this primary.
    Makes event triggers, so it needs a superuser of the primary (a hosting service has a role of its own for that).
    What was changed while capture was off is not carried: compare with `logship verify`.
    """
    from logship.service.schema_changes import turn_on

    fresh, warnings = turn_on(primary, [secondary, *others])
    if as_json:
        output.record({"capture": "on", "changed": fresh, "warnings": warnings}, as_json=True)
        return
    output.line("schema changes are captured from now on" if fresh else "schema changes are captured already")
    for warning in warnings:
        output.line(f"warning: {warning}")


@ddl.command()
@options.primary
@options.as_json
def off(primary: str, as_json: bool) -> None:
    """Capture no schema changes any more: the event triggers go, the key stays."""
    from logship.service.schema_changes import turn_off

    was = turn_off(primary)
    if as_json:
        output.record({"capture": "off", "changed": was}, as_json=True)
    else:
        output.line("schema changes are not captured any more" if was else "schema changes were not captured")


@ddl.command("rotate-key")
@options.primary
@options.secondary
@_others
@options.as_json
def rotate_key(primary: str, secondary: str, others: tuple[str, ...], as_json: bool) -> None:
    """Sign schema changes with a new key. Old ones stay known: the log holds what they signed.

    SECONDARY: the conninfos of further ones; all that follow this primary must know it first.
    """
    from logship.service.schema_changes import rotate

    generation = rotate(primary, [secondary, *others])
    if as_json:
        output.record({"generation": generation}, as_json=True)
    else:
        output.line(f"schema changes are signed with a new key from now on: generation {generation}")


def _line(one: Carried) -> dict[str, Any]:
    text = " ".join((one.statement or "").split())
    return {
        "lsn": one.lsn,
        "replayed at": one.replayed_at,
        "owner": one.owner,
        "tag": one.tag,
        "target": one.target,
        "made from": one.made_from,
        "took": one.duration,
        "statement": text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…",
    }


def _carried(secondary: str, **which: Any) -> list[Carried]:
    from logship.catalog.ddl_history import carried
    from logship.connection import Side, connect
    from logship.service.sides import require_side

    with connect(secondary, Side.SECONDARY, application_name="logship ddl") as link:
        require_side(link, Side.SECONDARY)
        return carried(link, **which)
