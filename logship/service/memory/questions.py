"""Asks the running replayer about its memory: what it holds at the LSN of a moment, in checksums and keys.

In: the secondary, where questions and answers are rows (`logship.catalog.memory_question`), and the `Ends`
whose hold makes the replayer pin its memory. Out: `Conversation`, a `MemorySide`. To be opened before the
moment, begun inside it; the replayer goes on meanwhile, and forgets that moment when the conversation is closed
or its lease ends. What JSON means is said in `logship.service.memory.answers`.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import psycopg

from logship.catalog import memory_question, news
from logship.catalog.memory_question import Question
from logship.connection import Side, connect
from logship.errors import LogshipError
from logship.lsn import Lsn
from logship.service.compare.standing import LEASE_S, Ends, Lease, NotAtOneLsn
from logship.snapshot.failures import failure
from logship.snapshot.verify_memory import BucketSums
from logship.snapshot.verify_memory_rows import MemoryTable

_LOOK_S: Final = 1.0
_BEGINS_S: Final = 10.0  # the replayer has to have begun by then


class NoMemory(LogshipError):
    """There is no memory to compare. The answer is no."""

    exit_code = 1


@dataclass(frozen=True, slots=True)
class Held:
    """What memory held at ``lsn``. ``cold``: tables it doesn't hold, and why."""

    lsn: Lsn
    tables: tuple[MemoryTable, ...]
    cold: Mapping[tuple[str, str], str]


class Conversation:
    """One question at a time."""

    def __init__(self, link: psycopg.Connection, ends: Ends) -> None:
        self._link = link
        self._replica = ends.replica.name
        self._token = ends.token
        self._number = 0
        self._lock = threading.Lock()

    def begin(self, held: bool) -> Held:
        """What there is to compare. ``held``: whether a replayer was there to pin its memory."""
        if not held:
            raise NoMemory(
                f'no replayer of replica "{self._replica}" is running: there is no memory to compare',
                hint="start `logship run` or `logship replay`, which memory lives in, or verify without --memory",
            )
        found = self._ask({"what": "objects"})
        if found["memory"] != "on":
            raise self._without(found["memory"])
        resident = [one for one in found["objects"] if one["columns"]]
        return Held(
            Lsn.parse(found["lsn"]),
            tuple(_table(one) for one in resident),
            {tuple(one["table"]): _why(one) for one in found["objects"] if one not in resident},
        )

    def sums(self, table: MemoryTable, buckets: int) -> BucketSums:
        found = self._about(table, {"what": "sums", "buckets": buckets})["sums"]
        return {bucket: (rows, high, low) for bucket, rows, high, low in found}

    def rows(self, table: MemoryTable, buckets: int, wanted: Sequence[int]) -> list[Sequence[Any]]:
        found: list[Sequence[Any]] = self._about(
            table, {"what": "rows", "buckets": buckets, "wanted": list(wanted)}
        )["rows"]
        return found

    def _about(self, table: MemoryTable, question: dict[str, Any]) -> dict[str, Any]:
        answer = self._ask({**question, "table": [table.schemaname, table.relname]})
        if "memory" in answer:
            raise self._without(answer["memory"])
        return answer

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        try:
            with self._lock:
                answer: dict[str, Any] = json.loads(self._asked(json.dumps(question)))
        except psycopg.Error as error:
            raise failure(Side.SECONDARY, "ask the replayer about its memory", error) from error
        if "error" in answer:
            raise NoMemory(
                f"the replayer's memory can't be compared: {answer['error']}",
                hint=f"{answer['hint']}; or verify without --memory",
            )
        return answer

    def _asked(self, text: str) -> str:
        self._number += 1
        memory_question.ask(self._link, self._replica, self._token, Question(self._number, text))
        asked_at = time.monotonic()
        while True:
            found = memory_question.answer_to(self._link, self._replica, self._token, self._number)
            if found is not None and found.text is not None:
                return found.text
            if found is None or (found.begun and not found.answering):
                raise self._gone()
            if not found.begun and time.monotonic() - asked_at > _BEGINS_S:
                raise self._gone()
            news.wait(self._link, _LOOK_S)

    def _gone(self) -> NotAtOneLsn:
        return NotAtOneLsn(
            f'the replayer of replica "{self._replica}" was asked what its memory holds, and ended or lost its '
            "connection before it had answered",
            hint="see its log and `logship status`; then try again",
        )

    def _without(self, memory: str) -> NoMemory:
        if memory == "off":
            return NoMemory(
                f'memory is off in the replayer of replica "{self._replica}": there is nothing to compare',
                hint="start it again with --memory lazy, or verify without --memory",
            )
        return NoMemory(
            f'memory of replica "{self._replica}" is being made anew just now', hint="try again in a moment"
        )


@contextmanager
def conversation(ends: Ends) -> Iterator[Conversation]:
    """`NotAtOneLsn` when another command asks this replica."""
    replica, token = ends.replica.name, ends.token
    with closing(connect(ends.secondary, Side.SECONDARY, application_name="logship verify")) as link:
        try:
            news.listen_as_command(link)
            if not memory_question.open_(link, replica, token, LEASE_S):
                raise NotAtOneLsn(
                    f'another command asks about the memory of replica "{replica}" just now',
                    hint="wait for its end",
                )
        except psycopg.Error as error:
            raise failure(Side.SECONDARY, "ask the replayer about its memory", error) from error
        lease = Lease(ends.secondary, lambda other: memory_question.renew(other, replica, token, LEASE_S))
        try:
            yield Conversation(link, ends)
        finally:
            lease.end()
            with suppress(psycopg.Error):  # then the lease ends by itself
                memory_question.close(link, replica, token)


def _table(known: Mapping[str, Any]) -> MemoryTable:
    schema, name = known["table"]
    return MemoryTable(schema, name, tuple(known["columns"]), tuple(known["key"]), known["rows"] or 0)


def _why(known: Mapping[str, Any]) -> str:
    reason = f": {known['reason']}" if known["reason"] else ""
    return f"{known['residence']}{reason}"
