"""What the catalogs say of a server, its database and the user who asks, as far as logship depends on it.

In: a connection to either side. Out: `ServerFacts`. Only reads, and asks for nothing that an ordinary user
may not see: what such a user can't see is None, never a guess.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import psycopg

_SETTINGS: Final = (
    "data_directory", "default_transaction_read_only", "idle_replication_slot_timeout",
    "idle_session_timeout", "lock_timeout", "max_active_replication_origins", "max_connections",
    "max_locks_per_transaction", "max_replication_slots", "max_slot_wal_keep_size", "max_wal_senders",
    "max_wal_size", "reserved_connections", "superuser_reserved_connections", "synchronous_standby_names",
    "transaction_timeout", "wal_level", "wal_sender_timeout",
)  # fmt: skip

# Columns that some versions lack are read through to_jsonb.
_SERVER: Final = """
select pg_catalog.current_setting('server_version'), d.datname, r.rolname,
       r.rolsuper, r.rolreplication or r.rolsuper, r.rolcreaterole or r.rolsuper,
       pg_catalog.pg_has_role(r.oid, 'pg_read_all_stats', 'usage'),
       pg_catalog.pg_encoding_to_char(d.encoding), d.datcollate, d.datctype, d.datlocprovider::pg_catalog.text,
       coalesce(pg_catalog.to_jsonb(d) ->> 'datlocale', pg_catalog.to_jsonb(d) ->> 'daticulocale'),
       d.datcollversion, pg_catalog.pg_database_collation_actual_version(d.oid),
       pg_catalog.pg_is_in_recovery(), s.system_identifier, pg_catalog.pg_postmaster_start_time(),
       pg_catalog.pg_database_size(d.oid),
       (select coalesce(sum(b.numbackends), 0) from pg_catalog.pg_stat_database b)::pg_catalog.int4,
       nullif(r.rolconnlimit, -1) - (select count(*) from pg_catalog.pg_stat_activity a
                                      where a.usesysid = r.oid)::pg_catalog.int4,
       nullif(d.datconnlimit, -1) - (select count(*) from pg_catalog.pg_stat_activity a
                                      where a.datid = d.oid)::pg_catalog.int4
  from pg_catalog.pg_database d, pg_catalog.pg_roles r, pg_catalog.pg_control_system() s
 where d.datname = pg_catalog.current_database() and r.rolname = current_user
"""


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """A server, one database of it, and the user who came. Settings as they are in this session."""

    version: str
    major: int
    database: str
    user: str
    superuser: bool
    replication: bool
    createrole: bool
    sees_activity: bool  # what other sessions wait for, and their transaction ids
    encoding: str
    collate: str
    ctype: str
    provider: str  # pg_database.datlocprovider: c libc, i ICU, b built in
    locale: str | None
    collation_recorded: str | None
    collation_actual: str | None
    in_recovery: bool
    system_identifier: int
    started: datetime.datetime
    database_bytes: int
    connections: int
    role_free: int | None  # connections that the role may still make; None: no limit
    database_free: int | None
    settings: Mapping[str, str]  # by name; in PostgreSQL's base unit (ms, MB)

    def number(self, setting: str) -> int:
        """A setting's value; 0 where this version doesn't have it."""
        return int(self.settings.get(setting, "0"))

    @property
    def connections_free(self) -> int:
        """How many more this user may open now, by the tightest of the limits."""
        allowed = self.number("max_connections")
        if not self.superuser:
            allowed -= self.number("superuser_reserved_connections") + self.number("reserved_connections")
        limits = [allowed - self.connections]
        limits += [limit for limit in (self.role_free, self.database_free) if limit is not None]
        # The limits of a role and of a database don't hold for superusers.
        return limits[0] if self.superuser else min(limits)

    @property
    def identity(self) -> tuple[int, datetime.datetime, str]:
        """One cluster and one database, whatever the conninfo says."""
        return (self.system_identifier, self.started, self.database)


def server(connection: psycopg.Connection) -> ServerFacts:
    """Everything about the server itself; of version 15 or newer (older ones lack columns)."""
    row = connection.execute(_SERVER).fetchone()
    assert row is not None
    settings = connection.execute(
        "select s.name, s.setting from pg_catalog.pg_settings s where s.name = any (%s)", [list(_SETTINGS)]
    ).fetchall()
    major = connection.info.server_version // 10000
    known: dict[str, str] = dict(settings)
    fields: tuple[Any, ...] = (row[0], major, *row[1:], known)
    return ServerFacts(*fields)


def extensions(connection: psycopg.Connection) -> dict[str, bool]:
    """Available extensions; True: this user may make it, comment included, or owns it already."""
    rows = connection.execute(
        "select e.name, case when x.oid is not null then pg_catalog.pg_has_role(x.extowner, 'usage') "
        "else exists (select from pg_catalog.pg_available_extension_versions v"
        "  where v.name = e.name and v.version = e.default_version and (v.trusted or not v.superuser)) end "
        "from pg_catalog.pg_available_extensions e "
        "left join pg_catalog.pg_extension x on x.extname = e.name"
    ).fetchall()
    return dict(rows)


def collations(connection: psycopg.Connection) -> frozenset[str]:
    """PostgreSQL's own collations that this database has, for its encoding."""
    rows = connection.execute(
        "select k.collname from pg_catalog.pg_collation k "
        "join pg_catalog.pg_database d on d.datname = pg_catalog.current_database() "
        "where k.collnamespace = pg_catalog.to_regnamespace('pg_catalog') "
        "and k.collencoding in (-1, d.encoding)"
    ).fetchall()
    return frozenset(name for (name,) in rows)


def collations_used(connection: psycopg.Connection) -> frozenset[str]:
    """PostgreSQL's own collations that columns of users' relations name."""
    rows = connection.execute(
        "select distinct k.collname from pg_catalog.pg_attribute a "
        "join pg_catalog.pg_class c on c.oid = a.attrelid and c.oid >= 16384 and c.relkind in ('r', 'p', 'v', 'm') "
        "join pg_catalog.pg_collation k on k.oid = a.attcollation "
        "where k.collnamespace = pg_catalog.to_regnamespace('pg_catalog') and k.collname <> 'default' "
        "and not a.attisdropped"
    ).fetchall()
    return frozenset(name for (name,) in rows)


def lacking_rights(connection: psycopg.Connection, role: str, has: Mapping[str, str]) -> list[str]:
    """Keys of ``has`` whose query says that ``role`` hasn't got it; all of them when there is no such role."""
    known = connection.execute("select from pg_catalog.pg_roles r where r.rolname = %s", [role]).fetchone()
    if known is None:
        return list(has)
    lacking = []
    for key, query in has.items():
        row = connection.execute(query.encode(), {"role": role}).fetchone()
        if not (row and row[0]):
            lacking.append(key)
    return lacking
