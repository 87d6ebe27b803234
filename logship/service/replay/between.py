"""Whether the primary's log has changes for a replica between two positions, without replaying it.

In: the replica's own slot, which nobody may be streaming from. Out: yes or no. The slot is peeked
at and stays where it is; the servers decode, and only the answer travels.
"""

from __future__ import annotations

from contextlib import closing
from typing import Final

import psycopg

from logship.connection import Side, connect
from logship.errors import PrimaryError, SlotActive
from logship.lsn import Lsn
from logship.service.replica import Found
from logship.snapshot.failures import failure

# Decoding stops at the first commit behind so many messages: what lies there is enough of an answer.
_ENOUGH: Final = 10_000

# A Commit message: flags, its own LSN and its end LSN, 8 bytes each, from byte 3. Row messages name
# their relation in bytes 2 to 5. Source: "Logical Replication Message Formats".
_CHANGES: Final = """
with peeked as materialized (
  select p.xid, p.data, pg_catalog.get_byte(p.data, 0) as tag
    from pg_catalog.pg_logical_slot_peek_binary_changes(
      %(slot)s, %(upto)s::pg_catalog.pg_lsn, %(enough)s,
      'proto_version', '1', 'publication_names', %(publication)s) p
), ended as (
  select p.xid from peeked p
   where p.tag = pg_catalog.ascii('C')
     and pg_catalog.encode(pg_catalog.substring(p.data, 11, 8), 'hex') collate "C" > %(after)s
), changed as (
  select distinct p.tag, pg_catalog.substring(p.data, 2, 4) as relation
    from peeked p join ended e on e.xid = p.xid
   where p.tag in (pg_catalog.ascii('I'), pg_catalog.ascii('U'), pg_catalog.ascii('D'), pg_catalog.ascii('T'))
)
select c.tag = pg_catalog.ascii('T'), coalesce(n.nspname, ''), coalesce(r.relname, '')
  from changed c
  left join pg_catalog.pg_class r
         on c.tag <> pg_catalog.ascii('T')
        and r.oid = ('x' || pg_catalog.encode(c.relation, 'hex'))::bit(32)::pg_catalog.int8::pg_catalog.oid
  left join pg_catalog.pg_namespace n on n.oid = r.relnamespace
"""


def changes_between(primary: str, found: Found, after: Lsn, upto: Lsn) -> bool:
    """Whether a replicated table changed in a transaction that ends behind ``after`` and before ``upto``."""
    replica = found.replica
    publication = _identifier(replica.publication)
    with closing(connect(primary, Side.PRIMARY, application_name="logship verify")) as link:
        try:
            changed = link.execute(
                _CHANGES,
                {
                    "slot": replica.slot, "upto": str(upto), "enough": _ENOUGH, "publication": publication,
                    "after": f"{int(after):016x}",
                },
            ).fetchall()  # fmt: skip
        except psycopg.errors.ObjectInUse as error:
            raise SlotActive(replica.slot, None) from error
        except psycopg.Error as error:
            raise _unreadable(replica.slot, error) from error
    return any(
        truncated or (schema != "logship" and (schema, name) not in found.left_out)
        for truncated, schema, name in changed
    )


def _identifier(name: str) -> str:
    """The publication as the plugin's option wants it: a list of identifiers."""
    return '"' + name.replace('"', '""') + '"'


def _unreadable(slot: str, error: psycopg.Error) -> PrimaryError:
    found = failure(
        Side.PRIMARY, f'look into replication slot "{slot}"', error,
        hint="is the slot there? See `logship status --primary …`; its user needs the REPLICATION attribute",
    )  # fmt: skip
    assert isinstance(found, PrimaryError)
    return found
