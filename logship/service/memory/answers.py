"""Answers what `logship verify --memory` asks of a running replayer's memory.

In: questions (`logship.catalog.memory_question`) as JSON, over a connection of its own; memory, while it
stands at the LSN that the command holds the replica at. Out: the objects in memory, and checksums and
keys of their rows, all as of that moment, while replay goes on. Ends when the command does, or its lease.

    {"what": "objects"}                                   -> {"memory": "on", "lsn": …, "objects": [{…}]}
    {"what": "sums", "table": [schema, name], "buckets": n} -> {"sums": [[bucket, rows, high, low], …]}
    {"what": "rows", …, "wanted": [bucket, …]}              -> {"rows": [[key…, hash, count], …]}

Instead of an answer: {"error": …, "hint": …}. Values are never part of one, but those of keys.
"""

from __future__ import annotations

import json
import logging
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

import psycopg

from logship.catalog import memory_question, news
from logship.connection import Side, connect, cut
from logship.errors import LogshipError, SecondaryError

if TYPE_CHECKING:  # DuckDB and Arrow are imported only when memory is on
    from logship.replay.memory.memory import Memory
    from logship.replay.memory.pin import Pinned, PinnedObject

log = logging.getLogger(__name__)

_LOOK_S: Final = 1.0  # how late the end of a lease may be noticed
_MOST_ROWS: Final = 500_000
_MOST_CHARACTERS: Final = 64 << 20


class MemoryAnswers:
    """One conversation. Made while memory stands still; then `start`, and `stop` from any thread."""

    def __init__(
        self, secondary: str, replica: str, token: str, *, memory: Memory | None, switched_on: bool
    ) -> None:
        self._secondary = secondary
        self._replica = replica
        self._token = token
        self._switched_on = switched_on
        self._pinned: Pinned | None = memory.pin() if memory is not None else None
        self._connection: psycopg.Connection | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory-answers", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End, also in the middle of an answer."""
        self._stopping.set()
        connection = self._connection
        if connection is not None:
            cut(connection)
        while self._thread.is_alive():
            if self._pinned is not None:
                self._pinned.interrupt()  # of no use to a query that is only about to begin
            self._thread.join(0.1)

    def _run(self) -> None:
        try:
            name = f"logship verify {self._replica}"
            with closing(connect(self._secondary, Side.SECONDARY, application_name=name)) as link:
                self._connection = link
                self._converse(link)
        except (psycopg.Error, SecondaryError) as error:
            log.debug("the conversation about memory broke off: %s", type(error).__name__)
        finally:
            self._connection = None
            if self._pinned is not None:
                self._pinned.close()

    def _converse(self, link: psycopg.Connection) -> None:
        news.listen_as_replayer(link)
        memory_question.begin(link, self._replica, self._token)
        answered = 0
        while not self._stopping.is_set():
            asked = memory_question.question(link, self._replica, self._token)
            if asked is None:
                return
            if asked.number > answered and asked.text is not None:
                text = self._answer(json.loads(asked.text))
                memory_question.answer(link, self._replica, self._token, asked.number, text)
                answered = asked.number
            else:
                news.wait(link, _LOOK_S)

    def _answer(self, question: dict[str, Any]) -> str:
        try:
            text = json.dumps(self._found(question))
        except LogshipError as error:
            return json.dumps({"error": error.message, "hint": error.hint})
        if len(text) > _MOST_CHARACTERS:
            return json.dumps({"error": "the keys that may differ are too many to list at a time",
                               "hint": "compare with a smaller --chunk"})  # fmt: skip
        return text

    def _found(self, question: dict[str, Any]) -> dict[str, Any]:
        pinned = self._pinned
        if pinned is None:
            return {"memory": "made anew" if self._switched_on else "off"}
        if question["what"] == "objects":
            return {"memory": "on", "lsn": str(pinned.lsn), "objects": list(map(_object, pinned.objects))}
        schema, name = question["table"]
        if question["what"] == "sums":
            return {"sums": pinned.sums(schema, name, question["buckets"])}
        return {"rows": pinned.rows(schema, name, question["buckets"], question["wanted"], _MOST_ROWS)}


def _object(known: PinnedObject) -> dict[str, Any]:
    return {
        "table": [known.state.schemaname, known.state.relname],
        "residence": known.state.residence.value,
        "reason": known.state.reason,
        "rows": known.state.rows,
        "columns": list(known.columns),
        "key": list(known.key),
    }
