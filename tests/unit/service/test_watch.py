"""What is a stall and what isn't: the decisions, with made-up sightings and times."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logship.lsn import Lsn
from logship.service.positions import Stage
from logship.service.watch.health import Health, State
from logship.service.watch.watch import Condition, Sighting, Verdict, Watch, sentence

STAGE = Stage.PERSISTENCE
BEHIND = Sighting(Lsn(100), Lsn(200), task="replaying a large transaction")


def looks(watch: Watch, *seen: tuple[float, Sighting]) -> list[Verdict]:
    return [watch.look(at_s, {STAGE: sighting})[STAGE] for at_s, sighting in seen]


def conditions(watch: Watch, *seen: tuple[float, Sighting]) -> list[str]:
    return [verdict.condition.value for verdict in looks(watch, *seen)]


def test_a_stage_that_is_behind_and_does_nothing_stands_after_a_while() -> None:
    assert conditions(Watch(30), (0, BEHIND), (29, BEHIND), (30, BEHIND), (31, BEHIND)) == [
        "well", "well", "stalled", "stalled",
    ]  # fmt: skip


def test_one_that_has_everything_never_stands() -> None:
    done = Sighting(Lsn(200), Lsn(200))
    assert conditions(Watch(30), (0, done), (3600, done)) == ["well", "well"]


def test_the_time_counts_from_when_there_was_something_to_do() -> None:
    done, more = Sighting(Lsn(200), Lsn(200)), Sighting(Lsn(200), Lsn(300))
    assert conditions(Watch(30), (0, done), (100, done), (101, more), (129, more), (131, more)) == [
        "well", "well", "well", "well", "stalled",
    ]  # fmt: skip


def test_it_clears_by_itself() -> None:
    moved = replace(BEHIND, lsn=Lsn(101))
    assert conditions(Watch(30), (0, BEHIND), (40, BEHIND), (41, moved), (70, moved)) == [
        "well", "stalled", "well", "well",
    ]  # fmt: skip


def test_finished_pieces_of_one_transaction_are_progress() -> None:
    watch = Watch(30)
    seen = looks(watch, *((float(s), replace(BEHIND, work=s // 20)) for s in range(0, 200, 5)))
    assert {verdict.condition for verdict in seen[4:]} == {Condition.BUSY}
    assert seen[-1].reason == "replaying a large transaction"
    assert seen[-1].standing_s == 195
    # and when they stop coming it stands
    last = replace(BEHIND, work=195 // 20)
    assert conditions(watch, (205, last), (211, last)) == ["busy", "stalled"]


def test_one_long_piece_is_busy_as_long_as_something_is_seen_to_happen() -> None:
    at_work = replace(BEHIND, doing="replaying a batch of 7 changes")
    watch = Watch(30)
    seen = looks(watch, (0, BEHIND), (60, at_work))
    assert (seen[-1].condition, seen[-1].reason) == (Condition.BUSY, "replaying a batch of 7 changes")
    assert conditions(watch, (61, BEHIND)) == ["stalled"]


def test_what_is_held_up_is_not_at_work() -> None:
    held = replace(BEHIND, doing="replaying a batch", held_by="it waits for a lock")
    seen = looks(Watch(30), (0, held), (31, held))
    assert (seen[-1].condition, seen[-1].reason) == (Condition.STALLED, "it waits for a lock")


def test_work_that_begins_anew_again_and_again_is_no_progress() -> None:
    seen = looks(Watch(30), *((float(s), replace(BEHIND, work=s, tries=s // 10)) for s in range(0, 60, 5)))
    assert seen[-1].condition is Condition.STALLED
    assert seen[-1].reason == "it has been tried 5 times in vain"


def test_a_source_that_fell_silent_is_a_stall() -> None:
    silent = Sighting(Lsn(200), Lsn(200), source_age_s=30, held_by="the primary doesn't answer")
    (verdict,) = looks(Watch(30), (0, silent))
    assert verdict == Verdict(Condition.STALLED, 30, "the primary doesn't answer", Lsn(200))


def test_unknown_is_not_well() -> None:
    assert conditions(Watch(30), (0, Sighting(None, Lsn(1))), (99, Sighting(Lsn(1), None))) == ["unknown"] * 2
    # and the time doesn't run meanwhile
    watch = Watch(30)
    assert conditions(watch, (0, BEHIND), (20, Sighting(None, None)), (40, BEHIND), (69, BEHIND)) == [
        "well", "unknown", "well", "well",
    ]  # fmt: skip


def test_a_position_that_is_set_back_starts_the_time_again() -> None:
    assert (
        conditions(Watch(30), (0, BEHIND), (29, replace(BEHIND, lsn=Lsn(50))), (31, BEHIND)) == ["well"] * 3
    )


@given(st.lists(st.tuples(st.floats(0.1, 40), st.integers(0, 3)), min_size=1, max_size=40))
def test_it_stands_exactly_when_nothing_has_moved_for_so_long(steps: list[tuple[float, int]]) -> None:
    watch, now_s, lsn, moved_s = Watch(30), 0.0, 0, 0.0
    watch.look(0.0, {STAGE: Sighting(Lsn(0), Lsn(1000))})
    for wait_s, step in steps:
        now_s, lsn = now_s + wait_s, lsn + step
        if step:
            moved_s = now_s
        verdict = watch.look(now_s, {STAGE: Sighting(Lsn(lsn), Lsn(1000))})[STAGE]
        assert (verdict.condition is Condition.STALLED) == (now_s - moved_s >= 30)
        assert verdict.standing_s == now_s - moved_s


# -- what becomes of the verdicts -------------------------------------------------------------------


def test_health_says_which_stage_stands_since_when_and_why() -> None:
    health = Health()
    health.streams()
    stalled = Verdict(Condition.STALLED, 31.0, "it waits for a lock", Lsn(100))
    began, over = health.watched({STAGE: stalled})
    assert (len(began), over, health.state, health.ready) == (1, False, State.STALLED, False)
    assert health.last_error is not None
    assert "persistence stands at 0/64 since 2" in health.reason
    assert "UTC: it waits for a lock" in health.last_error[0]
    since = health.reason
    health.tried_again("replayer", "lock_timeout", "tried again (try 2)", away=False)
    assert health.watched({STAGE: replace(stalled, standing_s=40.0)}) == ([], False)
    assert health.reason == since, "it is the same stall"
    assert health.last_error[0].startswith(since)
    assert "tried again (try 2)" in health.last_error[0]
    # Another stage stands behind it, which is said last: why the first one does is said still.
    began, _ = health.watched(
        {STAGE: replace(stalled, reason=""), Stage.MEMORY: Verdict(Condition.STALLED, 30.0)}
    )
    assert len(began) == 1
    assert "tried again (try 2)" in health.last_error[0]
    assert health.watched({STAGE: replace(stalled, standing_s=50.0)})[0] == []
    assert health.watched({STAGE: Verdict(Condition.WELL)}) == ([], True)
    assert (health.state, health.ready, health.reason) == (State.STREAMING, True, "")
    assert health.errors == {"stalled": 2}
    assert health.retries == {("replayer", "lock_timeout"): 1}


@pytest.mark.parametrize(("verdict", "shown"), [
    (Verdict(Condition.WELL), "streaming"),
    (Verdict(Condition.BUSY, 9.0, "replaying a large transaction"), "busy: persistence: replaying a large transaction"),
])  # fmt: skip
def test_the_views_state(verdict: Verdict, shown: str) -> None:
    health = Health()
    assert health.shown == "starting"
    health.streams()
    health.watched({STAGE: verdict})
    assert health.shown == shown
    assert health.ready


def test_what_is_waited_out_by_one_is_not_over_because_another_goes_on() -> None:
    health = Health()
    health.streams()
    health.tried_again("replayer", "link_lost", "the link was lost", away=True)
    health.streams()
    assert (health.state, health.ready, health.reason) == (State.WAITING, False, "the link was lost")
    health.over("replayer")
    assert health.state is State.STREAMING


def test_a_foreign_error_is_named_and_not_quoted() -> None:
    health = Health()
    health.ended(ValueError("password=geheim"))
    assert (health.state, health.reason) == (State.FAILED, "ValueError")


def test_the_sentence() -> None:
    assert sentence(STAGE, Verdict(Condition.STALLED, 1, "", None), "noon") == "persistence stands since noon"
