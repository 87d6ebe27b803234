"""Loading, evicting, pieces, misses, lack of memory: what becomes of an object, and what readers see."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from logship.change import UNCHANGED
from logship.errors import InternalError, SecondaryError
from logship.lsn import Lsn
from logship.replay.memory.memory import Memory
from logship.replay.memory.policy import Policies, Policy
from logship.replay.memory.replay import MemoryDiffers
from logship.replay.memory.resident import ObjectState, Residence
from logship.replay.target import Target
from tests.unit.replay.memory_model import (
    INT4,
    INT8,
    MONEY,
    NUMERIC,
    TEXT,
    TIMESTAMP,
    ModelPersistence,
    Rows,
    apply,
    batch,
    coalesced,
    contents,
    delete,
    insert,
    memory_of,
    settle,
    target,
    truncate,
    update,
)  # fmt: skip

T = target("t", ("id", INT4), ("note", TEXT))
U = target("u", ("id", INT4), ("note", TEXT))
LOOSE = target("loose", ("a", TEXT), ("b", INT8), key=())
START: Rows = {"t": [[b"1", b"one"], [b"2", b"two"]], "u": [[b"9", None]], "loose": []}
AD, BC = b"2020-01-01 00:00:00", b"0044-03-15 00:00:00 BC"


@pytest.fixture
def persistence() -> ModelPersistence:
    return ModelPersistence(START)


@pytest.fixture
def memory(persistence: ModelPersistence) -> Iterator[Memory]:
    made = memory_of(persistence)
    yield made
    made.close()


def loaded(memory: Memory, *targets: Target) -> None:
    for one in targets:
        memory.want(one)
    settle(memory)


def state(memory: Memory, name: str = "t") -> ObjectState:
    return next(one for one in memory.objects() if one.relname == name)


def test_a_cold_object_is_loaded_at_its_first_change(memory: Memory, persistence: ModelPersistence) -> None:
    apply(memory, batch(2, coalesced(insert(T, b"3", b"three"))))
    assert contents(memory, "t") == ([[b"1", b"one"], [b"2", b"two"], [b"3", b"three"]], Lsn(2))
    assert persistence.waits == [Lsn(1)]
    known = state(memory)
    assert (known.rows, known.loads, known.dml_memory, known.last_change_lsn) == (3, 1, 1, Lsn(2))


def test_an_empty_batch_moves_the_position_only(memory: Memory) -> None:
    apply(memory, batch(7))
    assert memory.memory_lsn == Lsn(7)
    assert memory.objects() == []
    assert memory.query("select 1")[1] == Lsn(7)


def test_a_truncate_loads_nothing_and_empties_what_is_resident(
    memory: Memory, persistence: ModelPersistence
) -> None:
    apply(memory, batch(2, coalesced(truncate(T, U))))
    assert persistence.loads == []
    persistence.reach(2, {**START, "t": [], "u": []})
    apply(memory, batch(3, coalesced(insert(T, b"5", b"five"))))
    apply(memory, batch(4, coalesced(truncate(T), insert(T, b"6", None))))
    assert contents(memory, "t") == ([[b"6", None]], Lsn(4))
    assert state(memory).rows == 1


def test_moves_exchange_keys_and_keep_unchanged_cells(memory: Memory) -> None:
    apply(
        memory,
        batch(
            2,
            coalesced(
                update(T, [b"1", b"one"], [b"3", UNCHANGED]),
                update(T, [b"2", b"two"], [b"1", UNCHANGED]),
                update(T, [b"3", b"one"], [b"2", b"ONE"]),
            ),
        ),
    )
    assert contents(memory, "t")[0] == [[b"1", b"two"], [b"2", b"ONE"]]


def test_one_of_equal_rows_goes(memory: Memory) -> None:
    row, null = (b"x", b"1"), (None, None)
    apply(memory, batch(2, coalesced(*[insert(LOOSE, *row)] * 3, *[insert(LOOSE, *null)] * 2)))
    apply(memory, batch(3, coalesced(delete(LOOSE, *row), update(LOOSE, [*null], [b"y", None]))))
    assert contents(memory, "loose")[0] == [[None, None], [b"x", b"1"], [b"x", b"1"], [b"y", None]]
    with pytest.raises(MemoryDiffers) as raised:
        apply(memory, batch(4, coalesced(*[delete(LOOSE, *row)] * 3)))
    assert (raised.value.expected, raised.value.found) == (3, 2)
    assert contents(memory, "loose")[1] == Lsn(3)


def test_rows_without_key_go_that_the_same_transaction_put_there(memory: Memory) -> None:
    """Once it missed every second of them: a filter of DuckDB's on rowid, see `logship.replay.memory.store`."""
    old, gone, new = (b"old", b"1"), (b"gone", b"1"), (b"new", b"1")
    for end in range(2, 42, 2):
        apply(memory, batch(end, coalesced(insert(LOOSE, *old))))
        apply(memory, batch(end, coalesced(insert(LOOSE, *gone)), complete=False))
        apply(memory, batch(end, coalesced(delete(LOOSE, *gone), insert(LOOSE, *new)), complete=False))
        apply(memory, batch(end + 1, coalesced(delete(LOOSE, *old), delete(LOOSE, *new))))
        assert contents(memory, "loose") == ([], Lsn(end + 1))


