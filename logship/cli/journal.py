"""`logship journal ls | dump | verify`: what stands in a journal's directory.

In: a directory, by default the one that the settings name; a running process may be writing there. Out: a line
or a JSON object for each segment, each record, or for the whole. Takes no lock and writes nothing. Row values are
shown only when they are asked for, with `dump --values`; names of schemas, tables and databases are always shown.
"""

from __future__ import annotations

import datetime
import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import click

from logship import pgoutput
from logship.change import Cell, Delete, Event, Insert, Message, Row, Unchanged, Update
from logship.cli import options, output
from logship.errors import UsageError
from logship.journal.contents import Schema, walk
from logship.journal.inspection import Described, Located, inspect
from logship.journal.segment import RecordKind
from logship.kernel import split_run
from logship.lsn import Lsn

_EPOCH: Final = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
_TAGS: Final = {
    "B": "begin", "C": "commit", "O": "origin", "R": "relation", "Y": "type", "I": "insert",
    "U": "update", "D": "delete", "T": "truncate", "M": "message",
}  # fmt: skip


class LsnType(click.ParamType[Lsn]):
    name = "lsn"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Lsn:
        if isinstance(value, Lsn):
            return value
        try:
            return Lsn.parse(value)
        except UsageError as error:
            self.fail(f"{error.message}; {error.hint}", param, ctx)


def _directory(command: Callable[..., None]) -> Callable[..., None]:
    """DIRECTORY or, as for the commands that write it, `--journal`; as ``directory: Path``."""

    @functools.wraps(command)
    def found(*, directory: Path | None, journal: Path | None, **given: Any) -> None:
        which = directory or journal
        if which is None:
            raise UsageError(
                "it isn't said which journal", hint="name its directory, or give journal in logship.toml"
            )
        command(directory=which, **given)

    path = click.Path(path_type=Path)
    option = options.setting("--journal", metavar="DIR", type=path, help="The same as DIRECTORY.")
    return click.argument("directory", type=path, required=False)(option(found))


_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def journal() -> None:
    """Read a journal: its segments, its records, whether it is whole."""


@journal.command()
@_directory
@_json
def ls(directory: Path, as_json: bool) -> None:
    """List the segments of the journal in DIRECTORY."""
    output.rows(
        [_segment(described, as_json) for described in inspect(directory).segments()], as_json=as_json
    )


def _segment(described: Described, as_json: bool) -> dict[str, Any]:
    segment = described.segment
    names = [f"{relation.schema}.{relation.name}" for relation in described.relations]
    return {
        "segment": segment.name,
        "first_lsn": str(segment.first_lsn),
        "last_lsn": str(segment.last_lsn),
        "used_bytes": segment.used_bytes,
        "bytes": segment.bytes,
        "transactions": segment.transactions,
        "first_commit": _time(segment.first_commit_time_us),
        "last_commit": _time(segment.last_commit_time_us),
        "sealed": segment.sealed,
        "relations": names if as_json else ", ".join(names) or None,
    }


def _time(microseconds: int) -> datetime.datetime | None:
    """None for 0, which stands for no time, and for what a calendar can't hold."""
    try:
        return _EPOCH + datetime.timedelta(microseconds=microseconds) if microseconds else None
    except OverflowError:
        return None


@journal.command()
@_directory
@click.option(
    "--from", "start", type=LsnType(), help="Begin with the first transaction that ends after this LSN."
)
@click.option(
    "--to", "stop", type=LsnType(), help="End before the first transaction that commits at or after it."
)
@click.option("--limit", type=click.IntRange(min=1), help="Print at most so many records.")
@click.option("--values", is_flag=True, help="Print the values of rows, too.")
@_json
def dump(
    *, directory: Path, start: Lsn | None, stop: Lsn | None, limit: int | None, values: bool, as_json: bool
) -> None:
    """Print the records of the journal in DIRECTORY, with their messages."""
    schema: Schema = {}
    for count, located in enumerate(_until(inspect(directory).records(start=start), stop)):
        if count == limit:
            break
        record = _record(located, schema, values)
        if as_json:
            output.line(json.dumps(record))
        else:
            _print(record)


