"""Reads one object from the secondary: its rows and its position, of the same snapshot.

In: a `Target`. Out: `Snapshot`: the LSN whose transactions the rows hold and no later ones, and the
rows as Arrow tables of texts in bounded chunks. One REPEATABLE READ READ ONLY transaction on a connection
of its own, made when first needed and again after it broke; the table is locked, as SELECT does, before the
snapshot is taken, or the object can't be read now. Assumes `logship.position` on the secondary, written in the
same transaction as the rows. Never writes.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

import psycopg
import pyarrow as pa
import pyarrow.csv
from psycopg import sql

from logship.change import Relation, TypeName
from logship.connection import Side, connect, cut
from logship.errors import SecondaryError
from logship.lsn import Lsn
from logship.replay.target import Target
from logship.replay.targets import Targets

Table: TypeAlias = Any  # pyarrow.Table; pyarrow has no types

_CHUNK_BYTES: Final = 1 << 20  # small: between two of them memory's writer replays batches
# Persistence may hold a table inside a large transaction whose end can't come before memory goes on.
_SETTINGS: Final = {"lock_timeout": "1s"}


@dataclass(frozen=True, slots=True)
class Size:
    """What the secondary's statistics say; ``rows`` is None when it was never analyzed."""

    size_bytes: int
    rows: int | None


class Snapshot(Protocol):
    lsn: Lsn
    size: Size

    def tables(self, columns: Sequence[int]) -> Iterator[Table]:
        """The rows, once: Arrow tables of texts, columns named ``c`` and the index in the relation."""
        ...


class SnapshotSource(Protocol):
    """Where memory loads from. `Loader` is the one for a secondary."""

    def snapshot(self, target: Target) -> Any:
        """A context manager that gives a `Snapshot`."""
        ...

    def describe(self, relation: Relation, types: Mapping[int, TypeName]) -> Target:
        """What the relation is here, as it is committed; raises what the look-up raises."""
        ...

    def interrupt(self) -> None:
        """End what another thread is reading: it gets an error. From any thread."""
        ...

    def close(self) -> None: ...


class Loader:
    """Snapshots of a secondary, for one replica. Used by one thread at a time."""

    def __init__(self, conninfo: str, replica: str, *, chunk_bytes: int = _CHUNK_BYTES) -> None:
        self._conninfo = conninfo
        self._replica = replica
        self._chunk_bytes = chunk_bytes
        self._connection: psycopg.Connection | None = None

    @contextmanager
    def snapshot(self, target: Target) -> Iterator[Snapshot]:
        """The object as of one moment; `SecondaryError` or `psycopg.Error` when it can't be read."""
        connection = self._connected()
        try:
            connection.execute("begin transaction isolation level repeatable read, read only")
            # Before the snapshot, which the first query takes: TRUNCATE and a rewriting ALTER TABLE of the replay
            # look to an older one as if the table had always been empty.
            connection.execute(
                sql.SQL("lock table {}{} in access share mode").format(
                    sql.SQL("" if target.kind == "p" else "only "),
                    sql.Identifier(target.schema, target.name),
                )
            )
            yield _Snapshot(connection, target, self._position(connection), self._chunk_bytes)
            connection.execute("commit")
        except BaseException:
            # A COPY may stand half read: the connection is of no use any more.
            self.close()
            raise

    def describe(self, relation: Relation, types: Mapping[int, TypeName]) -> Target:
        return Targets(self._connected()).resolve(relation, types)

    def interrupt(self) -> None:
        connection = self._connection
        if connection is not None and not connection.closed:
            cut(connection)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> psycopg.Connection:
        if self._connection is None or self._connection.closed:
            self._connection = connect(
                self._conninfo, Side.SECONDARY, application_name="logship load", settings=_SETTINGS
            )
        return self._connection

    def _position(self, connection: psycopg.Connection) -> Lsn:
        row = connection.execute(
            "select replay_lsn::text from logship.position where replica = %s", [self._replica]
        ).fetchone()
        if row is None:
            raise SecondaryError(
                f"the secondary has no position of replica {self._replica}",
                hint="run `logship init` against this secondary, or name the replica with --name",
            )
        return Lsn.parse(row[0])


class _Snapshot:
    def __init__(self, connection: psycopg.Connection, target: Target, lsn: Lsn, chunk_bytes: int) -> None:
        self._connection = connection
        self._target = target
        self._chunk_bytes = chunk_bytes
        self.lsn = lsn
        self.size = _size(connection, target)

    def tables(self, columns: Sequence[int]) -> Iterator[Table]:
        target = self._target
        # Only this table's rows: what inherits from it is another object. A partitioned table is its parts.
        statement = sql.SQL("copy (select {} from {}{}) to stdout (format csv)").format(
            sql.SQL(", ").join(sql.Identifier(target.columns[index].name) for index in columns),
            sql.SQL("" if target.kind == "p" else "only "),
            sql.Identifier(target.schema, target.name),
        )
        names = [f"c{index}" for index in columns]
        chunk = bytearray()
        with self._connection.cursor().copy(statement) as copy:
            while line := copy.read():  # a row at a time, however long it is
                chunk += line
                if len(chunk) >= self._chunk_bytes:
                    yield texts_of_csv(bytes(chunk), names)
                    chunk.clear()
        if chunk:
            yield texts_of_csv(bytes(chunk), names)


def texts_of_csv(rows: bytes, names: Sequence[str]) -> Table:
    """Whole rows in PostgreSQL's CSV (NULL is nothing, the empty text is ``""``) as columns of text.

    Source: PostgreSQL documentation, COPY, "CSV Format".
    """
    return pyarrow.csv.read_csv(
        io.BytesIO(rows),
        read_options=pyarrow.csv.ReadOptions(
            column_names=list(names), use_threads=False, block_size=len(rows) + 1
        ),
        # A row of one NULL is an empty line.
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )


def _size(connection: psycopg.Connection, target: Target) -> Size:
    row = connection.execute(
        "select coalesce(sum(pg_catalog.pg_table_size(c.oid)), 0)::bigint,"
        " case when bool_and(c.reltuples >= 0) then sum(c.reltuples)::bigint end"
        " from pg_catalog.pg_class c where c.oid = %(oid)s and c.relkind = 'r' or c.oid in"
        " (select t.relid from pg_catalog.pg_partition_tree(%(oid)s) t where t.isleaf and %(kind)s = 'p')",
        {"oid": target.oid, "kind": target.kind},
    ).fetchone()
    assert row is not None  # an aggregate always gives a row
    return Size(row[0], row[1])
