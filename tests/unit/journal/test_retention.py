"""Retention is a pure decision, so its promises are properties."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from logship.journal.retention import Segment, begin_for, decide, oldest_lsn
from logship.lsn import Lsn

SECOND = 1_000_000


def segment(
    index: int, first: int, last: int, whole: int | None, *, size: int = 100, time: int = 0
) -> Segment:
    return Segment(
        f"s{index}",
        Lsn(first),
        Lsn(last),
        None if whole is None else Lsn(whole),
        size,
        size,
        True,
        1,
        time,
        time,
    )


@st.composite
def chains(draw: st.DrawFn) -> list[Segment]:
    segments: list[Segment] = []
    at, time, is_open = 0, 0, False
    for index in range(draw(st.integers(1, 8))):
        first = at
        through = is_open and draw(st.booleans())
        at += 0 if through else draw(st.integers(1, 50))
        whole = None if through else draw(st.integers(first + 1, at)) if is_open else first
        is_open = through or draw(st.booleans())
        time += draw(st.integers(0, 20)) * SECOND
        segments.append(segment(index, first, at, whole, size=draw(st.integers(1, 100)), time=time))
    return segments


replicas = st.dictionaries(st.sampled_from("abc"), st.builds(Lsn, st.integers(0, 400)), max_size=3)


@given(chains(), replicas, st.none() | st.integers(0, 500), st.integers(0, 60), st.integers(0, 200))
def test_what_is_dropped_is_the_oldest_and_what_is_left_can_be_read(
    segments: list[Segment], needed: dict[str, Lsn], limit: int | None, age: int, now: int
) -> None:
    found = decide(segments, needed, limit_bytes=limit, min_age_s=age, now_us=now * SECOND)
    left = segments[len(found.drop) :]
    assert found.drop == tuple(item.name for item in segments[: len(found.drop)])
    assert left
    if found.drop:
        assert left[0].whole_lsn == found.oldest_lsn == oldest_lsn(left)
    assert set(found.lost) == {name for name, lsn in needed.items() if lsn < found.oldest_lsn}
    for name, lsn in needed.items():
        assert (begin_for(left, lsn) is None) == (name in found.lost)


@given(chains(), replicas, st.integers(0, 60), st.integers(0, 200))
def test_without_a_limit_nobody_loses_anything(
    segments: list[Segment], needed: dict[str, Lsn], age: int, now: int
) -> None:
    before = oldest_lsn(segments)
    found = decide(segments, needed, limit_bytes=None, min_age_s=age, now_us=now * SECOND)
    assert set(found.lost) == {name for name, lsn in needed.items() if lsn < before}
    dropped = segments[: len(found.drop)]
    assert all(
        item.last_commit_time_us < (now - age) * SECOND for item in dropped if item.last_commit_time_us
    )


@given(chains(), replicas, st.integers(0, 500))
def test_the_limit_comes_before_need(segments: list[Segment], needed: dict[str, Lsn], limit: int) -> None:
    found = decide(segments, needed, limit_bytes=limit, min_age_s=10**6, now_us=0)
    left = segments[len(found.drop) :]
    if sum(item.bytes for item in left) > limit:  # only where nothing more can go
        assert all(item.whole_lsn is None for item in left[1:])


@given(chains(), st.integers(0, 400))
def test_no_more_is_kept_for_a_replica_than_it_needs(segments: list[Segment], lsn: int) -> None:
    found = decide(segments, {"a": Lsn(lsn)}, limit_bytes=None, min_age_s=0, now_us=10**15)
    left = segments[len(found.drop) :]
    begin = begin_for(left, Lsn(lsn))
    if begin is not None and segments[0].whole_lsn is not None:
        assert begin == 0


def test_a_position_inside_a_segment_keeps_it() -> None:
    segments = [segment(0, 0, 10, 0), segment(1, 10, 20, 10), segment(2, 20, 30, 20)]
    found = decide(segments, {"a": Lsn(15)}, limit_bytes=None, min_age_s=0, now_us=0)
    assert found.drop == ("s0",)


def test_a_transaction_that_spans_segments_is_kept_from_its_first() -> None:
    segments = [
        segment(0, 0, 10, 0),
        segment(1, 10, 10, None),
        segment(2, 10, 30, 25),
        segment(3, 30, 40, 30),
    ]
    assert decide(segments, {"a": Lsn(10)}, limit_bytes=None, min_age_s=0, now_us=0).drop == ()
    assert decide(segments, {"a": Lsn(25)}, limit_bytes=None, min_age_s=0, now_us=0).drop == ("s0", "s1")


def test_past_the_limit_the_replica_that_needed_it_is_told() -> None:
    segments = [segment(0, 0, 10, 0), segment(1, 10, 20, 10), segment(2, 20, 30, 20)]
    found = decide(segments, {"slow": Lsn(5), "quick": Lsn(30)}, limit_bytes=250, min_age_s=0, now_us=0)
    assert (found.drop, found.lost, found.oldest_lsn) == (("s0",), ("slow",), 10)


def test_a_position_before_all_segments_keeps_them() -> None:
    """It may be a stale look at a replica that has moved on, but not to the end."""
    segments = [segment(1, 10, 20, 10), segment(2, 20, 30, 20)]
    found = decide(segments, {"a": Lsn(5)}, limit_bytes=None, min_age_s=0, now_us=0)
    assert (found.drop, found.lost) == ((), ("a",))
