"""What init does for schema changes: capture and its key on the primary, the key and the owners' functions on
the secondary.

In: connections to both sides, and what the operator wants (`--ddl`; None: where it can be had). Out: event
triggers, keys on both sides, functions, rights; what couldn't be done is a warning that says what it means
and what to do, or an error when the operator asked for it by name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import psycopg

from logship.catalog import ddl
from logship.catalog.owners import Owner, may_not_make, owners
from logship.catalog.writers import OwnerNotReachable, ensure_wrappers
from logship.errors import LogshipError, PrimaryError, RefusedAsUnsafe
from logship.service.initial.plan import InitResult, SchemaChanges

_MEANS: Final = (
    "a table whose columns change on the primary then stops the replica until the same is done on the "
    "secondary"
)


def begin(
    primary: psycopg.Connection,
    secondary: psycopg.Connection,
    wanted: SchemaChanges | None,
    result: InitResult,
    say: Callable[[str], None],
) -> None:
    """Capture is on before the slot is made, so that no change falls between the copy and the log."""
    if wanted == "off":
        result.warnings.append(f"schema changes are not carried: {_MEANS}")
        return
    try:
        if ddl.start_capture(primary):
            say("schema changes are captured: event triggers on the primary")
        hand_over(primary, secondary)
    except (ddl.CaptureNotAllowed, KeyNotReadable, RefusedAsUnsafe) as error:
        if wanted == "on":
            raise
        result.warnings.append(_warning(error))
        return
    result.schema_changes = True


def say_keyless(primary: psycopg.Connection, replica: str, keyless: str, result: InitResult) -> None:
    """New tables without key get what init said of those that are there. The first replica's word holds: the
    setting is the primary's."""
    try:
        primary.execute(
            "update logship.ddl_setting set keyless = %s "
            "where not exists (select from logship.replica r where r.name <> %s)",
            [keyless, replica],
        )
        row = primary.execute("select s.keyless from logship.ddl_setting s").fetchone()
    except psycopg.errors.InsufficientPrivilege:
        return  # who turned capture on has set it
    if row is not None and "refuse" in (row[0], keyless) and row[0] != keyless:
        result.warnings.append(
            f"new tables without key are treated as the first replica's init said: --keyless {row[0]}"
        )


def again(
    primary: psycopg.Connection,
    secondary: psycopg.Connection,
    wanted: SchemaChanges | None,
    result: InitResult,
    say: Callable[[str], None],
) -> None:
    """For a replica that is initialised: what was turned off by `logship ddl off` stays off, unless asked for."""
    if wanted == "on" or ddl.capturing(primary):
        begin(primary, secondary, wanted, result, say)


class KeyNotReadable(PrimaryError):
    def __init__(self, user: str) -> None:
        super().__init__(
            f'user "{user}" may not read the key of schema changes on the primary, so the secondary can\'t have it',
            hint="whoever turned capture on may hand it over: logship ddl on, with --primary as that user",
        )


def hand_over(primary: psycopg.Connection, secondary: psycopg.Connection) -> int:
    """How many keys the secondary lacked. `KeyNotReadable`, `RefusedAsUnsafe`."""
    try:
        keys = ddl.keys(primary)
    except psycopg.errors.InsufficientPrivilege as error:
        raise KeyNotReadable(primary.info.user) from error
    return ddl.give(secondary, keys)


def make_functions(
    primary: psycopg.Connection, secondary: psycopg.Connection, result: InitResult, say: Callable[[str], None]
) -> None:
    """For every owner that this user can act for; of the others, those that own something are named."""
    made: list[str] = []
    lacking: list[Owner] = []
    for owner in owners(secondary, primary, result.roles_mapped):
        try:
            made += ensure_wrappers(secondary, [owner.oid], replayer=result.replayer_role)
        except OwnerNotReachable:
            lacking.append(owner)
    if made:
        say(f"functions for what {', '.join(sorted(made))} may do")
    named = sorted(owner.name for owner in lacking if owner.owns)
    if named:
        result.warnings.append(
            f"schema changes of what {', '.join(named)} own{'s' if len(named) == 1 else ''} will stop the replica: "
            f'user "{secondary.info.user}" may not make functions for them; run init once more as a superuser of the '
            "secondary, or as a member of these roles"
        )


def give_rights(primary: psycopg.Connection, secondary: psycopg.Connection, result: InitResult) -> None:
    """Roles may make on the secondary what they may make on the primary, or their CREATE would fail there."""
    lacking = []
    for statement in may_not_make(primary, secondary, result.roles_mapped):
        try:
            with secondary.transaction():
                secondary.execute(statement.encode())
        except psycopg.errors.InsufficientPrivilege:
            lacking.append(statement)
    # GRANT of what one may not grant is a warning of PostgreSQL's, and no error.
    left = may_not_make(primary, secondary, result.roles_mapped)
    lacking += [statement for statement in left if statement not in lacking]
    if lacking:
        result.warnings.append(
            "some roles may make things on the primary and not on the secondary, where their schema changes would "
            f"stop the replica; as a superuser of the secondary: {'; '.join(lacking)};"
        )


def _warning(error: LogshipError) -> str:
    return f"schema changes are not carried: {error}. {_MEANS[0].upper()}{_MEANS[1:]}. {error.hint or ''}".rstrip()
