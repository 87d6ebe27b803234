"""`logship skip`, `logship ddl skip`: an operator names what the replayer is to pass over.

In: the secondary; an LSN that the replica's error names. Out: a row on the secondary, which the replayer reads when it
starts. Refused: what was replayed already, and what the replica hasn't received, of which nobody knows what it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import psycopg

from logship.catalog import skipped
from logship.connection import Side, connect
from logship.errors import RefusedAsUnsafe
from logship.lsn import Lsn
from logship.service.replica import find
from logship.snapshot.failures import failure

_WHICH: Final = "name the LSN that the error of the replica names: logship status"
_LSN: Final = "([0-9A-F]+/[0-9A-F]+)"
_TRANSACTION: Final = re.compile(f"transaction committed at {_LSN}")
_SCHEMA_CHANGE: Final = re.compile(f"--lsn {_LSN} --number ([0-9]+)")


@dataclass(frozen=True, slots=True)
class Skipped:
    """``new`` False: it was asked for before. ``other``: what the replica's last error names, if not this."""

    replica: str
    new: bool
    other: str


def skip_transaction(secondary: str, name: str | None, lsn: Lsn) -> Skipped:
    """Nothing of it will be replayed, in either store. `RefusedAsUnsafe`: see above."""

    def other(last_error: str) -> str:
        named = _TRANSACTION.search(last_error)
        return f"--lsn {named[1]}" if named is not None and Lsn.parse(named[1]) != lsn else ""

    return _skip(
        secondary, name, lsn, lambda link, replica: skipped.name_transaction(link, replica, lsn), other
    )


def skip_schema_change(secondary: str, name: str | None, lsn: Lsn, number: int) -> Skipped:
    """``number`` 0: every one of that transaction; its rows are replayed all the same. `RefusedAsUnsafe`: see above."""

    def other(last_error: str) -> str:
        named = _SCHEMA_CHANGE.search(last_error)
        if named is None or (Lsn.parse(named[1]) == lsn and number in (0, int(named[2]))):
            return ""
        return f"--lsn {named[1]} --number {named[2]}"

    return _skip(
        secondary,
        name,
        lsn,
        lambda link, replica: skipped.name_schema_change(link, replica, lsn, number),
        other,
    )


def _skip(
    secondary: str,
    name: str | None,
    lsn: Lsn,
    note: Callable[[psycopg.Connection, str], bool],
    other: Callable[[str], str],
) -> Skipped:
    found = find(secondary, name)
    replica = found.replica.name
    if lsn <= found.position:
        raise RefusedAsUnsafe(
            f'replica "{replica}" has replayed {lsn} already: it stands at {found.position}', hint=_WHICH
        )
    with connect(secondary, Side.SECONDARY, application_name="logship skip") as link:
        try:
            reported = skipped.reported(link, replica)
            if reported.received_lsn is not None and lsn > reported.received_lsn:
                raise RefusedAsUnsafe(
                    f'replica "{replica}" has not received {lsn}: it has the log up to {reported.received_lsn}',
                    hint=_WHICH,
                )
            new = note(link, replica)
        except psycopg.Error as error:
            raise failure(Side.SECONDARY, "note what is to be passed over", error) from error
    return Skipped(replica, new, other(reported.last_error or ""))
