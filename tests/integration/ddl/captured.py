"""A database whose schema changes are captured, and a reader of what they wrote into the log."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg
from psycopg import sql

from logship import pgoutput
from logship.catalog import ddl, migrate
from logship.change import Begin, Message
from logship.connection import Side
from logship.replay.ddl.message import Gatherer, Judged, Statement, Verdict, Verifier
from logship.service.demo.servers import Server

_numbers = itertools.count(1)


@dataclass
class Captured:
    """``run`` executes as a superuser and gives the statements that were captured since the last look."""

    connection: psycopg.Connection
    slot: str
    verifier: Verifier
    judged: list[Judged] = field(default_factory=list)

    def run(self, *statements: str) -> list[Statement]:
        for statement in statements:
            self.connection.execute(statement.encode())
        return self.read()

    def read(self) -> list[Statement]:
        """What is new in the log; every verdict is kept in ``judged``."""
        rows = self.connection.execute(
            "select data from pg_logical_slot_get_binary_changes(%s, null, null, 'proto_version', '1', "
            "'publication_names', 'nothing', 'messages', 'true')",
            [self.slot],
        ).fetchall()
        gatherer, found = Gatherer(), []
        self.judged = []
        for (data,) in rows:
            event = pgoutput.decode(bytes(data))
            if isinstance(event, Begin):
                gatherer.reset()
                self.verifier.begin(event.xid)
            elif isinstance(event, Message):
                judged = self.verifier.judge(event)
                self.judged.append(judged)
                if judged.captured is not None:
                    statement = gatherer.add(judged.captured)
                    found += [] if statement is None else [statement]
        return found

    def verdicts(self) -> list[Verdict]:
        self.read()
        return [each.verdict for each in self.judged]

    def user(self, name: str) -> psycopg.Connection:
        """A connection of an ordinary role of this name, which may create things in schema public."""
        row = self.connection.execute("select from pg_roles where rolname = %s", [name]).fetchone()
        if row is None:
            self.connection.execute(sql.SQL("create role {} login").format(sql.Identifier(name)))
        self.connection.execute(sql.SQL("grant create on schema public to {}").format(sql.Identifier(name)))
        self.read()
        return psycopg.connect(
            self.connection.info.dsn, user=name, host=self.connection.info.host, autocommit=True
        )


@contextmanager
def captured(server: Server) -> Iterator[Captured]:
    """A fresh database on ``server``, with capture on."""
    name = f"ddl_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(server.conninfo(), autocommit=True) as admin:
        admin.execute(f"create database {name} template template0")
    try:
        migrate.upgrade(server.conninfo(name), Side.PRIMARY)
        with psycopg.connect(server.conninfo(name), autocommit=True) as connection:
            connection.execute("create publication nothing")
            connection.execute("select pg_create_logical_replication_slot(%s, 'pgoutput')", [name])
            assert ddl.start_capture(connection)
            yield Captured(connection, name, Verifier(lambda: ddl.keys(connection), name))
            connection.execute("select pg_drop_replication_slot(%s)", [name])
    finally:
        with psycopg.connect(server.conninfo(), autocommit=True) as admin:
            admin.execute(f"drop database {name} with (force)")
