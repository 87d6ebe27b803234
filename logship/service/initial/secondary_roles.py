"""The replayer's role and the owners' writers on the secondary, as init and resync need them.

In: a connection to the secondary and the owners' oids. Out: what was made, in the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import psycopg
from psycopg import sql

from logship.catalog import role_map
from logship.catalog.roles import ensure_replayer, identifier
from logship.catalog.writers import ensure_wrappers
from logship.errors import SecondaryError
from logship.service.initial.plan import InitResult
from logship.snapshot import schema


def make_writers(
    secondary: psycopg.Connection, owners: Iterable[int], result: InitResult, say: Callable[[str], None]
) -> None:
    """The replayer's role, and a writer for each owner; those that are there and right stay as they are."""
    role, warnings = ensure_replayer(secondary)
    result.replayer_role = role
    result.warnings += warnings
    made = ensure_wrappers(secondary, owners, replayer=role)
    if made:
        say(f"functions to write with the rights of {', '.join(made)}")


def map_roles(
    primary: psycopg.Connection, secondary: psycopg.Connection, given: Mapping[str, str], replica: str
) -> dict[str, str]:
    """`--map-role`, with what an earlier init of this replica was given. `RefusedAsUnsafe`, `UsageError`."""
    roles = role_map.together(role_map.read(secondary, replica), given)
    if roles:
        role_map.require_safe(
            primary, secondary, roles, given=given, used=schema.used_roles(primary),
            replayer=identifier("logship_replayer_", secondary.info.dbname),
        )  # fmt: skip
    return roles


def make_roles(
    primary: psycopg.Connection, secondary: psycopg.Connection, result: InitResult, say: Callable[[str], None]
) -> None:
    """`--roles create-nologin`: what owns or may use the primary's objects, as roles that nobody can log in as."""
    missing = schema.missing_roles(primary, secondary, result.roles_mapped)
    statements = [
        sql.SQL("create role {} nologin").format(sql.Identifier(role)).as_string(None) for role in missing
    ]
    try:
        with secondary.transaction():
            for statement in statements:
                secondary.execute(statement.encode())
    except psycopg.errors.InsufficientPrivilege as error:
        raise SecondaryError(
            f'user "{secondary.info.user}" of the secondary may not create roles',
            hint=f"on the secondary, as a superuser: {'; '.join(statements)};",
        ) from error
    result.roles_made = missing
    if missing:
        say(f"roles without login: {', '.join(missing)}")


def warn_about_owner(secondary: psycopg.Connection, owners: set[str], result: InitResult) -> None:
    """Who is the replayer may write as every owner: that should not be one of them."""
    user = secondary.info.user
    row = secondary.execute(
        "select r.rolsuper from pg_catalog.pg_roles r where r.rolname = current_user"
    ).fetchone()
    if row is not None and not row[0] and user in owners and len(owners) > 1:
        result.warnings.append(
            f'user "{user}" owns replicated tables and is the replayer too: code in its tables could '
            "write as any other owner; let the replayer be a role that owns nothing"
        )
