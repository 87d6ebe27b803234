"""Which messages are believed: only what the key signed, for this database, this transaction, once."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logship.change import Message
from logship.lsn import Lsn
from logship.replay.ddl.message import (
    PREFIX,
    Captured,
    Gatherer,
    Judged,
    SequenceState,
    Verdict,
    Verifier,
    encode,
)

KEY, OTHER = b"k" * 32, b"o" * 32


def body(**changed: Any) -> bytes:
    said = {
        "number": 1, "xid": (1 << 32) + 7, "database": "shop", "server": 150018, "at": 5, "event": "end",
        "tag": "CREATE TABLE", "query": "create table t ()", "stack": "ours", "context": {"search_path": "public"},
        "objects": [], "error": None,
    }  # fmt: skip
    return json.dumps(said | changed).encode()


def message(content: bytes, prefix: str = PREFIX, *, transactional: bool = True) -> Message:
    return Message(transactional, Lsn(1), prefix, content)


def verifier() -> Verifier:
    found = Verifier(lambda: {1: KEY}, "shop")
    found.begin(7)
    return found


def judged(content: bytes, **named: Any) -> Judged:
    return verifier().judge(message(content, **named))


def test_what_the_key_signed_is_believed() -> None:
    found = judged(encode(KEY, 1, body()))
    assert found.verdict is Verdict.PROVEN
    assert found.captured is not None
    assert (found.captured.tag, found.captured.context["search_path"]) == ("CREATE TABLE", "public")


@pytest.mark.parametrize(
    ("content", "verdict"),
    [
        (encode(OTHER, 1, body()), Verdict.FORGED),
        (encode(KEY, 2, body()), Verdict.UNKNOWN_KEY),
        (encode(KEY, 1, body()).replace(b"1 1 ", b"1 01 ", 1), Verdict.MALFORMED),
        (encode(KEY, 1, body())[:-1], Verdict.FORGED),
        (encode(KEY, 1, body())[:40], Verdict.MALFORMED),
        (encode(KEY, 1, body(database="other")), Verdict.OTHER_DATABASE),
        (encode(KEY, 1, body(xid=8)), Verdict.OTHER_TRANSACTION),
        (encode(KEY, 1, body(number=0)), Verdict.OUT_OF_ORDER),
        (encode(KEY, 1, b"[]"), Verdict.MALFORMED),
        (encode(KEY, 1, b"\xff"), Verdict.MALFORMED),
        (encode(KEY, 1, body(number=True)), Verdict.MALFORMED),
        (encode(KEY, 1, body(event="else")), Verdict.MALFORMED),
        (encode(KEY, 1, body(objects=[{}])), Verdict.MALFORMED),
        (encode(KEY, 1, body(context={"a": 1})), Verdict.MALFORMED),
    ],
)
def test_what_is_not_believed(content: bytes, verdict: Verdict) -> None:
    assert judged(content) == Judged(verdict, None, judged(content).detail)


def test_states_of_sequences_belong_to_no_statement() -> None:
    said = [["public", "s", -5, True], ["public", "t", 7, False]]
    found = judged(encode(KEY, 1, body(event="sequences", sequences=said))).captured
    assert found is not None
    assert found.sequences == (SequenceState("public", "s", -5, True), SequenceState("public", "t", 7, False))
    assert Gatherer().add(found) is None


@pytest.mark.parametrize(
    "said", [[["s", 5, True]], [["public", "s", "5", True]], [["public", "s", 5, 1]], [[]], 3]
)
def test_states_of_another_shape_are_malformed(said: object) -> None:
    assert judged(encode(KEY, 1, body(event="sequences", sequences=said))).verdict is Verdict.MALFORMED


def test_the_prefix_and_the_kind_of_message_count() -> None:
    assert judged(encode(KEY, 1, body()), prefix="logship.other").verdict is Verdict.NOT_OURS
    assert judged(encode(KEY, 1, body()), transactional=False).verdict is Verdict.NOT_TRANSACTIONAL


def test_a_message_counts_once_in_its_transaction() -> None:
    found = verifier()
    contents = [encode(KEY, 1, body(number=n)) for n in (3, 3, 2, 4)]
    verdicts = [found.judge(message(content)).verdict for content in contents]
    assert verdicts == [Verdict.PROVEN, Verdict.OUT_OF_ORDER, Verdict.OUT_OF_ORDER, Verdict.PROVEN]
    assert found.counts == {Verdict.PROVEN: 2, Verdict.OUT_OF_ORDER: 2}
    found.begin(7)
    assert found.judge(message(contents[2])).verdict is Verdict.PROVEN


def test_a_new_key_is_asked_for_once_in_a_transaction() -> None:
    asked = []

    def keys() -> dict[int, bytes]:
        asked.append(len(asked))
        return {1: KEY} if len(asked) < 3 else {1: KEY, 2: OTHER}

    found = Verifier(keys, "shop")
    found.begin(7)
    for _ in range(3):
        assert found.judge(message(encode(OTHER, 2, body()))).verdict is Verdict.UNKNOWN_KEY
    found.begin(7)
    assert found.judge(message(encode(OTHER, 2, body()))).verdict is Verdict.UNKNOWN_KEY
    found.begin(7)
    assert found.judge(message(encode(OTHER, 2, body()))).verdict is Verdict.PROVEN
    assert len(asked) == 3


@given(st.binary(max_size=300))
def test_any_bytes_get_a_verdict(content: bytes) -> None:
    assert judged(content).verdict in {Verdict.MALFORMED, Verdict.UNKNOWN_KEY, Verdict.FORGED}
    assert judged(encode(KEY, 1, content)).verdict is Verdict.MALFORMED


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(sorted(json.loads(body()))), _JSON)
def test_a_proven_body_of_any_shape_gets_a_verdict(key: str, value: object) -> None:
    assert isinstance(judged(encode(KEY, 1, body(**{key: value}))).verdict, Verdict)


@given(st.binary(max_size=80), st.integers(0, 500), st.integers(1, 255))
def test_a_changed_byte_is_never_believed(_: bytes, place: int, change: int) -> None:
    content = bytearray(encode(KEY, 1, body()))
    content[place % len(content)] ^= change
    assert judged(bytes(content)).verdict is not Verdict.PROVEN


def event(kind: str, number: int, tag: str, **changed: Any) -> Captured:
    dropped = {
        "type": "table",
        "names": ["public", "t"],
        "args": [],
        "identity": "public.t",
        "schema": "public",
    }
    objects = [dropped | {"original": True}] if kind == "drop" else []
    found = judged(encode(KEY, 1, body(event=kind, number=number, tag=tag, objects=objects, **changed)))
    assert found.captured is not None
    return found.captured


def test_events_of_a_statement_come_together() -> None:
    gatherer = Gatherer()
    assert gatherer.add(event("drop", 1, "ALTER TABLE")) is None
    # Another statement's, from an event trigger of a user's, comes in between.
    nested = gatherer.add(event("drop", 2, "DROP TABLE", stack="ours\nSQL statement"))
    assert nested is not None
    assert len(nested.dropped) == 1
    assert gatherer.add(event("rewrite", 3, "ALTER TABLE")) is None
    whole = gatherer.add(event("end", 4, "ALTER TABLE"))
    assert whole is not None
    assert [each.identity for each in whole.dropped] == ["public.t"]
    assert gatherer.add(event("end", 5, "ALTER TABLE")).dropped == ()  # type: ignore[union-attr]
    assert gatherer.add(event("drop", 6, "DROP OWNED")) is None
    lost = gatherer.add(event("lost", 7, "ALTER TABLE", error="broken"))
    assert lost is not None
    assert lost.lost == "broken"
