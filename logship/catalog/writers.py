"""The functions that write with the rights of an object's owner, two for each owner.

In: a connection to the secondary and the owners' oids. Out: for rows ``logship_writers.write_as_<owner
oid> (statement text, a1 text[] … a16 text[]) returns bigint``, for schema changes ``…ddl_as_<owner oid>
(statement text, settings text[], values text[]) returns void``; security definer, owned by that role, and only the
replayer's role may call them. They lie in a schema that their owners can't use: an owner could
otherwise make its function SECURITY INVOKER, and have its code run with the replayer's rights.

What a caller may rely on is in `docs/init.md`, "The writers". Why SET ROLE is not enough:
PostgreSQL documentation, "CREATE FUNCTION", "Writing SECURITY DEFINER Functions Safely".
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from importlib.resources import files
from itertools import dropwhile
from typing import Final

import psycopg
from psycopg import sql

from logship.catalog.tables import WRITERS
from logship.connection import PINNED
from logship.errors import SecondaryError

ARRAYS: Final = 16  # parameters a1 … a16: each one costs a call 2 µs, given or not; more columns share them

# What changes the meaning of a value's text, and so holds inside, whatever the session has.
_SETTINGS: Final[dict[str, str]] = {
    name: value for name, value in PINNED.items() if not name.endswith("_timeout") and name != "search_path"
} | {"array_nulls": "on", "transform_null_equals": "off"}
_WRITERS_SETTINGS: Final[dict[str, str]] = {"search_path": "pg_catalog, pg_temp"} | _SETTINGS
# What a schema change brings along besides those: the function's SET clause gives them their end.
_DDL_SETTINGS: Final[dict[str, str]] = _WRITERS_SETTINGS | {
    "default_tablespace": "",
    "default_table_access_method": "heap",
    "check_function_bodies": "off",
}
# What else user-written code may have changed with SET, and what the caller gets back as it was.
_KEPT: Final = (
    "search_path",
    *_SETTINGS,
    "client_encoding",
    "synchronous_commit",
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "default_transaction_deferrable",
)


class Function(enum.Enum):
    """What runs with the rights of an owner."""

    ROWS = "write_as"
    DDL = "ddl_as"

    @property
    def settings(self) -> dict[str, str]:
        return _WRITERS_SETTINGS if self is Function.ROWS else _DDL_SETTINGS

    def of(self, owner: int) -> sql.Identifier:
        return sql.Identifier(WRITERS, f"{self.value}_{owner}")


class OwnerNotReachable(SecondaryError):
    """The writer of ``owner`` can't be made by the user who runs init."""

    def __init__(self, owner: str, user: str) -> None:
        super().__init__(
            f'user "{user}" may not make functions that belong to "{owner}", who owns replicated tables',
            hint=f"grant {_quoted(owner)} to {_quoted(user)}, or run init as a superuser of the secondary",
        )
        self.owner = owner


def writers(connection: psycopg.Connection) -> Mapping[int, str]:
    """Owner's oid to the writer's qualified name, as SQL text. Found by owner, never by name alone."""
    rows = connection.execute(
        "select p.proowner::pg_catalog.int8, n.nspname, p.proname from pg_catalog.pg_proc p "
        "join pg_catalog.pg_namespace n on n.oid = p.pronamespace "
        "where n.nspname = %s and p.prosecdef and p.proname = 'write_as_' || p.proowner::pg_catalog.text",
        [WRITERS],
    ).fetchall()
    return {owner: sql.Identifier(schema, name).as_string(None) for owner, schema, name in rows}


def ensure_wrappers(connection: psycopg.Connection, owners: Iterable[int], *, replayer: str) -> list[str]:
    """Make the functions that are missing, or not as this version makes them; for which owners, by name.

    ``replayer`` is the role that may call them. `OwnerNotReachable` when the user of this session
    can't give a function to an owner.
    """
    made = []
    with connection.transaction():
        for owner in sorted(set(owners)):
            row = connection.execute(
                "select r.rolname from pg_catalog.pg_roles r where r.oid = %s", [owner]
            ).fetchone()
            if row is None:
                raise SecondaryError(
                    f"the owner with oid {owner} of a replicated table does not exist",
                    hint="give the table an owner that exists on the secondary: alter table … owner to …; "
                    "then run init again",
                )
            fresh = [_make(connection, function, owner, row[0]) for function in Function]
            if any(fresh):
                made.append(row[0])
            for function in Function:
                connection.execute(
                    sql.SQL("grant execute on function {} to {}").format(
                        function.of(owner), sql.Identifier(replayer)
                    )
                )
    return made