def test_a_change_of_a_row_that_is_not_there_stops_and_changes_nothing(memory: Memory) -> None:
    loaded(memory, T)
    with pytest.raises(MemoryDiffers, match=r"public\.t .* at 0/2: 2 rows to change, 1 found"):
        apply(
            memory, batch(2, coalesced(delete(T, b"1", None), delete(T, b"77", None), insert(U, b"1", None)))
        )
    assert contents(memory, "t") == ([[b"1", b"one"], [b"2", b"two"]], Lsn(1))
    with pytest.raises(MemoryDiffers):
        apply(memory, batch(2, coalesced(update(T, None, [b"78", UNCHANGED]))))


def test_a_snapshot_ahead_of_memory_stays_hidden_until_memory_is_there(
    memory: Memory, persistence: ModelPersistence
) -> None:
    rows = [[b"1", b"one"], [b"4", b"four"]]
    persistence.reach(4, {**START, "t": rows})
    persistence.lsn = 4
    apply(memory, batch(2, coalesced(insert(T, b"4", b"early"))))
    assert state(memory).residence is Residence.LOADING
    with pytest.raises(Exception, match=r"public\.t is loading"):
        memory.query("select * from t")
    apply(memory, batch(3, coalesced(update(T, None, [b"4", b"four"]))))
    apply(memory, batch(4, coalesced(delete(T, b"2", None))))
    assert contents(memory, "t") == (rows, Lsn(4))
    apply(memory, batch(5, coalesced(delete(T, b"4", None))))
    assert contents(memory, "t") == (rows[:1], Lsn(5))


def test_a_snapshot_inside_a_batch_is_not_used(memory: Memory, persistence: ModelPersistence) -> None:
    persistence.reach(3, START)
    persistence.lsn = 3
    apply(memory, batch(5, coalesced(insert(T, b"4", None))))
    assert state(memory).residence is Residence.COLD
    assert "inside a batch" in state(memory).reason


def test_pieces_are_seen_only_when_they_are_whole(memory: Memory, persistence: ModelPersistence) -> None:
    loaded(memory, T)
    apply(memory, batch(1, coalesced(insert(T, b"3", None)), complete=False))
    apply(memory, batch(1, coalesced(delete(T, b"1", None), insert(U, b"1", None)), complete=False))
    assert contents(memory, "t") == ([[b"1", b"one"], [b"2", b"two"]], Lsn(1))
    persistence.reach(2, {**START, "u": [[b"1", None], [b"9", None]]})
    memory.apply(batch(2, coalesced(delete(T, b"3", None))))
    assert contents(memory, "t") == ([[b"2", b"two"]], Lsn(2))
    # What a later piece touched first is loaded behind the transaction.
    assert state(memory, "u").residence is Residence.COLD
    apply(memory, batch(3))
    assert contents(memory, "u") == ([[b"1", None], [b"9", None]], Lsn(3))


