"""Compares tables of two servers at two snapshots, several at a time.

In: conninfo and an exported snapshot of either side (alive for as long as this takes), the pairs of
tables. Out: a `TableResult` for each, as it is done. Nothing is written anywhere.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import psycopg
from psycopg import sql

from logship.connection import Side, connect
from logship.snapshot.failures import failure
from logship.snapshot.verify_compare import SETTINGS, Comparison, How, Stopped, TableResult, Throttle
from logship.snapshot.verify_tables import Pair

Message: TypeAlias = TableResult | BaseException | None


@dataclass(frozen=True, slots=True)
class Snapshots:
    primary: str
    secondary: str
    primary_snapshot: str
    secondary_snapshot: str


def compare_all(
    at: Snapshots,
    pairs: Sequence[Pair],
    how: How,
    *,
    jobs: int,
    throttle: Throttle,
    done: Callable[[TableResult], None],
    progress: Callable[[TableResult], None],
) -> None:
    """Compare every pair; ``done`` is called in the caller's thread. The first error stops all and is raised."""
    todo: queue.SimpleQueue[Pair] = queue.SimpleQueue()
    for pair in sorted(pairs, key=lambda pair: -pair.primary.blocks):
        todo.put(pair)
    messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
    stop = threading.Event()
    workers = [
        _Worker(at, todo, messages, stop, throttle=throttle, how=how, progress=progress)
        for _ in range(max(1, min(jobs, len(pairs))))
    ]
    for worker in workers:
        worker.thread.start()
    try:
        _gather(messages, len(workers), stop, done)
    finally:
        stop.set()
        for worker in workers:
            worker.cancel()
        for worker in workers:
            worker.thread.join()


def _gather(
    messages: queue.SimpleQueue[Message],
    workers: int,
    stop: threading.Event,
    done: Callable[[TableResult], None],
) -> None:
    error: BaseException | None = None
    while workers:
        message = messages.get()
        if message is None:
            workers -= 1
        elif isinstance(message, TableResult):
            done(message)
        else:
            error = error or message
            stop.set()
    if error is not None:
        raise error


class _Worker:
    def __init__(
        self,
        at: Snapshots,
        todo: queue.SimpleQueue[Pair],
        messages: queue.SimpleQueue[Message],
        stop: threading.Event,
        *,
        throttle: Throttle,
        how: How,
        progress: Callable[[TableResult], None],
    ) -> None:
        self._at = at
        self._todo = todo
        self._messages = messages
        self._stop = stop
        self._throttle = throttle
        self._how = how
        self._progress = progress
        self._links: list[psycopg.Connection] = []
        self.thread = threading.Thread(target=self._run, name="verify", daemon=True)

    def cancel(self) -> None:
        """End what the servers are doing for this worker."""
        for link in list(self._links):
            link.cancel_safe(timeout=2)

    def _run(self) -> None:
        try:
            at = self._at
            with (
                self._session(at.primary, Side.PRIMARY, at.primary_snapshot) as primary,
                self._session(at.secondary, Side.SECONDARY, at.secondary_snapshot) as secondary,
            ):
                self._links += [primary, secondary]
                while not self._stop.is_set():
                    try:
                        pair = self._todo.get_nowait()
                    except queue.Empty:
                        break
                    self._messages.put(
                        Comparison(
                            pair, primary, secondary, self._how,
                            throttle=self._throttle, stop=self._stop, progress=self._progress,
                        ).run()
                    )  # fmt: skip
                self._links.clear()
        except Stopped:
            pass  # whoever stopped it says why
        except BaseException as error:  # noqa: BLE001  handed to the caller's thread, which raises it
            self._messages.put(error)
        finally:
            self._messages.put(None)

    def _session(self, conninfo: str, side: Side, snapshot: str) -> psycopg.Connection:
        link = session(conninfo, side)
        try:
            link.execute("begin transaction isolation level repeatable read, read only")
            link.execute(sql.SQL("set transaction snapshot {}").format(sql.Literal(snapshot)))
        except psycopg.Error as error:
            link.close()
            raise failure(side, "read at the snapshot", error) from error
        return link


def session(conninfo: str, side: Side) -> psycopg.Connection:
    """A session for the statements of `logship.snapshot.verify_rows`."""
    link = connect(conninfo, side, application_name="logship verify", settings=SETTINGS)
    link.prepare_threshold = None  # a plan made for one range isn't the plan for another
    link.cursor_factory = psycopg.RawCursor
    link.server_cursor_factory = psycopg.RawServerCursor
    return link
