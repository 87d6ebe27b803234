"""Whether rows may go by COPY FROM STDIN, with the session's own rights: where nothing that users wrote runs.

In: a target and the columns that are given. Out: the commands that settle it inside the transaction, and the COPY.
No I/O. COPY takes the secondary half of what INSERT from arrays does, but can't run inside an owner's writer: what
users wrote would run with the rights of whoever replays. So a table is asked for by what it may have; whatever is
not known to be harmless goes through the writer.

The answer holds until the transaction ends, though the table's owner may be at work meanwhile, because `lock` comes
before `question`, and the answer is used before anything but COPY is done in the transaction (a writer could run an
owner's code that changes a table which we have locked ourselves):

- LOCK … ROW EXCLUSIVE conflicts with ADD CHECK, ALTER COLUMN TYPE, SET DEFAULT, ADD GENERATED, CREATE RULE, ENABLE ROW
  LEVEL SECURITY, ATTACH PARTITION, RENAME, SET SCHEMA, DROP (all ACCESS EXCLUSIVE), with CREATE TRIGGER and ENABLE
  ALWAYS TRIGGER (SHARE ROW EXCLUSIVE) and CREATE INDEX (SHARE). What of them was committed before is seen, since
  the question's snapshot is younger than the lock; what was not committed would have made the lock wait.
- CREATE INDEX CONCURRENTLY doesn't conflict. It commits the index's row in pg_index, not ready, and then waits for
  all that hold such locks; only afterwards is the index ready and do others write to it. So either its row
  is seen, whatever its state, or it waits for the end of this transaction. REINDEX CONCURRENTLY does the same, with the
  expressions that were there.
- Types, operator classes, access methods are PostgreSQL's own, which only a superuser changes.
- The name must still mean the locked table when COPY looks it up. Nothing locks a schema against RENAME, and whose
  schema it is could put another one in its place; so the schema must belong to a superuser.

Source: PostgreSQL documentation, "Explicit Locking", "COPY", "Building Indexes Concurrently"; commands/copyfrom.c.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final

from logship.kernel import Rows, binary_text_array
from logship.replay.session import TEXT, TEXT_ARRAY, Command
from logship.replay.shape import SecondaryTarget
from logship.replay.statements import BulkInsert, qualified, quote

# Their input functions and comparisons compute, and look nothing up. Neither domains nor composite types are among
# them, nor "char", whose text depends on the server's version.
_TYPES: Final = (
    "bit, bool, box, bpchar, bytea, cidr, circle, date, datemultirange, daterange, float4, float8, inet, int2, int4, "
    "int4multirange, int4range, int8, int8multirange, int8range, interval, json, jsonb, line, lseg, macaddr, "
    "macaddr8, money, name, numeric, nummultirange, numrange, oid, path, pg_lsn, point, polygon, text, time, "
    "timestamp, timestamptz, timetz, tsmultirange, tsquery, tsrange, tstzmultirange, tstzrange, tsvector, uuid, "
    "varbit, varchar"
)
# Those of them that have a binary form in the kernel, which the secondary reads in three quarters of the time: bool,
# bytea, int8, int2, int4, text, json, float4, float8, bpchar, varchar, date, time, timestamp, timestamptz, numeric,
# uuid, jsonb.
KINDS: Final[dict[int, str]] = {
    16: "b", 17: "y", 20: "8", 21: "2", 23: "4", 25: "t", 114: "t", 700: "f", 701: "g", 1042: "t", 1043: "t",
    1082: "d", 1083: "m", 1114: "s", 1184: "z", 1700: "n", 2950: "u", 3802: "j",
}  # fmt: skip
_HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)  # no flags, no extension
_TRAILER: Final = b"\xff\xff"
_FIRST_OF_USERS: Final = 16384  # FirstNormalObjectId: what initdb made is below it

# True of a row c of pg_class: writing rows of some columns runs nothing of users'. Says nothing of the defaults of
# columns that aren't given.
RUNS_NOTHING_OF_USERS: Final = f"""(
  c.relkind = 'r' and not c.relispartition and c.relam < {_FIRST_OF_USERS} and not c.relrowsecurity
  and not exists (
    select from pg_catalog.pg_constraint k where k.conrelid = c.oid and k.contype not in ('p', 'u', 'f', 'n'))
  and not exists (select from pg_catalog.pg_trigger g where g.tgrelid = c.oid and g.tgenabled in ('A', 'R'))
  and not exists (select from pg_catalog.pg_rewrite w where w.ev_class = c.oid)
  and not exists (
    select from pg_catalog.pg_index i join pg_catalog.pg_class x on x.oid = i.indexrelid
     where i.indrelid = c.oid
       and (i.indexprs is not null or i.indpred is not null or i.indisexclusion or x.relam >= {_FIRST_OF_USERS}
            or exists (select from pg_catalog.unnest(i.indclass::pg_catalog.oid[]) o (oid)
                        where o.oid >= {_FIRST_OF_USERS})))
  and not exists (
    select from pg_catalog.pg_attribute a
      join pg_catalog.pg_type y on y.oid = a.atttypid
      join pg_catalog.pg_type e on e.oid = case y.typcategory when 'A' then y.typelem else y.oid end
     where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
       and (a.attgenerated <> '' or y.oid >= {_FIRST_OF_USERS} or e.oid >= {_FIRST_OF_USERS}
            or e.typnamespace <> 'pg_catalog'::pg_catalog.regnamespace
            or e.typname <> all (pg_catalog.string_to_array('{_TYPES}', ', '))))
  and exists (
    select from pg_catalog.pg_namespace s
      join pg_catalog.pg_database b on b.datname = pg_catalog.current_database()
      join pg_catalog.pg_roles r on r.rolsuper
       and r.oid = case s.nspowner when 'pg_database_owner'::pg_catalog.regrole then b.datdba else s.nspowner end
     where s.oid = c.relnamespace))"""

MAY_INSERT: Final = "pg_catalog.has_table_privilege(c.oid, 'INSERT')"

_QUESTION: Final = f"""
select 'yes' from pg_catalog.pg_class c join pg_catalog.pg_namespace m on m.oid = c.relnamespace
 where m.nspname = $1 and c.relname = $2 and c.oid = $3::pg_catalog.oid and {MAY_INSERT} and {RUNS_NOTHING_OF_USERS}
   and not exists (
     select from pg_catalog.pg_attribute a
      where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and (a.atthasdef or a.attidentity <> '')
        and a.attname <> all ($4::pg_catalog.text[]))
