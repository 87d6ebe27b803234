"""Keeps two commands from filling one secondary at once, by advisory locks.

In: a session that lives as long as the command. Out: the lock, or `RefusedAsUnsafe`. A process that was killed
leaves no lock behind; what its sessions were doing on the secondary is ended first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import psycopg

from logship.errors import RefusedAsUnsafe, SecondaryError

# Both are "logship" in ASCII, with a number behind; advisory locks are each database's own.
_COMMAND: Final = 0x6C6F677368697001
_WORKERS: Final = 0x6C6F677368697002
_DEADLINE_S: Final = 60.0

_HOLDERS: Final = """
select l.pid, a.application_name
  from pg_catalog.pg_locks l
  left join pg_catalog.pg_stat_activity a on a.pid = l.pid
 where l.locktype = 'advisory' and l.granted and l.objsubid = 1 and l.pid <> pg_catalog.pg_backend_pid()
   and (l.classid::pg_catalog.int8 << 32 | l.objid::pg_catalog.int8) = %s
   and l.database = (select d.oid from pg_catalog.pg_database d
                      where d.datname = pg_catalog.current_database())
"""


def only_one(secondary: psycopg.Connection, command: str, say: Callable[[str], None]) -> None:
    """From here on this is the only init or resync of the secondary, until the session ends."""
    row = secondary.execute("select pg_catalog.pg_try_advisory_lock(%s)", [_COMMAND]).fetchone()
    if not (row and row[0]):
        held = secondary.execute(_HOLDERS, [_COMMAND]).fetchone()
        who = f"{held[1] or 'a session'} (process {held[0]} of the secondary's server)" if held else "another"
        raise RefusedAsUnsafe(
            f"another command is filling this secondary: {who}",
            hint=f"wait until it has ended, and run {command} again; it goes on where the other stopped",
        )
    _end_orphans(secondary, say)


def is_worker(secondary: psycopg.Connection) -> None:
    """A session that works for the command: the next command knows it by this lock."""
    secondary.execute("select pg_catalog.pg_advisory_lock_shared(%s)", [_WORKERS])


@contextmanager
def wait_for_turn(primary: psycopg.Connection, say: Callable[[str], None]) -> Iterator[None]:
    """Publication and slot of a primary are made by one init at a time, whatever their secondaries."""
    row = primary.execute("select pg_catalog.pg_try_advisory_lock(%s)", [_COMMAND]).fetchone()
    if not (row and row[0]):
        say("waiting for another init of this primary to make publication and slot")
        primary.execute("select pg_catalog.pg_advisory_lock(%s)", [_COMMAND])
    try:
        yield
    finally:
        if not primary.closed and not primary.broken:
            primary.execute("select pg_catalog.pg_advisory_unlock(%s)", [_COMMAND])


def _end_orphans(secondary: psycopg.Connection, say: Callable[[str], None]) -> None:
    """Sessions of a command that was killed may still be making an index."""
    deadline = time.monotonic() + _DEADLINE_S
    told = False
    while orphans := secondary.execute(_HOLDERS, [_WORKERS]).fetchall():
        if not told:
            say(f"ending {len(orphans)} sessions that an interrupted command left on the secondary")
            told = True
            for pid, _ in orphans:
                secondary.execute("select pg_catalog.pg_terminate_backend(%s)", [pid])
        if time.monotonic() > deadline:
            raise SecondaryError(
                "sessions of an interrupted init or resync don't end on the secondary: process "
                + ", ".join(str(pid) for pid, _ in orphans),
                hint=f"as a superuser: select pg_terminate_backend({orphans[0][0]})",
            )
        time.sleep(0.05)
