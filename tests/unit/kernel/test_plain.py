"""Plain transactions: what is one, and that a stretch of them is coded and read as each of them by itself."""

from __future__ import annotations

from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logship.journal.contents import Contents
from logship.journal.segment import Record, RecordKind, Stretch, decode_record, encode_record, record_size
from logship.kernel import frame
from logship.kernel.choice import CYTHON, PYTHON, implementation, is_built
from logship.lsn import Lsn
from tests.kernels import WHY
from tests.unit.plain import almost, begin, commit, row, stretches, transaction

SALT = 0xDEADBEEF
both = pytest.mark.skipif(not is_built(), reason=WHY)
anything = almost() | stretches() | st.lists(st.binary(max_size=40), min_size=1, max_size=2)


def segment_of(kernel: ModuleType, runs: list[bytes]) -> list[Record]:
    stretch = b"".join(runs)
    return Stretch.of(stretch, kernel.plain(stretch)).records()


def test_what_a_stretch_says_of_itself(kernel: ModuleType) -> None:
    first = transaction(100, row(1, b"x"), xid=3, time_us=8)
    last = transaction(108, row(2, b"y"), b"O origin", row(2, tag=b"D"), xid=2, time_us=-9)
    assert kernel.plain(first + last) == (2, 100, 2, 108, 116, -9)
    assert kernel.cut(first + last) == [(first, 3, 100, 108, 8), (last, 2, 108, 116, -9)]
    assert kernel.plain(transaction(2**64 - 2, end_lsn=2**64 - 1)).end_lsn == 2**64 - 1


@pytest.mark.parametrize(
    "run",
    [
        b"",
        frame([begin(1, 2, 3)]),
        frame([commit(1, 2, 3)]),
        frame([begin(1, 2, 3), row(1), commit(2, 3, 3)]),
        frame([begin(1, 2, 3), row(1), commit(1, 3, 4)]),
        frame([begin(1, 2, 3), b"C\1" + commit(1, 3, 2)[2:]]),
        frame([begin(1, 2, 3), begin(1, 2, 3), commit(1, 3, 3)]),
        frame([begin(1, 2, 3), b"M\0", commit(1, 3, 3)]),
        frame([begin(1, 2, 3), b"", commit(1, 3, 3)]),
        transaction(100, end_lsn=100),
        transaction(100) + transaction(107),
        transaction(100) + b"\0",
        transaction(100)[:-1],
        transaction(100, b"I\0\0\0"),
    ],
)
def test_what_is_no_stretch(kernel: ModuleType, run: bytes) -> None:
    assert kernel.plain(run) is None
    for function in (lambda: kernel.changing(run, ()), lambda: kernel.encode_plain(run, 1, 0)):
        with pytest.raises(ValueError, match="transaction"):
            function()


def test_the_stretch_that_stands_at_a_place(kernel: ModuleType) -> None:
    one, other = transaction(16, row(1), b"O x", xid=3, time_us=5), transaction(24, xid=4, time_us=6)
    run = row(1) + one + other + frame([begin(40, 5, 5), row(1)])
    at, between, behind = len(row(1)), len(row(1) + one), len(row(1) + one + other)
    assert kernel.plain_at(run, at, len(run), 16, 1000) == ((2, 16, 4, 24, 32, 6), behind)
    assert kernel.plain_at(run, at, behind - 1, 16, 1000) == ((1, 16, 3, 16, 24, 5), between)
    assert kernel.plain_at(run, at, len(run), 16, len(one)) == ((2, 16, 4, 24, 32, 6), behind)
    assert kernel.plain_at(run, at, len(run), 16, len(one) - 1) is None
    assert kernel.plain_at(run, at, len(run), 17, 1000) is None
    assert kernel.plain_at(run, behind, len(run), 0, 1000) is None
    assert kernel.plain_at(run, at, at, 0, 1000) is None
    for outside in ((at, len(run) + 1), (-1, at), (at, at - 1)):
        with pytest.raises(ValueError, match="outside"):
            kernel.plain_at(run, *outside, 0, 1000)


def test_one_that_was_committed_before_the_end_of_the_last_ends_a_stretch(kernel: ModuleType) -> None:
    run = transaction(16, end_lsn=24) + transaction(23)
    found = kernel.plain_at(run, 0, len(run), 0, 1000)
    assert (found[0].transactions, found[1]) == (1, len(transaction(16, end_lsn=24)))


