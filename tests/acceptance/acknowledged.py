"""A client that remembers which of its commits were acknowledged, and holds each promise to that."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from pathlib import Path

import psycopg

from logship import pgoutput
from logship.change import Insert, Relation
from logship.journal.log import Journal
from logship.journal.segment import RecordKind, Source
from logship.kernel import split_run
from logship.lsn import Lsn
from tests.servers import Database, eventually

TABLE = "acknowledged"
CREATE = f"create table {TABLE} (id int primary key, mode text not null)"


class Client:
    """Commits one row after the other under ``mode``, a value of synchronous_commit, in a thread of its own.
    ``check`` gets each id as soon as its commit is acknowledged; what it raises is raised by `end`."""

    def __init__(
        self, primary: Database, mode: str, first: int, check: Callable[[int], None] = lambda _: None
    ) -> None:
        self.acknowledged: list[int] = []
        self._primary = primary
        self._mode = mode
        self._numbers = itertools.count(first, 2)
        self._check = check
        self._stopping = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"client {mode}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            with self._primary.connect() as connection:
                connection.execute(f"set synchronous_commit = {self._mode}".encode())
                while not self._stopping.is_set():
                    number = next(self._numbers)
                    connection.execute(f"insert into {TABLE} values (%s, %s)".encode(), [number, self._mode])
                    self.acknowledged.append(number)
                    self._check(number)
        except BaseException as error:  # noqa: BLE001 - kept, and raised by `end`
            self._error = error

    def goes_on(self, deadline_s: float = 60.0) -> None:
        """Until some more commits have been acknowledged."""
        target = len(self.acknowledged) + 3

        def further() -> bool:
            if self._error is not None:
                raise self._error
            return len(self.acknowledged) >= target

        eventually(further, deadline_s, what=f"commits under {self._mode} are acknowledged")

    def end(self) -> list[int]:
        self._stopping.set()
        self._thread.join(60)
        if self._error is not None:
            raise self._error
        assert not self._thread.is_alive(), f"a commit under {self._mode} still waits"
        return self.acknowledged


class Reader:
    """Of the secondary, which may be killed at any time: asks again when it is back, and only then."""

    def __init__(self, secondary: Database) -> None:
        self._secondary = secondary
        self._connection: psycopg.Connection | None = None

    def require(self, number: int) -> None:
        """The row can be read now: at the first answer there is."""
        assert eventually(lambda: self._answer(number), 60, what="the secondary answers") == [(number,)], (
            f"commit {number} was acknowledged, and the secondary doesn't show it"
        )

    def _answer(self, number: int) -> list[tuple[int]] | None:
        try:
            if self._connection is None or self._connection.closed:
                self._connection = psycopg.connect(self._secondary.conninfo, autocommit=True)
            query = f"select id from {TABLE} where id = %s".encode()
            return self._connection.execute(query, [number]).fetchall() or [(-1,)]
        except psycopg.OperationalError:
            self._connection = None
            return None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


def in_journal(directory: Path, source: Source, after: Lsn) -> set[int]:
    """The ids of whole transactions in a journal that nobody has open, behind ``after``."""
    found: set[int] = set()
    pending: set[int] = set()
    oids: set[int] = set()
    with Journal.open(directory, source) as journal, journal.reader(after) as reader:
        while records := reader.read(1 << 20, timeout_s=0):
            for record in records:
                if record.kind is RecordKind.ABANDON:
                    pending.clear()
                for message in split_run(record.run):
                    event = pgoutput.decode(message)
                    if isinstance(event, Relation) and event.name == TABLE:
                        oids.add(event.oid)
                    elif isinstance(event, Insert) and event.relation_oid in oids:
                        assert isinstance(event.new[0], bytes)
                        pending.add(int(event.new[0]))
                if record.last:
                    found |= pending
                    pending.clear()
    return found
