"""`logship verify`: whether the secondary holds what the primary holds, at one LSN, while both work.

In: conninfo of both; which tables. Out: `Report`: for each table the number of rows on both sides and
the keys of the rows that differ. Nothing is written but the request to stand still for a moment
(`logship.service.compare.moment`); the comparison itself reads two snapshots while replication goes on.

A snapshot dies with its connections, so a comparison that was interrupted can't go on at the same LSN.
With ``resume`` the tables that were found equal are noted in a file with the LSN they were equal at, and
left out the next time; the file goes once all are done.

With ``memory`` what the running replayer holds in memory is compared with the secondary, too, as of the same
LSN: the replayer pins it under the hold, and sums it up when it is asked (`logship.service.memory.questions`).
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from logship.catalog.selection import Selection, split
from logship.connection import Side
from logship.errors import LogshipError, UsageError
from logship.lsn import Lsn
from logship.service.compare.moment import Moment, begin, one_lsn
from logship.service.compare.standing import Ends, NotAtOneLsn
from logship.service.memory.questions import Conversation, conversation
from logship.service.replica import Found, find
from logship.snapshot import relations
from logship.snapshot.failures import failure
from logship.snapshot.relations import TableName
from logship.snapshot.verify import Snapshots, compare_all, session
from logship.snapshot.verify_compare import How, TableResult, Throttle
from logship.snapshot.verify_memory import MemoryResult, compare
from logship.snapshot.verify_tables import Incomparable, Pair, pair

MAX_HOLD_S = 30.0


@dataclass(frozen=True, slots=True)
class Progress:
    """Something to tell; with a table: ``rows`` of it are compared, ``done`` tables of ``total``."""

    text: str
    table: str | None = None
    rows: int = 0
    done: int = 0
    total: int = 0


@dataclass(slots=True)
class MemoryReport:
    """``cold``: tables that memory doesn't hold, and why; they are no difference."""

    tables: list[MemoryResult] = field(default_factory=list)
    cold: dict[str, str] = field(default_factory=dict)

    @property
    def differing(self) -> list[MemoryResult]:
        return [table for table in self.tables if not table.equal]


@dataclass(slots=True)
class Report:
    """``lsn``: what was compared is true there. ``held_s`` None: no replayer was running. ``memory`` None: it
    wasn't asked about."""

    replica: str
    lsn: Lsn
    held_s: float | None = None
    tables: list[TableResult] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    resumed: dict[str, str] = field(default_factory=dict)  # equal at that LSN, as noted before
    seconds: float = 0.0
    memory: MemoryReport | None = None

    @property
    def equal(self) -> bool:
        return not (self.differing or (self.memory is not None and self.memory.differing))

    @property
    def differing(self) -> list[TableResult]:
        return [table for table in self.tables if not table.equal]


@dataclass(frozen=True, slots=True)
class Options:
    """What the operator asked for."""

    tables: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    jobs: int = 2
    how: How = field(default_factory=How)
    max_bytes_per_s: int | None = None
    max_hold_s: float = MAX_HOLD_S
    resume: Path | None = None
    memory: bool = False


