"""What `logship run` tells the primary: never more than its journal holds, never less than it said before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from logship.capture.copydata import Positions as Reported
from logship.capture.copydata import check_progress
from logship.lsn import INVALID, Lsn
from logship.service.positions import Positions, Stage
from logship.service.ship.acknowledge import OwnReplica


def test_replay_is_what_persistence_committed_and_never_past_the_journal() -> None:
    positions = Positions()
    own = OwnReplica(positions)
    assert own.reached(Lsn(30), Lsn(20), 0.0) == Reported(Lsn(30), Lsn(20), INVALID)
    positions.reach(Stage.PERSISTENCE, Lsn(10))
    assert own.reached(Lsn(30), Lsn(20), 0.0).replay == Lsn(10)
    positions.reach(Stage.PERSISTENCE, Lsn(25))
    assert own.reached(Lsn(30), Lsn(20), 0.0).replay == Lsn(20)


def test_memory_counts_as_applied_only_when_it_is_asked_for_and_the_record_is_on_disk() -> None:
    positions = Positions()
    positions.reach(Stage.MEMORY, Lsn(25))
    positions.reach(Stage.PERSISTENCE, Lsn(10))
    assert OwnReplica(positions).reached(Lsn(30), Lsn(20), 0.0).replay == Lsn(10)
    assert OwnReplica(positions, Stage.MEMORY).reached(Lsn(30), Lsn(20), 0.0).replay == Lsn(20)


def test_without_memory_persistence_is_what_counts() -> None:
    positions = Positions()
    positions.reach(Stage.PERSISTENCE, Lsn(10))
    assert OwnReplica(positions, Stage.MEMORY).reached(Lsn(30), Lsn(20), 0.0).replay == Lsn(10)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 99)), min_size=2))
def test_no_position_moves_back_when_replay_begins_again(steps: list[tuple[int, int, int]]) -> None:
    positions = Positions()
    own = OwnReplica(positions)
    written = flushed = 0
    last = Reported(INVALID, INVALID, INVALID)
    for more, behind, replayed in steps:
        written += more
        flushed = max(flushed, written - behind)
        positions.restart(Stage.PERSISTENCE, Lsn(replayed))
        following = own.reached(Lsn(written), Lsn(flushed), 0.0)
        check_progress(last, following)
        assert following.flush == flushed
        assert following.replay <= flushed
        last = following
