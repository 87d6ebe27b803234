"""The shipper's role on the primary: what `logship ship` and `run` need of logship's schema there.

In: a connection of whoever owns that schema. Out: the rights, given to `logship_shipper_<database>`, where an
administrator has made that role: whoever ships is then a member of it before there is anything to give. Where
there is no such role, `logship check --print-grants primary` says what to give to whom. Never makes a role.
"""

from __future__ import annotations

from typing import Final

import psycopg
from psycopg import sql

from logship.catalog.roles import identifier

_GRANTS: Final = (
    "grant usage on schema logship to {role}",
    "grant select on table logship.replica, logship.shipper, logship.replication_report, "
    "logship.stat_replication to {role}",
    "grant insert, update on table logship.shipper to {role}",
    "grant insert, update, delete on table logship.replication_report to {role}",
)


def shipper_role(database: str) -> str:
    """``database`` is the primary's."""
    return identifier("logship_shipper_", database)


def give_to_shipper(primary: psycopg.Connection) -> str | None:
    """The role that has its rights now; None: there is no such role. `psycopg.errors.InsufficientPrivilege` when
    somebody else owns the schema."""
    role = shipper_role(primary.info.dbname)
    found = primary.execute("select from pg_catalog.pg_roles where rolname = %s", [role]).fetchone()
    if found is None:
        return None
    with primary.transaction():
        for grant in _GRANTS:
            primary.execute(sql.SQL(grant).format(role=sql.Identifier(role)))
    return role
