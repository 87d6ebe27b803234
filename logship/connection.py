"""Opens connections to either server, always with the same session.

In: a libpq conninfo string or URI (``PG*`` variables, service files and ``.pgpass`` work, as libpq
has them). Out: a psycopg connection whose settings can't change what a value looks like as text.
A server that can't be reached or refuses becomes `PrimaryError` or `SecondaryError` with the next
thing to do. Passwords are never part of a message.
"""

from __future__ import annotations

import contextlib
import enum
import os
import re
import socket
from collections.abc import Mapping
from typing import Any, Final

import psycopg
from psycopg import conninfo as libpq

from logship.errors import LogshipError, PrimaryError, SecondaryError, UsageError

# Settings of a database or a role (DateStyle, bytea_output …) must not reach the text of a value.
PINNED: Final[dict[str, str]] = {
    "datestyle": "ISO, YMD",
    "intervalstyle": "postgres",
    "timezone": "UTC",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "xmloption": "content",
    "array_nulls": "on",
    "lc_monetary": "C",
    "standard_conforming_strings": "on",
    "search_path": "",
    "row_security": "off",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}


class Side(enum.Enum):
    PRIMARY = "primary"
    SECONDARY = "secondary"
    SHIPPER = "shipper"  # a relay: it speaks a walsender's protocol, and has no settings of a session


def connect(
    conninfo: str,
    side: Side,
    *,
    application_name: str = "logship",
    replication: bool = False,
    settings: Mapping[str, str | None] | None = None,
) -> psycopg.Connection:
    """An autocommit connection with `PINNED` settings; ``settings`` adds to them or overrides them (None: the
    user's own stays).

    With ``replication`` it is a logical walsender connection (`replication=database`). On the
    primary the session commits with ``synchronous_commit = local``: one that waited for a
    synchronous standby would wait for itself.
    """
    pinned: dict[str, str | None] = dict(PINNED) if side is not Side.SHIPPER else {}
    if side is Side.PRIMARY:
        pinned["synchronous_commit"] = "local"
    pinned.update(settings or {})
    try:
        given = libpq.conninfo_to_dict(conninfo)
    except psycopg.ProgrammingError:
        # libpq's message quotes a word of the conninfo, which may be a part of a password.
        raise UsageError(
            f"the {side.value}'s conninfo can't be read",
            hint="write it like 'host=db1 dbname=app user=me' or 'postgresql://me@db1/app'; "
            "quote a value with spaces: password='two words'",
        ) from None
    if _holds_password(given):
        raise UsageError(
            f"the {side.value}'s conninfo can't be read: no host has an @ in it, and a port is a number",
            hint="in a URI, write @ / : and % of a password as %40 %2F %3A %25",
        )
    options = " ".join(f"-c {name}={_escape(value)}" for name, value in pinned.items() if value is not None)
    parameters = {
        "connect_timeout": "10",
        "keepalives_idle": "30",
        **given,
        "application_name": application_name,
        "client_encoding": "UTF8",
        "options": f"{given.get('options') or ''} {options}".strip(),
    }
    if replication:
        parameters["replication"] = "database"
        # A network that only swallows what is sent: as wal_receiver_timeout. What goes there is little and often.
        parameters.setdefault("tcp_user_timeout", "60000")
    try:
        return psycopg.connect(libpq.make_conninfo("", **parameters), autocommit=True)
    except psycopg.OperationalError as error:
        raise unreachable(side, conninfo, error) from error


def _holds_password(given: Mapping[str, Any]) -> bool:
    """Whether libpq has taken a part of a URI's password for the host or the port; every message would name it."""
    hosts, ports = str(given.get("host") or "").split(","), str(given.get("port") or "").split(",")
    return any("@" in host[1:] and not host.startswith("/") for host in hosts) or not all(
        port.strip().isdigit() or not port.strip() for port in ports
    )


def cut(connection: psycopg.Connection) -> None:
    """End the link under a thread that waits for the server's answer: it gets an error at once. From any thread."""
    gone = contextlib.suppress(OSError, psycopg.Error)  # it is closed already
    with gone, socket.socket(fileno=os.dup(connection.pgconn.socket)) as link:
        link.shutdown(socket.SHUT_RDWR)


def unreachable(side: Side, conninfo: str, error: psycopg.Error) -> LogshipError:
    """What a failed connection attempt means for the operator."""
    text = _cause(error)
    kind = SecondaryError if side is Side.SECONDARY else PrimaryError
    found = kind(
        f"can't connect to the {side.value} ({describe(conninfo)}): {text}",
        hint=_advice(text, side),
    )
    found.sqlstate = error.sqlstate or _sqlstate(text)
    return found


def describe(conninfo: str) -> str:
    """The conninfo as it may be shown: host, port, database and user, never a password."""
    try:
        given = libpq.conninfo_to_dict(conninfo)
    except psycopg.ProgrammingError:
        return "unreadable conninfo"
    if _holds_password(given):
        return "unreadable conninfo"
    shown = {key: given[key] for key in ("host", "hostaddr", "port", "dbname", "user", "service")
             if given.get(key)}  # fmt: skip
    return " ".join(f"{key}={value}" for key, value in shown.items()) or "libpq's defaults"


# libpq gives no SQLSTATE of a connection that is refused, only the server's words. In another language (lc_messages)
# they aren't known here, and it counts as a link that is lost.
_REFUSALS: Final = (
    (r"password authentication failed|no password supplied", "28P01"),
    (r'authentication failed|pg_hba\.conf|role ".*" (does not exist|is not permitted)', "28000"),
    (r'database ".*" does not exist', "3D000"),
)


def _sqlstate(text: str) -> str | None:
    return next((sqlstate for words, sqlstate in _REFUSALS if re.search(words, text)), None)


def _advice(text: str, side: Side) -> str:
    if "password" in text or "authentication" in text:
        return "check user and password (PGPASSWORD, .pgpass, or password= in the conninfo)"
    if "walsender" in text or "WAL sender" in text:
        return f"the user needs the attribute REPLICATION on the {side.value}: alter role … replication"
    if "does not exist" in text:
        return "check dbname and user in the conninfo"
    if "pg_hba.conf" in text:
        return f"add a line for this host, user and database to the {side.value}'s pg_hba.conf"
    if side is Side.SHIPPER:
        return "is `logship ship` running there, and are host and port those of its --listen?"
    return f"is the {side.value} running, and are host and port right? Try: psql '<the same conninfo>'"


def _cause(error: BaseException) -> str:
    """The server's or libpq's reason, without what psycopg and libpq put around it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = lines[0] if lines else type(error).__name__
    for around in ("connection failed: ", "connection is bad: "):
        reason = reason.removeprefix(around)
    _, failed, inner = reason.partition(" failed: ")
    return inner.removeprefix("FATAL:").strip() if failed else reason


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace(" ", "\\ ")
