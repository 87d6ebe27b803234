"""Asks the running replayer's memory, through the secondary and with the rights of the role that connects there.

In: the secondary's conninfo, queries in PostgreSQL's SQL. Out: `Answer`s: an Arrow table, the LSN that it is true
at, and whether memory or the secondary gave it. The question is a row that the replayer reads
(`logship.catalog.memory_request`); no other connection is made. What memory doesn't answer, the secondary does, as
the same role and in one snapshot, unless that was refused. One query at a time for each `Asking`.
"""

from __future__ import annotations

import io
import secrets
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import psycopg
import pyarrow as pa

from logship.catalog import memory_request, news
from logship.config import Cold
from logship.connection import Side, connect
from logship.errors import LogshipError, SecondaryError, UsageError
from logship.lsn import Lsn
from logship.replay.query.kinds import Elsewhere
from logship.replay.query.result import as_described, named
from logship.replay.query.select import parsed
from logship.service.memory import persistence
from logship.service.memory.persistence import Described, NotInTime, TooLarge, failed
from logship.service.memory.words import LONGEST_S, MOST_BYTES, Came, Head, Question
from logship.service.replica import NotInitialised

Table: TypeAlias = Any  # pyarrow.Table; pyarrow has no types

USUAL_S: Final = 30.0
USUAL_BYTES: Final = 64 << 20
_BEGINS_S: Final = 5.0  # the replayer has to have begun by then
_LOOK_S: Final = 1.0
_GRACE_S: Final = 2.0  # for the replayer to say itself that the time is over
_POLL_S: Final = 0.02
_REPLICAS: Final = "select s.replica from logship.stat_replay s order by 1"
# RLS applies to whoever asks; names are found as in any session of that role.
_SETTINGS: Final = {"row_security": "on", "search_path": None}


class NotInMemory(LogshipError):
    """Memory can't answer the query, and the secondary wasn't to. The answer is no."""

    exit_code = 1


class NoReplayer(LogshipError):
    """Nobody answers questions to memory. The answer is no."""

    exit_code = 1

    def __init__(self, replica: str) -> None:
        super().__init__(
            f'no replayer of replica "{replica}" is running: there is no memory to ask',
            hint="start `logship run` or `logship replay`, which memory lives in; the secondary itself answers psql",
        )
        self.replica = replica


class Behind(NotInTime):
    """The store hasn't come to the LSN in time. ``reached``: how far it is."""

    def __init__(self, store: str, reached: Lsn, at_least: Lsn) -> None:
        super().__init__(
            f"{store} is at {reached}, and has not come to {at_least} in time",
            hint="allow more time, ask for an earlier LSN, or see `logship lag` for what holds the replica up",
        )
        self.reached = reached
        self.at_least = at_least


@dataclass(frozen=True, slots=True)
class Answer:
    """``table``: a `pyarrow.Table` with the query's own columns; what PostgreSQL calls a column's type stands in
    its field's metadata, as ``postgresql``.

    ``lsn``: every transaction of the primary that ended by then is in it, and no other, and none in part.
    ``source``: ``memory`` or ``persistence``. ``reason``: why it isn't memory; empty when it is.
    ``loaded``: tables that were loaded into memory for it.
    """

    table: Table
    lsn: Lsn
    source: str
    reason: str = ""
    loaded: tuple[str, ...] = ()


