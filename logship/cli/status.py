"""`logship status` and `logship lag`: what the views say, and the slot. Unknown is shown as unknown."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import click

from logship.cli import options, output
from logship.errors import UsageError

if TYPE_CHECKING:
    import psycopg

    from logship.catalog.selection import Selection
    from logship.catalog.skipped import Skip
    from logship.catalog.status import ReplicaStatus, ShipperStatus, SlotStatus, StageLag, StandbyStatus

SILENT_S: Final = 30.0  # many of the usual --report-interval
ENDED: Final = frozenset({"stopped", "failed"})


@click.command("status")
@options.setting(
    "--primary",
    metavar=options.CONNINFO,
    help="The primary: its slots, who ships them, and the shipper's replicas. Alone, or with --secondary.",
)
@options.setting(
    "--secondary",
    metavar=options.CONNINFO,
    help="The secondary: the stages of the replicas kept there. Not needed with --primary.",
)
@options.as_json
def status(primary: str | None, secondary: str | None, as_json: bool) -> None:
    """Show the state of every stage, and of every replica of a shipper.

    All of it is what replayer and shipper last reported: look at the report's age.
    """
    if primary is None and secondary is None:
        raise UsageError(
            "it isn't said where to look", hint="give --secondary, --primary, or both (LOGSHIP_SECONDARY, …)"
        )
    describe = None if secondary is None else _of_secondary(secondary)
    slots, shippers = (None, None) if primary is None else _of_primary(primary)
    described = [] if describe is None else describe(slots)
    if as_json:
        found = {} if secondary is None else {"replicas": described}
        if shippers is not None:
            found["shippers"] = [dataclasses.asdict(shipper) for shipper in shippers]
        output.record(found, as_json=True)
        return
    parts = [functools.partial(_show, fields) for fields in described]
    parts += [functools.partial(_show_shipper, shipper) for shipper in shippers or []]
    for number, part in enumerate(parts):
        if number:
            output.line("")
        part()
    if not parts:
        output.line("nothing was shipped from this primary yet")


def _of_secondary(secondary: str) -> Callable[[dict[str, SlotStatus] | None], list[dict[str, Any]]]:
    """What was read, to be described together with the slots, or without them."""
    from logship.catalog.ddl_history import summary
    from logship.catalog.skipped import transactions
    from logship.catalog.status import lag, replicas, selections
    from logship.connection import Side, connect

    with connect(secondary, Side.SECONDARY, application_name="logship status") as link:
        found, lags, selected = _read(link, replicas), _read(link, lag), selections(link)
        carried, last_lsn, last_at = summary(link)
        skips = transactions(link)
    changes = {"schema_changes": {"carried": carried, "last_lsn": last_lsn, "last_at": last_at}}
    return lambda slots: [
        _describe(replica, lags, slots, selected) | changes | {"skipped": _skipped(skips, replica.replica)}
        for replica in found
    ]


def _skipped(skips: list[Skip] | None, replica: str) -> list[dict[str, Any]] | None:
    if skips is None:
        return None
    return [
        {"lsn": skip.lsn, "asked_by": skip.asked_by, "skipped_at": skip.skipped_at, "changes": skip.changes}
        for skip in skips
        if skip.replica == replica
    ]


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

    from logship.connection import Side
    from logship.service.replica import NotInitialised
    from logship.service.sides import require_not_exchanged

    try:
        found = query(link)
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName) as error:
        require_not_exchanged(link, Side.SECONDARY)
        raise NotInitialised("the secondary has no schema logship") from error
    if not found:
        raise NotInitialised("the secondary keeps no replica yet")
    return found


def _of_primary(primary: str) -> tuple[dict[str, SlotStatus], list[ShipperStatus]]:
    import psycopg

    from logship.catalog.status import shippers, slots
    from logship.connection import Side, connect
    from logship.errors import PrimaryError

    with connect(primary, Side.PRIMARY, application_name="logship status") as link:
        try:
            return slots(link), shippers(link)
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
    hidden = {"reported_at", "report_age", "last_error", "last_error_time", "schema_changes", "skipped"}
    shown = {name: value for name, value in fields.items() if name not in hidden}
    shown["state"] = state_said(fields["state"], fields["report_age"])
    if fields["bytes"] is not None:
        shown["bytes"] = output.size(fields["bytes"])
    shown["reported"] = _ago(fields["report_age"], "never")
    if fields["tables"] is not None:
        shown["tables"] = ", ".join(fields["tables"]) or "all"
        shown["exclude"] = ", ".join(fields["exclude"]) or "none"
    changes = fields["schema_changes"]
    last = "" if changes["last_lsn"] is None else f", the last at {changes['last_lsn']}"
    shown["schema changes"] = f"{changes['carried']} carried{last}"
    skips = fields["skipped"]
    if skips:
        shown["skipped"] = ", ".join(
            f"{skip['lsn']} (not reached yet)"
            if skip["skipped_at"] is None
            else f"{skip['lsn']} ({skip['changes']} row changes)"
            for skip in skips
        )
    shown["last error"] = fields["last_error"]
    if fields["last_error_time"] is not None:
        shown["last error at"] = fields["last_error_time"]
    if slot is not None:
        shown |= _slot(slot)
    output.record(shown, as_json=False)
    output.line("")
    output.rows([_row(stage) for stage in stages], as_json=False)


def state_said(state: str | None, age: datetime.timedelta | None) -> str:
    """With a warning where the report is older than a running replayer's would be."""
    if state is None or age is None:
        return "unknown: nothing was reported"
    silent = age.total_seconds() > SILENT_S and state not in ENDED
    return f"{state}, said {_ago(age)}: it may not be running any more" if silent else state


def _ago(age: datetime.timedelta | None, never: str | None = None) -> str | None:
    return never if age is None else f"{output.cell(age)} ago"


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


def _show_shipper(shipper: ShipperStatus) -> None:
    output.record(
        {
            "slot": shipper.slot,
            "shipped by": f"process {shipper.pid} on {shipper.host}, epoch {shipper.epoch}",
            "since": shipper.started_at,
            "slot active": shipper.active,
        },
        as_json=False,
    )
    output.line("")
    output.rows([_standby(replica) for replica in shipper.replicas], as_json=False, empty="no replica yet")


def _standby(replica: StandbyStatus) -> dict[str, Any]:
    return {
        "replica": replica.replica,
        "state": replica.state or "unknown",
        "sync": replica.sync_state,
        "flush_lsn": replica.flush_lsn,
        "replay_lsn": replica.replay_lsn,
        "flush lag": replica.flush_lag,
        "replay lag": replica.replay_lag,
        "heard": _ago(replica.reply_age),
    }


def _stage(stage: StageLag, *, as_json: bool) -> dict[str, Any]:
    fields = dataclasses.asdict(stage)
    return fields if as_json else {"replica": stage.replica} | _row(fields)


def _row(stage: dict[str, Any]) -> dict[str, Any]:
    return {
        "stage": stage["stage"],
        "lsn": stage["lsn"],
        "behind": None if stage["lag_bytes"] is None else output.size(stage["lag_bytes"]),
        "lag": stage["lag"],
        "as of": _ago(stage["age"]),
    }
