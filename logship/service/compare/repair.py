"""`logship repair`: makes rows of the secondary what they are on the primary, in order with the stream.

In: conninfo of both; what `logship verify` found, or which tables to verify first. Out: what was done to
each table. Both sides are brought to one LSN again and the replayer stands still there: the rows in
question are compared once more, and written in one transaction, by the owners' writers, in front of
everything that the log has behind that LSN. The position is locked and doesn't change. Running it
again finds nothing to do.

It never writes what the primary doesn't hold, never touches a row that wasn't named, and refuses a
table whose shape differs. Rows that a running replayer keeps in memory are not mended by it.
"""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psycopg

from logship.connection import Side
from logship.errors import LogshipError, RefusedAsUnsafe, SecondaryError, UsageError
from logship.lsn import Lsn
from logship.replay.session import TEXT, Command, ServerError, open_session
from logship.replay.transaction import Span, Transaction
from logship.service.compare.mend import Plan, plan
from logship.service.compare.moment import Moment, one_lsn
from logship.service.compare.standing import Ends
from logship.service.compare.verify import MAX_HOLD_S, Options, Progress, verify
from logship.service.replica import Found, find
from logship.snapshot.failures import failure
from logship.snapshot.relations import TableName
from logship.snapshot.verify_compare import TableResult
from logship.snapshot.verify_rows import Bound
from logship.snapshot.verify_tables import Incomparable, pair

_BEGIN: Final = b"begin isolation level read committed read write"
_STAY: Final = b"select logship.advance($1, $2, $2, null, 0, 0, 0, 0, 0)"
_MENDED: Final = b"select logship.note_mended($1, $2, $3)"
_LSN: Final = 3220
_LOCK_TIMEOUT_S: Final = 10.0
_MOST: Final = 10_000  # rows of a table that are mended at a time
_ROUNDS: Final = 1_000

Keys = dict[TableName, list[Bound]]


@dataclass(slots=True)
class Repaired:
    """``lsn``: the rows named are the primary's as of there; None: nothing differed."""

    replica: str
    dry_run: bool
    lsn: Lsn | None = None
    held_s: float | None = None
    tables: list[Plan] = field(default_factory=list)

    @property
    def rows(self) -> int:
        return sum(len(t.deleted) + len(t.replaced) + len(t.inserted) for t in self.tables)


