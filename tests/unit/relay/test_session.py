"""The session: what a client may do when, what it is told, and what the pump is asked."""

from __future__ import annotations

import struct

import pytest

from logship.errors import InternalError
from logship.lsn import Lsn
from logship.relay import events
from logship.relay.events import (
    CopyEnded,
    CreatedSlot,
    Failed,
    Identify,
    RefusedCommand,
    SlotInfo,
    Status,
    SystemInfo,
)
from logship.relay.messages import Column
from logship.relay.refusal import Refusal
from logship.relay.session import Limits, TlsMode
from logship.relay.states import State
from tests.unit.relay import client
from tests.unit.relay.client import (
    COPY_DONE,
    GSSENC_REQUEST,
    SSL_REQUEST,
    START,
    SYNC,
    TERMINATE,
    copy_data,
    errors,
    login,
    message,
    pump,
    query,
    ready,
    session,
    startup,
    status,
    streaming,
    tags,
    taken,
)


def test_a_login_without_a_password() -> None:
    served = session()
    assert served.receive(login()) == [
        events.Authenticated(
            "replica", "app", "test",
            {"user": "replica", "database": "app", "replication": "database", "application_name": "test"}, True,
        )
    ]  # fmt: skip
    sent = taken(served.outgoing())
    assert sent[0] == (b"R", struct.pack(">I", 0))
    assert sent[-2:] == [(b"K", struct.pack(">II", 7, 11)), (b"Z", b"I")]
    told = dict(body.decode().split("\0")[:2] for tag, body in sent if tag == b"S")
    assert told["server_version"] == "15.0"
    assert told["client_encoding"] == told["server_encoding"] == "UTF8"
    assert told["integer_datetimes"] == told["standard_conforming_strings"] == "on"
    assert (told["session_authorization"], told["application_name"]) == ("replica", "test")
    assert served.outgoing() == b""


def test_the_database_defaults_to_the_user_and_must_be_the_one_that_is_served() -> None:
    served = session(database="app")
    (failed,) = served.receive(startup(user="replica", replication="database"))
    assert isinstance(failed, Failed)
    assert served.state is State.CLOSED
    sent = served.outgoing()
    assert tags(sent) == b"RE"
    (told,) = errors(sent)
    assert told["S"] == "FATAL"
    assert told["C"] == "3D000"
    assert '"app"' in told["H"]


@pytest.mark.parametrize(
    ("packet", "sqlstate"),
    [
        (startup(2 << 16), "0A000"),
        (startup(4 << 16, user="x"), "0A000"),
        (startup(database="x"), "28000"),
        (startup(user="x", replication="zz"), "22023"),
        (startup(user="x", replication="true"), "0A000"),
        (struct.pack(">II", 12, 3 << 16) + b"user", "08P01"),
        (struct.pack(">II", 18, 3 << 16) + b"user\0x\0\0\0\0", "08P01"),
        (struct.pack(">II", 16, 3 << 16) + b"user\0\xff\0\0", "22021"),
        (b"\0\0\0\7", "08P01"),
        (b"\0\1\0\0", "08P01"),
        (b"GET / HTTP/1.1\r\n", "08P01"),
        (b"\x16\x03\x01\x02\0\x01", "08P01"),
        (struct.pack(">III", 12, 1234 << 16 | 5678, 1), "08P01"),
    ],
)  # fmt: skip
def test_a_bad_startup_packet_ends_the_session(packet: bytes, sqlstate: str) -> None:
    served = session()
    (failed,) = served.receive(packet)
    assert isinstance(failed, Failed)
    assert failed.error.sqlstate == sqlstate
    (told,) = errors(served.outgoing())
    assert (told["S"], told["V"], told["C"]) == ("FATAL", "FATAL", sqlstate)
    assert served.state is State.CLOSED
    assert served.receive(login()) == []
    assert served.outgoing() == b""


def test_a_newer_minor_version_and_unknown_options_are_negotiated() -> None:
    served = session()
    served.receive(startup(3 << 16 | 2, **{"user": "x", "_pq_.wish": "1"}))
    sent = taken(served.outgoing())
    assert sent[0] == (b"v", struct.pack(">II", 3 << 16, 1) + b"_pq_.wish\0")
    assert sent[-1] == (b"Z", b"I")


def test_a_cancel_request_names_a_session_and_ends_its_own() -> None:
    served = session(tls=TlsMode.REQUIRED)
    assert served.receive(client.cancel(7, 2**32 - 1)) == [events.Cancel(7, 2**32 - 1)]
    assert served.state is State.CLOSED
    assert served.outgoing() == b""


