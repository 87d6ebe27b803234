"""What `logship run` tells the primary: never more than its journal holds, never less than it said before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from logship.capture.copydata import Positions as Reported
from logship.capture.copydata import check_progress
from logship.lsn import INVALID, Lsn
from logship.relay.synchrony import SyncState
from logship.service.positions import Positions, Stage
from logship.service.ship.acknowledge import OwnReplica
from logship.service.ship.replication_report import OwnRow


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


def test_its_row_says_of_replay_what_the_primary_is_told_and_whether_commits_wait() -> None:
    positions = Positions()
    positions.reach(Stage.RECEIVED, Lsn(30))
    positions.reach(Stage.FLUSHED, Lsn(20))
    positions.reach(Stage.MEMORY, Lsn(25))
    positions.reach(Stage.PERSISTENCE, Lsn(10))
    for applied, stage in ((Stage.MEMORY, Stage.MEMORY), (Stage.PERSISTENCE, Stage.PERSISTENCE)):
        own = OwnReplica(positions, applied)
        (row,) = OwnRow("own", positions, own, lambda: True)()
        assert row.positions.replay == own.reached(Lsn(30), Lsn(20), 0.0).replay
        assert own.replaying is stage
        assert (row.sync_state, row.sync_priority) == (SyncState.SYNC, 1)
    positions.restart(Stage.MEMORY, None)
    assert OwnReplica(positions, Stage.MEMORY).replaying is Stage.PERSISTENCE
    (row,) = OwnRow("own", positions, own, lambda: False)()
    assert (row.sync_state, row.sync_priority) == (SyncState.ASYNC, 0)


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
