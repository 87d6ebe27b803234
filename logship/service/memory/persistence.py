"""A query answered by the secondary itself, as the role that asks, in one snapshot with its position.

In: an autocommit connection of whoever asks, one SELECT. Out: a typed Arrow table, as memory's own would be, and
the LSN that it is true at. The server's own rules decide what the role may read. Results are bounded; values are
never part of an error.

TRUNCATE, and ALTER TABLE where it rewrites a table, aren't part of snapshots: to an older one the table was always
empty. So the query's tables are locked before its snapshot is taken, by planning it once in a READ COMMITTED
transaction; the position is read before and behind that snapshot, and where it moved meanwhile, another is taken.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import psycopg
import pyarrow as pa
from psycopg import pq

from logship.errors import LogshipError, SecondaryError, UsageError
from logship.lsn import Lsn
from logship.replay.query.result import typed
from logship.replay.query.select import statement

Table: TypeAlias = Any  # pyarrow.Table; pyarrow has no types

_FETCH_ROWS: Final = 5_000
_POSITION: Final = "select s.replay_lsn::pg_catalog.text from logship.stat_replay s where s.replica = %s"
# The replay, or anybody else, came in between: the same query may succeed now.
_AGAIN: Final = (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected)
_FINISHED: Final = (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK)


class TooLarge(UsageError):
    def __init__(self, limit_bytes: int) -> None:
        super().__init__(
            f"the result is larger than {limit_bytes} bytes",
            hint="add a LIMIT, aggregate, or allow more (--limit, limit_bytes)",
        )
        self.limit_bytes = limit_bytes


class NotInTime(LogshipError):
    """The answer is no: there was none within the time that was given."""

    exit_code = 1


class QueryFailed(SecondaryError):
    """The secondary has refused the query, or failed to compute it."""


class NoSuchQuery(UsageError):
    """The secondary doesn't take the query: wrong SQL, or a name that stands for nothing."""


@dataclass(frozen=True, slots=True)
class Described:
    """What PostgreSQL says that the query gives. ``types``: OID and modifier; ``type_names``: in words."""

    names: tuple[str, ...]
    types: tuple[tuple[int, int], ...]
    type_names: tuple[str, ...]


def describe(link: psycopg.Connection, query: str, until: float) -> Described:
    """`NoSuchQuery` and `QueryFailed` in PostgreSQL's own words, `NotInTime`. Nothing is executed, but its tables are
    locked for a moment, which may have to wait."""
    link.execute(f"begin read only; set local statement_timeout = {_left_ms(until)}".encode())
    try:
        return _described(link, query)
    finally:
        if not link.closed:
            link.execute("rollback")


def _described(link: psycopg.Connection, query: str) -> Described:
    for result in (link.pgconn.prepare(b"", query.encode()), link.pgconn.describe_prepared(b"")):
        if result.status not in _FINISHED:
            raise _of_result(result)
    if result.nparams:
        raise NoSuchQuery("the query has parameters ($1)", hint="write their values into the query")
    count = range(result.nfields)
    names = tuple((result.fname(nth) or b"").decode() for nth in count)
    types = tuple((result.ftype(nth), result.fmod(nth)) for nth in count)
    rows = link.execute(
        "select pg_catalog.format_type(t.oid::pg_catalog.oid, t.typmod::int) from "
        "rows from (pg_catalog.unnest(%s::bigint[]), pg_catalog.unnest(%s::bigint[])) with ordinality "
        "t (oid, typmod, nth) order by t.nth",
        [[oid for oid, _ in types], [typmod for _, typmod in types]],
    ).fetchall()
    return Described(names, types, tuple(row[0] for row in rows))


def _left_ms(until: float) -> int:
    return max(1, int((until - time.monotonic()) * 1000))


def position(link: psycopg.Connection, replica: str) -> Lsn:
    row = link.execute(_POSITION, [replica]).fetchone()
    if row is None or row[0] is None:
        raise SecondaryError(f'replica "{replica}" has no position', hint="run `logship init` first")
    return Lsn.parse(row[0])