def verify(
    primary: str,
    secondary: str,
    name: str | None = None,
    *,
    options: Options | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Report:
    """Compare. `NotAtOneLsn` when both sides can't be brought to one LSN now; what `logship.errors` has
    for either server. A difference isn't an error: look at `Report.equal`."""
    options = options or Options()
    found = find(secondary, name)
    return _Verify(primary, secondary, found, options, progress).run()


class _Verify:
    def __init__(
        self,
        primary: str,
        secondary: str,
        found: Found,
        options: Options,
        progress: Callable[[Progress], None],
    ) -> None:
        self.primary = primary
        self.secondary = secondary
        self.found = found
        self.options = options
        self.selection = Selection(split(options.tables), split(options.exclude))
        self.progress = progress
        self.notes = Notes.read(options.resume, found.replica.name)
        self._total = 0
        self._told_at = time.monotonic()
        self._lock = threading.Lock()

    def run(self) -> Report:
        began = time.monotonic()
        ends = Ends(self.primary, self.secondary, self.found, self.options.max_hold_s, self._say)
        throttle = Throttle(self.options.max_bytes_per_s)
        with ExitStack() as stack:
            asking = stack.enter_context(conversation(ends)) if self.options.memory else None
            moment = stack.enter_context(one_lsn(ends))
            report = Report(self.found.replica.name, moment.lsn, moment.held_s)
            self._tell_held(moment)
            pairs = self._pairs(moment, report)
            if asking is not None:
                names = [one.table for one in pairs]
                report.memory = self._compare_memory(asking, moment, names, throttle)
            self._total = len(pairs) + len(report.tables)

            def done(result: TableResult) -> None:
                report.tables.append(result)
                self.notes.note(result, moment.lsn)
                self._tell(result, "compared" if result.equal else "differs:", len(report.tables))

            compare_all(
                Snapshots(self.primary, self.secondary, moment.primary_snapshot, moment.secondary_snapshot),
                pairs, self.options.how, jobs=self.options.jobs,
                throttle=throttle, done=done, progress=self._under_way,
            )  # fmt: skip
        report.tables.sort(key=lambda table: (table.schemaname, table.relname))
        report.seconds = time.monotonic() - began
        self.notes.finish()
        return report

    # -- memory ----------------------------------------------------------------------------------

    def _compare_memory(
        self, asking: Conversation, moment: Moment, names: Iterable[TableName], throttle: Throttle
    ) -> MemoryReport:
        held = asking.begin(moment.held_s is not None)
        if held.lsn != moment.lsn:
            raise NotAtOneLsn(
                f"memory stood at {held.lsn} and the secondary at {moment.lsn}", hint="try again"
            )
        report = MemoryReport(
            cold=self._cold(held.cold, names, {(t.schemaname, t.relname) for t in held.tables})
        )
        with closing(session(self.secondary, Side.SECONDARY)) as link:
            begin(link, moment.secondary_snapshot)
            for table in held.tables:
                if not self.selection.selects(table.schemaname, table.relname):
                    continue
                self._say(f'comparing "{table.schemaname}"."{table.relname}" in memory, {table.rows} rows')
                report.tables.append(compare(link, asking, table, self.options.how, throttle))
        report.tables.sort(key=lambda result: (result.table.schemaname, result.table.relname))
        return report

    def _cold(
        self, known: Mapping[tuple[str, str], str], names: Iterable[TableName], resident: set[tuple[str, str]]
    ) -> dict[str, str]:
        cold = {str(TableName(*name)): why for name, why in known.items() if self.selection.selects(*name)}
        for table in names:
            if (table.schema, table.name) not in resident:
                cold.setdefault(str(table), "cold: not loaded yet: nothing has changed it")
        return dict(sorted(cold.items()))

    # -- which tables ----------------------------------------------------------------------------

    def _pairs(self, moment: Moment, report: Report) -> list[Pair]:
        try:
            names = self._names(moment, report)
            relations.hold_shape(moment.primary, names)
            found = [pair(moment.primary, moment.secondary, table.table) for table in names]
        except psycopg.Error as error:
            raise failure(Side.PRIMARY, "find out what there is to compare", error) from error
        report.tables += [not_comparable(one) for one in found if isinstance(one, Incomparable)]
        return [one for one in found if isinstance(one, Pair)]

    def _names(self, moment: Moment, report: Report) -> list[relations.Source]:
        newer = newer_tables(moment.secondary, self.found.replica.name, moment.lsn)
        names = []
        for one in relations.published(moment.primary, self.found.replica.publication):
            if not self.selection.selects(one.table.schema, one.table.name):
                continue
            equal_at = self.notes.equal.get(str(one.table))
            if equal_at is not None:
                report.resumed[str(one.table)] = equal_at
            elif (one.table.schema, one.table.name) in self.found.left_out:
                report.skipped[str(one.table)] = "not replicated"
            elif one.table in newer:
                report.skipped[str(one.table)] = "being copied anew: its rows are newer than the position"
            else:
                names.append(one)
        for table, why in relations.not_copied(moment.primary).items():
            if self.selection.selects(table.schema, table.name):
                report.skipped[str(table)] = f"{why}: PostgreSQL doesn't publish it"
        if not (names or report.skipped or report.resumed):
            raise UsageError(
                "there is no table to compare",
                hint="--tables and --exclude take patterns like public.* ; without them, is anything published?",
            )
        return names

    # -- what is told ----------------------------------------------------------------------------

    def _say(self, text: str) -> None:
        self.progress(Progress(text))

    def _tell_held(self, moment: Moment) -> None:
        if moment.held_s is not None:
            self._say(
                f"both sides at {moment.lsn}; the replica stood still for {moment.held_s * 1000:.0f} ms"
            )
        else:
            self._say(f"both sides at {moment.lsn}")

    def _tell(self, result: TableResult, text: str, done: int) -> None:
        self.progress(Progress(text, result.table, result.primary_rows, done, self._total))

    def _under_way(self, result: TableResult) -> None:
        """From any worker; now and then."""
        with self._lock:
            if time.monotonic() - self._told_at < 1.0:
                return
            self._told_at = time.monotonic()
        self._tell(result, "comparing", 0)


def newer_tables(secondary: psycopg.Connection, replica: str, lsn: Lsn) -> set[TableName]:
    rows = secondary.execute(
        "select c.schemaname, c.relname from logship.copied c "
        "where c.replica = %s and c.lsn > %s::pg_catalog.pg_lsn",
        [replica, str(lsn)],
    ).fetchall()
    return {TableName(schema, name) for schema, name in rows}


def not_comparable(table: Incomparable) -> TableResult:
    return TableResult(str(table.table), table.table.schema, table.table.name, reason=table.reason)


class NotesUnreadable(LogshipError):
    exit_code = 2


@dataclass(slots=True)
class Notes:
    """The file of ``resume``: tables that were found equal, and at which LSN."""

    path: Path | None
    replica: str
    equal: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path | None, replica: str) -> Notes:
        if path is None:
            return cls(None, replica)
        if not path.exists():
            notes = cls(path, replica)
            notes.write()  # whether it can be written shows now, and not when the first table is done
            return notes
        try:
            held: Any = json.loads(path.read_text(encoding="utf-8"))
            equal = {str(table): str(Lsn.parse(lsn)) for table, lsn in held["equal"].items()}
            of = held["replica"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError, LogshipError) as error:
            raise NotesUnreadable(
                f"{path} is not a file that verify wrote", hint="give --resume another file"
            ) from error
        if of != replica:
            raise NotesUnreadable(
                f'{path} is about replica "{of}", not "{replica}"', hint="give --resume another file"
            )
        return cls(path, replica, equal)

    def note(self, result: TableResult, lsn: Lsn) -> None:
        if self.path is None or not result.equal:
            return
        self.equal[result.table] = str(lsn)
        self.write()

    def write(self) -> None:
        """Whole, whenever we are killed."""
        assert self.path is not None
        beside = self.path.with_name(self.path.name + ".new")
        text = json.dumps({"replica": self.replica, "equal": self.equal}, indent=1)
        try:
            beside.write_text(text, encoding="utf-8")
            beside.replace(self.path)
        except OSError as error:
            raise NotesUnreadable(
                f"{self.path} can't be written: {error.strerror}",
                hint="give --resume a file in a directory that is there, and where this user may write",
            ) from error

    def finish(self) -> None:
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def default_jobs() -> int:
    return min(4, max(1, os.cpu_count() or 1))


__all__ = ["Options", "Progress", "Report", "verify"]
