"""Whether a database is the side that a command takes it for.

In: an open connection. Out: nothing, or an error that says what the database is. Reads the system catalogs only, so
no right is needed.
"""

from __future__ import annotations

from typing import Final

import psycopg

from logship.connection import Side
from logship.errors import LogshipError, PrimaryError, SecondaryError, UsageError

# A table that only this side's schema has.
_OWN: Final = {Side.PRIMARY: "ddl_setting", Side.SECONDARY: "position"}
_HAS: Final = """
select exists (select from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
                where n.nspname = 'logship' and c.relname = %s)
"""


def require_side(link: psycopg.Connection, side: Side) -> None:
    """`UsageError` for the other side's database; `PrimaryError`, `SecondaryError` for one that is neither's."""
    require_not_exchanged(link, side)
    if not _has(link, side):
        raise _nobodys(side)


def require_not_exchanged(link: psycopg.Connection, side: Side) -> None:
    """`UsageError` for the other side's database."""
    other = Side.SECONDARY if side is Side.PRIMARY else Side.PRIMARY
    if _has(link, other):
        raise _the_others(link, side, other)


def _has(link: psycopg.Connection, side: Side) -> bool:
    row = link.execute(_HAS, [_OWN[side]]).fetchone()
    return bool(row and row[0])


def _the_others(link: psycopg.Connection, side: Side, other: Side) -> LogshipError:
    return UsageError(
        f'--{side.value} names the database "{link.info.dbname}" (port {link.info.port}), which is a {other.value} '
        "of logship's",
        hint=f"give the {side.value}; are --primary and --secondary exchanged?",
    )


def _nobodys(side: Side) -> LogshipError:
    kind = PrimaryError if side is Side.PRIMARY else SecondaryError
    return kind(
        f"the {side.value} has no schema logship, or not this version's",
        hint="run `logship init --primary … --secondary …` first",
    )
