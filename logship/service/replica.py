"""Finds the replica that a program is to serve, as `logship init` left it on the secondary.

In: the secondary's conninfo, and a name when it keeps several. Out: `Found`. Assumes nothing: what
isn't there is said with the command that makes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import psycopg

from logship.catalog.selection import LeftOut, Selection
from logship.catalog.state import Replica, replicas
from logship.connection import Side, connect
from logship.errors import SecondaryError, UsageError
from logship.lsn import INVALID, Lsn
from logship.service.sides import require_side

_LEFT_OUT = "select l.schemaname, l.relname from logship.left_out l where l.replica = %s"
_SELECTED = "select r.tables, r.excluded from logship.replica r where r.name = %s"
_POSITION = "select p.replay_lsn::pg_catalog.text from logship.position p where p.replica = %s"
_SUPERUSER = "select r.rolsuper from pg_catalog.pg_roles r where r.rolname = current_user"


class NotInitialised(SecondaryError):
    def __init__(self, what: str) -> None:
        super().__init__(what, hint="run `logship init --primary … --secondary …` first")


@dataclass(slots=True)
class Unreplicated:
    """What isn't replicated: what init left out, and tables that were made without key since."""

    before: LeftOut
    since: set[tuple[str, str]] = field(default_factory=set)

    def __contains__(self, table: object) -> bool:
        return table in self.since or table in self.before


@dataclass(frozen=True, slots=True)
class Found:
    replica: Replica
    left_out: LeftOut  # (schema, relation) in it: not replicated
    position: Lsn  # up to where persistence has everything
    superuser: bool  # whether the secondary's user is one


def find(secondary: str, name: str | None) -> Found:
    """The replica called ``name``, or the only one. `NotInitialised`, `UsageError`."""
    with connect(secondary, Side.SECONDARY, application_name="logship") as connection:
        require_side(connection, Side.SECONDARY)
        try:
            replica = _choose(replicas(connection), name)
            left_out = connection.execute(_LEFT_OUT, [replica.name]).fetchall()
            position = connection.execute(_POSITION, [replica.name]).fetchone()
            selected = connection.execute(_SELECTED, [replica.name]).fetchone()
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName) as error:
            raise NotInitialised("the secondary has no schema logship") from error
        except psycopg.errors.InsufficientPrivilege as error:
            raise SecondaryError(
                f'user "{connection.info.user}" may not read logship\'s tables on the secondary',
                hint=f'grant logship\'s role there to this user: see "Rights" in docs/init.md ({error.sqlstate})',
            ) from error
        superuser = connection.execute(_SUPERUSER).fetchone()
        return Found(
            replica=replica,
            left_out=LeftOut(
                frozenset((schema, relation) for schema, relation in left_out),
                Selection(*map(tuple, selected)) if selected else Selection(),
            ),
            position=Lsn.parse(position[0]) if position is not None else INVALID,
            superuser=superuser is not None and superuser[0],
        )


def _choose(found: Sequence[Replica], name: str | None) -> Replica:
    if not found:
        raise NotInitialised("the secondary keeps no replica yet")
    names = ", ".join(replica.name for replica in found)
    if name is None and len(found) > 1:
        raise UsageError(f"the secondary keeps several replicas: {names}", hint="choose one with --name")
    for replica in found:
        if name is None or replica.name == name:
            if not replica.initialised:
                raise NotInitialised(f'the copy of replica "{replica.name}" was never finished')
            return replica
    raise UsageError(f'the secondary keeps no replica "{name}"', hint=f"it keeps: {names}")
