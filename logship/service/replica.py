"""A replica, as `logship init` left it on the secondary.

In: the secondary's conninfo, and a name when it keeps several. Out: `Replica`. Assumes nothing: what
isn't there is said with the command that makes it.
"""

from __future__ import annotations

from dataclasses import dataclass

import psycopg

from logship.connection import Side, connect
from logship.errors import SecondaryError, UsageError

_REPLICAS = """
select r.name, r.system_identifier::text, r.database, r.slot, r.publication, r.origin,
       r.initialised_at is not null
  from logship.replica r
 order by r.name
"""
_LEFT_OUT = "select l.schemaname, l.relname from logship.left_out l where l.replica = %s"


class NotInitialised(SecondaryError):
    def __init__(self, what: str) -> None:
        super().__init__(what, hint="run `logship init --primary … --secondary …` first")


@dataclass(frozen=True, slots=True)
class Replica:
    name: str
    system_identifier: int
    database: str
    slot: str
    publication: str
    origin: str
    left_out: frozenset[tuple[str, str]]  # (schema, relation)
    superuser: bool  # whether the session that read this is one


def find(secondary: str, name: str | None) -> Replica:
    """The replica called ``name``, or the only one. `NotInitialised`, `UsageError`."""
    with connect(secondary, Side.SECONDARY, application_name="logship") as connection:
        try:
            rows = connection.execute(_REPLICAS).fetchall()
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName) as error:
            raise NotInitialised("the secondary has no schema logship") from error
        except psycopg.errors.InsufficientPrivilege as error:
            raise SecondaryError(
                f"{connection.info.user} may not read logship's tables on the secondary",
                hint="as a superuser there: grant logship_replayer_<database> to " + connection.info.user,
            ) from error
        row = _choose(rows, name)
        left_out = connection.execute(_LEFT_OUT, [row[0]]).fetchall()
        superuser = connection.execute("select rolsuper from pg_catalog.pg_roles where rolname = current_user")
        return Replica(
            name=row[0],
            system_identifier=int(row[1]),
            database=row[2],
            slot=row[3],
            publication=row[4],
            origin=row[5],
            left_out=frozenset((schema, relation) for schema, relation in left_out),
            superuser=bool((superuser.fetchone() or (False,))[0]),
        )


def _choose(rows: list[tuple[str, str, str, str, str, str, bool]], name: str | None) -> tuple[str, ...]:
    if not rows:
        raise NotInitialised("the secondary keeps no replica yet")
    names = ", ".join(row[0] for row in rows)
    if name is None and len(rows) > 1:
        raise UsageError(f"the secondary keeps several replicas: {names}", hint="choose one with --name")
    for row in rows:
        if name is None or row[0] == name:
            if not row[6]:
                raise NotInitialised(f'the copy of replica "{row[0]}" was never finished')
            return row[:6]
    raise UsageError(f'the secondary keeps no replica "{name}"', hint=f"it keeps: {names}")
