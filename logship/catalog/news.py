"""Wakes whoever waits for a row of `logship.hold` or `logship.memory_question` to change, on the secondary.

In: autocommit connections to the secondary. Out: a wait that ends when the other side has something to
say. A notification is a reason to look and carries nothing: who waits looks again after ``timeout_s`` in any
case, since one may be lost with its connection.
"""

from __future__ import annotations

import psycopg

_TO_REPLAYER = "logship_asked"
_TO_COMMANDS = "logship_answered"


def listen_as_replayer(link: psycopg.Connection) -> None:
    link.execute(f"listen {_TO_REPLAYER}")


def listen_as_command(link: psycopg.Connection) -> None:
    link.execute(f"listen {_TO_COMMANDS}")


def tell_replayer(link: psycopg.Connection, replica: str) -> None:
    """A command asks something of ``replica``, or asks no longer."""
    link.execute("select pg_catalog.pg_notify(%s, %s)", [_TO_REPLAYER, replica])


def tell_commands(link: psycopg.Connection, replica: str) -> None:
    """The replayer of ``replica`` has answered."""
    link.execute("select pg_catalog.pg_notify(%s, %s)", [_TO_COMMANDS, replica])


def wait(link: psycopg.Connection, timeout_s: float) -> None:
    """Until something is told, or the time is over. The link must listen."""
    for _ in link.notifies(timeout=max(0.0, timeout_s), stop_after=1):
        return
