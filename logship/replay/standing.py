"""Where a replica stands, as the secondary has it: its origin, its position, tables that are newer.

In: a session of persistence's, without a transaction. Out: values, or what `init` has left undone as an error.
Writes nothing but that the newer tables were noticed.
"""

from __future__ import annotations

import json
from typing import Final

from logship.errors import RefusedAsUnsafe, SecondaryError
from logship.lsn import Lsn
from logship.replay.session import TEXT, Command, ServerError, Session

_REPLICA: Final = b"""
select origin || case when initialised_at is null then ' ' else '' end
  from logship.replica where name operator(pg_catalog.=) $1
"""
_POSITION: Final = b"select replay_lsn from logship.position where replica operator(pg_catalog.=) $1"
# One cell: the tables whose rows are newer than the position, and the LSN that they are true at.
_COPIED: Final = b"""
select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(c.schemaname, c.relname, c.lsn))
  from logship.notice_copies($1) c
"""
_ROLES: Final = b"""
select pg_catalog.jsonb_object_agg(m.primary_role, m.secondary_role)
  from logship.role_map m where m.replica operator(pg_catalog.=) $1
"""
_TO_SKIP: Final = b"""
select pg_catalog.jsonb_agg(s.lsn) from logship.skip s
 where s.replica operator(pg_catalog.=) $1 and s.skipped_at is null
"""
_NO_PLACE: Final = "53400"  # configuration_limit_exceeded: all places for origins are taken
_UNNOTICED: Final = b"""
select exists (select from logship.copied c where c.replica operator(pg_catalog.=) $1 and not c.noticed)
"""


def origin(session: Session, replica: str) -> bytes:
    """The name of its replication origin. `SecondaryError`; `RefusedAsUnsafe` when its copy isn't finished."""
    found = session.run([Command(_REPLICA, [replica.encode()], [TEXT])])[0]
    if found is None:
        raise _unknown(replica)
    if found.endswith(b" "):
        raise RefusedAsUnsafe(
            f'the copy of replica "{replica}" is not finished',
            hint="run `logship init` again: it goes on where it stopped",
        )
    return found


def position(session: Session, replica: str) -> Lsn:
    found = session.run([Command(_POSITION, [replica.encode()], [TEXT])])[0]
    if found is None:
        raise _unknown(replica)
    return Lsn.parse(found.decode())


def notice_copies(session: Session, replica: str) -> dict[tuple[str, str], Lsn]:
    """Tables (schema, name) whose rows are newer than the position, and the LSN they are true at."""
    found = session.run([Command(_COPIED, [replica.encode()], [TEXT])])[0]
    return {(schema, name): Lsn.parse(lsn) for schema, name, lsn in (json.loads(found) if found else ())}


def roles(session: Session, replica: str) -> dict[str, str]:
    """The primary's roles that have another name here, with that name."""
    found = session.run([Command(_ROLES, [replica.encode()], [TEXT])])[0]
    return dict(json.loads(found)) if found else {}


def to_skip(session: Session, replica: str) -> frozenset[Lsn]:
    """The transactions that an operator named to be passed over, and that weren't reached yet."""
    found = session.run([Command(_TO_SKIP, [replica.encode()], [TEXT])])[0]
    return frozenset(map(Lsn.parse, json.loads(found) if found else ()))


def has_unnoticed_copies(session: Session, replica: str) -> bool:
    return session.run([Command(_UNNOTICED, [replica.encode()], [TEXT])])[0] == b"t"


def refused(error: ServerError) -> SecondaryError:
    if error.sqlstate == _NO_PLACE:
        return SecondaryError(
            f"the secondary has no place for another replication origin: {error.reason} (SQLSTATE {error.sqlstate})",
            hint="raise max_active_replication_origins there (before version 18 max_replication_slots), or drop "
            "origins that nobody needs: select roname from pg_replication_origin",
        )
    return SecondaryError(
        f"the secondary refuses the session of the replayer: {error.reason} (SQLSTATE {error.sqlstate})",
        hint="has `logship init` been run, and is this user a member of the replayer's role?",
    )


def _unknown(replica: str) -> SecondaryError:
    return SecondaryError(
        f'the secondary knows no replica "{replica}"',
        hint="run `logship init` first, or give the name that it was given",
    )
