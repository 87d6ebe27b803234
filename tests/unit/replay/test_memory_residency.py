"""What comes into memory, what stays, what goes; loads that take their time, in turns that the test decides."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from logship.change import Relation
from logship.errors import InternalError, SecondaryError
from logship.lsn import Lsn
from logship.replay.memory.memory import Memory
from logship.replay.memory.policy import Policies, Policy
from logship.replay.memory.resident import Happening, MemoryObject, ObjectState, Residence
from tests.unit.replay.memory_model import (
    INT4,
    TEXT,
    InTurn,
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
START: Rows = {"t": [[b"%d" % number, b"old"] for number in range(12)], "u": [[b"9", None]]}


@pytest.fixture
def persistence() -> ModelPersistence:
    return ModelPersistence(START)


@pytest.fixture
def readers(persistence: ModelPersistence) -> InTurn:
    return InTurn(persistence)


@pytest.fixture
def memory(persistence: ModelPersistence, readers: InTurn) -> Iterator[Memory]:
    made = memory_of(persistence, readers=readers)
    yield made
    made.close()


def state(memory: Memory, name: str = "t") -> ObjectState:
    return next(one for one in memory.objects() if one.relname == name)


def test_others_are_replayed_while_one_is_read(
    memory: Memory, readers: InTurn, persistence: ModelPersistence
) -> None:
    persistence.reach(2, START)
    apply(memory, batch(2, coalesced(insert(U, b"1", None))))
    readers.steps = 2  # opened, and one portion of rows
    apply(memory, batch(3, coalesced(update(T, None, [b"3", b"new"]))))
    for lsn in range(4, 8):
        apply(memory, batch(lsn, coalesced(insert(U, b"%d" % lsn, None), delete(T, b"%d" % lsn, None))))
        assert contents(memory, "u")[1] == Lsn(lsn) == memory.memory_lsn
        assert state(memory).residence is Residence.LOADING
    readers.steps = None
    settle(memory)
    left = [row for row in START["t"] if row[0] not in (b"3", b"4", b"5", b"6", b"7")]
    assert contents(memory, "t") == (sorted([*left, [b"3", b"new"]]), Lsn(7))
    assert (state(memory).rows, state(memory).dml_memory) == (8, 5)


def test_a_batch_that_truncates_what_it_changed_loads_it_afterwards(
    memory: Memory, persistence: ModelPersistence
) -> None:
    persistence.reach(2, {**START, "t": [[b"3", b"new"]]})
    apply(memory, batch(2, coalesced(insert(T, b"77", None), truncate(T), insert(T, b"3", b"new"))))
    assert contents(memory, "t") == ([[b"3", b"new"]], Lsn(2))


def test_a_truncate_lets_go_of_what_is_being_read(
    memory: Memory, readers: InTurn, persistence: ModelPersistence
) -> None:
    """It would wait for the reader, and persistence with it."""
    readers.steps = 2
    apply(memory, batch(2, coalesced(insert(T, b"77", None))))
    persistence.reach(3, {**START, "t": []})
    memory.replay([batch(3, coalesced(truncate(T)))])
    assert readers.cancelled == 1
    readers.steps = None
    settle(memory)
    assert contents(memory, "t") == ([], Lsn(3))


def test_small_changes_take_room_while_a_load_takes_long(persistence: ModelPersistence) -> None:
    """Each commit of a row is a batch, which is kept: what it takes counts, and not its few bytes alone."""
    readers = InTurn(persistence)
    memory = memory_of(persistence, readers=readers, budget_bytes=1 << 20)
    readers.steps = 1
    apply(memory, batch(2, coalesced(update(T, None, [b"1", b"new"]))))
    assert state(memory).residence is Residence.LOADING
    kept = 0
    while state(memory).residence is Residence.LOADING:
        kept += 1
        memory.replay([batch(2 + kept, coalesced(update(T, None, [b"1", b"%d" % kept])))])
        assert kept < 500
    assert state(memory).reason == "too much changed in it while it was loaded"
    assert kept > 100
    memory.close()


def test_too_many_changes_give_a_load_up_and_it_is_tried_again(persistence: ModelPersistence) -> None:
    readers = InTurn(persistence)
    memory = memory_of(persistence, readers=readers, budget_bytes=16 << 20)
    readers.steps = 1
    apply(memory, batch(2, coalesced(update(T, None, [b"1", b"new"]))))
    large = batch(3, coalesced(update(T, None, [b"2", b"new"])))
    memory.replay(
        [type(large)(**{name: getattr(large, name) for name in large.__slots__} | {"size_bytes": 3 << 20})]
    )
    assert state(memory).residence is Residence.COLD
    assert state(memory).reason == "too much changed in it while it was loaded"
    readers.steps = None
    rows = [[row[0], b"new" if row[0] in (b"1", b"2") else row[1]] for row in START["t"]]
    for lsn in range(3, 7):
        persistence.reach(lsn, {**START, "t": rows})
    for lsn in range(4, 7):
        apply(memory, batch(lsn))
    apply(memory, batch(7, coalesced(delete(T, b"1", None))))
    assert contents(memory, "t")[1] == Lsn(7)
    assert state(memory).rows == 11
    memory.close()


def test_a_load_that_breaks_half_way_leaves_nothing_behind(
    memory: Memory, readers: InTurn, persistence: ModelPersistence
) -> None:
    readers.steps = 2
    persistence.reach(2, START)
    apply(memory, batch(2, coalesced(insert(T, b"77", None))))
    assert state(memory).rows
    persistence.breaks = SecondaryError("the secondary went away")
    readers.steps = None
    settle(memory)
    known = state(memory)
    assert (known.residence, known.rows, known.reason) == (Residence.COLD, None, "the secondary went away")
    assert memory.query("select count(*) as n from duckdb_tables() where schema_name like '%\"t\"'")[
        0
    ].to_pylist() == [{"n": 0}]
    apply(memory, batch(3, coalesced(insert(U, b"1", None))))
    assert memory.memory_lsn == Lsn(3)


def test_who_asks_for_an_object_gets_it_or_the_reason(memory: Memory, persistence: ModelPersistence) -> None:
    unknown = memory.request("public", "nobody")
    settle(memory)
    assert "hasn't described it" in unknown.result(0).reason
    persistence.targets["u"] = U
    memory.heard(U.relation, {})
    asked = memory.request("public", "u")
    assert not asked.done()
    settle(memory)
    assert asked.result(0).residence is Residence.RESIDENT
    assert contents(memory, "u") == (START["u"], Lsn(1))
    apply(memory, batch(2, coalesced(insert(U, b"1", None))))
    assert (state(memory, "u").loads, state(memory, "u").hits) == (1, 1)
    persistence.fails = SecondaryError("the secondary went away")
    memory.heard(T.relation, {})
    refused = memory.request("public", "t")
    settle(memory)
    assert (refused.result(0).residence, refused.result(0).reason) == (
        Residence.COLD,
        "the secondary went away",
    )
    late = memory.request("public", "t")
    memory.close()
    assert late.cancelled()


def test_text_that_is_not_utf8_among_what_was_kept_gives_up_the_load(memory: Memory, readers: InTurn) -> None:
    readers.steps = 1
    apply(memory, batch(2, coalesced(insert(T, b"20", b"caf\xe9"))))
    apply(memory, batch(3))
    readers.steps = None
    settle(memory)
    assert (state(memory).residence, state(memory).reason) == (
        Residence.COLD,
        "it holds text that isn't UTF-8",
    )
    assert memory.memory_lsn == Lsn(3)


def test_who_asked_for_what_is_dropped_is_told(
    memory: Memory, readers: InTurn, persistence: ModelPersistence
) -> None:
    readers.steps = 0
    persistence.targets["u"] = U
    memory.heard(U.relation, {})
    asked, given_up = memory.request("public", "u"), memory.request("public", "u")
    settle(memory)
    given_up.cancel()
    memory._residency.give_up_loads("the schema changes")
    memory._residency.forget(("public", "u"))
    assert (asked.result(0).residence, asked.result(0).reason) == (Residence.COLD, "it was dropped")


def test_who_has_given_up_asking_is_no_obstacle(memory: Memory) -> None:
    apply(memory, batch(2, coalesced(insert(T, b"20", b"new"))))
    for name in ("t", "nobody"):
        memory.request("public", name).cancel()
    settle(memory)
    assert memory.memory_lsn == Lsn(2)


def test_policies_by_name(persistence: ModelPersistence) -> None:
    policies = Policies(
        eager={("public", "t"), ("public", "u")}, off={("public", "u")}, pinned={("public", "u")}
    )
    assert [policies.of(("public", name)) for name in ("t", "u", "v")] == [
        Policy.EAGER,
        Policy.OFF,
        Policy.LAZY,
    ]
    assert not policies.pins(("public", "u"))
    memory = memory_of(persistence, policies=policies)
    persistence.targets = {"t": T, "u": U}
    for one in (T, U):
        memory.heard(one.relation, {})
    settle(memory)
    assert contents(memory, "t") == (sorted(START["t"]), Lsn(1))  # nothing has changed it
    apply(memory, batch(2, coalesced(insert(U, b"1", None))))
    assert state(memory, "u").reason == "the settings keep it out of memory"
    assert persistence.loads == ["t"]
    memory.close()


def big(name: str) -> Rows:
    return {name: [[b"%d" % number, b"x" * 1000] for number in range(8000)]}


def test_what_is_pinned_comes_first_and_never_makes_room() -> None:
    persistence = ModelPersistence({**big("t"), **big("u"), **big("v")})
    policies = Policies(eager={("public", "u")}, pinned={("public", "t")})
    memory = memory_of(persistence, budget_bytes=28 << 20, policies=policies, readers=InTurn(persistence, 1))
    third = target("v", ("id", INT4), ("note", TEXT))
    persistence.targets = {"t": T, "u": U, "v": third}
    for one in (U, third, T):
        memory.heard(one.relation, {})
    settle(memory)
    assert persistence.loads == ["t", "u"]
    for lsn in range(2, 9):
        persistence.reach(lsn, persistence.history[1])
        apply(memory, batch(lsn, coalesced(update(third, None, [b"1", b"x" * 1000]))))
    assert state(memory).residence is Residence.PINNED
    assert {state(memory, name).residence for name in "uv"} == {Residence.RESIDENT, Residence.COLD}
    assert state(memory).evictions == 0
    memory.close()


def test_a_pin_that_does_not_fit_is_said_and_stops_nothing() -> None:
    persistence = ModelPersistence(START, size_bytes=1 << 30)
    persistence.targets["t"] = T
    memory = memory_of(persistence, policies=Policies(pinned={("public", "t")}))
    memory.heard(T.relation, {})
    settle(memory)
    apply(memory, batch(2, coalesced(delete(T, b"1", None))))
    known = state(memory)
    assert (known.residence, memory.memory_lsn) == (Residence.COLD, Lsn(2))
    assert known.reason.startswith("pinned, but it is larger (1073741824 bytes)")
    memory.close()


def test_what_goes_is_read_until_persistence_has_it() -> None:
    persistence = ModelPersistence({**big("t"), **big("u"), **big("v")})
    memory = memory_of(persistence, budget_bytes=28 << 20)
    for lsn in (2, 3):
        persistence.reach(lsn, persistence.history[1])
    changes = [update(one, None, [b"1", b"one"]) for one in (T, U, target("v", ("id", INT4), ("note", TEXT)))]
    apply(memory, batch(2, coalesced(changes[0])))
    apply(memory, batch(3, coalesced(changes[1])))
    apply(memory, batch(4, coalesced(changes[0], changes[1], changes[2])))
    going = [state(memory, name) for name in "tu" if state(memory, name).residence is Residence.EVICTING]
    assert [one.reason for one in going] == ["made room for another object"]
    assert contents(memory, going[0].relname)[1] == Lsn(4)
    assert state(memory, "v").reason == "it waits for others to make room"
    rows = {name: [[b"1", b"one"], *held[:1], *held[2:]] for name, held in persistence.history[1].items()}
    persistence.reach(4, rows)
    persistence.wait(Lsn(4))
    settle(memory)
    residences = sorted(state(memory, name).residence.value for name in "tuv")
    assert residences == ["cold", "resident", "resident"]
    assert len(contents(memory, "v")[0]) == 8000
    memory.close()


@pytest.mark.parametrize("residence", Residence)
def test_the_table_of_transitions_lets_no_pinned_object_make_room(residence: Residence) -> None:
    known = MemoryObject(T, residence=residence)
    allowed = residence is Residence.RESIDENT
    if allowed:
        known.on(Happening.EVICT)
    else:
        with pytest.raises(InternalError):
            known.on(Happening.EVICT)
    assert known.residence is (Residence.EVICTING if allowed else residence)


def test_a_relation_is_loaded_as_the_log_describes_it(persistence: ModelPersistence) -> None:
    """Its shape may be another when its first change comes: then it is loaded anew."""
    memory = memory_of(persistence, policies=Policies(Policy.EAGER))
    persistence.targets["t"] = T
    described = Relation(T.relation.oid, "public", "t", "d", T.relation.columns)
    memory.heard(described, {})
    settle(memory)
    wider = target("t", ("id", INT4), ("note", TEXT), ("more", INT4), oid=T.oid)
    persistence.reach(1, {**START, "t": [[b"1", b"one", b"11"]]})
    apply(memory, batch(2, coalesced(insert(wider, b"4", None, b"44"))))
    assert contents(memory, "t")[0] == [[b"1", b"one", b"11"], [b"4", None, b"44"]]
    memory.close()
