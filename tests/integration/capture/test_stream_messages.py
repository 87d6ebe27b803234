"""Every message that a walsender sends arrives, decodes, and stands in its transaction."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import pytest

from logship import pgoutput
from logship.change import (
    UNCHANGED,
    Begin,
    Commit,
    Delete,
    Event,
    Insert,
    Message,
    Origin,
    Relation,
    Truncate,
    TypeName,
    Update,
)
from logship.kernel import split_run
from logship.lsn import Lsn
from tests.integration.capture.pump import Pump, current_lsn, open_pump, publish
from tests.servers import Database

T = TypeVar("T")


@pytest.fixture
def pump(primary: Database) -> Iterator[Pump]:
    pump = open_pump(primary, publish(primary))
    yield pump
    pump.stream.close()


def of(kind: type[T], events: list[Event]) -> list[T]:
    return [event for event in events if isinstance(event, kind)]


def test_rows_of_every_kind(primary: Database, pump: Pump) -> None:
    primary.execute("create table t (id int primary key, v text)")
    primary.execute("begin; insert into t values (1, 'a'), (2, null); commit")
    primary.execute("update t set v = 'b' where id = 1; update t set id = 3 where id = 2; delete from t")
    events = pump.catch_up(primary)
    (relation,) = of(Relation, events)
    assert (relation.schema, relation.name, relation.replica_identity) == ("public", "t", "d")
    assert [(c.name, c.type_oid, c.is_key) for c in relation.columns] == [("id", 23, True), ("v", 25, False)]
    oid = relation.oid
    assert of(Insert, events) == [Insert(oid, [b"1", b"a"]), Insert(oid, [b"2", None])]
    assert of(Update, events) == [
        Update(oid, None, False, [b"1", b"b"]),
        Update(oid, [b"2", None], True, [b"3", None]),
    ]
    assert {event.old[0] for event in of(Delete, events)} == {b"1", b"3"}
    assert all(event.old_is_key and event.old[1] is None for event in of(Delete, events))


def test_old_rows_under_replica_identity_full(primary: Database, pump: Pump) -> None:
    primary.execute("create table t (id int, v text); alter table t replica identity full")
    primary.execute("insert into t values (1, 'a'); update t set v = 'b'; delete from t")
    events = pump.catch_up(primary)
    (relation,) = of(Relation, events)
    assert relation.replica_identity == "f"
    assert all(column.is_key for column in relation.columns)
    assert of(Update, events) == [Update(relation.oid, [b"1", b"a"], False, [b"1", b"b"])]
    assert of(Delete, events) == [Delete(relation.oid, [b"1", b"b"], False)]


def test_a_replica_identity_index_names_its_columns(primary: Database, pump: Pump) -> None:
    primary.execute("create table t (id int primary key, code text not null unique)")
    primary.execute("alter table t replica identity using index t_code_key")
    primary.execute("insert into t values (1, 'a'); update t set code = 'b'")
    events = pump.catch_up(primary)
    (relation,) = of(Relation, events)
    assert (relation.replica_identity, [c.is_key for c in relation.columns]) == ("i", [False, True])
    assert of(Update, events) == [Update(relation.oid, [None, b"a"], True, [b"1", b"b"])]


def test_an_unchanged_toasted_value_is_not_carried(primary: Database, pump: Pump) -> None:
    primary.execute("create table t (id int primary key, n int, big text)")
    primary.execute("alter table t alter big set storage external")
    primary.execute("insert into t values (1, 0, repeat('x', 100000)); update t set n = 1")
    events = pump.catch_up(primary)
    assert of(Insert, events)[0].new[2] == b"x" * 100_000
    assert of(Update, events)[0].new == [b"1", b"1", UNCHANGED]


def test_truncate_with_its_options(primary: Database, pump: Pump) -> None:
    primary.execute("create table a (id int primary key); create table b (id int references a)")
    primary.execute("truncate a, b; truncate a restart identity cascade; truncate b")
    events = of(Truncate, pump.catch_up(primary))
    assert [(len(e.relation_oids), e.cascade, e.restart_identity) for e in events] == [
        (2, False, False), (2, True, True), (1, False, False),
    ]  # fmt: skip


def test_types_that_are_not_built_in_are_named(primary: Database, pump: Pump) -> None:
    primary.execute("create schema s; create type s.mood as enum ('fine', 'glum')")
    primary.execute("create table t (id int primary key, m s.mood, ms s.mood[])")
    primary.execute("insert into t values (1, 'glum', '{fine,glum}')")
    events = pump.catch_up(primary)
    assert [(t.schema, t.name) for t in of(TypeName, events)] == [("s", "mood"), ("s", "_mood")]
    assert [c.type_oid for c in of(Relation, events)[0].columns[1:]] == [t.oid for t in of(TypeName, events)]
    assert of(Insert, events)[0].new == [b"1", b"glum", b"{fine,glum}"]


def test_messages_in_a_transaction_stand_in_order(primary: Database, pump: Pump) -> None:
    primary.execute("create table t (id int primary key)")
    primary.execute(
        "begin; insert into t values (1); select pg_logical_emit_message(true, 'p', '\\x00ff'::bytea); "
        "insert into t values (2); commit"
    )
    events = pump.catch_up(primary)
    kinds = [type(event) for event in events]
    assert kinds == [Begin, Relation, Insert, Message, Insert, Commit]
    (message,) = of(Message, events)
    assert (message.transactional, message.prefix, message.content) == (True, "p", b"\x00\xff")


def test_messages_outside_of_transactions_never_stand_inside_one(primary: Database, pump: Pump) -> None:
    primary.execute("create table t (id int primary key)")
    primary.execute(
        "begin; insert into t values (1); select pg_logical_emit_message(false, 'p', 'now'); "
        "insert into t values (2); commit"
    )
    target = current_lsn(primary)
    order: list[int] = []
    while pump.assembler.position < target:
        received = pump.stream.read(5.0)
        for stretch in received.items:
            order += [pgoutput.tag(message) for message in split_run(stretch.run)]
        pump.pieces += pump.assembler.feed(received.items)
    assert bytes(order) == b"MBRIIC"
    assert pump.assembler.counters.messages_dropped == 1


def test_an_origin_is_named(primary: Database, pump: Pump) -> None:
    origin = f"origin of {primary.name}"
    primary.execute("create table t (id int primary key)")
    with primary.connect() as session:
        session.execute("select pg_replication_origin_create(%s)", [origin])
        session.execute("select pg_replication_origin_session_setup(%s)", [origin])
        with session.transaction():
            session.execute("select pg_replication_origin_xact_setup('0/ABC', now())")
            session.execute("insert into t values (1)")
    events = pump.catch_up(primary)
    assert of(Origin, events) == [Origin(Lsn(0xABC), origin)]
    assert [type(e) for e in events] == [Begin, Origin, Relation, Insert, Commit]


def test_what_is_not_logged_does_not_come(primary: Database, pump: Pump) -> None:
    primary.execute("create unlogged table u (id int); create table t (id int primary key)")
    primary.execute(
        "create temporary table tmp (id int); insert into tmp values (1); insert into u values (1)"
    )
    primary.execute("begin; commit; create materialized view m as select 1 as one; begin; rollback")
    assert pump.catch_up(primary) == []
    primary.execute(
        "begin; insert into t values (1); savepoint s; insert into t values (2); rollback to s; "
        "savepoint s; insert into t values (3); release s; commit"
    )
    primary.execute("begin; insert into t values (4); rollback")
    events = pump.catch_up(primary)
    assert [event.new for event in of(Insert, events)] == [[b"1"], [b"3"]]


def test_begin_and_commit_tell_of_the_transaction(primary: Database, pump: Pump) -> None:
    primary.execute("create table t (id int primary key)")
    with primary.connect(autocommit=False) as session:
        session.execute("insert into t values (1)")
        row = session.execute("select pg_current_xact_id()::text::bigint").fetchone()
    after = current_lsn(primary)
    pump.until(lambda: any(piece.last for piece in pump.pieces))
    (piece,) = [piece for piece in pump.pieces if piece.last]
    assert row is not None
    assert piece.first
    assert piece.xid == row[0] & 0xFFFFFFFF
    assert piece.commit_lsn < piece.end_lsn <= after
    events = pump.catch_up(primary)
    begin, commit = events[0], events[-1]
    assert isinstance(begin, Begin)
    assert isinstance(commit, Commit)
    assert (begin.commit_lsn, begin.commit_time_us) == (commit.commit_lsn, commit.commit_time_us)
    assert (commit.commit_lsn, commit.end_lsn) == (piece.commit_lsn, piece.end_lsn)