@settings(max_examples=60, deadline=None)
@given(almost() | stretches(), st.integers(0, 400), st.integers(1, 400), st.data())
def test_what_stands_at_a_place_is_as_much_as_is_plain(
    kernel: ModuleType, runs: list[bytes], after: int, most: int, data: st.DataObject
) -> None:
    run = b"".join(runs)
    end = data.draw(st.sampled_from([len(run), max(len(run) - 1, 0), len(run) // 2]))
    found = kernel.plain_at(run, 0, end, after, most)
    told, stop = found or (None, 0)
    assert kernel.plain(run[:stop]) == told
    transactions = kernel.cut(run[:stop]) if stop else []
    assert all(len(one.run) <= most for one in transactions)
    assert not transactions or transactions[0].commit_lsn >= after


def test_commit_times_are_those_that_lie_apart(kernel: ModuleType) -> None:
    times_us = [0, 40, 50, 51, 20, 200, -(2**63), 2**63 - 1, 2**63 - 1]
    run = b"".join(transaction(10 * n, end_lsn=10 * n + 5, time_us=at) for n, at in enumerate(times_us, 1))
    assert kernel.commit_times(run, 50) == [
        (35, 50), (55, 20), (65, 200), (75, -(2**63)), (95, 2**63 - 1)
    ]  # fmt: skip
    assert kernel.commit_times(run, 0) == [(10 * n + 5, times_us[n - 1]) for n in (1, 2, 3, 4, 5, 6, 7, 9)]
    with pytest.raises(ValueError, match="transaction"):
        kernel.commit_times(run[:-1], 50)


def test_transactions_count_that_change_what_is_not_left_out(kernel: ModuleType) -> None:
    run = b"".join([transaction(100, row(1), row(2)), transaction(200), transaction(300, b"O x", row(2))])
    assert [kernel.changing(run, out) for out in ((), {1}, {2}, {1, 2})] == [2, 2, 1, 0]


@settings(max_examples=60, deadline=None)
@given(stretches(), st.integers(0, 2**20).map(lambda size: size * 8))
def test_each_is_a_record_as_if_it_had_come_by_itself(
    kernel: ModuleType, runs: list[bytes], synced: int
) -> None:
    encoded = kernel.encode_plain(b"".join(runs), SALT, synced)
    records = segment_of(kernel, runs)
    assert encoded.data == b"".join(part for one in records for part in encode_record(one, SALT, synced))
    assert len(encoded.data) == sum(record_size(len(run)) for run in runs)
    alone, together = Contents(Lsn(0), None, {}), Contents(Lsn(0), None, {})
    for one in records:
        alone.note(one)
    together.note_stretch(Stretch.of(b"".join(runs), kernel.plain(b"".join(runs))), encoded)
    assert together.index_record(0, SALT) == alone.index_record(0, SALT)


@settings(max_examples=60, deadline=None)
@given(almost() | stretches(), st.integers(1, 400), st.data())
def test_what_is_gathered_is_what_is_read_record_by_record(
    kernel: ModuleType, runs: list[bytes], max_bytes: int, data: st.DataObject
) -> None:
    """And nothing is where the next record isn't good, or isn't plain."""
    records = [
        segment_of(kernel, [run])[0]
        if kernel.plain(run) and kernel.plain(run).transactions == 1
        else Record(RecordKind.CHANGES, True, True, 9, Lsn(1), Lsn(2), 0, run)
        for run in runs
    ]
    segment = b"12345678" + b"".join(part for one in records for part in encode_record(one, SALT, 64))
    damaged = bytearray(segment)
    if data.draw(st.booleans()):
        damaged[data.draw(st.integers(8, len(segment) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    segment = bytes(
        damaged[: data.draw(st.sampled_from([len(damaged), len(damaged) - 1, len(damaged) // 2]))]
    )
    at, reached = 8, 0
    while (found := kernel.gather(segment, at, SALT, max_bytes)) is not None:
        assert len(found.run) - len(kernel.cut(found.run)[-1].run) < max_bytes
        for one in kernel.cut(found.run):
            last_at = at
            record, synced, at = decode_record(segment, at, SALT)
            assert record.run == one.run
            assert (record.xid, record.commit_lsn, record.end_lsn, record.commit_time_us) == one[1:]
        assert (found.last_at, found.following, found.synced) == (last_at, at, synced)
        assert found.plain == kernel.plain(found.run)
        reached = found.plain.end_lsn
    assert reached == 0 or at > 8


@both
@settings(max_examples=200, deadline=None)
@given(anything, st.integers(1, 400))
def test_both_kernels_say_the_same(runs: list[bytes], max_bytes: int) -> None:
    python, cython = implementation(PYTHON), implementation(CYTHON)
    run = b"".join(runs)
    assert python.plain(run) == cython.plain(run)
    bodies = [Record(RecordKind.CHANGES, True, True, 3, Lsn(1), Lsn(2), 5, one) for one in runs]
    plain = python.plain(run)
    if plain is not None:
        assert python.encode_plain(run, SALT, 80) == cython.encode_plain(run, SALT, 80)
        for left_out in ((), {1}, {0, 300}):
            assert python.changing(run, left_out) == cython.changing(run, left_out)
        assert python.commit_times(run, max_bytes) == cython.commit_times(run, max_bytes)
        bodies = segment_of(python, [run])
    segment = b"".join(part for one in bodies for part in encode_record(one, SALT, 64))
    for at in (0, 8, len(segment) - 1, len(segment)):
        for size in (len(segment), len(segment) - 1):
            assert python.gather(segment[:size], at, SALT, max_bytes) == cython.gather(
                segment[:size], at, SALT, max_bytes
            )
    assert cython.gather(segment, 0, SALT + 1, max_bytes) is None
