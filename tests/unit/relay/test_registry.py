"""Who is registered, what is kept for whom, and the file that remembers it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logship.lsn import Lsn
from logship.relay.registry import MalformedRegistry, Registered, Registry

_lsns = st.integers(0, 2**64 - 1).map(Lsn)
_replicas = st.builds(
    Registered,
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20),
    _lsns,
    st.integers(-(2**60), 2**60),
    st.none() | _lsns,
    st.booleans(),
)


def test_positions_move_forward_only_and_are_what_is_kept() -> None:
    registry = Registry()
    registry.add("a", Lsn(10), 0)
    registry.add("b", Lsn(20), 0)
    assert registry.flushed("a", Lsn(30))
    assert not registry.flushed("a", Lsn(5))
    assert not registry.flushed("nobody", Lsn(5))
    assert registry.needed() == {"a": Lsn(30), "b": Lsn(20)}
    registry.add("a", Lsn(1), 0)
    assert registry.needed()["a"] == Lsn(30)
    assert registry.drop("b")
    assert not registry.drop("b")
    assert registry.needed() == {"a": Lsn(30)}


def test_what_the_primary_has_named_is_noted_once() -> None:
    registry = Registry()
    registry.add("a", Lsn(10), 0)
    assert registry.note("a")
    assert not registry.note("a")
    assert not registry.note("nobody")
    registry.flushed("a", Lsn(20))
    assert Registry.decode(registry.encode()).get("a") == Registered("a", Lsn(20), 0, None, noted=True)


def test_one_that_lost_something_is_marked_once_and_holds_nothing_up() -> None:
    registry = Registry()
    registry.add("a", Lsn(10), 0)
    registry.add("b", Lsn(20), 0)
    assert registry.begins_at(Lsn(20)) == ["a"]
    assert registry.begins_at(Lsn(20)) == []
    assert registry.needed() == {"b": Lsn(20)}
    lost = registry.get("a")
    assert lost is not None
    assert lost.lost_lsn == Lsn(20)
    registry.begins_at(Lsn(25))
    assert registry.get("a") == lost  # the LSN is that of the time when it was lost


def test_one_that_got_what_it_lacked_elsewhere_has_lost_nothing() -> None:
    registry = Registry()
    registry.add("a", Lsn(10), 0)
    registry.begins_at(Lsn(20))
    registry.flushed("a", Lsn(15))
    assert registry.needed() == {}
    registry.flushed("a", Lsn(20))
    assert registry.needed() == {"a": Lsn(20)}


@given(st.lists(_replicas, max_size=5, unique_by=lambda replica: replica.name))
def test_what_is_written_reads_back(replicas: list[Registered]) -> None:
    registry = Registry({replica.name: replica for replica in replicas})
    assert list(Registry.decode(registry.encode())) == list(registry)


@given(st.binary(max_size=80))
def test_any_bytes_are_a_registry_or_malformed(data: bytes) -> None:
    with pytest.raises(MalformedRegistry):
        Registry.decode(data)


@given(st.data())
def test_a_changed_byte_is_noticed(data: st.DataObject) -> None:
    written = bytearray(Registry({"a": Registered("a", Lsn(0x16B3748), 7, Lsn(5))}).encode())
    place = data.draw(st.integers(0, len(written) - 1))
    written[place] ^= data.draw(st.integers(1, 255))
    try:
        found = list(Registry.decode(bytes(written)))
    except MalformedRegistry:
        return
    assert found == [
        Registered("a", Lsn(0x16B3748), 7, Lsn(5))
    ]  # space, or the case of a letter of the layout


@pytest.mark.parametrize(
    "given_",
    [
        [], {}, None, 3, "x", {"format": 1}, {"format": 2, "crc32c": 0, "replicas": []},
        {"format": 1, "crc32c": 1, "replicas": []}, {"format": 1, "crc32c": 1, "replicas": 5},
    ],
)  # fmt: skip
def test_json_that_is_something_else_is_malformed(given_: Any) -> None:
    with pytest.raises(MalformedRegistry):
        Registry.decode(json.dumps(given_).encode())
