"""`logship init`: makes a primary and an empty secondary ready to be followed, and fills the secondary.

In: conninfo of both. Out: `InitResult`. Afterwards the secondary holds what the primary held at
`snapshot_lsn`, its position says so, and the slot keeps everything since. What is done is written
down before it is done (`logship.catalog.state`, `copies`), so an init that was interrupted, at any point, is
run again, and keeps the tables that were finished (`logship.service.initial.copy`). A table with rows that no
init of this name put there is never touched, unless the operator says what becomes of it.

Nothing users wrote runs with init's rights: `logship.snapshot.guard`. Failpoints: init.recorded,
init.published, init.slot, and those of `initial_copy`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import psycopg

from logship.catalog import identity, migrate, role_map, state
from logship.catalog.selection import Selection, split
from logship.catalog.shipper_role import give_to_shipper
from logship.connection import Side, connect
from logship.errors import RefusedAsUnsafe
from logship.failpoints import hit
from logship.service.check import require_ready
from logship.service.checks.facts import Asked
from logship.service.initial import ddl as init_ddl
from logship.service.initial.copy import InitialCopy
from logship.service.initial.only_one import only_one, wait_for_turn
from logship.service.initial.plan import (
    Existing,
    InitResult,
    Keyless,
    Options,
    Partitions,
    Progress,
    Roles,
    SchemaChanges,
    SchemaMode,
)
from logship.service.initial.secondary_roles import make_roles, make_writers, map_roles
from logship.service.naming import names
from logship.snapshot import guard, relations, schema, source
from logship.snapshot.failures import failure
from logship.snapshot.relations import TableName

__all__ = [
    "Existing",
    "InitResult",
    "Keyless",
    "Options",
    "Partitions",
    "Progress",
    "Roles",
    "SchemaChanges",
    "SchemaMode",
    "initialise",
]


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
    tables: Sequence[str] = (),
    exclude: Sequence[str] = (),
    existing: Existing = "refuse",
    ddl: SchemaChanges | None = None,
    roles: Roles = "refuse",
    map_roles: Mapping[str, str] = MappingProxyType({}),
    progress: Callable[[Progress], None] = lambda _: None,
) -> InitResult:
    """Do all of it; nothing is left to do when it has been done before (``already``).

    ``jobs`` is the number of workers, for rows and for indexes (default: 4, or fewer on a small machine).
    Raises what `logship.errors` has for the primary, the secondary, usage, and `RefusedAsUnsafe`.
    """
    options = Options(
        primary, secondary, name, slot, publication, keyless, schema, pg_dump,
        jobs or min(4, max(2, os.cpu_count() or 2)), partitions,
        Selection(split(tables), split(exclude)), existing, ddl, roles, map_roles,
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
        chosen = names(
            self.identity.database, secondary,
            name=options.name, slot=options.slot, publication=options.publication,
        )  # fmt: skip
        self.result = InitResult(chosen.replica, chosen.slot, chosen.publication, chosen.origin)

    def say(self, text: str) -> None:
        self.progress(Progress(text))

    def explain(self, error: psycopg.Error) -> Exception:
        return failure(self.side, "initialise", error)

    def run(self) -> InitResult:
        only_one(self.secondary, "init", self.say)
        self.result.roles_mapped = map_roles(
            self.primary, self.secondary, self.options.map_roles, self.result.replica
        )
        require_ready(self.primary, self.secondary, self._asked())
        known = source.slot_state(self.primary, self.result.slot)
        with wait_for_turn(self.primary, self.say):
            self._schema_logship()
            if self.options.roles == "create-nologin":
                self.side = Side.SECONDARY
                make_roles(self.primary, self.secondary, self.result, self.say)
            if self._already(known):
                return self.result
            pg_dump = None
            if self.options.schema == "dump":
                pg_dump = schema.find_pg_dump(self.identity.major, self.options.pg_dump)
                schema.require_roles_and_extensions(self.primary, self.secondary, self.result.roles_mapped)
            replica = self._record()
            hit("init.recorded")
            init_ddl.begin(self.primary, self.secondary, self.options.ddl, self.result, self.say)
            if self.result.schema_changes:
                init_ddl.say_keyless(self.primary, replica.name, self.options.keyless, self.result)
            left_out = self._keyless()
            self._publication()
            hit("init.published")
            self.say(f'replication slot "{self.result.slot}"')
            if source.ensure_slot(self.options.primary, self.primary, self.result.slot, self.say):
                self.say(f'made replication slot "{self.result.slot}"')
        hit("init.slot")
        with source.exported_snapshot(
            self.options.primary, self.primary, self.result.slot, self.say
        ) as snapshot:
            copy = InitialCopy(
                self.options,
                primary=self.primary,
                secondary=self.secondary,
                replica=replica,
                snapshot=snapshot,
                result=self.result,
                progress=self.progress,
            )
            try:
                copy.run(pg_dump, left_out)
            except psycopg.Error as error:
                raise failure(copy.side, "initialise", error) from error
        self._owners()
        self.side = Side.PRIMARY
        state.finish_on_primary(self.primary, self.result.replica)
        return self.result

    # -- before anything is copied ---------------------------------------------------------------

    def _asked(self) -> Asked:
        given = self.options
        return Asked(
            name=self.result.replica, slot=given.slot, publication=given.publication, keyless=given.keyless,
            schema=given.schema, pg_dump=given.pg_dump, jobs=given.jobs, partitions=given.partitions,
            selection=given.selection, existing=given.existing, ddl=given.ddl,
            roles=given.roles, map_roles=given.map_roles,
        )  # fmt: skip

    def _schema_logship(self) -> None:
        for side, conninfo in (
            (Side.PRIMARY, self.options.primary),
            (Side.SECONDARY, self.options.secondary),
        ):
            self.say(f"schema logship on the {side.value}")
            migrate.upgrade(conninfo, side)
        self.side = Side.PRIMARY
        try:
            role = give_to_shipper(self.primary)
        except psycopg.errors.InsufficientPrivilege:
            self.result.warnings.append(
                f'user "{self.primary.info.user}" doesn\'t own the schema logship on the primary, so what the '
                "shipper's role lacks there is to be given by its owner: see `logship check --print-grants primary`"
            )
        else:
            if role is not None:
                self.say(f'rights for the shipper\'s role "{role}"')

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
        self._refuse_other_tables(replica)
        self.result.already = True
        role_map.store(self.secondary, replica.name, self.result.roles_mapped)
        make_writers(self.secondary, guard.owners(self.secondary), self.result, self.say)
        init_ddl.again(self.primary, self.secondary, self.options.ddl, self.result, self.say)
        self._owners()
        self.result.slot, self.result.publication = replica.slot, replica.publication
        self.result.origin, self.result.snapshot_lsn = replica.origin, replica.snapshot_lsn
        return True

    def _owners(self) -> None:
        """So that what they own can be changed, and what they may make can be made, with their rights."""
        if self.result.schema_changes:
            self.side = Side.SECONDARY
            init_ddl.make_functions(self.primary, self.secondary, self.result, self.say)
            init_ddl.give_rights(self.primary, self.secondary, self.result)

    def _refuse_other_tables(self, replica: state.Replica) -> None:
        asked = self.options.selection
        if asked and asked != Selection(replica.tables, replica.excluded):
            raise RefusedAsUnsafe(
                f'replica "{replica.name}" was initialised with other tables: '
                f"--tables {','.join(replica.tables) or '(all)'} --exclude {','.join(replica.excluded) or '(none)'}",
                hint="which tables a replica keeps can't be changed; make another replica, with another --name "
                "and another secondary database",
            )

    def _record(self) -> state.Replica:
        """Both sides know the replica before anything is made for it."""
        replica = state.Replica(
            self.result.replica, self.identity.system_identifier, self.identity.timeline,
            self.identity.database, self.result.slot, self.result.publication, self.result.origin,
            self.options.keyless, None, None,
            self.options.selection.tables, self.options.selection.excluded,
        )  # fmt: skip
        self.side = Side.PRIMARY
        there = source.identity(self.secondary)
        other = state.begin_on_primary(self.primary, replica, (there.system_identifier, there.database))
        if other is not None:
            raise RefusedAsUnsafe(
                f'the primary knows a replica "{replica.name}" already, and it is another secondary '
                f'(database "{other[1]}" of the cluster {other[0]})',
                hint="choose another --name. If that secondary is no more, on the primary: "
                f"delete from logship.replica where name = {_literal(replica.name)};",
            )
        self.side = Side.SECONDARY
        state.begin(self.secondary, replica)
        role_map.store(self.secondary, replica.name, self.result.roles_mapped)
        return replica

    def _keyless(self) -> set[TableName]:
        """What becomes of tables without replica identity, before their UPDATEs could fail."""
        self.side = Side.PRIMARY
        tables = relations.keyless(self.primary, self.options.publication)
        found = [str(table) for table in tables]
        if self.options.keyless == "refuse":
            if tables:
                self.result.warnings.append(
                    "PostgreSQL refuses UPDATE and DELETE on these tables of the primary, which have "
                    f"no replica identity: {', '.join(found)}"
                )
            return set()
        # Before they are changed: `logship drop` gives them back what they had.
        identity.note(self.primary, [(table.schema, table.name) for table in tables])
        source.set_full_identity(self.primary, tables, Side.PRIMARY, self.say)
        self.result.identity_full = found
        if self.options.keyless == "leave-out":
            self.result.left_out = found
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


def _literal(text: str) -> str:
    return psycopg.sql.Literal(text).as_string(None)
