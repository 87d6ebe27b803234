"""`logship query`: one SELECT, answered by a running replayer's memory, and the LSN that it is true at.

The rows go to standard output; on a terminal, where they come from stands below them. Values are written as
PostgreSQL writes them. Exits 0 with an answer; 1 when there is none (nobody to ask, not in time, refused), 2 for
what is no query, 4 when the secondary refuses it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

import click

from logship.cli import options, output
from logship.cli.quantity import Duration, Size, written, written_s
from logship.config import MIB, Cold
from logship.errors import UsageError
from logship.lsn import Lsn

if TYPE_CHECKING:
    from logship.memory import Answer

_USUAL_BYTES: Final = 64 * MIB
_USUAL_S: Final = 30.0
_RIGHT: Final = ("smallint", "integer", "bigint", "real", "double precision", "numeric")
_NUMBERS: Final = ("smallint", "integer", "bigint")


class AtLeast(click.ParamType[Lsn]):
    name = "LSN"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Lsn:
        return value if isinstance(value, Lsn) else Lsn.parse(str(value))


@click.command("query")
@click.argument("query", metavar="SELECT")
@options.secondary
@options.name
@click.option(
    "--at-least",
    type=AtLeast(),
    metavar="LSN",
    help="Wait until the answer is true at this LSN or a later one.",
)
@options.setting(
    "--timeout", type=Duration(at_least=0.01, at_most=3600), default=_USUAL_S, show_default=written_s(_USUAL_S),
    help="For waiting, loading and computing together.",
)  # fmt: skip
@options.setting(
    "--cold", type=click.Choice([cold.value for cold in Cold]), show_default="the replayer's --memory-cold",
    help="What becomes of a query that memory can't answer: the secondary answers it; what isn't in memory is loaded "
    "first; or it is refused.",
)  # fmt: skip
@click.option(
    "--limit", type=Size(at_least=1, at_most=256 * MIB), default=_USUAL_BYTES, show_default=written(_USUAL_BYTES),
    help="Refuse a result that is larger.",
)  # fmt: skip
@click.option(
    "--format", "style", type=click.Choice(["table", "csv", "json", "arrow"]), default="table", show_default=True,
    help="How rows are written. arrow: a stream of Arrow's IPC format, to a file or a pipe.",
)  # fmt: skip
@options.as_json
def query(
    query: str,
    secondary: str,
    name: str | None,
    at_least: Lsn | None,
    timeout: float,
    cold: str | None,
    limit: int,
    style: str,
    as_json: bool,
) -> None:
    """Ask a running replayer's memory one SELECT, in PostgreSQL's SQL.

    It is found through the secondary, and answers what the role that connects there may read. "-" reads the
    query from standard input.
    """
    from logship import memory

    if as_json and style not in ("table", "json"):
        raise UsageError("--json and --format contradict each other", hint="give one of them")
    if style == "arrow" and sys.stdout.isatty():
        raise UsageError(
            "an Arrow stream is no text", hint="send it into a file or a pipe, or choose another --format"
        )
    text = sys.stdin.read() if query == "-" else query
    with memory.connect(secondary, name=name) as asked:
        answer = asked.query(text, at_least=at_least, timeout_s=timeout, cold=cold, limit_bytes=limit)
    _write(answer, "json" if as_json else style)


def _write(answer: Answer, style: str) -> None:
    match style:
        case "arrow":
            _arrow(answer)
            _said(answer)
        case "csv":
            _csv(answer)
            _said(answer)
        case "json":
            output.record(as_object(answer), as_json=True)
        case _:
            _table(answer)


def as_object(answer: Answer) -> dict[str, Any]:
    """``rows`` are lists in the order of ``columns``: two columns may have one name. Numbers are JSON's where
    those are exact (integers); what else there is, is text as PostgreSQL writes it; NULL is null."""
    from logship.replay.query.result import texts, type_names

    kinds = type_names(answer.table)
    return {
        "source": answer.source,
        "lsn": answer.lsn,
        "reason": answer.reason or None,
        "loaded": list(answer.loaded),
        "columns": [
            {"name": name, "type": kind} for name, kind in zip(answer.table.column_names, kinds, strict=True)
        ],
        "rows": [
            [_json(cell, kind) for cell, kind in zip(row, kinds, strict=True)] for row in texts(answer.table)
        ],
    }


def _json(cell: str | None, kind: str) -> str | int | bool | None:
    if cell is None:
        return None
    if kind in _NUMBERS:
        return int(cell)
    return cell == "t" if kind == "boolean" else cell


def _csv(answer: Answer) -> None:
    """As COPY … WITH (FORMAT csv, HEADER): NULL is empty, an empty text is quoted."""
    from logship.replay.query.result import texts

    for row in [list(answer.table.column_names), *texts(answer.table)]:
        output.line(",".join(_csv_cell(cell) for cell in row))


def _csv_cell(cell: str | None) -> str:
    if cell is None:
        return ""
    if cell in {"", "\\."} or any(special in cell for special in ',"\n\r'):
        return '"' + cell.replace('"', '""') + '"'
    return cell


def _arrow(answer: Answer) -> None:
    import pyarrow as pa

    with pa.ipc.new_stream(sys.stdout.buffer, answer.table.schema) as writer:
        writer.write_table(answer.table)
    sys.stdout.buffer.flush()


def _table(answer: Answer) -> None:
    from logship.replay.query.result import texts, type_names

    kinds = [kind.partition("(")[0] for kind in type_names(answer.table)]
    names, rows = answer.table.column_names, texts(answer.table)
    if sys.stdout.isatty():
        _rich(names, kinds, rows)
    else:
        _aligned(names, kinds, rows)
    _said(answer)


def _rich(names: list[str], kinds: list[str], rows: list[list[str | None]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table()
    for name, kind in zip(names, kinds, strict=True):
        shown.add_column(Text(name), justify="right" if kind in _RIGHT else "left")
    for row in rows:
        shown.add_row(*(Text("-", style="dim") if cell is None else Text(_plain(cell)) for cell in row))
    Console(file=sys.stdout).print(shown)


def _aligned(names: list[str], kinds: list[str], rows: list[list[str | None]]) -> None:
    cells = [[_plain(name) for name in names]]
    cells += [["-" if cell is None else _plain(cell) for cell in row] for row in rows]
    widths = [max(len(row[nth]) for row in cells) for nth in range(len(names))]
    for row in cells:
        padded = [
            cell.rjust(width) if kind in _RIGHT else cell.ljust(width)
            for cell, width, kind in zip(row, widths, kinds, strict=True)
        ]
        output.line("  ".join(padded).rstrip())


def _plain(cell: str) -> str:
    """Nothing in a value moves a terminal's cursor or breaks a line."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in cell)


def _said(answer: Answer) -> None:
    """On standard error, so that a pipe gets rows alone."""
    count = answer.table.num_rows
    rows = "1 row" if count == 1 else f"{count} rows"
    why = f" ({answer.reason})" if answer.reason else ""
    loaded = f", loaded for it: {', '.join(answer.loaded)}" if answer.loaded else ""
    source = "memory" if answer.source == "memory" else "the secondary"
    click.echo(f"{rows} from {source}{why} at {answer.lsn}{loaded}", err=True)