""".encode()


def lock(target: SecondaryTarget) -> Command:
    """Needs no more than the privilege to insert."""
    return Command(f"lock table only {qualified(target)} in row exclusive mode".encode())


def question(target: SecondaryTarget, columns: Sequence[int]) -> Command:
    """One cell when COPY of ``columns`` may be used at once, none when not."""
    given = binary_text_array([target.columns[i].name.encode() for i in columns])
    parameters = [target.schema.encode(), target.name.encode(), b"%d" % target.oid, given]
    return Command(_QUESTION, parameters, [TEXT, TEXT, TEXT, TEXT_ARRAY])


def copy_in(bulk: BulkInsert, form: str) -> bytes:
    """``form``: text or binary."""
    names = ", ".join(quote(bulk.target.columns[i].name) for i in bulk.columns)
    return f"copy {qualified(bulk.target)} ({names}) from stdin with (format {form})".encode()


def kinds(bulk: BulkInsert) -> str:
    """The letters of the columns' binary forms; empty unless each of them has one."""
    letters = [KINDS.get(bulk.target.columns[i].type_oid, "") for i in bulk.columns]
    return "".join(letters) if all(letters) else ""


def tuples(pieces: deque[Rows], columns: Sequence[int], letters: str) -> Iterator[bytes]:
    """COPY's binary form of the rows, as far as each text has one; from the first piece on in which one has none,
    ``pieces`` stay."""
    yield _HEADER
    while pieces:
        try:
            made = pieces[0].copy_binary(columns, letters)
        except ValueError:
            break
        pieces.popleft()
        yield made
    yield _TRAILER


def lines(pieces: deque[Rows], columns: Sequence[int]) -> Iterator[bytes]:
    """COPY's text form of the rows."""
    while pieces:
        yield pieces.popleft().copy_text(columns)