# -- encryption ----------------------------------------------------------------------------------


def test_encryption_that_is_not_offered_is_refused_once_and_the_login_goes_on() -> None:
    for requests in ([SSL_REQUEST, GSSENC_REQUEST], [GSSENC_REQUEST, SSL_REQUEST]):
        served = session()
        for request in requests:
            assert served.receive(request) == []
            assert served.outgoing() == b"N"
        assert isinstance(served.receive(login())[0], events.Authenticated)
    served = session()
    served.receive(SSL_REQUEST)
    (failed,) = served.receive(SSL_REQUEST)
    assert isinstance(failed, Failed)
    assert failed.error.sqlstate == "0A000"


@pytest.mark.parametrize("mode", [TlsMode.ALLOWED, TlsMode.REQUIRED])
def test_tls_is_started_before_anything_is_said(mode: TlsMode) -> None:
    served = session(tls=mode)
    assert served.receive(GSSENC_REQUEST) == []
    assert served.receive(SSL_REQUEST) == [events.StartTls()]
    assert served.outgoing() == b"NS"
    served.tls_started(client_subject=None)
    assert isinstance(served.receive(login())[0], events.Authenticated)


def test_required_tls_refuses_plain_text_before_any_password() -> None:
    for packet in (login(), startup(4 << 16)):
        served = session(tls=TlsMode.REQUIRED)
        (failed,) = served.receive(packet)
        assert isinstance(failed, Failed)
        assert failed.error.sqlstate == "28000"
        assert "sslmode" in failed.error.hint
        assert tags(served.outgoing()) == b"E"


def test_bytes_before_the_handshake_are_not_taken_as_said_inside_it() -> None:
    for chunks in ([SSL_REQUEST + login()], [SSL_REQUEST, login()]):
        served = session(tls=TlsMode.REQUIRED)
        seen = [event for chunk in chunks for event in served.receive(chunk)]
        assert seen[0] == events.StartTls()
        assert isinstance(seen[1], Failed)
        assert served.state is State.CLOSED
        served.tls_started(client_subject=None)  # the handshake that nobody wants any more
        assert served.receive(login()) == []


# -- commands ------------------------------------------------------------------------------------


def test_every_command_is_asked_and_answered() -> None:
    served = ready()
    assert served.receive(query("IDENTIFY_SYSTEM")) == [Identify()]
    assert served.state is State.COMMAND
    served.identified(SystemInfo(2**63, 3, Lsn(0x16B3748), "app"))
    sent = taken(served.outgoing())
    assert [tag for tag, _ in sent] == [b"T", b"D", b"C", b"Z"]
    assert b"9223372036854775808" in sent[1][1]
    assert b"0/16B3748" in sent[1][1]

    assert served.receive(query("CREATE_REPLICATION_SLOT r1 LOGICAL pgoutput")) == [
        events.CreateSlot("r1", "pgoutput", False, events.Snapshot.EXPORT)
    ]
    served.created(CreatedSlot("r1", Lsn(1)))
    assert taken(served.outgoing())[1] == (
        b"D", b"\0\4\0\0\0\2r1\0\0\0\x030/1\xff\xff\xff\xff\0\0\0\x08pgoutput",
    )  # fmt: skip
    assert served.receive(query("DROP_REPLICATION_SLOT r1 WAIT")) == [events.DropSlot("r1", True)]
    served.dropped()
    assert tags(served.outgoing()) == b"CZ"
    for slot in (None, SlotInfo(Lsn(1), 1)):
        assert served.receive(query("READ_REPLICATION_SLOT r1")) == [events.ReadSlot("r1")]
        served.slot_read(slot)
        assert tags(served.outgoing()) == b"TDCZ"
    assert served.receive(query('SHOW "logship.mark"')) == [events.Show("logship.mark")]
    served.rows([Column("lsn")], [["0/1"], [None]], "SHOW")
    assert tags(served.outgoing()) == b"TDDCZ"


def test_what_needs_no_looking_up_is_answered_at_once() -> None:
    served = ready()
    assert served.receive(query("SELECT pg_catalog.set_config('search_path', '', false);")) == []
    assert tags(served.outgoing()) == b"TDCZ"
    assert served.receive(query("SHOW data_directory_mode") + query(" ;")) == []
    assert tags(served.outgoing()) == b"TDCZIZ"


