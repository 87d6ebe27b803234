"""Asks both servers, once, for everything that the checks judge.

In: open connections to both sides and what the operator asked for. Out: `Facts`, frozen. Only reads; makes
nothing, locks nothing. Assumes both servers are of a version that `versions` lets pass.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

import psycopg

from logship.catalog import requirements, requirements_primary, requirements_relations, role_map, state
from logship.catalog.requirements import ServerFacts
from logship.catalog.requirements_primary import PrimaryFacts
from logship.catalog.requirements_relations import Name, RelationFacts
from logship.catalog.roles import identifier
from logship.catalog.selection import Selection
from logship.errors import LogshipError, RefusedAsUnsafe, UsageError
from logship.service.checks.grants import Grant, lacking
from logship.service.checks.schema_changes import CaptureFacts, capture_facts
from logship.service.naming import Names, names
from logship.snapshot import guard, relations, schema
from logship.snapshot.relations import TableName

_CLOCK_SAMPLES: Final = 5


@dataclass(frozen=True, slots=True)
class Asked:
    """What init would be told, as far as it changes what it needs."""

    name: str | None = None
    slot: str | None = None
    publication: str | None = None
    keyless: Literal["full", "refuse", "leave-out"] = "full"
    schema: Literal["dump", "existing"] = "dump"
    pg_dump: str | None = None
    jobs: int = 4
    partitions: Literal["leaf", "root"] = "leaf"
    journal: Path | None = None
    selection: Selection = field(default_factory=Selection)
    existing: Literal["refuse", "replace", "keep"] = "refuse"
    ddl: Literal["on", "off"] | None = None
    roles: Literal["refuse", "create-nologin"] = "refuse"
    map_roles: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OwnSchema:
    """The schema ``logship`` of one side. ``stranger``: something in it (or in the writers' schema) though it
    isn't logship's. ``readable``: the user may read its tables."""

    present: bool = False
    owner: str = ""
    may_own: bool = True
    readable: bool = False
    revision: str | None = None
    stranger: str | None = None
    stranger_schema: str = ""


@dataclass(frozen=True, slots=True)
class Clock:
    """The secondary's clock minus the primary's, and how wrong that may be (half of both round trips)."""

    difference_s: float
    uncertainty_s: float
    primary_round_trip_s: float
    secondary_round_trip_s: float


@dataclass(frozen=True, slots=True)
class Facts:
    asked: Asked
    names: Names
    primary: ServerFacts
    secondary: ServerFacts
    source: PrimaryFacts
    primary_relations: tuple[RelationFacts, ...]
    secondary_relations: tuple[RelationFacts, ...]
    keyless: tuple[Name, ...]
    primary_schema: OwnSchema
    secondary_schema: OwnSchema
    replica: state.Replica | None
    filling: frozenset[Name]  # what an interrupted init of this replica may have filled
    again: bool  # such an init made the schema
    with_rows: frozenset[Name]  # tables of both sides that hold rows on the secondary
    secondary_roles: dict[str, tuple[bool, bool]]  # by name: superuser, and bypasses row security
    secondary_schemas: frozenset[str]
    missing_roles: tuple[str, ...]
    extensions: tuple[str, ...]  # the primary's
    available: dict[str, bool]
    missing_collations: tuple[str, ...]
    primary_columns: dict[Name, dict[str, str]]  # of both: only for --schema existing
    secondary_columns: dict[Name, dict[str, str]]
    primary_keys: dict[Name, str]
    pg_dump: schema.PgDump | UsageError | None
    origin_exists: bool
    origins: int  # of the whole secondary, whosever
    replayer_role: str
    owners: tuple[tuple[str, bool], ...]  # of replicated tables, by name; whether a superuser
    clock: Clock
    secondary_free_bytes: int | None  # on its data directory's file system, where that can be known
    lacking: tuple[Grant, ...] = ()
    capture: CaptureFacts = field(default_factory=CaptureFacts)
    roles: Mapping[str, str] = field(default_factory=dict)  # the secondary's names, where they differ
    roles_refused: LogshipError | None = None

    @property
    def initialised(self) -> bool:
        """As far as this user can see; one who may not read logship's schema is taken for who runs `run`."""
        schema = self.secondary_schema
        hidden = schema.present and not schema.readable and not schema.may_own and schema.stranger is None
        return hidden or (self.replica is not None and self.replica.initialised)

    @property
    def replicated(self) -> frozenset[Name]:
        """The tables that the publication has, or will have."""
        publication = self.source.publication
        if publication is not None:
            found = frozenset(publication.tables)
        else:
            found = frozenset(
                relation.key
                for relation in self.primary_relations
                if relation.table and relation.persistence == "p" and self._as_published(relation)
            )
        found = frozenset(key for key in found if self.selection.selects(*key))
        return found - frozenset(self.keyless) if self.asked.keyless == "leave-out" else found

    @property
    def selection(self) -> Selection:
        """Which tables the replica keeps: as it was initialised, or as init is told."""
        if self.replica is not None and self.replica.initialised:
            return Selection(self.replica.tables, self.replica.excluded)
        return self.asked.selection

    def _as_published(self, relation: RelationFacts) -> bool:
        if self.asked.partitions == "root":
            return not relation.partition
        return relation.kind == "r"

    def replicated_relations(self) -> list[RelationFacts]:
        """As they are, or will be, on the secondary: the primary's, unless the schema is there already."""
        wanted = self.replicated
        there = self.initialised or self.again or self.asked.schema == "existing"
        return [r for r in (self.secondary_relations if there else self.primary_relations) if r.key in wanted]


def gather(primary: psycopg.Connection, secondary: psycopg.Connection, asked: Asked) -> Facts:
    """Everything, in a few dozen queries. Raises what `logship.service.naming` raises, and psycopg's errors."""
    here, there = requirements.server(primary), requirements.server(secondary)
    theirs = _own_schema(secondary)
    replica, known = _replica(secondary, theirs, here, asked)
    names_ = names(
        here.database, secondary, name=replica.name if replica else asked.name,
        slot=asked.slot or (replica.slot if replica and replica.initialised else None),
        publication=asked.publication or (replica.publication if replica and replica.initialised else None),
    )  # fmt: skip
    origins = _origins(secondary)
    filling = frozenset(state.filling(secondary, replica.name)) if replica else frozenset()
    roles, refused = _roles(primary, secondary, asked, replica, known=theirs.readable)
    sources = _owned(requirements_relations.relations(primary), roles, secondary)
    targets = requirements_relations.relations(secondary)
    role_rows = secondary.execute(
        "select r.rolname, r.rolsuper, r.rolsuper or r.rolbypassrls from pg_catalog.pg_roles r"
    ).fetchall()
    schema_rows = secondary.execute("select n.nspname from pg_catalog.pg_namespace n").fetchall()
    installed = primary.execute("select e.extname from pg_catalog.pg_extension e order by 1").fetchall()
    existing = asked.schema == "existing"
    used = requirements.collations_used(primary)
    facts = Facts(
        asked=asked,
        names=names_,
        primary=here,
        secondary=there,
        source=requirements_primary.primary_facts(primary, names_.publication, names_.slot),
        primary_relations=sources,
        secondary_relations=targets,
        keyless=tuple((t.schema, t.name) for t in relations.keyless(primary, asked.publication)),
        primary_schema=_own_schema(primary),
        secondary_schema=theirs,
        replica=replica,
        filling=filling,
        again=known,
        with_rows=_with_rows(secondary, sources, targets) if not (replica and replica.initialised) else frozenset(),
        secondary_roles={name: (superuser, bypasses) for name, superuser, bypasses in role_rows},
        secondary_schemas=frozenset(name for (name,) in schema_rows),
        missing_roles=tuple(schema.missing_roles(primary, secondary, roles)),
        extensions=tuple(name for (name,) in installed),
        available=requirements.extensions(secondary),
        missing_collations=tuple(sorted(used - requirements.collations(secondary))),
        primary_columns=requirements_relations.columns(primary) if existing else {},
        secondary_columns=requirements_relations.columns(secondary) if existing else {},
        primary_keys=requirements_relations.primary_keys(primary) if existing else {},
        pg_dump=None if existing else _pg_dump(here.major, asked.pg_dump),
        origin_exists=names_.origin in origins,
        origins=len(origins),
        replayer_role=identifier("logship_replayer_", there.database),
        owners=(),
        clock=_clock(primary, secondary),
        secondary_free_bytes=_free_bytes(secondary, there),
        roles=roles,
        roles_refused=refused,
    )  # fmt: skip
    owners = {
        (r.owner, facts.secondary_roles.get(r.owner, (False, False))[0]) for r in facts.replicated_relations()
    }
    capture = capture_facts(primary, secondary, initialised=facts.initialised, roles=roles)
    facts = replace(facts, owners=tuple(sorted(owners)), capture=capture)
    return replace(facts, lacking=lacking(facts, primary, secondary))


# -- roles ---------------------------------------------------------------------------------------


def _roles(
    primary: psycopg.Connection,
    secondary: psycopg.Connection,
    asked: Asked,
    replica: state.Replica | None,
    *,
    known: bool,
) -> tuple[dict[str, str], LogshipError | None]:
    """Names of the secondary's roles by the primary's; and why they can't be used, if so."""
    before = role_map.read(secondary, replica.name) if known and replica else {}
    roles = role_map.together(before, asked.map_roles)
    try:
        role_map.require_safe(
            primary, secondary, roles, given=asked.map_roles, used=schema.used_roles(primary),
            replayer=identifier("logship_replayer_", secondary.info.dbname),
        )  # fmt: skip
    except (RefusedAsUnsafe, UsageError) as error:
        return roles, error
    return roles, None


def _owned(
    relations_: tuple[RelationFacts, ...], roles: Mapping[str, str], secondary: psycopg.Connection
) -> tuple[RelationFacts, ...]:
    """The primary's relations, with the owners that they have, or will have, on the secondary."""
    if not roles:
        return relations_
    superusers = {
        name
        for (name,) in secondary.execute(
            "select r.rolname from pg_catalog.pg_roles r where r.rolsuper"
        ).fetchall()
    }
    return tuple(
        replace(one, owner=roles[one.owner], owner_superuser=roles[one.owner] in superusers)
        if one.owner in roles
        else one
        for one in relations_
    )


# -- logship's own state -------------------------------------------------------------------------


def _own_schema(connection: psycopg.Connection) -> OwnSchema:
    row = connection.execute(
        """
        select r.rolname, pg_catalog.pg_has_role(n.nspowner, 'usage'), v.oid is not null,
               v.oid is not null and pg_catalog.has_schema_privilege(n.oid, 'usage')
                 and pg_catalog.has_table_privilege(v.oid, 'select')
          from pg_catalog.pg_namespace n
          join pg_catalog.pg_roles r on r.oid = n.nspowner
          left join pg_catalog.pg_class v on v.relnamespace = n.oid and v.relname = 'alembic_version'
         where n.nspname = 'logship'
        """
    ).fetchone()
    if row is None or not row[2]:
        held_by, held = _stranger(connection)
        owner, may_own = (row[0], row[1]) if row else ("", True)
        return OwnSchema(row is not None, owner, may_own, stranger=held, stranger_schema=held_by)
    owner, may_own, _, readable = row
    revision = None
    if readable:
        found = connection.execute("select version_num from logship.alembic_version").fetchone()
        revision = found[0] if found else None
    return OwnSchema(True, owner, may_own, readable, revision)


def _stranger(connection: psycopg.Connection) -> tuple[str, str | None]:
    row = connection.execute(
        "select n.nspname, c.relname from pg_catalog.pg_class c "
        "join pg_catalog.pg_namespace n on n.oid = c.relnamespace where n.nspname = any (%(ours)s) "
        "union all select n.nspname, p.proname from pg_catalog.pg_proc p "
        "join pg_catalog.pg_namespace n on n.oid = p.pronamespace where n.nspname = any (%(ours)s) "
        "order by 1, 2 limit 1",
        {"ours": list(relations.OURS)},
    ).fetchone()
    return (row[0], row[1]) if row else ("", None)


def _replica(
    secondary: psycopg.Connection, schema_: OwnSchema, primary: ServerFacts, asked: Asked
) -> tuple[state.Replica | None, bool]:
    """The replica that is meant, and whether an init of it was interrupted. As `run` chooses it: without a
    name, the only one that is initialised."""
    if not schema_.readable or (schema_.revision or "").startswith("primary"):
        return None, False
    found = state.replicas(secondary)
    wanted = asked.name or names(primary.database, secondary).replica
    chosen = next((replica for replica in found if replica.name == wanted), None)
    ready = [replica for replica in found if replica.initialised]
    if chosen is None and asked.name is None and len(ready) == 1:
        chosen = ready[0]
    again = chosen is not None and not chosen.initialised and chosen.snapshot_lsn is not None
    return chosen, again


# -- what only looking tells ---------------------------------------------------------------------


def _with_rows(
    secondary: psycopg.Connection, sources: tuple[RelationFacts, ...], targets: tuple[RelationFacts, ...]
) -> frozenset[Name]:
    wanted = {source.key for source in sources if source.table}
    return frozenset(
        target.key
        for target in targets
        if target.table and target.may_read and target.key in wanted
        and not (target.rls and not target.may_own)  # the server would refuse to say
        and guard.rows_in(secondary, TableName(*target.key))
    )  # fmt: skip


def _pg_dump(major: int, explicit: str | None) -> schema.PgDump | UsageError:
    try:
        return schema.find_pg_dump(major, explicit)
    except UsageError as error:
        return error


def _origins(secondary: psycopg.Connection) -> frozenset[str]:
    found = secondary.execute("select o.roname from pg_catalog.pg_replication_origin o")
    return frozenset(name for (name,) in found)


def _clock(primary: psycopg.Connection, secondary: psycopg.Connection) -> Clock:
    here, here_trip = _offset(primary)
    there, there_trip = _offset(secondary)
    return Clock(there - here, (here_trip + there_trip) / 2, here_trip, there_trip)


def _offset(connection: psycopg.Connection) -> tuple[float, float]:
    """A server's clock minus ours, and the round trip, of the quickest of a few answers."""
    samples = []
    ask = "select extract(epoch from pg_catalog.clock_timestamp())::pg_catalog.float8"
    for _ in range(_CLOCK_SAMPLES):
        wall, began = time.time(), time.monotonic()
        row = connection.execute(ask).fetchone()
        trip = time.monotonic() - began
        assert row is not None
        samples.append((trip, row[0] - (wall + trip / 2)))
    trip, offset = min(samples)
    return offset, trip


def _free_bytes(secondary: psycopg.Connection, facts: ServerFacts) -> int | None:
    """Only where the server is on this machine, without a doubt: reached through a socket in the file
    system, and its data directory is here."""
    directory = facts.settings.get("data_directory")
    if not directory or not secondary.info.host.startswith("/"):
        return None
    try:
        found = os.statvfs(directory)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize
