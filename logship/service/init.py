"""`logship init`: makes a primary and an empty secondary ready to be followed, and fills the secondary.

In: conninfo of both. Out: `InitResult`. Afterwards the secondary holds what the primary held at
`snapshot_lsn`, its position says so, and the slot keeps everything since. What is done is written
down before it is done (`logship.catalog.state`), so an init that was interrupted, at any point, is
run again; a table with rows that no init of this name was filling is never touched.

Nothing users wrote runs with init's rights: `logship.snapshot.guard`.
"""

from __future__ import annotations

import dataclasses
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal

import psycopg

from logship.catalog import identity, migrate, state
from logship.catalog.roles import ensure_replayer, identifier
from logship.catalog.writers import ensure_wrappers, writers
from logship.connection import Side, connect
from logship.errors import RefusedAsUnsafe, SecondaryError, UsageError
from logship.lsn import Lsn
from logship.snapshot import copy, guard, relations, schema, source
from logship.snapshot.failures import failure
from logship.snapshot.relations import Source, TableName

Keyless = Literal["full", "refuse", "leave-out"]
SchemaMode = Literal["dump", "existing"]
Partitions = Literal["leaf", "root"]

_NAME: Final = re.compile(r"[^\x00-\x1f\x7f]+\Z")
_SLOT: Final = re.compile(r"[a-z0-9_]{1,63}\Z")


@dataclass(frozen=True, slots=True)
class Progress:
    """Something to tell the operator. With a table: it is copied, ``done`` of ``total``."""

    text: str
    table: str | None = None
    rows: int = 0
    size_bytes: int = 0
    done: int = 0
    total: int = 0


@dataclass(slots=True)
class InitResult:
    replica: str
    slot: str
    publication: str
    origin: str
    already: bool = False  # nothing was left to do
    replayer_role: str = ""
    snapshot_lsn: Lsn | None = None
    tables: int = 0
    rows: int = 0
    size_bytes: int = 0
    seconds: float = 0.0
    identity_full: list[str] = field(default_factory=list)  # REPLICA IDENTITY FULL was set
    left_out: list[str] = field(default_factory=list)
    not_copied: dict[str, str] = field(default_factory=dict)  # unlogged and foreign tables
    staged: dict[str, str] = field(default_factory=dict)  # filled by their owners' writers, and why
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Options:
    """What the operator asked for."""

    primary: str
    secondary: str
    name: str | None
    slot: str | None
    publication: str | None
    keyless: Keyless
    schema: SchemaMode
    pg_dump: str | None
    jobs: int
    partitions: Partitions


def initialise(
    primary: str,
    secondary: str,
    name: str | None = None,
    *,
    slot: str | None = None,
    publication: str | None = None,
    keyless: Keyless = "full",
    schema: SchemaMode = "dump",
    pg_dump: str | None = None,
    jobs: int | None = None,
    partitions: Partitions = "leaf",
    progress: Callable[[Progress], None] = lambda _: None,
) -> InitResult:
    """Do all of it; nothing is left to do when it has been done before (``already``).

    ``jobs`` is the number of tables copied at a time (default: 4, or fewer on a small machine).
    Raises what `logship.errors` has for the primary, the secondary, usage, and `RefusedAsUnsafe`.
    """
    options = Options(
        primary, secondary, name, slot, publication, keyless, schema, pg_dump,
        jobs or min(4, max(2, os.cpu_count() or 2)), partitions,
    )  # fmt: skip
    began = time.monotonic()
    with (
        connect(primary, Side.PRIMARY, application_name="logship init") as source_link,
        connect(secondary, Side.SECONDARY, application_name="logship init") as target_link,
    ):
        init = _Init(options, source_link, target_link, progress)
        try:
            result = init.run()
        except psycopg.Error as error:
            raise init.explain(error) from error
    result.seconds = time.monotonic() - began
    return result


