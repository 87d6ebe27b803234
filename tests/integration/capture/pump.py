"""A capture of its own for tests: stream, assembler and feedback in turn, everything kept in a list."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import psycopg

from logship import pgoutput
from logship.capture.copydata import Positions
from logship.capture.feedback import Sent, is_asked, is_due, wait_s
from logship.capture.records import Assembler, Piece, PieceKind
from logship.capture.slot import SlotStream
from logship.change import Event
from logship.kernel import split_run
from logship.lsn import INVALID, Lsn
from tests.servers import Database

_numbers = itertools.count(1)


def make_slot(database: Database, plugin: str = "pgoutput") -> str:
    """A fresh slot of ``database``; it is dropped with it."""
    name = f"{database.name}_{next(_numbers)}"
    database.execute("select pg_create_logical_replication_slot(%s, %s)", [name, plugin])
    return name


def publish(database: Database, name: str = "everything") -> str:
    """A slot, and a publication for all tables."""
    database.execute(f"create publication {name} for all tables")
    return make_slot(database)


def current_lsn(database: Database) -> Lsn:
    # A number: in an SQL_ASCII database, text comes as bytes. Whatever the database or the role has set doesn't hold.
    with psycopg.connect(database.conninfo, options="-c statement_timeout=0") as connection:
        row = connection.execute("select pg_current_wal_lsn() - '0/0'").fetchone()
    assert row is not None
    return Lsn(int(row[0]))


@dataclass
class Pump:
    """Acknowledges whatever it has assembled, as a service does whose journal is always on disk."""

    stream: SlotStream
    assembler: Assembler = field(default_factory=lambda: Assembler(INVALID))
    interval_s: float = 0.2
    pieces: list[Piece] = field(default_factory=list)
    sent: Sent = field(default_factory=Sent)

    def turn(self, timeout_s: float = 0.2) -> None:
        now_s = time.monotonic()
        received = self.stream.read(min(timeout_s, wait_s(self.sent, now_s, interval_s=self.interval_s)))
        self.pieces += self.assembler.feed(received.items)
        position = self.assembler.position
        positions = Positions(position, position, position)
        now_s = time.monotonic()
        if is_due(
            positions, self.sent, now_s,
            interval_s=self.interval_s, reply_requested=is_asked(received.keepalives),
        ):  # fmt: skip
            self.stream.send_status(positions)
            self.sent = Sent(positions, now_s)

    def until(self, predicate: Callable[[], object], deadline_s: float = 30.0) -> None:
        end = time.monotonic() + deadline_s
        while not predicate():
            assert time.monotonic() < end, f"not within {deadline_s:g} s; {len(self.pieces)} pieces so far"
            self.turn()

    def catch_up(self, database: Database) -> list[Event]:
        """Everything that is committed by now, decoded; what was returned before is not returned again."""
        target = current_lsn(database)
        self.until(lambda: self.assembler.position >= target)
        found = events(self.pieces)
        self.pieces.clear()
        return found

    def catch_up_into(self, pieces: list[Piece], database: Database) -> None:
        """The same, as pieces, added to ``pieces``."""
        target = current_lsn(database)
        self.until(lambda: self.assembler.position >= target)
        pieces += self.pieces
        self.pieces.clear()


def open_pump(database: Database, slot: str, *publications: str, assembler: Assembler | None = None) -> Pump:
    stream = SlotStream(database.conninfo)
    assembler = assembler or Assembler(INVALID)
    try:
        stream.start(slot, publications or ("everything",), assembler.position)
    except BaseException:
        stream.close()
        raise
    return Pump(stream, assembler)


def events(pieces: list[Piece]) -> list[Event]:
    return [
        pgoutput.decode(message)
        for piece in pieces
        if piece.kind is PieceKind.CHANGES
        for message in split_run(piece.run)
    ]
