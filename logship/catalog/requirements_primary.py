"""What the primary's catalogs say of publication, slot, running transactions, and objects of other kinds.

In: a connection to the primary, the names of publication and slot. Out: frozen facts. Only reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import psycopg

from logship.catalog.requirements_relations import Name

_PUBLICATION: Final = """
select p.puballtables, p.pubviaroot, p.pubinsert and p.pubupdate and p.pubdelete and p.pubtruncate,
       p.puballtables or exists (select from pg_catalog.pg_publication_namespace x where x.pnpubid = p.oid)
  from pg_catalog.pg_publication p where p.pubname = %s
"""
_PUBLISHED: Final = """
select t.schemaname, t.tablename,
       t.rowfilter is not null or exists (
         select from pg_catalog.pg_attribute a
          where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
            and a.attname <> all (t.attnames))
  from pg_catalog.pg_publication_tables t
  join pg_catalog.pg_namespace n on n.nspname = t.schemaname
  join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = t.tablename
 where t.pubname = %s and t.schemaname not in ('logship', 'logship_writers')
 order by 1, 2
"""
_SLOT: Final = """
select s.plugin::pg_catalog.text, s.database::pg_catalog.text, s.temporary, s.active, s.wal_status
  from pg_catalog.pg_replication_slots s where s.slot_name = %s
"""
_RUNNING: Final = """
select a.pid, extract(epoch from pg_catalog.clock_timestamp() - a.xact_start)::pg_catalog.float8
  from pg_catalog.pg_stat_activity a
 where a.backend_xid is not null and a.pid <> pg_catalog.pg_backend_pid() and a.xact_start is not null
 order by 2 desc
"""
# Of the kinds that only a superuser can make, and that pg_dump carries. Extensions bring theirs themselves.
_SUPERUSERS_KINDS: Final = """
with found (kind, name, classid, oid) as (
  select 'event trigger', e.evtname::pg_catalog.text, 'pg_catalog.pg_event_trigger'::pg_catalog.regclass, e.oid
    from pg_catalog.pg_event_trigger e join pg_catalog.pg_proc p on p.oid = e.evtfoid
   where p.pronamespace is distinct from pg_catalog.to_regnamespace('logship')
  union all
  select 'function in C', p.oid::pg_catalog.regprocedure::pg_catalog.text,
         'pg_catalog.pg_proc'::pg_catalog.regclass, p.oid
    from pg_catalog.pg_proc p join pg_catalog.pg_language l on l.oid = p.prolang
   where l.lanname in ('c', 'internal')
  union all
  select 'base type', t.oid::pg_catalog.regtype::pg_catalog.text, 'pg_catalog.pg_type'::pg_catalog.regclass, t.oid
    from pg_catalog.pg_type t where t.typtype = 'b' and t.typcategory <> 'A'
  union all
  select 'operator class', o.opcname::pg_catalog.text, 'pg_catalog.pg_opclass'::pg_catalog.regclass, o.oid
    from pg_catalog.pg_opclass o
  union all
  select 'foreign-data wrapper', f.fdwname::pg_catalog.text,
         'pg_catalog.pg_foreign_data_wrapper'::pg_catalog.regclass, f.oid
    from pg_catalog.pg_foreign_data_wrapper f
)
select f.kind, f.name from found f
 where f.oid >= 16384 and not exists (
   select from pg_catalog.pg_depend d where d.classid = f.classid and d.objid = f.oid and d.deptype = 'e')
 order by 1, 2
"""


@dataclass(frozen=True, slots=True)
class PublicationFacts:
    all_tables: bool
    via_root: bool
    complete: bool  # publishes all four operations
    open_ended: bool  # tables made later are in it by themselves, at least those of some schema
    tables: tuple[Name, ...]
    partial: tuple[Name, ...]  # with a row filter or a column list


@dataclass(frozen=True, slots=True)
class SlotFacts:
    plugin: str | None
    database: str | None
    temporary: bool
    active: bool
    wal_status: str | None


@dataclass(frozen=True, slots=True)
class Traffic:
    """What holds up the making of a slot. ``running``: pid and age in seconds of writing transactions."""

    waiting_commits: int
    running: tuple[tuple[int, float], ...]
    prepared: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PrimaryFacts:
    publication: PublicationFacts | None
    slot: SlotFacts | None
    slots_used: int
    senders_used: int
    traffic: Traffic
    large_objects: int
    event_triggers: tuple[str, ...]
    superusers_objects: tuple[tuple[str, str], ...]  # kind and name
    subscriptions: int


def primary_facts(connection: psycopg.Connection, publication: str, slot: str) -> PrimaryFacts:
    found = connection.execute(_SLOT, [slot]).fetchone()
    row = connection.execute(
        "select (select count(*) from pg_catalog.pg_replication_slots), "
        "(select count(*) from pg_catalog.pg_stat_replication), "
        "(select count(*) from pg_catalog.pg_largeobject_metadata), "
        "(select count(s.subname) from pg_catalog.pg_subscription s "
        "  join pg_catalog.pg_database d on d.oid = s.subdbid "
        " where d.datname = pg_catalog.current_database())"
    ).fetchone()
    assert row is not None
    kinds = tuple((kind, name) for kind, name in connection.execute(_SUPERUSERS_KINDS).fetchall())
    return PrimaryFacts(
        publication=_publication(connection, publication),
        slot=None if found is None else SlotFacts(*found),
        slots_used=row[0],
        senders_used=row[1],
        traffic=_traffic(connection),
        large_objects=row[2],
        event_triggers=tuple(name for kind, name in kinds if kind == "event trigger"),
        superusers_objects=kinds,
        subscriptions=row[3],
    )


def _publication(connection: psycopg.Connection, name: str) -> PublicationFacts | None:
    row = connection.execute(_PUBLICATION, [name]).fetchone()
    if row is None:
        return None
    tables = connection.execute(_PUBLISHED, [name]).fetchall()
    names = tuple((schema, table) for schema, table, _ in tables)
    partial = tuple((schema, table) for schema, table, part in tables if part)
    return PublicationFacts(*(*row, names, partial))


def _traffic(connection: psycopg.Connection) -> Traffic:
    row = connection.execute(
        "select count(*) from pg_catalog.pg_stat_activity a where a.wait_event = 'SyncRep'"
    ).fetchone()
    prepared = connection.execute("select x.gid from pg_catalog.pg_prepared_xacts x order by 1").fetchall()
    running = connection.execute(_RUNNING).fetchall()
    return Traffic(
        waiting_commits=row[0] if row else 0,
        running=tuple((pid, age) for pid, age in running),
        prepared=tuple(gid for (gid,) in prepared),
    )
