"""The doorkeeper: what stays out while the replayer is held, and that it stands at the LSN that was given."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from logship import pgoutput
from logship.change import Begin, Commit
from logship.errors import LogshipError
from logship.journal.segment import Record, RecordKind
from logship.kernel import frame
from logship.lsn import INVALID, Lsn
from logship.replay.batcher import Batcher, Item
from logship.replay.classify import Classifier
from logship.service.crew import Stopped
from logship.service.replay.hold import Doorkeeper, Gate
from tests.servers import eventually


def refuse(*_: object) -> None:
    raise LogshipError("no relation is looked up here")


def record(
    kind: RecordKind, *, first: bool = True, last: bool = True, commit: int = 0, end: int = 0
) -> Record:
    messages = []
    if kind is RecordKind.CHANGES:
        messages += [pgoutput.encode(Begin(Lsn(commit), 1, 7))] if first else []
        messages += [pgoutput.encode(Commit(Lsn(commit), Lsn(end), 1))] if last else []
    return Record(kind, first, last, 7, Lsn(commit), Lsn(end), 1, frame(messages))


def transaction(end: int) -> Record:
    return record(RecordKind.CHANGES, commit=end - 10, end=end)


@dataclass
class Replay:
    """The replay thread, and stores that are as far as they are told to be."""

    gate: Gate = field(default_factory=Gate)
    stored: Lsn = INVALID
    stopping: bool = False
    handed: list[Item] = field(default_factory=list)
    error: BaseException | None = None

    def __post_init__(self) -> None:
        self.batcher = Batcher(Classifier(refuse), INVALID, bound_bytes=1 << 20)  # type: ignore[arg-type]
        self.door = Doorkeeper(
            self.gate, self.batcher, self.handed.append,
            lambda position, stored: self.stored >= position, lambda: self.stopping,
        )  # fmt: skip

    def take(self, *records: Record) -> threading.Thread:
        thread = threading.Thread(target=self._take, args=(records,), daemon=True)
        thread.start()
        return thread

    def _take(self, records: tuple[Record, ...]) -> None:
        try:
            for one in records:
                self.door.between()
                self.door.admit(one)
                if one.kind is RecordKind.CHANGES:
                    list(self.batcher.changes(one))
                elif one.kind is RecordKind.POSITION:
                    self.batcher.advance(one.end_lsn)
        except Stopped as error:
            self.error = error


@pytest.fixture
def replay() -> Iterator[Replay]:
    made = Replay()
    yield made
    made.stopping = True
    made.gate.set(None)


def test_open_everything_goes_in(replay: Replay) -> None:
    replay.take(transaction(100), record(RecordKind.POSITION, end=150), transaction(200)).join(10)
    assert replay.batcher.position == 200
    assert replay.handed == []


def test_up_to_an_lsn_and_not_further(replay: Replay) -> None:
    """What commits in front of the limit ends at it or before; the stores get it, and the position is the limit."""
    replay.gate.set(Lsn(200))
    thread = replay.take(transaction(100), transaction(200), transaction(300))
    eventually(lambda: replay.handed)
    assert replay.batcher.position == 200
    assert replay.gate.standing is None, "the stores aren't there yet"
    replay.stored = Lsn(200)
    eventually(lambda: replay.gate.standing == 200)
    replay.gate.set(None)
    thread.join(10)
    assert replay.batcher.position == 300


@pytest.mark.parametrize("behind", [transaction(300), record(RecordKind.POSITION, end=290)])
def test_between_two_transactions_the_position_becomes_the_limit(replay: Replay, behind: Record) -> None:
    replay.stored = Lsn(1000)
    replay.gate.set(Lsn(250))
    thread = replay.take(transaction(200), record(RecordKind.POSITION, end=250), behind)
    eventually(lambda: replay.gate.standing == 250)
    replay.gate.set(Lsn(280))
    eventually(lambda: replay.gate.standing == 280)
    replay.gate.set(None)
    thread.join(10)
    assert replay.batcher.position == behind.end_lsn


def test_at_once_but_never_inside_a_transaction(replay: Replay) -> None:
    replay.stored = Lsn(1000)
    begun = record(RecordKind.CHANGES, last=False, commit=190)
    replay.take(begun).join(10)
    replay.gate.set(INVALID)
    rest = record(RecordKind.CHANGES, first=False, commit=190, end=200)
    thread = replay.take(rest, transaction(300))
    eventually(lambda: replay.gate.standing == 200)
    replay.gate.set(None)
    thread.join(10)
    assert replay.batcher.position == 300


def test_an_abandoned_transaction_is_not_inside(replay: Replay) -> None:
    replay.stored = Lsn(1000)
    replay.take(record(RecordKind.CHANGES, last=False, commit=190), record(RecordKind.ABANDON)).join(10)
    replay.gate.set(INVALID)
    thread = replay.take(transaction(200))
    eventually(lambda: replay.gate.standing == 0)
    replay.gate.set(None)
    thread.join(10)


def test_stopping_ends_the_wait(replay: Replay) -> None:
    replay.gate.set(INVALID)
    thread = replay.take(transaction(100))
    replay.stopping = True
    replay.gate.wake()
    thread.join(10)
    assert isinstance(replay.error, Stopped)
    assert replay.batcher.position == 0


def test_an_answer_belongs_to_its_limit() -> None:
    gate = Gate()
    changes: list[Lsn | None] = []
    gate.on_change = lambda: changes.append(gate.limit)
    gate.set(Lsn(100))
    gate.set(Lsn(100))
    gate.stand(Lsn(50), Lsn(50))
    assert gate.standing is None
    gate.stand(Lsn(100), Lsn(100))
    assert gate.standing == 100
    gate.set(Lsn(200))
    assert gate.standing is None
    gate.set(None)
    assert changes == [100, 200, None]
