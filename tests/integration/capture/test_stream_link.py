"""The link: acknowledgement, silence, a walsender that is killed, a stream that is ended or woken."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections.abc import Callable

import pytest

from logship.capture.copydata import Positions
from logship.capture.records import Assembler, Piece, PieceKind
from logship.capture.slot import SlotStream
from logship.change import Begin, Commit, Insert
from logship.errors import InternalError, PrimaryError, SlotActive, StreamBroken
from logship.lsn import INVALID
from logship.service.demo.servers import Server
from tests.integration.capture.pump import Pump, current_lsn, events, open_pump, publish
from tests.integration.persistence.proxy import Proxy
from tests.servers import Database, eventually

ACTIVE_PID = "select active_pid from pg_replication_slots where slot_name = %s"


@pytest.fixture
def synchronous(make_server: Callable[..., Server]) -> Database:
    """A server of its own with a short wal_sender_timeout, where commits can be made to wait for us."""
    server = make_server(durable=False, settings={"wal_sender_timeout": "2s"})
    return Database(server, "postgres")


def test_a_commit_that_decodes_to_nothing_is_answered_at_once(synchronous: Database) -> None:
    slot = publish(synchronous)
    pump = open_pump(synchronous, slot)
    # Without asking, PostgreSQL wants a reply only after half of this: the test's deadline comes first.
    synchronous.execute("alter system set wal_sender_timeout = '10min'")
    synchronous.execute("alter system set synchronous_standby_names = 'logship'")
    synchronous.execute("select pg_reload_conf()")
    state = "select sync_state from pg_stat_replication where application_name = 'logship'"
    pump.until(lambda: synchronous.value(state) == "sync")
    pump.stream.close()
    eventually(lambda: synchronous.value(ACTIVE_PID, [slot]) is None)
    # A new walsender, which started with the long timeout.
    pump = open_pump(synchronous, slot)
    pump.interval_s = 600.0
    pump.until(lambda: synchronous.value(state) == "sync")
    done = threading.Event()

    def commit() -> None:
        with synchronous.connect() as session:
            session.execute("create temporary table t (id int)")
            for _ in range(20):
                session.execute("insert into t values (1)")
                session.execute("select txid_current()")
        done.set()

    thread = threading.Thread(target=commit)
    thread.start()
    pump.until(done.is_set, deadline_s=60.0)
    thread.join()
    assert events(pump.pieces) == []
    pump.stream.close()


def test_silence_for_longer_than_wal_sender_timeout(synchronous: Database) -> None:
    slot = publish(synchronous)
    pump = open_pump(synchronous, slot)
    pump.interval_s = 600.0  # only what the server asks for
    pid = synchronous.value(ACTIVE_PID, [slot])
    end = time.monotonic() + 4.5
    pump.until(lambda: time.monotonic() > end)
    assert synchronous.value(ACTIVE_PID, [slot]) == pid
    synchronous.execute("create table t (id int); insert into t values (1)")
    assert any(isinstance(event, Insert) for event in pump.catch_up(synchronous))
    pump.stream.close()


def test_keepalives_are_answered_while_a_large_transaction_comes(synchronous: Database) -> None:
    slot = publish(synchronous)
    synchronous.execute("create table t (id int, v text)")
    synchronous.execute("insert into t select i, repeat('x', 500) from generate_series(1, 60000) i")
    pump = open_pump(synchronous, slot)
    pid = synchronous.value(ACTIVE_PID, [slot])
    end = time.monotonic() + 4.5  # slower than the server's patience
    count = 0
    while time.monotonic() < end:
        received = pump.stream.read(0.05, max_bytes=64 * 1024)
        pump.pieces += pump.assembler.feed(received.items)
        pump.stream.send_status(Positions(INVALID, INVALID, INVALID))
        count += 1
    assert count > 1
    assert synchronous.value(ACTIVE_PID, [slot]) == pid
    assert sum(isinstance(e, Insert) for e in pump.catch_up(synchronous)) == 60_000
    pump.stream.close()


def test_a_server_whose_answers_do_not_come_through(primary: Database) -> None:
    """The link stands, and takes whatever is sent: PostgreSQL's wal_receiver_timeout is for this."""
    slot = publish(primary)
    proxy = Proxy(primary.server.port)
    try:
        with SlotStream(
            f"{primary.conninfo_as('postgres', tcp=True)} port={proxy.port}", receiver_timeout_s=0.6
        ) as stream:
            stream.start(slot, ["everything"], INVALID)
            pump = Pump(stream, interval_s=0.05)
            end = time.monotonic() + 2.0
            pump.until(lambda: time.monotonic() > end)  # it has nothing to say, and says so when it is asked
            proxy.mute = True
            with pytest.raises(StreamBroken, match=r"nothing was heard for 0\.6 s") as broken:
                pump.until(lambda: False)
            assert broken.value.transient
    finally:
        proxy.close()