def test_pipelined_commands_wait_for_each_other() -> None:
    served = ready()
    pipelined = query("IDENTIFY_SYSTEM") + query("DROP_REPLICATION_SLOT r1") + TERMINATE
    assert served.receive(pipelined) == [Identify()]
    assert served.receive(b"") == []
    served.refuse(Refusal("55006", "no"))
    assert served.receive(b"") == [events.DropSlot("r1", False)]
    served.dropped()
    assert served.receive(b"") == [events.Terminated()]
    assert tags(served.outgoing()) == b"EZCZ"
    assert served.state is State.CLOSED


def test_what_piles_up_behind_a_command_is_bounded() -> None:
    served = session(limits=Limits(message_bytes=1000))
    served.receive(login())
    served.receive(query("IDENTIFY_SYSTEM"))
    assert served.receive(bytes(1000)) == []
    (failed,) = served.receive(b"\0")
    assert isinstance(failed, Failed)
    served.identified(SystemInfo(1, 1, Lsn(1), "app"))  # too late, and nobody minds
    assert served.state is State.CLOSED


@pytest.mark.parametrize(
    ("data", "sqlstate"),
    [
        (query("select 1"), "0A000"),
        (query("BEGIN READ ONLY ISOLATION LEVEL REPEATABLE READ"), "0A000"),
        (query("IDENTIFY_SYSTEM x"), "42601"),
        (query("\u00e9 $"), "42601"),
        (message(b"Q", b"abc"), "08P01"),
        (message(b"Q", b"abc\0d\0"), "08P01"),
        (message(b"Q", b"\xff\0"), "22021"),
        (message(b"F", b"x"), "0A000"),
    ],
)
def test_a_command_that_is_refused_leaves_the_session_ready(data: bytes, sqlstate: str) -> None:
    served = ready()
    (refused,) = served.receive(data)
    assert isinstance(refused, RefusedCommand)
    sent = served.outgoing()
    assert tags(sent) == b"EZ"
    (told,) = errors(sent)
    assert (told["S"], told["C"]) == ("ERROR", sqlstate)
    assert served.receive(query("IDENTIFY_SYSTEM")) == [Identify()]


def test_the_extended_protocol_is_refused_and_skipped_until_sync() -> None:
    served = ready()
    parse = message(b"P", b"\0select 1\0\0\0")
    skipped = message(b"B") + query("IDENTIFY_SYSTEM") + message(b"H") + message(b"F") + copy_data(b"x")
    (refused,) = served.receive(parse + skipped)
    assert isinstance(refused, RefusedCommand)
    (told,) = errors(served.outgoing())
    assert told["C"] == "0A000"
    assert told["H"]
    assert served.state is State.SKIPPING
    assert served.receive(SYNC) == []
    assert tags(served.outgoing()) == b"Z"
    assert served.receive(SYNC + message(b"H")) == []
    assert tags(served.outgoing()) == b"Z"
    assert served.receive(parse + TERMINATE)[-1] == events.Terminated()


def test_replication_commands_want_a_replication_connection() -> None:
    served = ready(user="replica")
    (refused,) = served.receive(query("IDENTIFY_SYSTEM"))
    assert isinstance(refused, RefusedCommand)
    assert "replication=database" in refused.error.hint
    assert served.receive(query("SHOW nope")) == [events.Show("nope")]


@pytest.mark.parametrize(
    "data",
    [b"~", b"Q\0\0\0\3", b"Q\x7f\xff\xff\xff", message(b"p", b"x\0"), b"\0"],
    ids=["tag", "short", "long", "password", "zero"],
)
def test_what_is_no_message_ends_the_session(data: bytes) -> None:
    served = ready()
    (failed,) = served.receive(data)
    assert isinstance(failed, Failed)
    (told,) = errors(served.outgoing())
    assert (told["S"], told["C"]) == ("FATAL", "08P01")
    assert served.state is State.CLOSED


# -- the stream ----------------------------------------------------------------------------------