class Asking:
    """To be closed. Safe to use from any thread; queries wait for one another."""

    def __init__(self, secondary: str, name: str | None = None) -> None:
        """``name``: of the replica, where the secondary keeps several."""
        self._lock = threading.Lock()
        self._link = connect(secondary, Side.SECONDARY, application_name="logship query", settings=_SETTINGS)
        try:
            self.replica = _replica(self._link, name)
            news.listen_as_command(self._link)
            row = self._link.execute("select pg_catalog.current_schemas(true)::pg_catalog.text[]").fetchone()
            self._schemas = tuple(row[0]) if row is not None else ()
        except BaseException:
            self._link.close()
            raise

    def close(self) -> None:
        self._link.close()

    def query(
        self,
        query: str,
        *,
        at_least: Lsn | None = None,
        timeout_s: float = USUAL_S,
        cold: Cold | None = None,
        limit_bytes: int = USUAL_BYTES,
    ) -> Answer:
        _require_bounds(timeout_s, limit_bytes)
        with suppress(Elsewhere):  # the secondary tells
            parsed(query)
        until = time.monotonic() + timeout_s
        question = Question(query, self._schemas, timeout_s, limit_bytes, at_least, cold)
        with self._lock:
            try:
                described = persistence.describe(self._link, query, until)
                head, table = self._asked(question, until)
                if head.came is Came.MEMORY:
                    reason = _disagreement(head, described)
                    if not reason and head.lsn is not None:
                        return _answer(table, described, head.lsn, "memory", loaded=head.loaded)
                    head = Head(Came.REFUSED if cold is Cold.REFUSE else Came.ELSEWHERE, reason)
                self._require_elsewhere(head, question)
                return self._from_persistence(question, described, until, head.reason)
            except psycopg.Error as error:
                raise failed(error) from error

    # -- memory ----------------------------------------------------------------------------------

    def _asked(self, question: Question, until: float) -> tuple[Head, Table]:
        token = secrets.token_hex(16)
        text = question.text()
        lasts_s = question.timeout_s + 2 * _GRACE_S
        if not memory_request.ask(self._link, self.replica, token, text, lasts_s):
            raise NotInMemory(
                f'role "{self._link.info.user}" has as many questions to memory under way as it may have',
                hint="wait for one to end; one that was broken off is forgotten when its time is over",
            )
        try:
            head = self._head(token, until)
            return head, self._table(token, head)
        finally:
            if not self._link.closed:
                with suppress(psycopg.Error):  # then it is forgotten when its time is over
                    memory_request.forget(self._link, self.replica, token)

    def _head(self, token: str, until: float) -> Head:
        asked_at = time.monotonic()
        while True:
            found = memory_request.progress(self._link, token)
            if found is not None and found.head is not None:
                return Head.read(found.head)
            now = time.monotonic()
            over = found is None or now > until + _GRACE_S
            begun = found is not None and found.begun
            gone = found is not None and begun and not found.answering
            if gone or (not begun and (over or now - asked_at > _BEGINS_S)):
                raise NoReplayer(self.replica)
            if over:
                raise persistence.late()
            news.wait(self._link, _LOOK_S)

    def _table(self, token: str, head: Head) -> Table:
        if head.came is not Came.MEMORY:
            return None
        stream = io.BytesIO()
        for number in range(head.parts):
            stream.write(memory_request.part(self._link, token, number))
        with pa.ipc.open_stream(stream.getvalue()) as reader:
            return reader.read_all()

    def _require_elsewhere(self, head: Head, question: Question) -> None:
        """Raises unless the secondary is to answer."""
        match head.came:
            case Came.ELSEWHERE:
                return
            case Came.REFUSED:
                raise NotInMemory(
                    f"memory can't answer the query: {head.reason}",
                    hint="let the secondary answer with --cold persistence, or load what is cold with --cold load",
                )
            case Came.BEHIND:
                raise Behind("memory", head.lsn or Lsn(0), question.at_least or Lsn(0))
            case Came.LARGE:
                raise TooLarge(question.limit_bytes)
            case Came.LATE:
                raise persistence.late()
        raise SecondaryError(
            f"the replayer couldn't answer: {head.reason}", hint="see the replayer's log, and try again"
        )

    # -- persistence -----------------------------------------------------------------------------

    def _from_persistence(
        self, question: Question, described: Described, until: float, reason: str
    ) -> Answer:
        self._reach(question.at_least, until)
        table, lsn = persistence.answer(
            self._link, self.replica, question.sql, described, until=until, limit_bytes=question.limit_bytes
        )
        return _answer(table, described, lsn, "persistence", reason=reason)

    def _reach(self, at_least: Lsn | None, until: float) -> None:
        """The position is polled: a replayer that told of each step would pay for it at every commit."""
        while at_least is not None:
            reached = persistence.position(self._link, self.replica)
            if reached >= at_least:
                return
            if time.monotonic() > until:
                raise Behind("the secondary", reached, at_least)
            time.sleep(_POLL_S)


def _answer(
    table: Table,
    described: Described,
    lsn: Lsn,
    source: str,
    *,
    reason: str = "",
    loaded: tuple[str, ...] = (),
) -> Answer:
    shaped = as_described(table, described.types)
    return Answer(named(shaped, described.names, described.type_names), lsn, source, reason, loaded)


def _disagreement(head: Head, described: Described) -> str:
    """PostgreSQL's own word about the result's types is held against ours; a defect of ours is no wrong answer."""
    ours = [25 if oid == _VARCHAR else oid for oid in head.types]
    theirs = [25 if oid == _VARCHAR else oid for oid, _ in described.types]
    return "" if ours == theirs else "PostgreSQL says other types of its columns than memory does"


_VARCHAR: Final = 1043


def _require_bounds(timeout_s: float, limit_bytes: int) -> None:
    if not 0 < timeout_s <= LONGEST_S:
        raise UsageError(
            f"a query can't be given {timeout_s} s", hint=f"give more than 0 and at most {LONGEST_S:g} s"
        )
    if not 0 < limit_bytes <= MOST_BYTES:
        raise UsageError(
            f"a result can't be bounded by {limit_bytes} bytes", hint=f"give 1 to {MOST_BYTES} bytes"
        )


def _replica(link: psycopg.Connection, name: str | None) -> str:
    try:
        found: list[str] = [row[0] for row in link.execute(_REPLICAS).fetchall()]
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName) as error:
        raise NotInitialised("the secondary has no schema logship") from error
    except psycopg.Error as error:
        raise failed(error) from error
    if not found:
        raise NotInitialised("the secondary keeps no replica yet")
    if name is None and len(found) > 1:
        raise UsageError(
            f"the secondary keeps several replicas: {', '.join(found)}", hint="choose one with --name"
        )
    if name is not None and name not in found:
        raise UsageError(f'the secondary keeps no replica "{name}"', hint=f"it keeps: {', '.join(found)}")
    return found[0] if name is None else name