def test_an_abandoned_transaction_leaves_nothing(memory: Memory) -> None:
    apply(memory, batch(1, coalesced(delete(T, b"1", None)), complete=False))
    memory.abandon()
    apply(memory, batch(1, coalesced(delete(T, b"1", None)), complete=False))
    apply(memory, batch(2, coalesced(delete(T, b"2", None))))
    assert contents(memory, "t") == ([], Lsn(2))
    assert (state(memory).rows, state(memory).dml_memory) == (0, 2)


def test_a_value_its_type_cannot_hold_makes_the_column_text() -> None:
    at = target("at", ("id", INT4), ("at", TIMESTAMP), ("sum", NUMERIC, MONEY))
    persistence = ModelPersistence({"at": [[b"1", AD, b"1.00"]]})
    memory = memory_of(persistence)
    apply(memory, batch(2, coalesced(insert(at, b"2", AD, b"2.00"))))
    apply(memory, batch(3, coalesced(insert(at, b"3", BC, b"NaN"), update(at, None, [b"1", AD, b"0.10"]))))
    assert contents(memory, "at")[0] == [[b"1", AD, b"0.10"], [b"2", AD, b"2.00"], [b"3", BC, b"NaN"]]
    table, _ = memory.query('select typeof("at") as a, typeof("sum") as s from "at" limit 1')
    assert table.to_pylist() == [{"a": "VARCHAR", "s": "VARCHAR"}]
    assert persistence.loads == ["at"]  # what was there is turned into text where it stands
    memory.close()


def test_a_miss_in_a_later_piece_loads_the_object_anew() -> None:
    at = target("at", ("id", INT4), ("at", TIMESTAMP))
    persistence = ModelPersistence({"at": []})
    memory = memory_of(persistence)
    loaded(memory, at)
    apply(memory, batch(1, coalesced(insert(at, b"1", AD)), complete=False))
    apply(memory, batch(1, coalesced(insert(at, b"2", BC)), complete=False))
    apply(memory, batch(2, coalesced(insert(at, b"3", AD))))
    assert state(memory, "at").residence is Residence.COLD
    rows = [[b"1", AD], [b"2", BC], [b"3", AD]]
    persistence.reach(2, {"at": rows})
    for lsn in range(3, 8):  # after a pause that is counted in batches
        persistence.reach(lsn, {"at": rows})
        apply(memory, batch(lsn))
    assert contents(memory, "at") == (rows, Lsn(7))
    memory.close()


NOT_UTF8 = b"caf\xe9"  # a database of encoding SQL_ASCII takes any bytes


def test_text_that_is_not_utf8_takes_its_object_out_of_memory_and_nothing_else(memory: Memory) -> None:
    loaded(memory, T, U)
    apply(memory, batch(2, coalesced(update(T, None, [b"1", NOT_UTF8]), insert(U, b"10", b"ten"))))
    assert (state(memory).residence, state(memory).reason) == (
        Residence.COLD,
        "it holds text that isn't UTF-8",
    )
    assert contents(memory, "u") == ([[b"10", b"ten"], [b"9", None]], Lsn(2))


def test_text_that_is_not_utf8_in_a_later_piece_is_no_error_either(
    memory: Memory, persistence: ModelPersistence
) -> None:
    loaded(memory, T, U)
    apply(memory, batch(1, coalesced(insert(U, b"10", b"ten")), complete=False))
    apply(memory, batch(1, coalesced(update(T, None, [b"1", NOT_UTF8])), complete=False))
    persistence.fails = SecondaryError("it holds text that isn't UTF-8")
    apply(memory, batch(2))
    assert {state(memory, name).residence for name in "tu"} == {Residence.COLD}
    assert memory.memory_lsn == Lsn(2)


def big(name: str) -> Rows:
    return {name: [[b"%d" % number, b"x" * 1000] for number in range(8000)]}