def answer(
    link: psycopg.Connection,
    replica: str,
    query: str,
    described: Described,
    *,
    until: float,
    limit_bytes: int,
) -> tuple[Table, Lsn]:
    """The table's columns are c0, c1, … ``until``: by `time.monotonic`. `NotInTime`, `TooLarge`, `QueryFailed`."""
    while True:
        try:
            texts, lsn = _attempt(
                link, replica, query, len(described.names), until=until, limit_bytes=limit_bytes
            )
            break
        except _AGAIN as error:
            if time.monotonic() > until:
                raise failed(error) from error
        except psycopg.Error as error:
            raise failed(error) from error
    return typed(texts, described.types), lsn


def _attempt(
    link: psycopg.Connection, replica: str, query: str, width: int, *, until: float, limit_bytes: int
) -> tuple[Table, Lsn]:
    try:
        link.execute("begin isolation level read committed read only")
        link.execute(f"set local statement_timeout = {_left_ms(until)}".encode())
        link.execute(f"explain {statement(query)}".encode())
        lsn = _open(link, replica, query, until)
        return _fetch(link, width, limit_bytes, until), lsn
    finally:
        if link.info.transaction_status is not pq.TransactionStatus.IDLE and not link.closed:
            link.execute("rollback")


def _open(link: psycopg.Connection, replica: str, query: str, until: float) -> Lsn:
    """Opens the cursor, whose snapshot is the query's; the position that it is true at."""
    declare = f"declare logship_answer no scroll cursor for {statement(query)}".encode()
    while True:
        before = position(link, replica)
        link.execute(declare)
        if position(link, replica) == before:
            return before
        link.execute("close logship_answer")
        if time.monotonic() > until:
            raise late()


def _fetch(link: psycopg.Connection, width: int, limit_bytes: int, until: float) -> Table:
    batches = []
    names = [f"c{nth}" for nth in range(width)]
    size = 0
    while True:
        if time.monotonic() > until:
            raise late()
        result = link.execute(f"fetch {_FETCH_ROWS} from logship_answer".encode()).pgresult
        assert result is not None
        rows = range(result.ntuples)
        columns = [pa.array([_text(result, row, nth) for row in rows], pa.string()) for nth in range(width)]
        if not rows:
            break
        batches.append(pa.record_batch(columns, names=names))
        size += batches[-1].nbytes
        if size > limit_bytes:
            raise TooLarge(limit_bytes)
    return pa.Table.from_batches(batches, pa.schema([(name, pa.string()) for name in names]))


def _text(result: Any, row: int, column: int) -> str | None:
    value = result.get_value(row, column)
    return None if value is None else value.decode()


def _of_result(result: Any) -> LogshipError:
    def of(field: pq.DiagnosticField) -> str:
        return (result.error_field(field) or b"").decode(errors="replace")

    return _failure(of(pq.DiagnosticField.SQLSTATE), of(pq.DiagnosticField.MESSAGE_PRIMARY))


def failed(error: psycopg.Error) -> LogshipError:
    return _failure(error.sqlstate or "", error.diag.message_primary or "")


def _failure(sqlstate: str, message: str) -> LogshipError:
    """The server's words where they are about the query; they may quote a value everywhere else."""
    if sqlstate == "57014":
        return late()
    if sqlstate == "42501":
        return QueryFailed(
            f"the secondary refuses the query: {message}",
            hint="memory is read with the same rights as the secondary: grant select there, or ask as another role",
        )
    if sqlstate[:2] in ("42", "0A", "3F"):
        return NoSuchQuery(
            f"the secondary doesn't take the query: {message}",
            hint="a query is written in PostgreSQL's SQL, as for the secondary; a name needs its schema unless "
            "the role's search_path has it",
        )
    return QueryFailed(
        f"the secondary couldn't answer the query: {_condition(sqlstate)} (SQLSTATE {sqlstate or 'unknown'})",
        hint="ask the secondary the same query with psql to see its own words",
    )


def _condition(sqlstate: str) -> str:
    try:
        return psycopg.errors.lookup(sqlstate).__name__
    except KeyError:
        return "error"


def late() -> NotInTime:
    return NotInTime("the query wasn't answered in time", hint="allow more with --timeout (timeout_s)")