def test_a_full_socket_blocks_neither_side(primary: Database) -> None:
    slot = publish(primary)
    primary.execute("create table t (id int, v text)")
    primary.execute("insert into t select i, repeat('x', 500) from generate_series(1, 20000) i")
    pump = open_pump(primary, slot)
    # The server is busy sending, and reads nothing until half of wal_sender_timeout is over or its own
    # socket is full: these are more than ours takes.
    for _ in range(20_000):
        pump.stream.send_status(Positions(INVALID, INVALID, INVALID))
    assert sum(isinstance(event, Insert) for event in pump.catch_up(primary)) == 20_000
    pump.stream.close()


def reopen(database: Database, slot: str, assembler: Assembler) -> Pump:
    """A new stream from where the assembler stands, as soon as the predecessor has let go of the slot."""
    found: list[Pump] = []

    def opened() -> bool:
        try:
            found.append(open_pump(database, slot, assembler=assembler))
        except SlotActive:
            return False
        return True

    eventually(opened, what="slot free")
    return found[0]


def test_a_killed_walsender_costs_nothing_and_doubles_nothing(primary: Database) -> None:
    slot = publish(primary)
    primary.execute("create table t (id int)")
    assembler = Assembler(INVALID, piece_bytes=4096)
    pump = open_pump(primary, slot, assembler=assembler)
    numbers = itertools.count(1)
    everything: list[Piece] = []
    for kill in range(5):
        for _ in range(3):
            primary.execute(f"insert into t select {next(numbers)} from generate_series(1, 5000)")
        # Anywhere in the stream, mostly inside a transaction; sometimes acknowledged, sometimes not.
        received = pump.stream.read(10.0, max_bytes=40_000 * (kill + 1))
        everything += assembler.feed(received.items)
        if kill % 2:
            pump.stream.send_status(Positions(*[assembler.position] * 3))
        primary.execute("select pg_terminate_backend(%s)", [primary.value(ACTIVE_PID, [slot])])
        with pytest.raises(PrimaryError) as caught:
            while True:
                everything += assembler.feed(pump.stream.read(10.0).items)
        assert isinstance(caught.value, StreamBroken)
        assert "\n" not in str(caught.value), "it is a line of the log at every try"
        assert caught.value.transient
        assert caught.value.sqlstate in ("57P01", None)
        pump.stream.close()
        abandoned = assembler.restart()
        everything += [abandoned] if abandoned else []
        pump = reopen(primary, slot, assembler)
    pump.catch_up_into(everything, primary)
    pump.stream.close()
    assert any(piece.kind is PieceKind.ABANDON for piece in everything)
    standing = without_abandoned(everything)
    found = events(standing)
    ids = [int(event.new[0]) for event in found if isinstance(event, Insert)]  # type: ignore[arg-type]
    assert ids == [number for number in range(1, next(numbers)) for _ in range(5000)]
    ends = [event.end_lsn for event in found if isinstance(event, Commit)]
    assert ends == sorted(set(ends))
    assert len(ends) == sum(isinstance(event, Begin) for event in found)


def without_abandoned(pieces: list[Piece]) -> list[Piece]:
    """What stands, as a reader of the journal sees it."""
    standing: list[Piece] = []
    pending: list[Piece] = []
    for piece in pieces:
        if piece.kind is PieceKind.ABANDON:
            pending = []
        elif piece.kind is PieceKind.CHANGES:
            pending.append(piece)
            if piece.last:
                standing += pending
                pending = []
    return standing


def test_a_journal_that_is_ahead_of_the_slot_gets_nothing_twice(primary: Database) -> None:
    slot = publish(primary)
    primary.execute("create table t (id int)")
    pump = open_pump(primary, slot)
    primary.execute("insert into t values (1); insert into t values (2)")
    target = current_lsn(primary)
    while pump.assembler.position < target:  # nothing is acknowledged
        pump.pieces += pump.assembler.feed(pump.stream.read(5.0).items)
    pump.stream.close()
    position = pump.assembler.position
    # The server skips by itself when it is told where to start; when it isn't, the assembler does.
    for start in (position, INVALID):
        primary.execute("insert into t values (3)")
        assembler = Assembler(position)
        eventually(lambda: primary.value(ACTIVE_PID, [slot]) is None)
        with SlotStream(primary.conninfo) as stream:
            stream.start(slot, ["everything"], start)
            again = Pump(stream, assembler)
            target = current_lsn(primary)
            while assembler.position < target:
                again.pieces += assembler.feed(stream.read(5.0).items)
        inserts = [event.new for event in events(again.pieces) if isinstance(event, Insert)]
        assert inserts == [[b"3"]] * (1 if start else 2)
        skipped = assembler.counters.transactions_skipped
        assert skipped == 0 if start else skipped > 0