def test_the_least_recently_used_goes_when_room_is_needed() -> None:
    persistence = ModelPersistence({**big("t"), **big("u"), "loose": []})
    memory = memory_of(persistence, budget_bytes=28 << 20)
    third = target("v", ("id", INT4), ("note", TEXT))
    persistence.history[1]["v"] = big("v")["v"]
    apply(memory, batch(2, coalesced(update(T, None, [b"1", b"one"]))))
    for lsn in (2, 3):
        persistence.reach(lsn, persistence.history[1])
    apply(memory, batch(3, coalesced(update(U, None, [b"1", b"one"]))))
    memory.query("select 1 from t limit 1")
    apply(memory, batch(4, coalesced(update(third, None, [b"1", b"one"]))))
    residences = {one.relname: one.residence for one in memory.objects()}
    assert residences == {"t": Residence.RESIDENT, "u": Residence.COLD, "v": Residence.RESIDENT}
    assert state(memory, "u").reason == "made room for another object"
    assert persistence.waits[-1] == Lsn(3)
    memory.close()


def test_out_of_memory_is_no_error_of_the_replica() -> None:
    persistence = ModelPersistence({**big("t"), "u": []})
    memory = memory_of(persistence, budget_bytes=24 << 20)
    apply(memory, batch(2, coalesced(update(T, None, [b"1", b"one"]), insert(U, b"1", b"one"))))
    assert state(memory).residence is Residence.RESIDENT
    more = [insert(T, b"%d" % number, b"y" * 2000) for number in range(10_000, 22_000)]
    apply(memory, batch(3, coalesced(*more, insert(U, b"2", b"two"))))
    assert state(memory).residence is Residence.COLD
    assert contents(memory, "u") == ([[b"1", b"one"], [b"2", b"two"]], Lsn(3))
    assert state(memory).reason in ("out of memory", "memory is full, and it was used least recently")
    memory.close()


def test_out_of_memory_in_a_later_piece_costs_the_objects_it_touched() -> None:
    persistence = ModelPersistence({**big("t"), "u": []})
    memory = memory_of(persistence, budget_bytes=24 << 20)
    loaded(memory, T, U)
    apply(memory, batch(1, coalesced(update(T, None, [b"1", b"one"])), complete=False))
    more = [insert(T, b"%d" % number, b"y" * 2000) for number in range(10_000, 22_000)]
    apply(memory, batch(1, coalesced(*more), complete=False))
    assert contents(memory, "u")[1] == Lsn(1)
    apply(memory, batch(2, coalesced(insert(U, b"2", b"two"))))
    residences = {one.relname: one.residence for one in memory.objects()}
    assert residences == {"t": Residence.COLD, "u": Residence.COLD}
    assert memory.memory_lsn == Lsn(2)
    memory.close()


def test_an_object_over_the_budget_stays_cold_with_the_reason() -> None:
    persistence = ModelPersistence(START, size_bytes=1 << 30)
    memory = memory_of(persistence)
    apply(memory, batch(2, coalesced(insert(T, b"3", None))))
    assert state(memory).residence is Residence.COLD
    assert "larger (1073741824 bytes)" in state(memory).reason
    assert memory.memory_lsn == Lsn(2)
    with pytest.raises(Exception, match=r"public\.t is cold, not in memory: it is larger"):
        memory.query("select * from t")
    memory.close()


def test_a_load_that_fails_is_tried_again_later(memory: Memory, persistence: ModelPersistence) -> None:
    persistence.fails = SecondaryError("the secondary went away")
    apply(memory, batch(2, coalesced(insert(T, b"3", None))))
    assert (state(memory).residence, state(memory).reason) == (Residence.COLD, "the secondary went away")
    persistence.fails = None
    persistence.reach(2, {**START, "t": [*START["t"], [b"3", None]]})
    for lsn in range(3, 6):
        apply(memory, batch(lsn))
        persistence.reach(lsn, persistence.history[2])
    apply(memory, batch(6, coalesced(delete(T, b"3", None))))
    assert contents(memory, "t") == ([[b"1", b"one"], [b"2", b"two"]], Lsn(6))


