"""The copy that init makes: schema, rows, indexes and constraints, sequences, position.

In: a slot that exists and a snapshot that was exported at ``snapshot.lsn``. Out: a secondary that is
initialised, by one commit at the end. An attempt that was interrupted leaves tables that are finished, each
true at the LSN of that attempt's snapshot; the next attempt keeps them, copies the others at its own, and the
replica starts at the oldest: of a table that is newer, `logship.copied` says from where on the log applies.

Whether rows are ours is proven by their transactions (`logship.copy_part`), not by the table's name. Failpoints:
copy.schema, copy.part, copy.filled, init.rows, init.index, init.finished, and before_finish.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import psycopg

from logship.catalog import copies, state
from logship.catalog.writers import writers
from logship.connection import Side, connect
from logship.errors import RefusedAsUnsafe, SecondaryError
from logship.failpoints import hit
from logship.lsn import Lsn
from logship.replay.ddl.roles import with_roles
from logship.service.initial.indexes import Indexes
from logship.service.initial.only_one import is_worker
from logship.service.initial.plan import InitResult, Options, Progress
from logship.service.initial.secondary_roles import make_writers, warn_about_owner
from logship.snapshot import copy, guard, relations, schema, source
from logship.snapshot.progress import Meter
from logship.snapshot.ranges import Unit, units
from logship.snapshot.relations import Source, TableName


class Noted:
    """What `logship.snapshot.copy` writes down, for one replica and one snapshot."""

    def __init__(self, replica: str, lsn: Lsn) -> None:
        self.replica = replica
        self.lsn = lsn

    def begin(self, link: psycopg.Connection) -> None:
        is_worker(link)

    def part(self, link: psycopg.Connection, source: Source) -> None:
        copies.note_part(link, self.replica, pair(source.table))

    def filled(self, link: psycopg.Connection, source: Source, rows: int) -> None:
        copies.note_filled(link, self.replica, pair(source.table), self.lsn, rows)


class InitialCopy:
    def __init__(
        self,
        options: Options,
        *,
        primary: psycopg.Connection,
        secondary: psycopg.Connection,
        replica: state.Replica,
        snapshot: source.Snapshot,
        result: InitResult,
        progress: Callable[[Progress], None],
    ) -> None:
        self.options = options
        self.primary = primary
        self.secondary = secondary
        self.replica = replica
        self.snapshot = snapshot
        self.result = result
        self.progress = progress
        self.side = Side.PRIMARY
        self.lsns: dict[TableName, Lsn] = {}  # of finished tables
        self.unreplicated: set[TableName] = set()

    def say(self, text: str) -> None:
        self.progress(Progress(text))

    def run(self, pg_dump: schema.PgDump | None, left_out: set[TableName]) -> None:
        with self.primary.transaction():
            self.primary.execute("set transaction isolation level repeatable read")
            self.primary.execute(f"set transaction snapshot '{self.snapshot.name}'".encode())
            tables = self._tables(left_out)
            relations.hold_shape(self.primary, tables)
            dump = None
            if pg_dump is not None:
                self.say(f"schema by {pg_dump.path} {pg_dump.major}")
                dump = schema.dump(pg_dump, self.options.primary, self.snapshot.name)
            todo = self._before_rows(tables, dump, left_out)
            hit("copy.schema")
            self._rows(todo, frozen=dump is not None)
            hit("init.rows")
            self.side = Side.PRIMARY
            values = relations.sequences(self.primary)
        self._after_rows(values, dump)
        hit("init.finished")

    def _with_roles(self, text: str) -> str:
        return with_roles(text, self.result.roles_mapped)

    def _tables(self, left_out: set[TableName]) -> list[Source]:
        published = relations.published(self.primary, self.result.publication)
        selection = self.options.selection
        chosen = [t for t in published if selection.selects(t.table.schema, t.table.name)]
        self.result.not_selected = [str(t.table) for t in published if t not in chosen]
        tables = [table for table in chosen if table.table not in left_out]
        self.unreplicated = {table.table for table in published} - {table.table for table in tables}
        if selection and not tables:
            raise RefusedAsUnsafe(
                "no table of the primary is selected",
                hint="compare --tables and --exclude with: select schemaname, tablename from "
                f"pg_publication_tables where pubname = '{self.result.publication}'",
            )
        self.result.not_copied = {
            str(table): why for table, why in relations.not_copied(self.primary).items()
        }
        self.result.large_objects = relations.large_objects(self.primary)
        return tables

    # -- what is there already -------------------------------------------------------------------

    def _before_rows(
        self, tables: list[Source], dump: schema.Dump | None, left_out: set[TableName]
    ) -> list[Source]:
        """The tables that are to be copied; the schema is there, and they are empty."""
        self.side = Side.SECONDARY
        name = self.replica.name
        again = state.interrupted(self.secondary, name)
        known = {TableName(*table): filled for table, filled in copies.progress(self.secondary, name).items()}
        wanted = {table.table for table in tables}
        finished = self._finished(known, wanted)
        unfinished = [table for table in known if table not in finished]
        unfinished = [table for table in unfinished if self._still_there(table)]
        fresh = [table.table for table in tables if table.table not in known]
        full = [table for table in fresh if guard.rows_in(self.secondary, table)]
        self._refuse_others([table for table in fresh if guard.exists(self.secondary, table)])
        if full and self.options.existing == "refuse":
            raise RefusedAsUnsafe(
                f"tables of the secondary hold rows already: {_list(full)}",
                hint="init fills empty tables only, so that no row is lost or doubled: empty them, or give "
                "an empty database, or say what becomes of them: --existing replace or keep",
            )
        kept = full if self.options.existing == "keep" else []
        with self._session() as link, link.transaction():
            if again:
                self.say(f"emptying {len(unfinished)} tables that an interrupted init was filling")
                guard.empty_again(link, unfinished)
                copies.forget(link, name, [pair(table) for table in unfinished])
            elif dump is not None:
                self._refuse_existing([table.table for table in tables])
                schema.apply(link, dump.before_rows, self._with_roles)
            if self.options.existing == "replace":
                for table in full:
                    self.say(f"emptying {table}: --existing replace")
                guard.empty_again(link, full)
                self.result.replaced = [str(table) for table in full]
            todo = [table for table in tables if table.table not in finished and table.table not in kept]
            copies.note_filling(link, name, [pair(table.table) for table in todo])
            self._keep(link, kept)
            state.note_left_out(link, name, [pair(table) for table in left_out])
            state.begin(link, dataclasses.replace(self.replica, snapshot_lsn=self.snapshot.lsn))
        if self.options.schema == "existing" and self.options.keyless == "full":
            theirs = set(relations.keyless(self.secondary))
            source.set_full_identity(
                self.secondary, [table for table in wanted if table in theirs], Side.SECONDARY, self.say
            )
        return todo

    def _finished(self, known: dict[TableName, copies.Filled], wanted: set[TableName]) -> set[TableName]:
        """Tables that an earlier attempt finished, and that are as it left them."""
        consumed = source.confirmed_flush(self.primary, self.result.slot)
        for table, filled in known.items():
            if filled.lsn is None or table not in wanted:
                continue
            if consumed is not None and filled.lsn < consumed:
                self.say(
                    f"{table} is copied anew: what was written since it was is no longer in the slot's log"
                )
                continue
            if filled.rows is not None:
                if filled.rows and not guard.rows_in(self.secondary, table):
                    self.say(f"{table} was emptied since it was copied: it is copied anew")
                    continue
                self._refuse_strangers(table, filled.rows)
            self.lsns[table] = filled.lsn
        if self.lsns:
            self.say(f"{len(self.lsns)} tables are finished already, and keep their rows")
            self.result.resumed = [str(table) for table in self.lsns]
        return set(self.lsns)

    def _still_there(self, table: TableName) -> bool:
        """Whether there is anything to empty; by then it is proven that nothing in it is somebody else's."""
        if not guard.exists(self.secondary, table):
            return False
        self._refuse_strangers(table, None)
        return True

    def _refuse_strangers(self, table: TableName, rows: int | None) -> None:
        """Only what init itself put there is emptied or kept."""
        transactions = copies.parts(self.secondary, self.replica.name, pair(table))
        seen = guard.strangers(self.secondary, table, transactions, rows)
        if seen:
            raise RefusedAsUnsafe(
                f"somebody else wrote to the secondary since init was interrupted: {seen}",
                hint=f"if these rows may go: truncate {table}; then run init again, which copies it anew",
            )

    def _refuse_others(self, existing: list[TableName]) -> None:
        """Tables that another replica of this secondary keeps are its own."""
        for other in state.replicas(self.secondary):
            if other.name == self.replica.name:
                continue
            theirs = state.left_out(self.secondary, other)
            both = [table for table in existing if pair(table) not in theirs]
            if both:
                raise RefusedAsUnsafe(
                    f'replica "{other.name}" keeps tables of this secondary already: {_list(both)}',
                    hint="two replicas can't write to one table: give another database, or tables of their own "
                    "with --tables and --exclude",
                )

    def _refuse_existing(self, tables: list[TableName]) -> None:
        existing = [table for table in tables if guard.exists(self.secondary, table)]
        if existing:
            raise RefusedAsUnsafe(
                f"tables exist on the secondary already: {_list(existing)}",
                hint="to use them as they are, pass --schema existing",
            )

    def _keep(self, link: psycopg.Connection, tables: list[TableName]) -> None:
        if not tables:
            return
        self.result.kept = [str(table) for table in tables]
        self.result.warnings.append(
            f"taken for right as of {self.snapshot.lsn}, without a look at their rows: {_list(tables)}; "
            "compare them once the replica follows: logship verify"
        )
        copies.note_filling(link, self.replica.name, [pair(table) for table in tables])
        for table in tables:
            link.execute(
                "update logship.copy_progress set done_at = pg_catalog.now(), lsn = %s::pg_catalog.pg_lsn "
                "where replica = %s and schemaname = %s and relname = %s",
                [str(self.snapshot.lsn), self.replica.name, *pair(table)],
            )
            self.lsns[table] = self.snapshot.lsn

    def _session(self, settings: dict[str, str] | None = None) -> psycopg.Connection:
        """A session of its own for pg_dump's statements: they change its settings."""
        link = connect(
            self.options.secondary, Side.SECONDARY, application_name="logship init", settings=settings
        )
        is_worker(link)
        return link

    def _index_session(self) -> psycopg.Connection:
        return self._session(copy.NOT_FLUSHED)

    # -- rows ------------------------------------------------------------------------------------

    def _rows(self, tables: list[Source], *, frozen: bool) -> None:
        self.side = Side.SECONDARY
        targets = [guard.destination(self.secondary, table) for table in tables]
        owners = {target.owner for target in targets}
        make_writers(
            self.secondary,
            owners | guard.owners(self.secondary) if self.lsns else owners,
            self.result,
            self.say,
        )
        warn_about_owner(self.secondary, {target.owner_name for target in targets}, self.result)
        by_owner = writers(self.secondary)
        work = [
            copy.Work(table, target, by_owner[target.owner], parts, _may_freeze(target, parts, frozen))
            for table, target, parts in zip(tables, targets, units(tables, self.options.jobs), strict=True)
        ]
        self.result.staged = {str(target.table): target.risk for target in targets if target.risk}
        same = self.primary.info.server_version // 10000 == self.secondary.info.server_version // 10000
        ends = copy.Ends(self.options.primary, self.options.secondary, self.snapshot.name, same)
        meter = Meter(len(work), sum(table.size_bytes for table in tables))
        ledger = Noted(self.replica.name, self.snapshot.lsn)
        copy.copy_all(
            ends, work, jobs=self.options.jobs, ledger=ledger, meter=meter, progress=self._copied(meter)
        )
        self.result.size_bytes = meter.standing().size_bytes

    def _copied(self, meter: Meter) -> Callable[[copy.Copied | None], None]:
        def tell(copied: copy.Copied | None) -> None:
            standing = meter.standing()
            if copied is None:
                self.progress(Progress("", standing=standing))
                return
            self.result.tables += 1
            self.result.rows += copied.rows
            self.lsns[copied.source.table] = self.snapshot.lsn
            table = str(copied.source.table)
            self.progress(
                Progress(
                    f"copied {table}", table, copied.rows, copied.source.size_bytes, self.result.tables,
                    meter.tables, standing,
                )
            )  # fmt: skip

        return tell

    # -- what comes behind them ------------------------------------------------------------------

    def _after_rows(self, values: list[relations.Sequence], dump: schema.Dump | None) -> None:
        """Indexes and constraints; then triggers, sequences, position: one commit makes the replica initialised."""
        self.side = Side.SECONDARY
        self._origin()
        position = min(self.lsns.values(), default=self.snapshot.lsn)
        indexes = None
        if dump is not None:
            indexes = Indexes(
                self.secondary, self.replica.name,
                text=dump.after_rows, lsns=self.lsns, unreplicated=self.unreplicated, result=self.result,
                rewrite=self._with_roles,
            )  # fmt: skip
            indexes.make(self._index_session, self.options.jobs, self.say)
        self.say("triggers, rules, sequences and position" if dump else "sequences and position")
        with self._session() as link, link.transaction():
            if indexes is not None:
                indexes.rest(link)
            missing = relations.set_sequences(link, values)
            copies.finish(
                link, self.replica.name, {pair(table): lsn for table, lsn in self.lsns.items()}, position
            )
            state.begin(link, dataclasses.replace(self.replica, snapshot_lsn=position))
            state.finish(link, self.replica.name, position)
            hit("init.before_finish")
        self.result.snapshot_lsn = position
        if missing:
            self.result.warnings.append(f"sequences that the secondary doesn't have: {_list(missing)}")

    def _origin(self) -> None:
        ask = "select from pg_catalog.pg_replication_origin o where o.roname = %s"
        if self.secondary.execute(ask, [self.result.origin]).fetchone() is not None:
            return
        try:
            self.secondary.execute("select pg_catalog.pg_replication_origin_create(%s)", [self.result.origin])
        except psycopg.errors.InsufficientPrivilege as error:
            user = self.secondary.info.user
            raise SecondaryError(
                f'user "{user}" of the secondary may not make replication origins',
                hint="as a superuser: grant execute on function "
                f'pg_catalog.pg_replication_origin_create(text) to "{user}"; then run init again',
            ) from error


def pair(table: TableName) -> tuple[str, str]:
    return table.schema, table.name


def _may_freeze(target: guard.Destination, parts: list[Unit], wanted: bool) -> bool:
    """COPY FREEZE: into a table that only we have seen, in one transaction."""
    return wanted and not target.risk and target.kind == "r" and len(parts) == 1


def _list(tables: list[TableName]) -> str:
    shown = [str(table) for table in tables[:20]]
    more = f" and {len(tables) - 20} more" if len(tables) > 20 else ""
    return ", ".join(shown) + more
