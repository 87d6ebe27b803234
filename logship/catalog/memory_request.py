"""Questions to the running replayer's memory, and answers, as rows of the secondary.

In: connections to the secondary: of whoever asks, with the rights of its role, and of the replayer. Out: texts
(JSON) and parts of an Arrow stream, which mean nothing here. A role sees its own rows only, through the views
``logship.my_memory_request`` and ``logship.my_memory_reply``, and may have sixteen questions at a time. A question
is over at ``expires_at`` by the secondary's clock, whatever became of who asked: the replayer sweeps then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import psycopg

from logship.catalog import news

_SLOTS: Final = 16
_ASK: Final = """
insert into logship.my_memory_request (replica, slot, token, question, expires_at)
select %(replica)s, s.slot, %(token)s, %(question)s,
       pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => %(seconds)s)
  from pg_catalog.generate_series(0, %(last)s) s (slot)
 where not exists (select from logship.my_memory_request q
                    where q.replica = %(replica)s and q.slot = s.slot)
 order by pg_catalog.random() limit 1
    on conflict do nothing
returning slot
"""


@dataclass(frozen=True, slots=True)
class Request:
    """One that the replayer has taken. ``asker``: the role whose rights count."""

    token: str
    asker: str
    question: str


@dataclass(frozen=True, slots=True)
class Progress:
    """``head`` None: there is no answer yet. ``answering``: whether the replayer's session is there."""

    head: str | None
    begun: bool
    answering: bool


# -- who asks --------------------------------------------------------------------------------------


def ask(secondary: psycopg.Connection, replica: str, token: str, question: str, seconds: float) -> bool:
    """False: the role has as many questions under way as it may have."""
    parameters = {
        "replica": replica, "token": token, "question": question, "seconds": seconds, "last": _SLOTS - 1,
    }  # fmt: skip
    with secondary.transaction():
        secondary.execute(
            "delete from logship.my_memory_request q where q.replica = %s "
            "and q.expires_at <= pg_catalog.clock_timestamp()",
            [replica],
        )
        row = None
        for _ in range(_SLOTS):  # another question of the role may take the same slot at the same time
            row = secondary.execute(_ASK, parameters).fetchone()
            if row is not None:
                break
        news.tell_replayer(secondary, replica)
    return row is not None


def progress(secondary: psycopg.Connection, token: str) -> Progress | None:
    """None: the question was forgotten, its time is over."""
    row = secondary.execute(
        """
        select q.head, q.pid is not null,
               exists (select from pg_catalog.pg_stat_activity a where a.pid = q.pid)
          from logship.my_memory_request q
         where q.token = %s
        """,
        [token],
    ).fetchone()
    return None if row is None else Progress(*row)


def part(secondary: psycopg.Connection, token: str, number: int) -> bytes:
    row = secondary.execute(
        "select r.content from logship.my_memory_reply r where r.token = %s and r.part = %s",
        [token, number],
        binary=True,
    ).fetchone()
    return bytes(row[0]) if row is not None else b""


def forget(secondary: psycopg.Connection, replica: str, token: str) -> None:
    secondary.execute("delete from logship.my_memory_request q where q.token = %s", [token])
    news.tell_replayer(secondary, replica)


# -- the replayer ------------------------------------------------------------------------------------


def take(secondary: psycopg.Connection, replica: str, at_most: int) -> list[Request]:
    """Questions that nobody answers yet, oldest first, which are this session's from now on; also those of a
    session that is gone."""
    rows = secondary.execute(
        """
        update logship.memory_request q
           set pid = pg_catalog.pg_backend_pid()
         where q.token in (
               select w.token from logship.memory_request w
                where w.replica = %s and w.head is null and w.expires_at > pg_catalog.clock_timestamp()
                  and (w.pid is null
                       or not exists (select from pg_catalog.pg_stat_activity a where a.pid = w.pid))
                order by w.asked_at limit %s
                  for update skip locked)
        returning q.token, q.asker, q.question
        """,
        [replica, at_most],
    ).fetchall()
    return [Request(*row) for row in rows]


def wanted(secondary: psycopg.Connection, tokens: Sequence[str]) -> set[str]:
    """Which of these somebody still waits for."""
    rows = secondary.execute(
        "select q.token from logship.memory_request q "
        "where q.token = any(%s) and q.expires_at > pg_catalog.clock_timestamp()",
        [list(tokens)],
    ).fetchall()
    return {row[0] for row in rows}


def sweep(secondary: psycopg.Connection, replica: str) -> None:
    secondary.execute(
        "delete from logship.memory_request q where q.replica = %s "
        "and q.expires_at <= pg_catalog.clock_timestamp()",
        [replica],
    )


def answer(
    secondary: psycopg.Connection, replica: str, token: str, head: str, parts: Sequence[bytes | memoryview]
) -> None:
    """All of it, or nothing when nobody waits any more."""
    with secondary.transaction():
        found = secondary.execute(
            "update logship.memory_request q set head = %s where q.token = %s returning true", [head, token]
        ).fetchone()
        if found is None:
            return
        for number, content in enumerate(parts):
            secondary.execute(
                "insert into logship.memory_reply (token, part, content) values (%s, %s, %b)",
                [token, number, content],
            )
    news.tell_commands(secondary, replica)
