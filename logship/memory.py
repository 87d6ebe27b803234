"""Reads a replica's memory: SQL in, Arrow out, with the LSN that it is true at.

From any process, with the secondary's conninfo, and with the rights that its role has there::

    import logship.memory

    with logship.memory.connect("host=replica dbname=shop user=analyst") as memory:
        answer = memory.query("select region, sum(total) from sales.orders group by region")
        answer.table  # a pyarrow.Table
        answer.lsn  # what the primary had committed by then, and nothing else, is in it
        answer.source  # "memory", or "persistence": the secondary itself

In a process that embeds a replayer, `of` reads its memory without the way over the secondary, in DuckDB's SQL and
with no rights to ask for. Nothing here writes. What PostgreSQL and DuckDB answer differently is in docs/memory.md.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from logship.config import Cold
from logship.errors import LogshipError
from logship.lsn import Lsn
from logship.replay.memory.query import MemoryClosed, QueryRefused
from logship.replay.query.select import NotOneSelect
from logship.service.memory.asking import (
    USUAL_BYTES,
    USUAL_S,
    Answer,
    Asking,
    Behind,
    NoReplayer,
    NotInMemory,
)
from logship.service.memory.persistence import NoSuchQuery, NotInTime, QueryFailed, TooLarge

if TYPE_CHECKING:
    from logship.replay.memory.memory import Memory as Store

__all__ = [
    "Answer", "Behind", "Cold", "Embedded", "LogshipError", "Lsn", "Memory", "NoReplayer", "NoSuchQuery",
    "NotInMemory", "NotInTime", "NotOneSelect", "QueryFailed", "QueryRefused", "TooLarge", "connect", "of",
]  # fmt: skip

_POLL_S: Final = 0.005


def connect(secondary: str, *, name: str | None = None) -> Memory:
    """Memory of the replica that ``secondary`` (libpq conninfo or URI) keeps; ``name`` where it keeps several.

    Any role that can connect may ask: it reads what it may SELECT on the secondary. `SecondaryError` when the
    secondary can't be reached or keeps no replica. Use it in a ``with`` block, or `close` it.
    """
    return Memory(Asking(secondary, name))


class Memory:
    """One connection to the secondary. Safe to use from any thread; queries wait for one another."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking

    @property
    def replica(self) -> str:
        return self._asking.replica

    def query(
        self,
        query: str,
        *,
        at_least: Lsn | str | None = None,
        timeout_s: float = USUAL_S,
        cold: Cold | str | None = None,
        limit_bytes: int = USUAL_BYTES,
    ) -> Answer:
        """One SELECT in PostgreSQL's SQL, and the LSN that its result is true at.

        ``at_least``: wait until that LSN is there, e.g. what ``pg_current_wal_insert_lsn()`` gave on the primary
        behind a commit. ``timeout_s``: for waiting, loading and computing together, in seconds (at most 3600).
        ``cold``: what becomes of a query that memory can't answer: ``"persistence"``, ``"load"`` or ``"refuse"``;
        by default as the replayer's --memory-cold says. ``limit_bytes``: of the result, as Arrow counts it.

        Columns have the types of docs/memory.md, "Types", from either source. Raises `Behind` (with ``reached``)
        and `NotInTime`, `NotInMemory` (refused), `NoReplayer`, `TooLarge`, `NotOneSelect`, `NoSuchQuery` (PostgreSQL
        doesn't take it) and `QueryFailed` (no right to read, a division by zero …): all are `LogshipError`.
        """
        return self._asking.query(
            query,
            at_least=Lsn.parse(at_least) if isinstance(at_least, str) else at_least,
            timeout_s=timeout_s,
            cold=Cold(cold) if isinstance(cold, str) else cold,
            limit_bytes=limit_bytes,
        )

    def close(self) -> None:
        self._asking.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Holds(Protocol):
    """`logship.service.run.Run` and `logship.service.replay.replay.Replay` are such."""

    @property
    def memory(self) -> Store | None: ...


def of(replayer: Holds) -> Embedded:
    """The memory of a replayer that runs in this process."""
    return Embedded(replayer)


class Embedded:
    """Safe to use from any thread; queries run side by side."""

    def __init__(self, replayer: Holds) -> None:
        self._replayer = replayer

    def query(
        self,
        query: str,
        *,
        at_least: Lsn | None = None,
        timeout_s: float = USUAL_S,
        limit_bytes: int = USUAL_BYTES,
    ) -> Answer:
        """One SELECT in DuckDB's SQL over what is in memory, all of it: nobody's rights are asked.

        ``timeout_s`` bounds the wait for ``at_least`` alone. `NotInMemory` while there is no memory, `Behind`,
        and `QueryRefused`: not one SELECT, a table that isn't resident, a result that is too large.
        """
        until = time.monotonic() + timeout_s
        while True:
            memory = self._memory()
            if at_least is None or memory.memory_lsn >= at_least:
                break
            if time.monotonic() > until:
                raise Behind("memory", memory.memory_lsn, at_least)
            time.sleep(_POLL_S)
        try:
            table, lsn = memory.query(query, limit_bytes=limit_bytes)
        except MemoryClosed:
            raise _no_memory() from None
        return Answer(table, lsn, "memory")

    def _memory(self) -> Any:
        memory = self._replayer.memory
        if memory is None:
            raise _no_memory()
        return memory


def _no_memory() -> NotInMemory:
    return NotInMemory(
        "there is no memory: it is off, or being made anew", hint="see --memory, or try again in a moment"
    )
