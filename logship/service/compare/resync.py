"""`logship resync`: copies tables of a running replica anew, and splices them into the stream exactly.

In: both conninfos, the tables. Out: `ResyncResult`. All of it is one transaction of the secondary:

1. it locks the tables, and the row of the replica's position: from here on no replayer commits;
2. a snapshot is exported on the primary, at L; so L is behind everything that is committed here. That waits for
   the transactions running on the primary, so it is done once before, without holding anything; and where it takes
   long all the same, the locks are let go and it begins again: what runs may be a commit that waits for this replica;
3. the tables are emptied and filled at L, `logship.copied` says L, and the transaction commits.

A replayer that has prepared something meanwhile can't commit it: `logship.advance` refuses until it has read
`logship.copied` (LS004), and begins again from its position. From there it passes over what these tables
hold already: transactions that were committed before L. Killed at any point, on either side, the tables
are as they were, or as they are at L, and the position says which. Whether a replayer runs doesn't matter.

While the tables are copied, replay waits (the journal doesn't), and who reads them waits too. Failpoints:
resync.copied (not committed yet), resync.committed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from typing import Final

import psycopg
from psycopg import sql

from logship.catalog import copies, state
from logship.catalog.selection import Selection, split
from logship.catalog.writers import writers
from logship.connection import Side, connect
from logship.errors import PrimaryError, RefusedAsUnsafe, SecondaryError, UsageError
from logship.failpoints import hit
from logship.lsn import Lsn
from logship.service.initial.copy import pair
from logship.service.initial.only_one import is_worker, only_one
from logship.service.initial.plan import InitResult, Progress
from logship.service.initial.secondary_roles import make_writers
from logship.service.replica import find
from logship.snapshot import copy, guard, relations, source
from logship.snapshot.copy_staged import call
from logship.snapshot.failures import failure
from logship.snapshot.progress import Meter
from logship.snapshot.ranges import Unit
from logship.snapshot.relations import Source

_LOCK_TIMEOUT_S: Final = 5
_LOCK_ATTEMPTS: Final = 24
_SLOT_PATIENCE_S: Final = 3.0  # for so long the replica stands still before there is anything to copy
_SLOT_ATTEMPTS: Final = 10


@dataclass(slots=True)
class ResyncResult:
    replica: str
    lsn: Lsn | None = None  # what the tables are true at
    tables: dict[str, int] = field(default_factory=dict)  # and the rows that they hold
    size_bytes: int = 0
    seconds: float = 0.0
    warnings: list[str] = field(default_factory=list)


def resync(
    primary: str,
    secondary: str,
    tables: Sequence[str],
    name: str | None = None,
    *,
    progress: Callable[[Progress], None] = lambda _: None,
) -> ResyncResult:
    """Copy the tables that the patterns select. `UsageError` when a pattern selects none."""
    replica = find(secondary, name).replica
    began = time.monotonic()
    with (
        connect(primary, Side.PRIMARY, application_name="logship resync") as source_link,
        connect(secondary, Side.SECONDARY, application_name="logship resync") as target_link,
    ):
        job = _Resync(
            primary, secondary,
            replica=replica, primary=source_link, secondary=target_link, progress=progress,
        )  # fmt: skip
        try:
            result = job.run(split(tables))
        except psycopg.Error as error:
            raise failure(job.side, "resync", error, hint="nothing is changed: run it again") from error
    result.seconds = time.monotonic() - began
    return result


class _Resync:
    def __init__(
        self,
        primary_conninfo: str,
        secondary_conninfo: str,
        *,
        replica: state.Replica,
        primary: psycopg.Connection,
        secondary: psycopg.Connection,
        progress: Callable[[Progress], None],
    ) -> None:
        self.primary_conninfo = primary_conninfo
        self.secondary_conninfo = secondary_conninfo
        self.replica = replica
        self.primary = primary
        self.secondary = secondary
        self.progress = progress
        self.side = Side.PRIMARY
        self.result = ResyncResult(replica.name)

    def say(self, text: str) -> None:
        self.progress(Progress(text))

    def run(self, patterns: Sequence[str]) -> ResyncResult:
        self._require_same_primary()
        only_one(self.secondary, "resync", self.say)
        tables = self._tables(patterns)
        self.side = Side.SECONDARY
        targets = [guard.destination(self.secondary, table) for table in tables]
        roles = InitResult(self.replica.name, "", "", "")
        make_writers(self.secondary, {target.owner for target in targets}, roles, self.say)
        self.result.warnings += roles.warnings
        by_owner = writers(self.secondary)
        work = [
            copy.Work(table, target, by_owner[target.owner], [Unit(table, table.size_bytes)])
            for table, target in zip(tables, targets, strict=True)
        ]
        self._splice(work)
        hit("resync.committed")
        return self.result

    def _splice(self, work: list[copy.Work]) -> None:
        targets = [item.destination for item in work]
        for attempt in range(1, _SLOT_ATTEMPTS + 1):
            with self._snapshot():  # who runs now ends while the replica goes on
                pass
            try:
                with self._locked(targets) as link:
                    self._copy(link, work)
                    hit("resync.copied")
            except source.StillWaiting as error:
                if attempt == _SLOT_ATTEMPTS:
                    raise PrimaryError(
                        f"no snapshot could be exported on the primary while the replica stood still: {error}",
                        hint="nothing is changed. Run it again while no transaction runs for long there, and nobody "
                        "commits with synchronous_commit = remote_apply, which waits for this replica",
                    ) from error
                self.say(f"the replica goes on meanwhile. {error}")
            else:
                return

    def _snapshot(self, patience_s: float | None = None) -> AbstractContextManager[source.Snapshot]:
        return source.exported_snapshot(
            self.primary_conninfo, self.primary, self.replica.slot, self.say, patience_s
        )

    def _require_same_primary(self) -> None:
        here = source.identity(self.primary)
        if (here.system_identifier, here.database) != (self.replica.system_identifier, self.replica.database):
            raise RefusedAsUnsafe(
                f'replica "{self.replica.name}" follows another primary (database "{self.replica.database}")',
                hint="give --primary the conninfo that init was given",
            )
        if source.slot_state(self.primary, self.replica.slot) is None:
            raise PrimaryError(
                f'replication slot "{self.replica.slot}" does not exist on the primary',
                hint="what was written since it went is in no log: give an empty database and run logship init",
            )

    def _tables(self, patterns: Sequence[str]) -> list[Source]:
        published = relations.published(self.primary, self.replica.publication)
        left_out = state.left_out(self.secondary, self.replica)
        replicated = [table for table in published if pair(table.table) not in left_out]
        for pattern in patterns:
            one = Selection((pattern,))
            if not any(one.selects(*pair(table.table)) for table in replicated):
                raise UsageError(
                    f'{pattern!r} is no table that replica "{self.replica.name}" replicates',
                    hint="write schema.table; select schemaname, tablename from pg_publication_tables where "
                    f"pubname = '{self.replica.publication}' lists the primary's",
                )
        chosen = Selection(tuple(patterns))
        return [table for table in replicated if chosen.selects(*pair(table.table))]

    # -- the one transaction ---------------------------------------------------------------------

    @contextmanager
    def _locked(self, targets: list[guard.Destination]) -> Iterator[psycopg.Connection]:
        """Inside, nobody reads or writes the tables, and no replayer commits."""
        with closing(
            connect(
                self.secondary_conninfo, Side.SECONDARY, application_name="logship resync",
                settings={"session_replication_role": "replica", "client_min_messages": "error"},
            )
        ) as link:  # fmt: skip
            link.prepare_threshold = None
            is_worker(link)
            self._lock(link, targets)
            try:
                yield link
                link.execute("commit")
            except BaseException:
                if not link.closed and link.info.transaction_status != psycopg.pq.TransactionStatus.UNKNOWN:
                    link.rollback()
                raise

    def _lock(self, link: psycopg.Connection, targets: list[guard.Destination]) -> None:
        """Without keeping others waiting behind a lock that doesn't come. A deadlock with the replayer: again."""
        for attempt in range(1, _LOCK_ATTEMPTS + 1):
            link.execute("begin")
            try:
                link.execute(f"set local lock_timeout = '{_LOCK_TIMEOUT_S}s'".encode())
                for target in targets:
                    link.execute(sql.SQL("lock table {} in access exclusive mode").format(_itself(target)))
                position = copies.hold_position(link, self.replica.name)
            except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
                link.execute("rollback")
                if attempt == _LOCK_ATTEMPTS:
                    raise failure(
                        Side.SECONDARY, "lock the tables", error,
                        hint="end the transactions that use them on the secondary, and run resync again",
                    ) from error  # fmt: skip
                self.say("waiting for who uses the tables on the secondary")
                continue
            if position is None:
                raise SecondaryError(
                    f'the secondary has no position of replica "{self.replica.name}"', hint="run logship init"
                )
            link.execute("set local lock_timeout = 0")
            return

    def _copy(self, link: psycopg.Connection, work: list[copy.Work]) -> None:
        with self._snapshot(_SLOT_PATIENCE_S) as snapshot:
            self.result.lsn = snapshot.lsn
            self.say(f"copying {len(work)} tables at {snapshot.lsn}")
            for item in work:
                self._empty(link, item)
            same = self.primary.info.server_version // 10000 == link.info.server_version // 10000
            ends = copy.Ends(self.primary_conninfo, self.secondary_conninfo, snapshot.name, same)
            meter = Meter(len(work), sum(item.source.size_bytes for item in work))
            rows = copy.copy_into(ends, link, work, meter, self._copied(meter))
            self.result.tables = {
                str(item.source.table): count for item, count in zip(work, rows, strict=True)
            }
            self.result.size_bytes = meter.standing().size_bytes
        copies.note_copied(link, self.replica.name, {pair(item.source.table): snapshot.lsn for item in work})

    def _copied(self, meter: Meter) -> Callable[[copy.Copied | None], None]:
        def tell(copied: copy.Copied | None) -> None:
            standing = meter.standing()
            if copied is None:
                self.progress(Progress("", standing=standing))
                return
            table = str(copied.source.table)
            self.progress(
                Progress(
                    f"copied {table}", table, copied.rows, copied.source.size_bytes, standing.tables_done,
                    standing.tables, standing,
                )
            )  # fmt: skip

        return tell

    def _empty(self, link: psycopg.Connection, item: copy.Work) -> None:
        """TRUNCATE, or DELETE with the owner's rights where another table's foreign key points here."""
        table = item.destination.table
        if guard.referenced(link, table):
            statement = sql.SQL("delete from {}").format(_itself(item.destination))
            link.execute(call(item.writer, statement, link))
        else:
            guard.empty_again(link, [table])


def _itself(target: guard.Destination) -> sql.Composed:
    only = sql.SQL("" if target.kind == "p" else "only ")
    return only + target.table.identifier()
