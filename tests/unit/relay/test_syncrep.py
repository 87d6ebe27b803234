"""What is told to the primary when commits wait for replicas: never more than the policy's replicas have, unless
it is fractured; never past the journal; never backwards; and a replay that nobody reported, never."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logship.errors import InternalError
from logship.lsn import INVALID, Lsn
from logship.relay.policy import Choice, Policy, parse
from logship.relay.synchrony import (
    TRANSITIONS,
    Block,
    DegradeAfter,
    Event,
    Positions3,
    ReplicaState,
    State,
    SyncState,
    WhenUnmet,
)
from logship.relay.syncrep import SyncRep


def at(write: int, flush: int | None = None, replay: int | None = None) -> Positions3:
    flush = write if flush is None else flush
    return Positions3(Lsn(write), Lsn(flush), Lsn(flush if replay is None else replay))


def sync(policy: str, when_unmet: WhenUnmet | None = None) -> SyncRep:
    return SyncRep(parse(policy), when_unmet or Block())


def here(core: SyncRep, name: str, positions: Positions3, now_s: float = 0.0) -> None:
    core.connected(name, now_s)
    core.reported(name, positions, now_s)


def told(core: SyncRep, lsn: int, now_s: float = 0.0) -> Positions3:
    return core.reach(Lsn(lsn), Lsn(lsn), now_s)


def test_the_table_is_whole() -> None:
    assert set(TRANSITIONS) == set(itertools.product(State, Event))
    assert set(TRANSITIONS.values()) == set(State)


def test_asynchronous_is_the_journal_and_claims_no_replay() -> None:
    core = SyncRep(None, Block())
    here(core, "a", at(30))
    assert core.reach(Lsn(20), Lsn(10), 0.0) == Positions3(Lsn(20), Lsn(10), INVALID)
    assert core.status("a").sync_state is SyncState.ASYNC


def test_a_policy_without_its_replica_stands() -> None:
    core = sync("a")
    assert told(core, 100) == Positions3()
    assert told(core, 200, 3600.0) == Positions3()
    assert core.state is State.BLOCKED
    assert core.next_due_s(0.0) is None


def test_each_position_is_the_replicas_own() -> None:
    core = sync("a")
    here(core, "a", at(90, 80, 70))
    assert told(core, 100) == at(90, 80, 70)
    assert core.state is State.IN_SYNC


def test_never_past_the_journal() -> None:
    """A replica may be ahead of a shipper that crashed."""
    core = sync("a")
    here(core, "a", at(90))
    assert core.reach(Lsn(60), Lsn(50), 0.0) == at(60, 50, 50)


def test_first_is_the_least_of_those_with_priority_and_any_the_kth_highest() -> None:
    first, quorum = sync("FIRST 2 (a, b, c)"), sync("ANY 2 (a, b, c)")
    for core in (first, quorum):
        for name, lsn in (("a", 50), ("b", 10), ("c", 40), ("d", 99)):
            here(core, name, at(lsn))
    assert told(first, 100) == at(10)
    assert told(quorum, 100) == at(40)
    assert [first.status(name).sync_state.value for name in "abcd"] == ["sync", "sync", "potential", "async"]
    assert [quorum.status(name).sync_state.value for name in "abcd"] == ["quorum"] * 3 + ["async"]
    assert [first.status(name).sync_priority for name in "abcd"] == [1, 2, 3, 0]
    first.gone("b", 1.0)
    assert told(first, 100, 1.0) == at(40)
    assert first.status("c").sync_state is SyncState.SYNC


def test_one_that_comes_with_a_long_way_to_go_holds_nobody_up() -> None:
    core = sync("FIRST 1 (a, b)")
    here(core, "b", at(100))
    assert told(core, 100) == at(100)
    here(core, "a", at(10))
    assert core.status("a").state is ReplicaState.CATCHUP
    core.reported("b", at(150), 1.0)
    assert told(core, 150, 1.0) == at(150)
    core.reported("a", at(150), 2.0)
    assert told(core, 160, 2.0) == at(150)
    assert core.status("a").sync_state is SyncState.SYNC
    assert core.status("b").sync_state is SyncState.POTENTIAL


def test_connected_is_not_reported() -> None:
    core = sync("a")
    here(core, "a", at(50))
    assert told(core, 50) == at(50)
    core.gone("a", 1.0)
    core.connected("a", 1.0)
    assert core.status("a").state is ReplicaState.STARTUP
    assert told(core, 60, 1.0) == at(50)
    assert core.state is State.BLOCKED


def test_a_replica_that_lost_its_journal_is_believed_and_has_to_catch_up() -> None:
    core = sync("a")
    here(core, "a", at(50))
    assert told(core, 50) == at(50)
    core.gone("a", 1.0)
    here(core, "a", at(20), 2.0)
    assert told(core, 60, 2.0) == at(50)
    assert core.state is State.CATCH_UP
    core.reported("a", at(60), 3.0)
    assert told(core, 60, 3.0) == at(60)
    assert core.state is State.IN_SYNC


def test_degrades_and_comes_back_through_catch_up() -> None:
    core = sync("a", DegradeAfter(10.0))
    here(core, "a", at(50))
    assert told(core, 50) == at(50)
    core.gone("a", 1.0)
    assert told(core, 60, 2.0) == at(50)
    assert core.state is State.BLOCKED
    assert core.next_due_s(2.0) == 10.0
    assert told(core, 70, 11.9) == at(50)
    assert told(core, 80, 12.0) == at(80)
    assert core.state is State.FRACTURED
    assert core.status("a").state is ReplicaState.FRACTURED
    here(core, "a", at(50), 20.0)
    assert told(core, 90, 20.0) == at(90)  # far behind: nobody waits for it
    assert core.state is State.CATCH_UP
    core.reported("a", at(85), 21.0)  # less than a second behind: what is told stands until it is there
    assert told(core, 95, 20.5) == at(90)
    core.reported("a", at(92), 20.6)
    assert told(core, 95, 20.6) == at(92)
    assert core.state is State.IN_SYNC
    assert core.status("a").state is ReplicaState.STREAMING


def test_nothing_waits_nothing_degrades() -> None:
    core = sync("a", DegradeAfter(1.0))
    here(core, "a", at(50))
    assert told(core, 50) == at(50)
    core.gone("a", 1.0)
    assert told(core, 50, 3600.0) == at(50)
    assert core.state is State.BLOCKED
    assert core.next_due_s(3600.0) is None


def test_a_replica_that_hangs_degrades_too_and_returns_only_when_it_is_heard_of() -> None:
    core = sync("a", DegradeAfter(10.0))
    here(core, "a", at(50))
    told(core, 50)
    told(core, 60, 1.0)
    assert told(core, 60, 11.0) == at(60)
    assert core.state is State.FRACTURED
    assert told(core, 70, 30.0) == at(70)
    assert core.state is State.FRACTURED
    core.reported("a", at(55), 31.0)
    assert told(core, 70, 31.0) == at(70)
    assert core.state is State.CATCH_UP


def test_while_catching_up_a_replica_that_goes_again_holds_nobody_up() -> None:
    core = sync("a", DegradeAfter(10.0))
    told(core, 50)
    assert told(core, 50, 10.0) == at(50)
    here(core, "a", at(10), 11.0)
    told(core, 60, 11.0)
    assert core.state is State.CATCH_UP
    core.gone("a", 12.0)
    assert told(core, 70, 12.0) == at(70)
    assert core.state is State.FRACTURED


def test_a_replay_that_stands_degrades_to_what_on_promises_and_no_further() -> None:
    core = sync("a", DegradeAfter(10.0))
    here(core, "a", at(50))
    told(core, 50)
    told(core, 60, 1.0)
    core.reported("a", at(58, 58, 50), 9.0)
    told(core, 60, 9.0)
    core.reported("a", at(60, 60, 50), 11.0)
    assert told(core, 61, 11.0) == at(60, 60, 60)
    assert core.states == {"write": State.IN_SYNC, "flush": State.IN_SYNC, "replay": State.FRACTURED}
    assert core.state is State.FRACTURED


def test_a_replica_that_never_reports_replay_is_not_fractured_while_on_holds() -> None:
    """pg_recvlogical: what it confirms is flushed. `remote_apply` degrades, and the policy says so."""
    core = sync("a", DegradeAfter(10.0))
    core.connected("a", 0.0)
    for lsn, now_s in ((50, 0.0), (60, 11.0), (70, 22.0), (80, 33.0)):
        core.reported("a", Positions3(Lsn(lsn), Lsn(lsn), INVALID), now_s)
        told(core, lsn, now_s)
    assert core.states == {"write": State.IN_SYNC, "flush": State.IN_SYNC, "replay": State.FRACTURED}
    assert core.state is State.FRACTURED
    assert core.status("a").state is ReplicaState.STREAMING
    assert told(core, 90, 34.0) == at(80, 80, 80)  # `remote_apply` promises what `on` does, which waits
    told(core, 90, 45.0)
    assert core.status("a").state is ReplicaState.FRACTURED  # its flush is late now
    core.reported("a", Positions3(Lsn(90), Lsn(90), INVALID), 46.0)
    assert core.status("a").state is ReplicaState.STREAMING
    core.reported("a", Positions3(Lsn(90), Lsn(90), Lsn(60)), 47.0)
    told(core, 100, 47.0)
    assert core.states["replay"] is State.CATCH_UP  # it tells of replay now, and is behind


def test_catching_up_keeps_nobody_busy_when_all_there_is_was_told() -> None:
    core = sync("a", DegradeAfter(10.0))
    here(core, "a", at(50))
    told(core, 60)
    told(core, 60, 11.0)
    core.reported("a", at(60, 60, 50), 12.0)
    told(core, 60, 12.0)
    told(core, 60, 14.0)
    assert core.states["replay"] is State.CATCH_UP
    assert core.next_due_s(14.0) is None


def test_after_a_restart_what_the_primary_was_told_is_remembered() -> None:
    core = sync("a", DegradeAfter(10.0))
    core.began(Lsn(50))
    here(core, "a", at(40), 0.0)
    assert told(core, 50).flush == Lsn(50)
    assert core.state is State.CATCH_UP
    core.reported("a", at(50), 0.1)
    told(core, 50, 0.1)
    assert core.state is State.IN_SYNC


def test_an_asynchronous_replica_is_shown_as_catching_up_until_it_has() -> None:
    core = SyncRep(None, Block())
    told(core, 100, 0.0)
    told(core, 200, 10.0)
    here(core, "a", at(50), 10.0)
    assert core.status("a").state is ReplicaState.CATCHUP
    core.reported("a", at(150), 10.5)
    assert core.status("a").state is ReplicaState.STREAMING
    core.gone("a", 11.0)
    assert core.status("a").state is ReplicaState.AWAY
    assert core.status("a").positions == at(150)


def test_who_is_not_connected_reports_nothing() -> None:
    with pytest.raises(InternalError):
        sync("a").reported("a", at(1), 0.0)


# -- in general ----------------------------------------------------------------------------------------

NAMES = "abc"
_policies = st.builds(Policy, st.sampled_from(Choice), st.integers(1, 3), st.just(tuple(NAMES)))
_steps = st.lists(
    st.one_of(
        st.tuples(st.just("come"), st.sampled_from(NAMES)),
        st.tuples(st.just("go"), st.sampled_from(NAMES)),
        st.tuples(st.just("report"), st.sampled_from(NAMES), st.integers(0, 30), st.integers(0, 9), st.integers(0, 9)),
        st.tuples(st.just("journal"), st.integers(0, 9), st.integers(0, 9)),
        st.tuples(st.just("time"), st.sampled_from([0.01, 0.5, 2.0, 20.0])),
    ),
    max_size=60,
)  # fmt: skip


class World:
    """The replicas as they really are, beside the core that is told of them."""

    def __init__(self, policy: Policy | None, when_unmet: WhenUnmet) -> None:
        self.core = SyncRep(policy, when_unmet)
        self.now_s = 0.0
        self.written = self.flushed = 0
        self.here: dict[str, Positions3] = {}  # what each connected one has reported
        self.known: set[str] = set()

    def step(self, kind: str, *given: object) -> None:
        getattr(self, kind)(*given)

    def come(self, name: str) -> None:
        self.core.connected(name, self.now_s)
        self.known.add(name)
        self.here[name] = Positions3()

    def go(self, name: str) -> None:
        if self.here.pop(name, None) is not None:
            self.core.gone(name, self.now_s)

    def report(self, name: str, write: int, less: int, still_less: int) -> None:
        if name in self.here:
            flush = max(0, write - less)
            said = Positions3(Lsn(write), Lsn(flush), Lsn(max(0, flush - still_less)))
            self.core.reported(name, said, self.now_s)
            before = self.here[name]
            self.here[name] = Positions3(
                max(before.write, said.write), max(before.flush, said.flush), max(before.replay, said.replay)
            )

    def journal(self, more: int, behind: int) -> None:
        self.written += more
        self.flushed = max(self.flushed, self.written - behind)

    def time(self, seconds: float) -> None:
        self.now_s += seconds


@given(_policies, st.sampled_from([Block(), DegradeAfter(1.0), DegradeAfter(10.0)]), _steps)
def test_what_is_told_is_kept(
    policy: Policy, when_unmet: WhenUnmet, steps: list[tuple[str, *tuple[object, ...]]]
) -> None:
    world = World(policy, when_unmet)
    last = Positions3()
    for step in steps:
        world.step(*step)
        following = world.core.reach(Lsn(world.written), Lsn(world.flushed), world.now_s)
        assert following.write <= world.written
        assert following.flush <= world.flushed
        assert following.replay <= following.flush <= following.write
        for name in ("write", "flush", "replay"):
            before, after = getattr(last, name), getattr(following, name)
            assert after >= before
            state = world.core.states[name]
            degraded = state in (State.FRACTURED, State.CATCH_UP) and when_unmet != Block()
            if after > before and not degraded and not (name == "write" and after == following.flush):
                have = [positions for positions in world.here.values() if getattr(positions, name) >= after]
                assert len(have) >= policy.count
        last = following


@given(_steps)
def test_without_a_policy_no_replay_is_claimed(steps: list[tuple[str, *tuple[object, ...]]]) -> None:
    world = World(None, Block())
    for step in steps:
        world.step(*step)
        following = world.core.reach(Lsn(world.written), Lsn(world.flushed), world.now_s)
        assert following == Positions3(Lsn(world.written), Lsn(world.flushed), INVALID)


@given(_policies, _steps)
def test_nobody_waits_longer_than_degrading_allows(
    policy: Policy, steps: list[tuple[str, *tuple[object, ...]]]
) -> None:
    """Whatever happened: once the journal has stood for so long, and the core is asked when it says, all is told."""
    world = World(policy, DegradeAfter(10.0))
    for step in steps:
        world.step(*step)
        world.core.reach(Lsn(world.written), Lsn(world.flushed), world.now_s)
    for _ in range(8):
        due_s = world.core.next_due_s(world.now_s)
        if due_s is None:
            break
        world.now_s += due_s
        world.core.reach(Lsn(world.written), Lsn(world.flushed), world.now_s)
    now = world.core.reach(Lsn(world.written), Lsn(world.flushed), world.now_s)
    assert now.flush == now.replay == world.flushed


@given(_policies, st.sampled_from([Block(), DegradeAfter(10.0)]), _steps)
def test_replicas_that_have_everything_bring_it_back_in_sync(
    policy: Policy, when_unmet: WhenUnmet, steps: list[tuple[str, *tuple[object, ...]]]
) -> None:
    world = World(policy, when_unmet)
    for step in steps:
        world.step(*step)
        world.core.reach(Lsn(world.written), Lsn(world.flushed), world.now_s)
    everything = Positions3(Lsn(world.written), Lsn(world.written), Lsn(world.written))
    for name in NAMES:
        world.now_s += 0.01
        world.core.connected(name, world.now_s)
        world.core.reported(name, everything, world.now_s)
    for _ in range(3):
        now = world.core.reach(Lsn(world.written), Lsn(world.flushed), world.now_s)
    assert world.core.state is State.IN_SYNC
    assert now == Positions3(Lsn(world.written), Lsn(world.flushed), Lsn(world.flushed))
    assert {world.core.status(name).state for name in NAMES} == {ReplicaState.STREAMING}