def _make(connection: psycopg.Connection, function: Function, owner: int, role: str) -> bool:
    statement = _statement(function, owner)
    body = statement.split("$function$")[1]
    found = connection.execute(
        "select p.prosrc = %s and p.prosecdef and p.proowner = %s, p.proconfig from pg_catalog.pg_proc p "
        "join pg_catalog.pg_namespace n on n.oid = p.pronamespace where n.nspname = %s and p.proname = %s",
        [body, owner, WRITERS, f"{function.value}_{owner}"],
    ).fetchone()
    if found is not None and found[0] and _settings_of(found[1]) == function.settings:
        return False
    name = function.of(owner)
    if found is not None:
        connection.execute(sql.SQL("drop function {}").format(name))
    connection.execute(statement.encode())
    connection.execute(sql.SQL("revoke all on function {} from public").format(name))
    _give(connection, name, role)
    return True


def _give(connection: psycopg.Connection, name: sql.Identifier, role: str) -> None:
    """A new owner must have CREATE on the schema, for as long as the statement runs."""
    create = sql.SQL("{} create on schema {} {} {}")
    to, schema = sql.Identifier(role), sql.Identifier(WRITERS)
    superuser = connection.execute(
        "select r.rolsuper, r.rolname = %s from pg_catalog.pg_roles r where r.rolname = current_user", [role]
    ).fetchone()
    if superuser and superuser[1]:
        return  # it is ours; and to take CREATE back would take it from the schema's owner
    needs_grant = not (superuser and superuser[0])
    try:
        if needs_grant:
            connection.execute(create.format(sql.SQL("grant"), schema, sql.SQL("to"), to))
        connection.execute(sql.SQL("alter function {} owner to {}").format(name, to))
        if needs_grant:
            connection.execute(create.format(sql.SQL("revoke"), schema, sql.SQL("from"), to))
    except psycopg.errors.InsufficientPrivilege as error:
        raise OwnerNotReachable(role, connection.info.user) from error


def _settings_of(proconfig: list[str] | None) -> dict[str, str]:
    """pg_proc.proconfig, with names in small letters: PostgreSQL writes DateStyle."""
    pairs = (entry.partition("=") for entry in proconfig or ())
    return {name.lower(): value for name, _, value in pairs}


def _statement(function: Function, owner: int) -> str:
    template = _file(function.value)
    settings = {n: v if n == "search_path" else f"'{v}'" for n, v in function.settings.items()}
    filled = {
        "guard_before": _code("guard_before"),
        "guard_after": _code("guard_after"),
        "name": function.of(owner).as_string(None),
        "parameters": ", ".join(f"a{n} text[] default null" for n in range(1, ARRAYS + 1)),
        "settings": "\n  ".join(f"set {name} = {value}" for name, value in settings.items()),
        "kept": "array[" + ", ".join(f"'{name}'" for name in _KEPT) + "]",
        "settings_now": "array[" + ", ".join(f"pg_catalog.current_setting('{name}')" for name in _KEPT) + "]",
        "arguments": ", ".join(f"a{n}" for n in range(1, ARRAYS + 1)),
    }
    text = template[template.index("create function") :]
    for word, value in filled.items():
        text = text.replace("{" + word + "}", value)
    return text


def _code(name: str) -> str:
    """Without what stands at the beginning for whoever reads the file."""
    lines = _file(name).rstrip("\n").split("\n")
    return "\n".join(dropwhile(lambda line: line.startswith("--"), lines))


def _file(name: str) -> str:
    return files("logship.catalog").joinpath(f"sql/{name}.sql").read_text(encoding="utf-8")


def _quoted(name: str) -> str:
    return sql.Identifier(name).as_string(None)