def test_another_shape_is_loaded_anew(memory: Memory, persistence: ModelPersistence) -> None:
    apply(memory, batch(2, coalesced(insert(T, b"3", None))))
    wider = target("t", ("id", INT4), ("note", TEXT), ("more", INT8), oid=T.oid)
    persistence.reach(2, {**START, "t": [[b"1", b"one", b"11"]]})
    apply(memory, batch(3, coalesced(insert(wider, b"4", None, b"44"))))
    assert contents(memory, "t")[0] == [[b"1", b"one", b"11"], [b"4", None, b"44"]]
    assert (state(memory).loads, state(memory).evictions) == (2, 1)


def test_eviction_waits_for_persistence_and_queries_then_say_cold(
    memory: Memory, persistence: ModelPersistence
) -> None:
    apply(memory, batch(2, coalesced(insert(T, b"3", None))))
    memory.evict("public", "t")
    assert persistence.waits[-1] == Lsn(2)
    assert (state(memory).residence, state(memory).reason) == (Residence.COLD, "evicted on request")
    with pytest.raises(Exception, match="is cold"):
        memory.query("select * from public.t")


def test_off_moves_the_position_only(persistence: ModelPersistence) -> None:
    memory = memory_of(persistence, policies=Policies(Policy.OFF))
    apply(memory, batch(2, coalesced(insert(T, b"3", None))))
    assert (memory.memory_lsn, state(memory).reason, persistence.loads) == (Lsn(2), "memory is off", [])
    memory.close()


def test_a_wanted_object_is_loaded_unchanged(memory: Memory) -> None:
    memory.want(U)
    apply(memory, batch(2))
    assert contents(memory, "u") == ([[b"9", None]], Lsn(2))


def test_what_the_wait_raises_goes_through_with_nothing_changed(
    memory: Memory, persistence: ModelPersistence, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopped(Exception):
        pass

    def stop(_: Lsn) -> None:
        raise Stopped

    apply(memory, batch(2, coalesced(insert(T, b"3", None))))
    monkeypatch.setattr(persistence, "wait", stop)
    with pytest.raises(Stopped):
        memory.evict("public", "t")
    assert (memory.memory_lsn, state(memory).residence) == (Lsn(2), Residence.RESIDENT)
    assert len(contents(memory, "t")[0]) == 3


def test_a_second_writer_is_a_defect(memory: Memory) -> None:
    apply(memory, batch(2))
    raised: list[BaseException] = []
    in_thread(lambda: apply(memory, batch(3)), raised).join(10)
    assert isinstance(raised[0], InternalError)


def in_thread(work: Callable[[], object], raised: list[BaseException]) -> threading.Thread:
    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_readers_see_whole_batches_and_the_lsn_that_is_true_for_them() -> None:
    accounts = target("accounts", ("id", INT4), ("balance", INT8), ("lsn", INT8))
    start = [[b"%d" % number, b"100", b"1"] for number in range(50)]
    memory = memory_of(ModelPersistence({"accounts": start}))
    done = threading.Event()
    seen: set[int] = set()

    def read() -> None:
        while not done.is_set() or not seen:
            table, lsn = memory.query(
                "select sum(balance)::bigint as s, count(*) as n, max(lsn) as l from accounts"
            )
            assert table.to_pylist() == [{"s": 5000, "n": 50, "l": int(lsn)}]
            seen.add(int(lsn))

    apply(memory, batch(2, coalesced(update(accounts, None, [b"0", b"100", b"2"]))))
    raised: list[BaseException] = []
    readers = [in_thread(read, raised) for _ in range(2)]
    for lsn in range(3, 43):
        giver, taker, amount = lsn % 50, (lsn * 7 + 1) % 50, lsn
        both = dict.fromkeys((giver, taker), 0)
        both[giver] -= amount
        both[taker] += amount
        rows, _ = contents(memory, "accounts")
        old = {int(row[0] or b""): int(row[1] or b"") for row in rows}  # type: ignore[arg-type]
        changes = [
            update(accounts, None, [b"%d" % one, b"%d" % (old[one] + by), b"%d" % lsn])
            for one, by in both.items()
        ]
        apply(memory, batch(lsn - 1, coalesced(changes[0]), complete=False))
        apply(memory, batch(lsn, coalesced(*changes[1:])))
    done.set()
    for reader in readers:
        reader.join(30)
    assert raised == []
    assert seen
    memory.close()
