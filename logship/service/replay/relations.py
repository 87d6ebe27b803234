"""Says what a relation is on the secondary: as it is committed, or, behind a schema change, as the open
transaction of persistence sees it; and reads ahead in the journal for what a transaction still brings.

In: questions from the replay thread. Out: targets. Behind a schema change a question goes through
persistence's queue, so that it is answered after all that came before it. Only persistence's thread
uses persistence's session.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

from logship.change import Relation, TypeName
from logship.errors import ReplayError
from logship.journal.log import Journal
from logship.journal.segment import RecordKind
from logship.lsn import Lsn
from logship.replay.classify import Resolve
from logship.replay.target import Target
from logship.service.crew import Stopped

Types: TypeAlias = Mapping[int, TypeName]


class LookUp:
    """One question, asked by one thread and answered by another."""

    def __init__(self, relation: Relation, types: Types) -> None:
        self._relation = relation
        self._types = types
        self._answered = threading.Event()
        self._answer: Target | ReplayError | None = None

    def answer(self, look_up: Resolve) -> None:
        """Raises what isn't an answer; then `wait` ends with `Stopped`."""
        try:
            self._answer = look_up(self._relation, self._types)
        except ReplayError as no:
            self._answer = no
        finally:
            self._answered.set()

    def give_up(self) -> None:
        self._answered.set()

    def wait(self) -> Target:
        self._answered.wait()
        if isinstance(self._answer, ReplayError):
            raise self._answer
        if self._answer is None:
            raise Stopped
        return self._answer


class Relations:
    """``resolve`` sees what is committed."""

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve
        self._ask: Callable[[LookUp], None] | None = None
        self._asked: LookUp | None = None
        self._closed = False
        self._lock = threading.Lock()

    @property
    def committed(self) -> bool:
        return self._ask is None

    def as_seen_by(self, ask: Callable[[LookUp], None]) -> None:
        """From here on ``ask`` has questions answered inside the open transaction."""
        self._ask = ask

    def as_committed(self) -> None:
        """The transaction has ended, and is committed."""
        self._ask = None

    def resolve(self, relation: Relation, types: Types) -> Target:
        """Raises what the look-up raises; `Stopped` when nobody answers any more."""
        if self._ask is None:
            return self._resolve(relation, types)
        question = LookUp(relation, types)
        with self._lock:
            if self._closed:
                raise Stopped
            self._asked = question
        self._ask(question)
        return question.wait()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._asked is not None:
                self._asked.give_up()


class ReadAhead:
    """Reads a transaction from its start, on a reader of its own, waiting for what has not come yet."""

    def __init__(self, journal: Journal, stopping: Callable[[], bool], *, read_bytes: int = 1 << 20) -> None:
        self._journal = journal
        self._stopping = stopping
        self._read_bytes = read_bytes

    def __call__(self, position: Lsn, commit_lsn: Lsn) -> Iterator[bytes]:
        """The runs of the transaction that is committed at ``commit_lsn``, the first one behind
        ``position``; of one that was abandoned and comes again, all that came. `Stopped` when the replay ends."""
        with self._journal.reader(position) as reader:
            while not self._stopping():
                for record in reader.read(self._read_bytes, 0.5):
                    if record.kind is RecordKind.CHANGES and record.commit_lsn == commit_lsn:
                        yield record.run
                        if record.last:
                            return
                    elif record.kind is RecordKind.CHANGES and record.commit_lsn > commit_lsn:
                        return
        raise Stopped