def test_a_stream_and_its_end_by_the_client() -> None:
    served = ready()
    (asked,) = served.receive(query(START))
    assert asked == events.StartReplication("r1", Lsn(0), {"proto_version": "1", "publication_names": '"p"'})
    served.streaming()
    assert served.outgoing() == b"W\0\0\0\7\0\0\0"
    frames = copy_data(b"w" * 30)
    assert served.copy_data(frames) is frames
    served.keepalive(Lsn(5), 6, reply_requested=True)
    assert served.copy_data(frames) == copy_data(struct.pack(">cQqB", b"k", 5, 6, 1)) + frames
    seen = served.receive(status(3, 2, 1, asked=True) + copy_data(b"h" + bytes(24)) + COPY_DONE + query("X"))
    assert seen == [Status(Lsn(3), Lsn(2), Lsn(1), 0, True), CopyEnded()]
    assert served.copy_data(frames) == b""
    served.end_stream()
    sent = taken(served.outgoing())
    assert sent == [(b"c", b""), (b"C", b"COPY 0\0"), (b"C", b"START_REPLICATION\0"), (b"Z", b"I")]
    assert isinstance(served.receive(b"")[0], RefusedCommand)


def test_a_stream_that_we_end_waits_for_the_client() -> None:
    served = streaming()
    served.end_stream()
    assert served.outgoing() == COPY_DONE
    assert served.receive(status(3)) == [Status(Lsn(3), Lsn(0), Lsn(0), 0, False)]
    served.keepalive(Lsn(5), 6, reply_requested=False)
    assert served.outgoing() == b""
    assert served.receive(COPY_DONE) == []
    assert tags(served.outgoing()) == b"CCZ"
    assert served.state is State.READY


def test_an_error_ends_the_stream_and_late_copy_data_is_passed_over() -> None:
    served = streaming()
    served.refuse(Refusal("58P01", "gone", "the oldest is 0/1"))
    assert tags(served.outgoing()) == b"EZ"
    assert served.receive(status(3) + COPY_DONE + message(b"f", b"x\0") + query("IDENTIFY_SYSTEM")) == [
        Identify()
    ]
    served = streaming()
    assert served.receive(COPY_DONE) == [CopyEnded()]
    served.refuse(Refusal("58P01", "gone"))
    assert served.state is State.READY


@pytest.mark.parametrize(
    "data",
    [
        message(b"f", b"no\0"), query("IDENTIFY_SYSTEM"), SYNC, message(b"P"), copy_data(b""), copy_data(b"z"),
        copy_data(b"r123"), copy_data(b"r" + bytes(34)), copy_data(b"h"), b"d\0\0\0\2", b"d\0\x11\0\0", b"\xff",
    ],
)  # fmt: skip
def test_what_has_no_place_in_a_stream_ends_the_session(data: bytes) -> None:
    served = streaming()
    (failed,) = served.receive(data)
    assert isinstance(failed, Failed)
    (told,) = errors(served.outgoing())
    assert (told["S"], told["C"]) == ("FATAL", "08P01")
    assert served.copy_data(b"x") == b""


def test_a_shutdown_is_told_in_every_state_and_ends_it() -> None:
    for served in (session(), ready(), streaming()):
        served.shut_down()
        (told,) = errors(served.outgoing())
        assert told["C"] == "57P01"
        assert served.state is State.CLOSED
        served.shut_down()
        served.streaming()
        served.refuse(Refusal("08006", "x"))
        served.keepalive(Lsn(1), 1, reply_requested=False)
        served.end_stream()
        assert served.outgoing() == b""


def test_an_answer_to_no_question_is_a_defect_of_ours() -> None:
    served = ready()
    for wrong in (
        served.streaming, served.dropped, served.end_stream, lambda: served.refuse(Refusal("08006", "x")),
        lambda: served.tls_started(client_subject=None),
    ):  # fmt: skip
        with pytest.raises(InternalError):
            wrong()
    assert served.state is State.READY


def test_a_fatal_refusal_ends_the_session_in_any_state() -> None:
    served = ready()
    served.refuse(Refusal("53300", "too many connections", fatal=True))
    assert tags(served.outgoing()) == b"E"
    assert served.state is State.CLOSED


def test_application_names_and_errors_hold_no_control_characters() -> None:
    served = session()
    (entered,) = served.receive(startup(user="x", application_name="a\nb\u00e9"))
    assert isinstance(entered, events.Authenticated)
    assert entered.application_name == "a?b?"


def test_the_pump_of_the_tests_plays_a_whole_session() -> None:
    served = session(tls=TlsMode.ALLOWED)
    seen = pump(served, SSL_REQUEST)
    seen += pump(
        served, login() + query("IDENTIFY_SYSTEM") + query(START) + status(1) + COPY_DONE + TERMINATE
    )
    assert [type(event).__name__ for event in seen] == [
        "StartTls", "Authenticated", "Identify", "StartReplication", "Status", "CopyEnded", "Terminated",
    ]  # fmt: skip