def repair(
    primary: str,
    secondary: str,
    name: str | None = None,
    *,
    keys: Keys | None = None,
    options: Options | None = None,
    dry_run: bool = False,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Repaired:
    """Mend ``keys``; None: verify first, and again until nothing is found. Raises as `verify` does, and
    `RefusedAsUnsafe`, `ReplayError` when a table can't be mended. Nothing is committed then."""
    found = find(secondary, name)
    repairing = _Repair(primary, secondary, found, options, progress)
    done = Repaired(found.replica.name, dry_run)
    if keys is not None:
        repairing.mend(keys, done)
        return done
    for _ in range(_ROUNDS):
        report = repairing.look()
        differing = report.differing
        for table in differing:
            if table.reason:
                raise RefusedAsUnsafe(
                    f"table {table.table} can't be mended: {table.reason}",
                    hint="make the tables alike first, or leave it out with --exclude",
                )
        if differing:
            repairing.mend(found_keys(differing), done)
        if dry_run or not any(table.more for table in differing):
            break
    return done


class _Repair:
    def __init__(
        self,
        primary: str,
        secondary: str,
        found: Found,
        options: Options | None,
        progress: Callable[[Progress], None],
    ) -> None:
        given = options or Options()
        self._options = dataclasses.replace(
            given, resume=None, how=dataclasses.replace(given.how, limit=_MOST, show_values=False)
        )
        self._ends = Ends(primary, secondary, found, options.max_hold_s if options else MAX_HOLD_S, self._say)
        self._found = found
        self._progress = progress

    def look(self) -> Any:
        ends = self._ends
        return verify(
            ends.primary,
            ends.secondary,
            self._found.replica.name,
            options=self._options,
            progress=self._progress,
        )

    def mend(self, keys: Keys, done: Repaired) -> None:
        with one_lsn(self._ends, keep=True) as moment:
            try:
                plans = [self._plan(moment, table, keys[table]) for table in sorted(keys, key=str)]
            except psycopg.Error as error:
                raise failure(Side.PRIMARY, "look at the rows again", error) from error
            if not done.dry_run and not all(one.empty for one in plans):
                self._write(moment, plans)
        done.lsn, done.held_s = moment.lsn, moment.held_s
        done.tables += plans

    def _plan(self, moment: Moment, table: TableName, keys: Sequence[Bound]) -> Plan:
        if (table.schema, table.name) in self._found.left_out:
            raise UsageError(f"table {table} is not replicated", hint="repair mends replicated tables only")
        both = pair(moment.primary, moment.secondary, table)
        if isinstance(both, Incomparable):
            raise RefusedAsUnsafe(
                f"table {table} can't be mended: {both.reason}", hint="make the tables alike first"
            )
        width = len(both.key) or 1
        if any(len(key) != width for key in keys):
            raise RefusedAsUnsafe(
                f"the key of {table} is not what it was when its rows were found to differ",
                hint="run `logship verify` again",
            )
        return plan(both, keys, moment.primary, moment.secondary)

    def _write(self, moment: Moment, plans: Sequence[Plan]) -> None:
        """One transaction. The position is checked and locked first: a replayer that went on in spite of
        the hold would wait for us, or make us fail."""
        name = self._found.replica.name
        stay = [name.encode(), str(moment.position).encode()]
        with _session(self._ends.secondary, f"logship repair {name}") as session:
            transaction = Transaction(session, {}, Span(moment.position, moment.position))
            try:
                transaction.utility(_BEGIN)
                transaction.utility(_STAY, stay, (TEXT, _LSN))
                transaction.flush()
                for one in plans:
                    transaction.write(one.statements)
                    transaction.flush()
                    # A replayer that runs begins again, and its memory loads the table anew.
                    for table in {(s.target.schema, s.target.name) for s in one.statements}:
                        named = [part.encode() for part in (name, *table)]
                        transaction.utility(_MENDED, named, (TEXT, TEXT, TEXT))
                transaction.flush()
                session.run([Command(b"commit")])
            except ServerError as error:
                failed = transaction.failed
                what = f"{failed.verb} of {failed.target}" if failed else "the transaction"
                raise SecondaryError(
                    f"can't mend the secondary: {what}: {error.reason} (SQLSTATE {error.sqlstate})",
                    hint="nothing was changed. Try again; a constraint that other rows violate is mended by "
                    "verifying and repairing whole tables",
                ) from error

    def _say(self, text: str) -> None:
        self._progress(Progress(text))


@contextmanager
def _session(conninfo: str, application_name: str) -> Iterator[Any]:
    with closing(open_session(conninfo, application_name, _LOCK_TIMEOUT_S, threading.Event())) as session:
        yield session


def found_keys(tables: Sequence[TableResult]) -> Keys:
    return {TableName(t.schemaname, t.relname): [one.key for one in t.found] for t in tables}


def keys_of_file(path: Path) -> Keys:
    """What ``logship verify --json`` printed. `UsageError` when it is something else."""
    try:
        report: Any = json.loads(path.read_text(encoding="utf-8"))
        return {
            TableName(str(table["schemaname"]), str(table["relname"])): [
                tuple(str(text) for text in one["key"]) for one in table["found"]
            ]
            for table in report["tables"]
            if table["found"]
        }
    except (OSError, ValueError, KeyError, TypeError, LogshipError) as error:
        raise UsageError(
            f"{path} is not what `logship verify --json` prints ({type(error).__name__})",
            hint="write it with: logship verify --primary … --secondary … --json > FILE",
        ) from error
