"""What was received is dated transaction by transaction, though it comes in stretches: no lag is told too small."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from logship.capture.records import Piece, PieceKind
from logship.catalog.state import Replica
from logship.config import JournalBounds
from logship.journal import Journal, Record, RecordKind
from logship.journal.segment import Stretch
from logship.kernel import plain
from logship.lsn import INVALID, Lsn
from logship.service.positions import Positions, Stage
from logship.service.replay.receiver import Receiver
from logship.service.ship.acknowledge import OwnReplica
from logship.service.ship.shipper import Shipper
from tests.unit.journal.journals import SOURCE, stretch_of
from tests.unit.plain import row, transaction

S = 1_000_000
NOW_US = 1_000 * S
# Of ten transactions: a second lies between two of them, but between the fourth and the fifth, which is 20 ms.
TIMES_US = [
    NOW_US - 100 * S + each for each in (0, S, 2 * S, 3 * S, 3 * S + 20_000, *(n * S for n in range(4, 9)))
]


def runs() -> list[bytes]:
    return [
        transaction(100 + 10 * n, row(1, b"x"), xid=n + 1, end_lsn=110 + 10 * n, time_us=at)
        for n, at in enumerate(TIMES_US)
    ]


def end_of(n: int) -> Lsn:
    return Lsn(110 + 10 * n)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.open(tmp_path, SOURCE, start=Lsn(100)) as opened:
        yield opened


@pytest.fixture
def positions() -> Positions:
    made = Positions(lambda: NOW_US)
    made.reach(Stage.RECEIVED, Lsn(100))
    made.reach(Stage.PERSISTENCE, Lsn(100))
    return made


def by_shipper(journal: Journal, positions: Positions) -> None:
    shipper = Shipper(
        primary="", slot="s", publications=["p"], system_identifier=1, journal=journal, positions=positions,
        application_name="logship", feedback_s=1.0, receiver_timeout_s=60.0, trouble=lambda _: None,
    )  # fmt: skip
    run = b"".join(runs())
    told = plain(run)
    assert told is not None
    pieces = [
        Piece(
            PieceKind.CHANGES, True, True, told.xid, Lsn(told.commit_lsn), Lsn(told.end_lsn), told.commit_time_us,
            run, told,
        )
    ]  # fmt: skip
    shipper._append(pieces)


def received(journal: Journal, positions: Positions, records: list[Record | Stretch]) -> None:
    replica = Replica("r", 1, 1, "d", "s", "p", "o", "full", None, None)
    receiver = Receiver(
        shipper="", replica=replica, journal=journal, positions=positions,
        acknowledge=OwnReplica(positions), check_epoch=lambda _: None, feedback_s=1.0, receiver_timeout_s=60.0,
        trouble=lambda _: None, bounds=JournalBounds(),
    )  # fmt: skip
    receiver._journaling.put(records, at_once=False)


def by_receiver(journal: Journal, positions: Positions) -> None:
    received(journal, positions, [stretch_of(runs())])


def by_receiver_in_parts(journal: Journal, positions: Positions) -> None:
    """A transaction in pieces, what is described, and stretches."""
    all_runs = runs()
    first = Record(RecordKind.CHANGES, True, False, 1, Lsn(100), INVALID, TIMES_US[0], all_runs[0])
    last = Record(RecordKind.CHANGES, False, True, 1, Lsn(100), end_of(0), TIMES_US[0], b"")
    received(journal, positions, [first, last, stretch_of(all_runs[1:4]), stretch_of(all_runs[4:])])


@pytest.mark.parametrize("received_by", [by_shipper, by_receiver, by_receiver_in_parts])
def test_the_lag_is_that_of_the_oldest_transaction_that_is_lacking(
    journal: Journal, positions: Positions, received_by: object
) -> None:
    assert callable(received_by)
    received_by(journal, positions)
    positions.heard(end_of(len(TIMES_US)), 0)
    for n, at in enumerate(TIMES_US[1:]):
        positions.reach(Stage.PERSISTENCE, end_of(n))
        told = positions.lag_us(Stage.PERSISTENCE)
        assert told is not None
        assert abs(told - (NOW_US - at)) <= 50_000, f"behind transaction {n}"
