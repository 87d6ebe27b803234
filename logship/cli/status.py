"""`logship status` and `logship lag`: what the views say, and the slot. Unknown is shown as unknown."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Any

import click

from logship.cli import options, output

if TYPE_CHECKING:
    import psycopg

    from logship.catalog.selection import Selection
    from logship.catalog.status import ReplicaStatus, SlotStatus, StageLag


@click.command("status")
@options.setting("--primary", metavar="CONNINFO", help="The primary, to look at the slot too.")
@options.secondary
@options.as_json
def status(primary: str | None, secondary: str, as_json: bool) -> None:
    """Show the state of every stage.

    All of it is what the replayer last reported: look at the report's age.
    """
    from logship.catalog.status import lag, replicas, selections
    from logship.connection import Side, connect

    with connect(secondary, Side.SECONDARY, application_name="logship status") as link:
        found, lags, selected = _read(link, replicas), _read(link, lag), selections(link)
    slots = None if primary is None else _slots(primary)
    described = [_describe(replica, lags, slots, selected) for replica in found]
    if as_json:
        output.record({"replicas": described}, as_json=True)
        return
    for number, fields in enumerate(described):
        if number:
            output.line("")
        _show(fields)


@click.command("lag")
@options.secondary
@click.option("--watch", is_flag=True, help="Show it again every second, until Ctrl-C.")
@options.as_json
def lag(secondary: str, watch: bool, as_json: bool) -> None:
    """Show the lag of every stage."""
    from logship.catalog import status as catalog
    from logship.connection import Side, connect

    with connect(secondary, Side.SECONDARY, application_name="logship lag") as link:
        try:
            while True:
                output.rows(
                    [_stage(stage, as_json=as_json) for stage in _read(link, catalog.lag)], as_json=as_json
                )
                if not watch:
                    return
                time.sleep(1)
                output.line("")
        except KeyboardInterrupt:
            if not watch:
                raise  # only of --watch is it the normal end


def _read(link: psycopg.Connection, query: Any) -> Any:
    import psycopg

    from logship.service.replica import NotInitialised

    try:
        found = query(link)
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName) as error:
        raise NotInitialised("the secondary has no schema logship") from error
    if not found:
        raise NotInitialised("the secondary keeps no replica yet")
    return found


def _slots(primary: str) -> dict[str, SlotStatus]:
    import psycopg

    from logship.catalog.status import slots
    from logship.connection import Side, connect
    from logship.errors import PrimaryError

    with connect(primary, Side.PRIMARY, application_name="logship status") as link:
        try:
            return slots(link)
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName) as error:
            raise PrimaryError(
                "the primary has no schema logship", hint="run `logship init --primary … --secondary …` first"
            ) from error
        except psycopg.errors.InsufficientPrivilege as error:
            raise PrimaryError(
                f'user "{link.info.user}" may not read schema logship on the primary',
                hint="use the user that ran `logship init`",
            ) from error


def _describe(
    replica: ReplicaStatus,
    lags: list[StageLag],
    slots: dict[str, SlotStatus] | None,
    selected: dict[str, Selection] | None,
) -> dict[str, Any]:
    selection = None if selected is None else selected.get(replica.replica)
    fields = dataclasses.asdict(replica) | {"initialised": replica.replay_lsn is not None}
    fields["tables"] = None if selection is None else list(selection.tables)
    fields["exclude"] = None if selection is None else list(selection.excluded)
    fields["stages"] = [dataclasses.asdict(stage) for stage in lags if stage.replica == replica.replica]
    if slots is not None:
        slot = slots.get(replica.replica)
        fields["slot"] = None if slot is None else dataclasses.asdict(slot)
    return fields


def _show(fields: dict[str, Any]) -> None:
    stages, slot = fields.pop("stages"), fields.pop("slot", None)
    shown = {name: value for name, value in fields.items() if name not in {"reported_at", "report_age"}}
    shown["state"] = fields["state"] or "unknown: nothing was reported"
    if fields["bytes"] is not None:
        shown["bytes"] = output.size(fields["bytes"])
    shown["reported"] = (
        "never" if fields["report_age"] is None else f"{output.cell(fields['report_age'])} ago"
    )
    if fields["tables"] is not None:
        shown["tables"] = ", ".join(fields["tables"]) or "all"
        shown["exclude"] = ", ".join(fields["exclude"]) or "none"
    if slot is not None:
        shown |= _slot(slot)
    output.record(shown, as_json=False)
    output.line("")
    output.rows([_row(stage) for stage in stages], as_json=False)


def _slot(slot: dict[str, Any]) -> dict[str, Any]:
    if not slot["exists"]:
        return {"slot": f'"{slot["slot"]}" does not exist on the primary'}
    return {
        "slot": slot["slot"],
        "slot active": slot["active"],
        "slot wal_status": slot["wal_status"],
        "slot confirmed_flush_lsn": slot["confirmed_flush_lsn"],
        "slot retains": output.size(slot["retained_bytes"]),
        "slot safe_wal_size": "no limit"
        if slot["safe_wal_size"] is None
        else output.size(slot["safe_wal_size"]),
    }


def _stage(stage: StageLag, *, as_json: bool) -> dict[str, Any]:
    fields = dataclasses.asdict(stage)
    return fields if as_json else {"replica": stage.replica} | _row(fields)


def _row(stage: dict[str, Any]) -> dict[str, Any]:
    age = stage["age"]
    return {
        "stage": stage["stage"],
        "lsn": stage["lsn"],
        "behind": None if stage["lag_bytes"] is None else output.size(stage["lag_bytes"]),
        "lag": stage["lag"],
        "as of": None if age is None else f"{output.cell(age)} ago",
    }
