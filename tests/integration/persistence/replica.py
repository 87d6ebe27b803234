"""A secondary that `init` could have made, and batches as replay makes them, without a primary.

Relations are described as the secondary's tables are; a test that needs a difference gives its own.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg

from logship import pgoutput
from logship.catalog.migrate import upgrade
from logship.catalog.roles import ensure_replayer
from logship.catalog.writers import ensure_wrappers
from logship.change import Cell, Column, Delete, Event, Insert, Relation, Row, Truncate, TypeName, Update
from logship.connection import Side, connect
from logship.kernel import frame
from logship.lsn import Lsn
from logship.replay.batch import Batch
from logship.replay.coalesce import Coalescer
from logship.replay.persistence import Persistence
from logship.replay.shape import SecondaryTarget
from logship.replay.targets import Targets
from tests.servers import Database

NAME = "r"
_numbers = itertools.count(1)


@dataclass
class Replica:
    """``user`` replays; ``owner`` owns the tables that `create` makes."""

    database: Database
    user: str
    owner: str
    replayer: str
    stop: threading.Event = field(default_factory=threading.Event)
    retries: list[str | None] = field(default_factory=list)
    _open: list[Persistence] = field(default_factory=list)

    def create(self, ddl: str) -> None:
        """Run DDL as the owner."""
        with psycopg.connect(self.database.conninfo, autocommit=True) as connection:
            connection.execute(f'set session authorization "{self.owner}"'.encode())
            connection.execute(ddl.encode())

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        with self.reader() as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def reader(self) -> psycopg.Connection:
        return connect(self.database.conninfo, Side.SECONDARY, settings={"search_path": "public"})

    def persistence(self, conninfo: str | None = None, **options: Any) -> Persistence:
        made = Persistence(
            conninfo or self.database.conninfo_as(self.user), NAME, stop=self.stop,
            on_retry=lambda sqlstate, tries, _: self.retries.append(sqlstate), **options,
        )  # fmt: skip
        self._open.append(made)
        return made

    def opened(self, conninfo: str | None = None, **options: Any) -> Persistence:
        made = self.persistence(conninfo, **options)
        made.open()
        return made

    def close(self) -> None:
        for persistence in self._open:
            persistence.close()

    def relation(self, name: str, identity: str | None = None) -> tuple[Relation, dict[int, TypeName]]:
        """The relation as a primary with the same table would describe it."""
        literal = name.replace("'", "''")
        rows = self.execute(f"""
            with c as (select oid, relreplident from pg_class where oid = '{literal}'::regclass)
            select c.oid::int8, c.relreplident::text, a.attname, a.atttypid::int8, a.atttypmod,
                   coalesce(a.attnum = any (i.indkey), false), bn.nspname, b.typname, b.oid::int8
              from c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
              join pg_type t on t.oid = a.atttypid
              join pg_type b on b.oid = case when t.typtype = 'd' then t.typbasetype else t.oid end
              join pg_namespace bn on bn.oid = b.typnamespace
              left join pg_index i on i.indrelid = c.oid
               and case c.relreplident when 'i' then i.indisreplident when 'd' then i.indisprimary end
             where a.attgenerated = '' order by a.attnum""")
        identity = identity or rows[0][1]
        columns = tuple(Column(r[2], r[3], r[4], identity == "f" or r[5]) for r in rows)
        types = {r[3]: TypeName(r[3], r[6], r[7]) for r in rows if r[8] >= 10000}
        schema, _, plain = name.rpartition(".")
        return Relation(rows[0][0], schema or "public", plain.strip('"'), identity, columns), types

    def target(self, name: str, identity: str | None = None) -> SecondaryTarget:
        relation, types = self.relation(name, identity)
        return self.resolve(relation, types)

    def resolve(self, relation: Relation, types: dict[int, TypeName]) -> SecondaryTarget:
        with connect(self.database.conninfo_as(self.user), Side.SECONDARY) as connection:
            return Targets(connection).resolve(relation, types)

    def stored_position(self) -> Lsn:
        return Lsn.parse(self.execute("select replay_lsn::text from logship.position")[0][0])

    def rows(self, table: str, order: str = "1") -> list[Row]:
        """The table's rows as text, as the log would carry them."""
        with self.reader() as connection:
            connection.execute(b"set search_path = ''")
            schema, _, plain = table.rpartition(".")
            cursor = connection.execute(
                f"select * from {schema or 'public'}.{plain} order by {order}".encode()
            )
            result = cursor.pgresult
            assert result is not None
            return [
                [result.get_value(row, column) for column in range(result.nfields)]
                for row in range(result.ntuples)
            ]


