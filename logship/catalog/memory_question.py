"""What a command asks the running replayer about its memory, as a row of ``logship.memory_question``.

In: connections to the secondary, of whoever asks and of the replayer. Out: questions and answers, texts
(JSON) that mean nothing here. One conversation at a time for each replica, by the token of the hold it
belongs to. It is a lease: it ends at ``expires_at`` by the secondary's clock, whatever became of who asked.
"""

from __future__ import annotations

from dataclasses import dataclass

import psycopg

from logship.catalog import news


@dataclass(frozen=True, slots=True)
class Question:
    """``text`` None: nothing has been asked yet."""

    number: int
    text: str | None


@dataclass(frozen=True, slots=True)
class Answer:
    """``text`` None: it isn't answered. ``answering``: whether the replayer's session is there."""

    text: str | None
    begun: bool
    answering: bool


def open_(secondary: psycopg.Connection, replica: str, token: str, lease_s: float) -> bool:
    """False: another command asks this replica just now."""
    row = secondary.execute(
        """
        insert into logship.memory_question as q (replica, token, number, answered, expires_at)
        values (%s, %s, 0, 0, pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => %s))
        on conflict (replica) do update
           set token = excluded.token, number = 0, question = null, answered = 0, answer = null, pid = null,
               expires_at = excluded.expires_at
         where q.expires_at <= pg_catalog.clock_timestamp()
        returning true
        """,
        [replica, token, lease_s],
    ).fetchone()
    return row is not None


def renew(secondary: psycopg.Connection, replica: str, token: str, lease_s: float) -> None:
    secondary.execute(
        """
        update logship.memory_question q
           set expires_at = pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => %s)
         where q.replica = %s and q.token = %s
        """,
        [lease_s, replica, token],
    )


def close(secondary: psycopg.Connection, replica: str, token: str) -> None:
    secondary.execute(
        "delete from logship.memory_question q where q.replica = %s and q.token = %s", [replica, token]
    )
    news.tell_replayer(secondary, replica)


def ask(secondary: psycopg.Connection, replica: str, token: str, question: Question) -> None:
    secondary.execute(
        "update logship.memory_question q set number = %s, question = %s, answer = null "
        "where q.replica = %s and q.token = %s",
        [question.number, question.text, replica, token],
    )
    news.tell_replayer(secondary, replica)


def answer_to(secondary: psycopg.Connection, replica: str, token: str, number: int) -> Answer | None:
    """None: the conversation is over, its lease has ended."""
    row = secondary.execute(
        """
        select case when q.answered = %s then q.answer end, q.pid is not null,
               exists (select from pg_catalog.pg_stat_activity a where a.pid = q.pid)
          from logship.memory_question q
         where q.replica = %s and q.token = %s and q.expires_at > pg_catalog.clock_timestamp()
        """,
        [number, replica, token],
    ).fetchone()
    return None if row is None else Answer(*row)


def wanted(secondary: psycopg.Connection, replica: str, token: str) -> bool:
    """Whether the command that holds the replica under ``token`` will ask about its memory."""
    return question(secondary, replica, token) is not None


def question(secondary: psycopg.Connection, replica: str, token: str) -> Question | None:
    """The last question; None: the conversation is over."""
    row = secondary.execute(
        """
        select q.number, q.question from logship.memory_question q
         where q.replica = %s and q.token = %s and q.expires_at > pg_catalog.clock_timestamp()
        """,
        [replica, token],
    ).fetchone()
    return None if row is None else Question(*row)


def begin(secondary: psycopg.Connection, replica: str, token: str) -> None:
    """This session of the replayer answers from now on."""
    secondary.execute(
        "update logship.memory_question q set pid = pg_catalog.pg_backend_pid() "
        "where q.replica = %s and q.token = %s",
        [replica, token],
    )


def answer(secondary: psycopg.Connection, replica: str, token: str, number: int, text: str) -> None:
    secondary.execute(
        "update logship.memory_question q set answer = %s, answered = %s "
        "where q.replica = %s and q.token = %s and q.number = %s",
        [text, number, replica, token, number],
    )
    news.tell_commands(secondary, replica)