class _Init:
    """One run of init. The steps stand in `run` in their order."""

    def __init__(
        self,
        options: Options,
        primary: psycopg.Connection,
        secondary: psycopg.Connection,
        progress: Callable[[Progress], None],
    ) -> None:
        self.options = options
        self.primary = primary
        self.secondary = secondary
        self.progress = progress
        self.side = Side.PRIMARY  # whose server the present step talks to, for an error nobody foresaw
        self.identity = source.identity(primary)
        self.result = self._names()

    def _names(self) -> InitResult:
        options, database = self.options, self.identity.database
        default = identifier("logship_", database)
        slot = options.slot or default
        if not _SLOT.match(slot):
            raise UsageError(
                f"{slot!r} can't be the name of a replication slot",
                hint="PostgreSQL allows a-z, 0-9 and _, up to 63 of them",
            )
        name = options.name or _replica_name(self.secondary)
        if not _NAME.match(name) or len(name.encode()) > 63:
            raise UsageError(
                f"{name!r} can't be the name of a replica", hint="up to 63 bytes, no control characters"
            )
        return InitResult(
            name, slot, options.publication or default, f"{identifier('logship_', database)}_{name}"
        )

    def say(self, text: str) -> None:
        self.progress(Progress(text))

    def explain(self, error: psycopg.Error) -> Exception:
        return failure(self.side, "initialise", error)

    def run(self) -> InitResult:
        self._refuse_same_database()
        known = source.slot_state(self.primary, self.result.slot)
        source.require_logical(self.primary, new_slots=1 if known else 2)
        self._schema_logship()
        if self._already(known):
            return self.result
        pg_dump = None
        if self.options.schema == "dump":
            pg_dump = schema.find_pg_dump(self.identity.major, self.options.pg_dump)
            schema.require_roles_and_extensions(self.primary, self.secondary)
        replica = self._record()
        left_out = self._keyless()
        self._publication()
        self.say(f'replication slot "{self.result.slot}"')
        if source.ensure_slot(self.options.primary, self.primary, self.result.slot, self.say):
            self.say(f'made replication slot "{self.result.slot}"')
        with source.exported_snapshot(
            self.options.primary, self.primary, self.result.slot, self.say
        ) as snapshot:
            self._fill(replica, snapshot, pg_dump, left_out)
        self.side = Side.PRIMARY
        state.finish_on_primary(self.primary, self.result.replica)
        return self.result

    # -- before anything is copied ---------------------------------------------------------------

    def _refuse_same_database(self) -> None:
        """One cluster and one database: compared by what no conninfo can disguise."""
        ask = (
            "select s.system_identifier, pg_catalog.pg_postmaster_start_time(), "
            "pg_catalog.current_database() "
            "from pg_catalog.pg_control_system() s"
        )
        if self.primary.execute(ask).fetchone() == self.secondary.execute(ask).fetchone():
            raise RefusedAsUnsafe(
                f'primary and secondary are the same database ("{self.identity.database}")',
                hint="give --secondary another database, or another server",
            )

    def _schema_logship(self) -> None:
        for side, conninfo in (
            (Side.PRIMARY, self.options.primary),
            (Side.SECONDARY, self.options.secondary),
        ):
            self.say(f"schema logship on the {side.value}")
            migrate.upgrade(conninfo, side)

    def _already(self, slot_status: str | None) -> bool:
        self.side = Side.SECONDARY
        found = {replica.name: replica for replica in state.replicas(self.secondary)}
        replica = found.get(self.result.replica)
        if replica is None or not replica.initialised:
            return False
        ours = (self.identity.system_identifier, self.identity.database)
        if (replica.system_identifier, replica.database) != ours:
            raise RefusedAsUnsafe(
                f'replica "{replica.name}" follows another primary (database "{replica.database}")',
                hint="choose another --name, and an empty secondary database",
            )
        if self.options.slot is None and replica.slot != self.result.slot:
            slot_status = source.slot_state(self.primary, replica.slot)
        if slot_status is None:
            raise RefusedAsUnsafe(
                f'replica "{replica.name}" is initialised, but its slot "{replica.slot}" is gone '
                "from the primary: what was written since is in no log",
                hint="to copy from the start, give an empty secondary database (drop and create it) "
                "and run init",
            )
        self.result.already = True
        self._writers(guard.owners(self.secondary))
        self.result.slot, self.result.publication = replica.slot, replica.publication
        self.result.origin, self.result.snapshot_lsn = replica.origin, replica.snapshot_lsn
        return True

    def _record(self) -> state.Replica:
        """Both sides know the replica before anything is made for it."""
        replica = state.Replica(
            self.result.replica, self.identity.system_identifier, self.identity.timeline,
            self.identity.database, self.result.slot, self.result.publication, self.result.origin,
            self.options.keyless, None, None,
        )  # fmt: skip
        self.side = Side.SECONDARY
        state.begin(self.secondary, replica)
        self.side = Side.PRIMARY
        state.begin_on_primary(self.primary, replica)
        return replica

    def _keyless(self) -> set[TableName]:
        """What becomes of tables without replica identity, before their UPDATEs could fail."""
        tables = relations.keyless(self.primary, self.options.publication)
        names = [str(table) for table in tables]
        if self.options.keyless == "refuse":
            if tables:
                self.result.warnings.append(
                    "PostgreSQL refuses UPDATE and DELETE on these tables of the primary, which have "
                    f"no replica identity: {', '.join(names)}"
                )
            return set()
        identity.note(self.primary, [(table.schema, table.name) for table in tables])
        source.set_full_identity(self.primary, tables, Side.PRIMARY, self.say)
        self.result.identity_full = names
        if self.options.keyless == "leave-out":
            self.result.left_out = names
            return set(tables)
        return set()

    def _publication(self) -> None:
        root = self.options.partitions == "root"
        source.ensure_publication(
            self.primary, self.result.publication, given=self.options.publication is not None, root=root
        )
        if root:
            self.result.warnings.append(
                "PostgreSQL doesn't publish TRUNCATE of a single partition when it publishes through the root"
            )

    # -- the copy --------------------------------------------------------------------------------

    def _fill(
        self,
        replica: state.Replica,
        snapshot: source.Snapshot,
        pg_dump: schema.PgDump | None,
        left_out: set[TableName],
    ) -> None:
        self.result.snapshot_lsn = snapshot.lsn
        self.side = Side.PRIMARY
        with self.primary.transaction():
            self.primary.execute("set transaction isolation level repeatable read")
            self.primary.execute(f"set transaction snapshot '{snapshot.name}'".encode())
            tables = [
                table
                for table in relations.published(self.primary, self.result.publication)
                if table.table not in left_out
            ]
            relations.hold_shape(self.primary, tables)
            self.result.not_copied = {
                str(table): why for table, why in relations.not_copied(self.primary).items()
            }
            dump = None
            if pg_dump is not None:
                self.say(f"schema by {pg_dump.path} {pg_dump.major}")
                dump = schema.dump(pg_dump, self.options.primary, snapshot.name)
            self._before_rows(replica, snapshot.lsn, tables, dump, left_out)
            self._rows(snapshot, tables)
            self.side = Side.PRIMARY
            values = relations.sequences(self.primary)
        self._after_rows(snapshot.lsn, values, dump)

    def _before_rows(
        self,
        replica: state.Replica,
        lsn: Lsn,
        tables: list[Source],
        dump: schema.Dump | None,
        left_out: set[TableName],
    ) -> None:
        self.side = Side.SECONDARY
        again = state.interrupted(self.secondary, replica.name)
        filling = [TableName(*pair) for pair in state.filling(self.secondary, replica.name)]
        names = [table.table for table in tables]
        fresh = [name for name in names if name not in set(filling)]
        self._refuse_rows(fresh)
        with self._session() as link, link.transaction():
            if again:
                self.say(f"emptying {len(filling)} tables that an interrupted init was filling")
                guard.empty_again(link, filling)
            elif dump is not None:
                self._refuse_existing(names)
                schema.apply(link, dump.before_rows)
            state.note_filling(link, replica.name, [(name.schema, name.name) for name in names])
            state.note_left_out(link, replica.name, [(name.schema, name.name) for name in left_out])
            state.begin(link, dataclasses.replace(replica, snapshot_lsn=lsn))
        if self.options.schema == "existing" and self.options.keyless == "full":
            theirs = set(relations.keyless(self.secondary))
            source.set_full_identity(
                self.secondary, [name for name in names if name in theirs], Side.SECONDARY, self.say
            )

    def _session(self) -> psycopg.Connection:
        """A session of its own for pg_dump's statements: they change its settings."""
        return connect(self.options.secondary, Side.SECONDARY, application_name="logship init")

    def _refuse_rows(self, names: list[TableName]) -> None:
        full = [str(name) for name in names if guard.rows_in(self.secondary, name)]
        if full:
            raise RefusedAsUnsafe(
                f"tables of the secondary hold rows already: {', '.join(full)}",
                hint="init fills empty tables only, so that no row is lost or doubled: empty them, or give "
                "an empty database",
            )

    def _refuse_existing(self, names: list[TableName]) -> None:
        existing = [str(name) for name in names if guard.exists(self.secondary, name)]
        if existing:
            raise RefusedAsUnsafe(
                f"tables exist on the secondary already: {', '.join(existing)}",
                hint="they are empty: to use them as they are, pass --schema existing",
            )

    def _rows(self, snapshot: source.Snapshot, tables: list[Source]) -> None:
        self.side = Side.SECONDARY
        targets = [guard.destination(self.secondary, table) for table in tables]
        self._writers({target.owner for target in targets})
        self._warn_about_owner({target.owner_name for target in targets})
        by_owner = writers(self.secondary)
        work = [
            copy.Work(table, target, by_owner[target.owner])
            for table, target in zip(tables, targets, strict=True)
        ]
        self.result.staged = {str(target.table): target.risk for target in targets if target.risk}
        ends = copy.Ends(self.options.primary, self.options.secondary, snapshot.name)
        copy.copy_all(ends, work, jobs=self.options.jobs, done=self._filled, progress=self._copied(len(work)))

    def _writers(self, owners: set[int]) -> None:
        """The replayer's role, and a writer for each owner; those that are there and right stay as they are."""
        role, warnings = ensure_replayer(self.secondary)
        self.result.replayer_role = role
        self.result.warnings += warnings
        made = ensure_wrappers(self.secondary, owners, replayer=role)
        if made:
            self.say(f"functions to write with the rights of {', '.join(made)}")

    def _filled(self, link: psycopg.Connection, copied: copy.Copied) -> None:
        table = copied.work.source.table
        state.note_filled(link, self.result.replica, table.schema, table.name)

    def _copied(self, total: int) -> Callable[[copy.Copied], None]:
        def tell(copied: copy.Copied) -> None:
            self.result.tables += 1
            self.result.rows += copied.rows
            self.result.size_bytes += copied.size_bytes
            table = str(copied.work.source.table)
            self.progress(
                Progress(f"copied {table}", table, copied.rows, copied.size_bytes, self.result.tables, total)
            )

        return tell

    def _after_rows(self, lsn: Lsn, values: list[relations.Sequence], dump: schema.Dump | None) -> None:
        """Indexes, constraints, triggers, sequences, position: one commit makes the replica initialised."""
        self.side = Side.SECONDARY
        self._origin()
        self.say("indexes, constraints and triggers" if dump else "sequences and position")
        with self._session() as link, link.transaction():
            if dump is not None:
                schema.apply(link, dump.after_rows)
            missing = relations.set_sequences(link, values)
            state.finish(link, self.result.replica, lsn)
        if missing:
            self.result.warnings.append(
                f"sequences that the secondary doesn't have: {', '.join(str(name) for name in missing)}"
            )

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

    def _warn_about_owner(self, owners: set[str]) -> None:
        """Who is the replayer may write as every owner: that should not be one of them."""
        user = self.secondary.info.user
        row = self.secondary.execute(
            "select r.rolsuper from pg_catalog.pg_roles r where r.rolname = current_user"
        ).fetchone()
        if row is not None and not row[0] and user in owners and len(owners) > 1:
            self.result.warnings.append(
                f'user "{user}" owns replicated tables and is the replayer too: code in its tables could '
                "write as any other owner; let the replayer be a role that owns nothing"
            )


def _replica_name(secondary: psycopg.Connection) -> str:
    """db2_5432_app: the secondary's host, port and database."""
    info = secondary.info
    host = "local" if not info.host or info.host.startswith(("/", "@")) else info.host
    return identifier("", f"{host}_{info.port}_{info.dbname}".lower().replace(".", "_").replace("-", "_"))
