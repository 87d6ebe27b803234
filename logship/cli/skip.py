"""`logship skip`: a transaction that can't be replayed is passed over, because an operator says so."""

from __future__ import annotations

import click

from logship.cli import options, output
from logship.cli.journal import LsnType
from logship.lsn import Lsn


@click.command("skip")
@options.secondary
@options.name
@click.option("--lsn", type=LsnType(), required=True, help="Of the commit, as the replica's error names it.")
@options.as_json
def skip(secondary: str, name: str | None, lsn: Lsn, as_json: bool) -> None:
    """Pass over one transaction of the primary that can't be replayed.

    None of its rows and schema changes reach the secondary, in no store, so both sides differ afterwards: compare
    them with `logship verify`, and mend them with `logship repair`. Of a schema change alone: `logship ddl skip`. The
    replayer passes the transaction over when it is started again, and notes when, and how many rows it held
    (`logship status`).
    """
    from logship.service.skip import skip_transaction

    skipped = skip_transaction(secondary, name, lsn)
    if as_json:
        said = {"replica": skipped.replica, "lsn": lsn, "new": skipped.new, "failing": skipped.other or None}
        output.record(said, as_json=True)
        return
    again = "" if skipped.new else ", as was asked for before"
    output.line(f'replica "{skipped.replica}" will pass over the transaction committed at {lsn}{again}')
    output.line(
        "start the replayer again; then compare both sides with logship verify, and mend with logship repair"
    )
    if skipped.other:
        output.line(f"warning: the replica's last error is about another one: {skipped.other}")
