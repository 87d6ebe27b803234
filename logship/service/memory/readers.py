"""Answers questions to memory, as long as the replayer runs: `logship query` and ``logship.memory`` ask them.

In: questions (`logship.catalog.memory_request`), over a connection of its own that waits for news of them. Out:
answers, each made by `MemoryReader` in one of a few threads with connections of their own. A question whose asker
is gone, or whose time is over, is interrupted. Questions never wait for replay but for the LSN they name, and
replay never waits for them.
"""

from __future__ import annotations

import io
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import psycopg

from logship.catalog import memory_request, news
from logship.catalog.memory_request import Request
from logship.connection import Side, connect, cut
from logship.errors import SecondaryError, UsageError
from logship.service.memory.words import PART_BYTES, Came, Head, Question

if TYPE_CHECKING:  # DuckDB and Arrow are imported only when memory is on
    from logship.service.memory.reader import MemoryReader, Work

log = logging.getLogger(__name__)

Table: TypeAlias = Any  # pyarrow.Table; pyarrow has no types

_LOOK_S: Final = 1.0  # news may be lost, and who asked may have gone
_AT_ONCE: Final = 4
_IDLE_S: Final = 2.0  # then a connection that answered is closed; the one that listens stays
_UNDER_WAY: Final = 256  # taken, and waiting for one of those


class MemoryReaders:
    """``run`` in a thread; `stop` from any. ``make_reader``: imports DuckDB and Arrow, so it is called late."""

    def __init__(self, secondary: str, replica: str, make_reader: Callable[[], MemoryReader]) -> None:
        self._replica = replica
        self._make_reader = make_reader
        self._reader: MemoryReader | None = None
        self._stopping = threading.Event()
        name = f"logship memory {replica}"
        self._links = _Links(lambda: connect(secondary, Side.SECONDARY, application_name=name))
        self._works: dict[str, Work] = {}
        self._lock = threading.Lock()

    def run(self) -> None:
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="memory-reader") as pool:
            try:
                while not self._stopping.is_set():
                    self._try(pool)
            finally:
                self._interrupt(set(self._works))
                self._links.cut()
        self._links.close()

    def stop(self) -> None:
        self._stopping.set()
        self._interrupt(set(self._works))
        self._links.cut()

    def _try(self, pool: ThreadPoolExecutor) -> None:
        try:
            with self._links.one() as link:
                news.listen_as_replayer(link)
                while not self._stopping.is_set():
                    self._look(link, pool)
                    news.wait(link, _LOOK_S)
        except (psycopg.Error, SecondaryError) as error:
            log.debug("can't look for questions to memory: %s", type(error).__name__)
            self._stopping.wait(_LOOK_S)

    def _look(self, link: psycopg.Connection, pool: ThreadPoolExecutor) -> None:
        self._links.close_idle(_IDLE_S)
        with self._lock:
            under_way = set(self._works)
        if under_way:
            self._interrupt(under_way - memory_request.wanted(link, list(under_way)))
        else:
            memory_request.sweep(link, self._replica)
        for request in memory_request.take(link, self._replica, _UNDER_WAY - len(under_way)):
            pool.submit(self._serve, request, self._begin(request))

    def _begin(self, request: Request) -> Work | None:
        """The work on it, known from now on to whoever interrupts; None when it can't be read."""
        from logship.service.memory.reader import Work

        try:
            question = Question.read(request.question)
        except UsageError:
            return None
        work = Work(question, request.asker, time.monotonic() + question.timeout_s)
        with self._lock:
            self._works[request.token] = work
        return work

    def _interrupt(self, tokens: set[str]) -> None:
        with self._lock:
            works = [self._works[token] for token in tokens if token in self._works]
        for work in works:
            work.interrupt()

    def _serve(self, request: Request, work: Work | None) -> None:
        try:
            with self._links.one() as link:
                head, parts = self._answered(link, work)
                memory_request.answer(link, self._replica, request.token, head.text(), parts)
        except (psycopg.Error, SecondaryError) as error:  # who asked is told by the session that is gone
            log.debug("a question to memory wasn't answered: %s", type(error).__name__)
        except Exception as error:  # noqa: BLE001  the replica goes on
            # Without the traceback, whose texts may quote a value.
            log.error("a question to memory failed: %s", type(error).__name__)  # noqa: TRY400
            self._say_failed(request)
        finally:
            with self._lock:
                self._works.pop(request.token, None)

    def _answered(self, link: psycopg.Connection, work: Work | None) -> tuple[Head, list[memoryview]]:
        if work is None:
            return Head(Came.FAILED, "the question can't be read"), []
        if self._reader is None:
            self._reader = self._make_reader()
        head, table = self._reader.answer(link, work)
        if table is None:
            return head, []
        parts = list(_parts(table))
        return Head(head.came, lsn=head.lsn, types=head.types, parts=len(parts), loaded=head.loaded), parts

    def _say_failed(self, request: Request) -> None:
        head = Head(Came.FAILED, "memory failed to answer; see the replayer's log")
        with suppress(psycopg.Error, SecondaryError), self._links.one() as link:
            memory_request.answer(link, self._replica, request.token, head.text(), [])


def _parts(table: Table) -> Iterator[memoryview]:
    import pyarrow as pa

    stream = io.BytesIO()
    with pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)
    content = stream.getbuffer()
    for start in range(0, len(content), PART_BYTES):
        yield content[start : start + PART_BYTES]


class _Links:
    """Connections to the secondary that are used again: as many as were used at a time, until they are idle.
    After `cut`, none is to be had."""

    def __init__(
        self,
        connect: Callable[[], psycopg.Connection],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connect = connect
        self._now = now
        self._lock = threading.Lock()
        self._free: list[
            tuple[psycopg.Connection, float]
        ] = []  # and since when; the last one first to be used
        self._used: set[psycopg.Connection] = set()
        self._over = False

    @contextmanager
    def one(self) -> Iterator[psycopg.Connection]:
        with self._lock:
            link = self._free.pop()[0] if self._free else None
        if link is None:
            link = self._connect()
        with self._lock:
            if self._over:
                link.close()
                raise SecondaryError("the replayer ends", hint="start it again")
            self._used.add(link)
        whole = False
        try:
            yield link
            whole = True
        finally:
            with self._lock:
                self._used.discard(link)
                keep = whole and not link.closed and not self._over
                if keep:
                    self._free.append((link, self._now()))
            if not keep:
                link.close()

    def cut(self) -> None:
        """From any thread: whoever waits for the secondary gets an error."""
        with self._lock:
            self._over = True
            used = list(self._used)
        for link in used:
            cut(link)

    def close_idle(self, idle_s: float) -> None:
        """Close those that nobody has used for so long."""
        with self._lock:
            latest = self._now() - idle_s
            idle = [link for link, since in self._free if since <= latest]
            self._free = [(link, since) for link, since in self._free if since > latest]
        for link in idle:
            link.close()

    def close(self) -> None:
        self.close_idle(float("-inf"))