def _until(records: Iterator[Located], stop: Lsn | None) -> Iterator[Located]:
    for located in records:
        record = located.record
        if stop is not None:
            begins = record.kind is RecordKind.CHANGES and record.first and record.commit_lsn >= stop
            if begins or (record.kind is RecordKind.POSITION and record.end_lsn > stop):
                return
        yield located


def _record(located: Located, schema: Schema, values: bool) -> dict[str, Any]:
    record = located.record
    has_run = record.kind in {RecordKind.CHANGES, RecordKind.SCHEMA}
    messages = [_message(message, schema, values) for message in split_run(record.run)] if has_run else []
    time = _time(record.commit_time_us)
    return {
        "segment": located.segment,
        "offset": located.offset,
        "bytes": located.size,
        "kind": record.kind.name.lower(),
        "first": record.first,
        "last": record.last,
        "xid": record.xid,
        "commit_lsn": str(record.commit_lsn),
        "end_lsn": str(record.end_lsn) if record.end_lsn else None,
        "commit_time": time.isoformat() if time else None,
        "messages": messages,
    }


def _message(message: bytes, schema: Schema, values: bool) -> dict[str, Any]:
    tag = chr(message[0]) if message else ""
    shown: dict[str, Any] = {"message": _TAGS.get(tag, "unknown"), "tag": tag, "bytes": len(message)}
    if tag in {"R", "Y"}:
        walk(len(message).to_bytes(4) + message, schema, set())
    if tag in {"R", "I", "U", "D"} and len(message) >= 5:
        shown["relation"] = _relation(int.from_bytes(message[1:5]), schema)
    if values and tag in {"I", "U", "D", "M"}:
        shown.update(_values(pgoutput.decode(message)))
    return shown


def _relation(oid: int, schema: Schema) -> str:
    message = schema.get((ord("R"), oid))
    if message is None:
        return f"relation {oid}"
    names = message[5:].split(b"\0", 2)
    return f"{names[0].decode(errors='replace') or 'pg_catalog'}.{names[1].decode(errors='replace')}"


def _values(event: Event) -> dict[str, Any]:
    match event:
        case Insert():
            return {"new": _row(event.new)}
        case Update():
            return {"old": _row(event.old), "new": _row(event.new)}
        case Delete():
            return {"old": _row(event.old)}
        case Message():
            return {"prefix": event.prefix, "content": event.content.decode(errors="backslashreplace")}
    return {}


def _row(row: Row | None) -> list[str | None] | None:
    return None if row is None else [_cell(cell) for cell in row]


def _cell(cell: Cell) -> str | None:
    if isinstance(cell, Unchanged):
        return "(unchanged)"
    return None if cell is None else cell.decode(errors="backslashreplace")


def _print(record: dict[str, Any]) -> None:
    flags = "".join(name[0] if record[name] else "-" for name in ("first", "last"))
    end = f" end {record['end_lsn']}" if record["end_lsn"] else ""
    time = f" at {record['commit_time']}" if record["commit_time"] else ""
    output.line(
        f"{record['segment']} {record['offset']:>9} {record['kind']:<8} {flags} {record['bytes']} bytes"
        f" xid {record['xid']} commit {record['commit_lsn']}{end}{time}"
    )
    for message in record["messages"]:
        values = "".join(
            f" {name} {json.dumps(message[name], ensure_ascii=False)}"
            for name in ("old", "new", "prefix", "content")
            if message.get(name) is not None
        )
        relation = f" {message['relation']}" if "relation" in message else ""
        output.line(
            f"    {message['tag']} {message['message']:<8}{relation} {message['bytes']} bytes{values}"
        )


@journal.command()
@_directory
@_json
def verify(directory: Path, as_json: bool) -> None:
    """Read every byte of the journal in DIRECTORY; exit code 5 says where it is damaged."""
    found = inspect(directory).verify()
    output.record(
        {
            "whole": True,
            "segments": found.segments,
            "records": found.records,
            "transactions": found.transactions,
            "bytes": found.bytes,
            "first_lsn": str(found.first_lsn),
            "last_lsn": str(found.last_lsn),
            "torn_tail": found.torn or None,
        },
        as_json=as_json,
    )
