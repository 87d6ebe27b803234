"""The names that belong together: replica, slot, publication, origin.

In: what the operator gave, the primary's database, a connection to the secondary. Out: `Names`, each with
its default filled in, or `UsageError` for one that PostgreSQL wouldn't take.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import psycopg

from logship.catalog.roles import identifier
from logship.errors import UsageError

_NAME: Final = re.compile(r"[^\x00-\x1f\x7f]+\Z")
_SLOT: Final = re.compile(r"[a-z0-9_]{1,63}\Z")


@dataclass(frozen=True, slots=True)
class Names:
    replica: str
    slot: str
    publication: str
    origin: str


def names(
    database: str,
    secondary: psycopg.Connection,
    *,
    name: str | None = None,
    slot: str | None = None,
    publication: str | None = None,
) -> Names:
    """``database`` is the primary's."""
    default = identifier("logship_", database)
    slot = slot or default
    if not _SLOT.match(slot):
        raise UsageError(
            f"{slot!r} can't be the name of a replication slot",
            hint="PostgreSQL allows a-z, 0-9 and _, up to 63 of them",
        )
    name = name or replica_name(secondary)
    if not _NAME.match(name) or len(name.encode()) > 63:
        raise UsageError(
            f"{name!r} can't be the name of a replica", hint="up to 63 bytes, no control characters"
        )
    return Names(name, slot, publication or default, f"{default}_{name}")


def replica_name(secondary: psycopg.Connection) -> str:
    """db2_5432_app: the secondary's host, port and database."""
    info = secondary.info
    host = "local" if not info.host or info.host.startswith(("/", "@")) else info.host
    return identifier("", f"{host}_{info.port}_{info.dbname}".lower().replace(".", "_").replace("-", "_"))
