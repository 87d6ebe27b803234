"""Capture of schema changes on the primary, and the keys that prove them on both sides.

In: connections to databases with logship's schema, on the primary that of whoever may create event
triggers. Out: event triggers; rows of logship.ddl_key. A key is made here, never appears in the text or
a parameter of a statement (both may be logged), and is sealed with the half that a materialized view of the
server keeps: see the revision's ddl_key.sql.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from typing import Final

import psycopg

from logship.errors import PrimaryError, RefusedAsUnsafe

KEY_BYTES: Final = 32
TRIGGERS: Final = ("!logship_ddl_end", "!logship_ddl_drop", "!logship_ddl_rewrite")
_MAY_CREATE: Final = """
select r.rolsuper or exists (
         select from pg_catalog.pg_roles g
          where g.rolname in ('rds_superuser', 'cloudsqlsuperuser', 'azure_pg_admin')
            and pg_catalog.pg_has_role(r.oid, g.oid, 'usage'))
  from pg_catalog.pg_roles r where r.rolname = %s
"""


class CaptureNotAllowed(PrimaryError):
    """PostgreSQL lets only superusers create event triggers."""

    def __init__(self, user: str) -> None:
        super().__init__(
            f'user "{user}" may not create event triggers: schema changes can\'t be captured',
            hint="PostgreSQL asks a superuser for them (a hosting service its own, like rds_superuser), since they "
            "run as part of everybody's statements. Come as one once, to turn capture on; or go without: --ddl off",
        )


def may_capture(primary: psycopg.Connection, role: str | None = None) -> bool:
    """Whether ``role`` (or this session's user) may create event triggers."""
    row = primary.execute(_MAY_CREATE, [role or primary.info.user]).fetchone()
    return bool(row and row[0])


def capturing(primary: psycopg.Connection) -> bool:
    """Whether all of the event triggers are there, and fire."""
    row = primary.execute(
        "select count(*) from pg_catalog.pg_event_trigger e where e.evtname = any (%s) and e.evtenabled = 'A'",
        [list(TRIGGERS)],
    ).fetchone()
    return bool(row and row[0] == len(TRIGGERS))


def present(primary: psycopg.Connection) -> bool:
    """Whether there are any event triggers of ours, whether they fire or not."""
    row = primary.execute(
        "select exists (select from pg_catalog.pg_event_trigger e where e.evtname = any (%s))",
        [list(TRIGGERS)],
    ).fetchone()
    return bool(row and row[0])


def start_capture(primary: psycopg.Connection) -> bool:
    """Make a key when there is none, and the event triggers; False: they are there already."""
    if capturing(primary):
        return False
    try:
        with primary.transaction():
            if not keys(primary):
                add_key(primary, 1, secrets.token_bytes(KEY_BYTES))
            primary.execute("select logship.ddl_capture_on()")
    except psycopg.errors.InsufficientPrivilege as error:
        raise CaptureNotAllowed(primary.info.user) from error
    return True


def stop_capture(primary: psycopg.Connection) -> None:
    try:
        primary.execute("select logship.ddl_capture_off()")
    except psycopg.errors.InsufficientPrivilege as error:
        raise CaptureNotAllowed(primary.info.user) from error


def keys(connection: psycopg.Connection) -> dict[int, bytes]:
    """Every key by generation, of either side. `psycopg.errors.InsufficientPrivilege` for whom it isn't for."""
    rows = connection.execute("select k.generation, k.key from logship.ddl_keys() k").fetchall()
    return {generation: bytes(key) for generation, key in rows}


def hand_over(primary: psycopg.Connection, secondary: psycopg.Connection) -> int:
    """Give the secondary the keys that it hasn't; how many those were."""
    return give(secondary, keys(primary))


def give(connection: psycopg.Connection, given: Mapping[int, bytes]) -> int:
    """`RefusedAsUnsafe` when there is another key of the same generation: another primary's."""
    known = keys(connection)
    for generation, key in given.items():
        if known.get(generation, key) != key:
            raise RefusedAsUnsafe(
                f"the secondary knows another key of generation {generation} for schema changes",
                hint="it follows another primary, or the primary's capture was made anew: give an empty secondary "
                "database and run init",
            )
    missing = {generation: key for generation, key in given.items() if generation not in known}
    for generation, key in missing.items():
        add_key(connection, generation, key)
    return len(missing)


def rotate(primary: psycopg.Connection, secondaries: list[psycopg.Connection]) -> int:
    """A new key, on every secondary before the primary signs with it; its generation.

    The old ones stay: what is in the log was signed with them.
    """
    if not secondaries:
        raise RefusedAsUnsafe(
            "a new key must be known to the secondaries first", hint="give every --secondary of this primary"
        )
    with primary.transaction():
        primary.execute("lock table logship.ddl_key in share row exclusive mode")
        generation = max(keys(primary), default=0) + 1
        key = secrets.token_bytes(KEY_BYTES)
        for secondary in secondaries:
            hand_over(primary, secondary)
            # One of a rotation that didn't reach the primary has signed nothing.
            secondary.execute("delete from logship.ddl_key where generation >= %s", [generation])
            add_key(secondary, generation, key)
        add_key(primary, generation, key)
    return generation


def add_key(connection: psycopg.Connection, generation: int, key: bytes) -> None:
    row = connection.execute("select s.share from logship.ddl_share s").fetchone()
    assert row is not None  # one row, always
    pad = hashlib.sha256(bytes(row[0]) + generation.to_bytes(4, "big")).digest()
    sealed = bytes(one ^ other for one, other in zip(key, pad, strict=True))
    connection.execute(
        "insert into logship.ddl_key (generation, sealed) values (%s, %s)", [generation, sealed]
    )