def make_replica(database: Database, *, superuser: bool) -> Replica:
    number = next(_numbers)
    owner, user = f"owner_{number}", f"replay_{number}"
    upgrade(database.conninfo, Side.SECONDARY)
    database.execute(f"create role {owner} login")
    database.execute(f"create role {user} login {'superuser' if superuser else ''}")
    database.execute(f"grant create on database {database.name} to {owner}")
    database.execute(f"grant create, usage on schema public to {owner}")
    database.execute(f"grant usage on schema public to {user}")
    database.execute(
        "insert into logship.replica values (%s, 1, 1, 'p', 's', 'pub', %s, 'full', null, now(), now())",
        [NAME, f"origin_{database.name}"],
    )
    database.execute("insert into logship.position (replica, replay_lsn) values (%s, '0/100')", [NAME])
    database.execute("select pg_replication_origin_create(%s)", [f"origin_{database.name}"])
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        replayer, _ = ensure_replayer(connection)
        owners = connection.execute(
            "select oid::int8 from pg_roles where rolname in (%s, 'postgres')", [owner]
        )
        ensure_wrappers(connection, [oid for (oid,) in owners.fetchall()], replayer=replayer)
        connection.execute(f"grant {replayer} to {user}".encode())
    return Replica(database, user, owner, replayer)


class Log:
    """Changes in the order of the log, for one batch at a time."""

    def __init__(self, start: int = 0x100) -> None:
        self._end = start
        self._begin()

    def _begin(self) -> None:
        self._coalescer = Coalescer()
        self._events: list[Event] = []
        self._targets: dict[int, SecondaryTarget] = {}

    def insert(self, target: SecondaryTarget, new: Sequence[Cell]) -> None:
        self._note(target, Insert(target.relation.oid, list(new)))
        self._change(target, lambda table: table.insert(list(new)))

    def update(self, target: SecondaryTarget, new: Sequence[Cell], old: Sequence[Cell] | None = None) -> None:
        """``old`` is the whole old row; the log carries of it what the replica identity says."""
        whole = target.relation.replica_identity == "f"
        carried = None if old is None else list(old) if whole else _key_only(target, old)
        self._note(target, Update(target.relation.oid, carried, not whole, list(new)))
        self._change(target, lambda table: table.update(carried, not whole, list(new)))

    def delete(self, target: SecondaryTarget, old: Sequence[Cell]) -> None:
        whole = target.relation.replica_identity == "f"
        carried = list(old) if whole else _key_only(target, old)
        self._note(target, Delete(target.relation.oid, carried, not whole))
        self._change(target, lambda table: table.delete(carried))

    def truncate(self, targets: Sequence[SecondaryTarget], *, restart: bool = False) -> None:
        for target in targets:
            self._targets[target.relation.oid] = target
        self._events.append(Truncate(tuple(t.relation.oid for t in targets), False, restart))
        self._coalescer.truncate(targets, restart)

    def batch(self, *, complete: bool = True, transactions: int = 1) -> Batch:
        steps = self._coalescer.take()
        if complete:
            self._end += 0x100
        messages = [pgoutput.encode(event) for event in self._events]
        batch = Batch(
            Lsn(self._end), 1_000_000 if complete else 0, complete, steps, transactions if complete else 0,
            len(messages), self._coalescer.net, sum(map(len, messages)), (frame(messages),),
            dict(self._targets), frozenset(),
        )  # fmt: skip
        self._begin()
        return batch

    def _note(self, target: SecondaryTarget, event: Event) -> None:
        self._targets[target.relation.oid] = target
        self._events.append(event)

    def _change(self, target: SecondaryTarget, change: Callable[[Any], bool]) -> None:
        if not change(self._coalescer.table(target)):
            self._coalescer.close_step()
            assert change(self._coalescer.table(target))


def _key_only(target: SecondaryTarget, row: Sequence[Cell]) -> Row:
    return [
        cell if column.is_key else None for cell, column in zip(row, target.relation.columns, strict=True)
    ]


def cells(*values: str | None) -> Row:
    return [None if value is None else value.encode() for value in values]


def text_rows(rows: Iterable[Sequence[Cell]]) -> list[list[str | None]]:
    return [[None if cell is None else bytes(cell).decode() for cell in row] for row in rows]  # type: ignore[arg-type]
