"""Who may log in at the relay: SCRAM verifiers by user name, from a file or from the primary's own roles.

In: a file of lines ``name verifier``, or a conninfo of the primary. Out: a verifier by name, as pg_authid keeps
it (``SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>``): a password can't be had from it. Looking
one up never waits; `reload` reads the source anew, and what was known stays when that fails. No verifier is
ever in an error or in the log.

Source: PostgreSQL documentation, "pg_authid"; RFC 5802 and 7677.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

import psycopg

from logship.connection import Side, connect
from logship.errors import PrimaryError, UsageError
from logship.relay.scram import Verifier, make_verifier

log = logging.getLogger(__name__)

SECRET_FILE: Final = "relay.secret"
_SECRET_BYTES: Final = 32
PRIMARY: Final = "primary"  # in place of a file: the primary's roles
_LINE: Final = re.compile(r'(?:"((?:[^"]|"")+)"|([^\s"#][^\s"]*))\s+(\S+)\s*\Z')
_OTHERS: Final = stat.S_IWGRP | stat.S_IXGRP | stat.S_IRWXO
_ROLES: Final = """
select a.rolname, a.rolpassword
  from pg_catalog.pg_authid a
 where a.rolcanlogin and (a.rolreplication or a.rolsuper) and a.rolpassword like 'SCRAM-SHA-256$%'
   and (a.rolvaliduntil is null or a.rolvaliduntil > pg_catalog.now())
"""


class Users(Protocol):
    """A callable: the verifier of a user, or None when there is no such user."""

    def __call__(self, name: str) -> Verifier | None: ...

    def reload(self) -> None: ...


def users_of(source: str, primary: str) -> Users:
    """``source``: the path of a file, or `PRIMARY`. `UsageError`, `PrimaryError` when it can't be read."""
    return PrimaryUsers(primary) if source == PRIMARY else FileUsers(Path(source))


class FileUsers:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._known = read_users(path)

    def __call__(self, name: str) -> Verifier | None:
        return self._known.get(name)

    def reload(self) -> None:
        """Read the file again; what it said before stays in force when it can't be read."""
        try:
            self._known = read_users(self._path)
        except UsageError as error:
            log.error("%s; what it said before stays in force", error)  # noqa: TRY400 - a sentence, no traceback
        else:
            log.info("%d users in %s", len(self._known), self._path)


class PrimaryUsers:
    """Of the primary's roles those that may replicate, with the passwords that they have there."""

    def __init__(self, primary: str) -> None:
        self._primary = primary
        self._known = self._read()
        self._failed = False

    def __call__(self, name: str) -> Verifier | None:
        return self._known.get(name)

    def reload(self) -> None:
        try:
            self._known = self._read()
        except PrimaryError as error:
            if not self._failed:
                log.warning("the relay's users can't be read anew: %s", error)
            self._failed = True
        else:
            self._failed = False

    def _read(self) -> Mapping[str, Verifier]:
        with connect(self._primary, Side.PRIMARY, application_name="logship users") as connection:
            try:
                rows = connection.execute(_ROLES).fetchall()
            except psycopg.errors.InsufficientPrivilege as error:
                user = connection.info.user.replace('"', '""')
                raise PrimaryError(
                    f'user "{connection.info.user}" may not read the verifiers in pg_authid on the primary',
                    hint="let it: grant select (rolname, rolpassword, rolcanlogin, rolreplication, rolsuper, "
                    f'rolvaliduntil) on pg_catalog.pg_authid to "{user}"; or give --users FILE',
                ) from error
            except psycopg.Error as error:
                raise PrimaryError(
                    f"the primary's roles can't be read: {type(error).__name__}",
                    hint="is the primary running?",
                ) from error
        return {name: Verifier.parse(verifier) for name, verifier in rows}


def read_users(path: Path) -> dict[str, Verifier]:
    """Name to verifier. `UsageError` with the line when one is malformed, or others may read the file."""
    try:
        with path.open(encoding="utf-8") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            text = file.read()
    except OSError as error:
        raise UsageError(
            f"--users: can't read {path}: {error.strerror}", hint="make it with `logship verifier NAME`"
        ) from error
    except UnicodeDecodeError:
        raise UsageError(
            f"--users: {path} is not UTF-8", hint="make its lines with `logship verifier NAME`"
        ) from None
    if mode & _OTHERS:
        raise UsageError(
            f"--users: {path} may be read or changed by others (mode {mode:04o})",
            hint=f"chmod 600 {path}; the group may read it, no more",
        )
    return _parse(text, path)


def _parse(text: str, path: Path) -> dict[str, Verifier]:
    users: dict[str, Verifier] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = _LINE.match(line.strip())
        verifier = _verifier(found[3]) if found else None
        if found is None or verifier is None:
            raise UsageError(
                f"--users: line {number} of {path} is not a name and a SCRAM-SHA-256 verifier",
                hint="make it with `logship verifier NAME`; a password as it is doesn't belong there",
            )
        name = found[1].replace('""', '"') if found[1] is not None else found[2]
        if name in users:
            raise UsageError(
                f"--users: line {number} of {path} names {name!r} once more", hint="leave one of its lines"
            )
        users[name] = verifier
    return users


def _verifier(text: str) -> Verifier | None:
    try:
        return Verifier.parse(text)
    except ValueError:
        return None


def mock_secret(directory: Path) -> bytes:
    """What the salts of unknown users are made from, the same after a restart: they must not be told apart
    from known ones. Kept beside the journal."""
    path = directory / SECRET_FILE
    with contextlib.suppress(FileExistsError):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(secrets.token_bytes(_SECRET_BYTES))
    secret = path.read_bytes()
    # A crash may have left it short: any other will do as well.
    return secret if len(secret) == _SECRET_BYTES else secrets.token_bytes(_SECRET_BYTES)


def verifier_line(name: str, password: str) -> str:
    """A line of the users file."""
    plain = re.fullmatch(r'[^\s"#][^\s"]*', name)
    quoted = name if plain else '"' + name.replace('"', '""') + '"'
    return f"{quoted} {make_verifier(password)}"