def test_a_server_that_is_killed(make_server: Callable[..., Server]) -> None:
    server = make_server(durable=False)
    database = Database(server, "postgres")
    pump = open_pump(database, publish(database))
    server.kill()
    with pytest.raises(StreamBroken) as caught:
        while True:
            pump.turn()
    assert caught.value.transient
    assert not pump.stream.stop()


def test_a_server_that_shuts_down_waits_for_us_and_says_goodbye(make_server: Callable[..., Server]) -> None:
    server = make_server(durable=False)
    database = Database(server, "postgres")
    pump = open_pump(database, publish(database))
    database.execute("create table t (id int); insert into t values (1)")
    os.kill(server.pid, signal.SIGINT)
    with pytest.raises(StreamBroken) as caught:
        while True:
            pump.turn()
    assert caught.value.transient
    assert any(isinstance(event, Insert) for event in events(pump.pieces))
    pump.stream.close()


def test_a_reader_is_woken_from_another_thread(primary: Database) -> None:
    pump = open_pump(primary, publish(primary))
    pump.catch_up(primary)
    timer = threading.Timer(0.1, pump.stream.wake)
    timer.start()
    woken = False
    end = time.monotonic() + 60
    while not woken and time.monotonic() < end:
        woken = pump.stream.read(60.0).woken
    assert woken
    timer.join()
    pump.stream.wake()  # before the wait: the next one ends
    while not pump.stream.read(60.0).woken:
        assert time.monotonic() < end
    pump.stream.close()
    pump.stream.wake()  # and after the end it is harmless


def test_a_read_ends_when_its_time_is_over(primary: Database) -> None:
    pump = open_pump(primary, publish(primary))
    pump.catch_up(primary)
    end = time.monotonic() + 60
    while (received := pump.stream.read(0.05)).items:
        assert time.monotonic() < end
    assert (received.items, received.bytes, received.woken) == ([], 0, False)
    assert received.wal_end >= pump.assembler.position
    assert received.sent_time_us is not None
    pump.stream.close()


def test_a_stream_is_ended_in_the_middle_of_a_large_transaction(primary: Database) -> None:
    slot = publish(primary)
    primary.execute("create table t (v text)")
    primary.execute("insert into t select repeat('x', 1000) from generate_series(1, 200000)")
    pump = open_pump(primary, slot)
    assert pump.stream.read(30.0, max_bytes=1).items
    begun = time.monotonic()
    pump.stream.stop(deadline_s=0.2)
    assert time.monotonic() - begun < 10
    eventually(lambda: primary.value(ACTIVE_PID, [slot]) is None, what="slot free")


def test_another_thread_may_report_while_the_stream_is_waited_for_and_never_less_than_was(
    primary: Database,
) -> None:
    pump = open_pump(primary, publish(primary))
    pump.catch_up(primary)
    before, stream = pump.assembler.position, pump.stream
    primary.execute("create table later ()")
    here = current_lsn(primary)
    written = "select write_lsn - '0/0' from pg_stat_replication where pid = %s"
    reader = threading.Thread(target=lambda: stream.read(60.0))
    reader.start()
    eventually(lambda: stream.offer_status(lambda: Positions(here, here, here)))
    eventually(lambda: bool(primary.value(written, [stream.backend_pid]) == here))
    assert stream.sent.positions == Positions(here, here, here)
    stream.wake()
    reader.join()
    with pytest.raises(InternalError):
        stream.offer_status(lambda: Positions(here, before, before))
    with stream.using:  # whoever uses the connection decides by himself
        offered: list[bool] = []
        other = threading.Thread(
            target=lambda: offered.append(stream.offer_status(lambda: Positions(here, here, here)))
        )
        other.start()
        other.join()
    assert offered == [False]
    stream.close()
    assert not stream.offer_status(lambda: Positions(here, here, here))


def test_a_stream_is_used_in_its_order(primary: Database) -> None:
    slot = publish(primary)
    stream = SlotStream(primary.conninfo)
    with pytest.raises(InternalError):
        stream.read(0.0)
    stream.start(slot, ["everything"], INVALID)
    with pytest.raises(InternalError):
        stream.identify()
    stream.close()
    stream.close()
    with pytest.raises(InternalError):
        stream.send_status(Positions(INVALID, INVALID, INVALID))
