"""Whatever a client sends, in whatever state and in whatever chunks: an error of the protocol or an event,
never an exception, and the same for every way of cutting the bytes. `make fuzz` runs it longer."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scramp import ScramClient

from logship.relay.authentication import Scram
from logship.relay.events import Cancel, Event, Failed, Terminated
from logship.relay.scram import MECHANISM, make_verifier
from logship.relay.session import Limits, Session, TlsMode
from logship.relay.states import State
from tests.unit.relay.client import (
    COPY_DONE,
    GSSENC_REQUEST,
    SSL_REQUEST,
    START,
    SYNC,
    TERMINATE,
    cancel,
    copy_data,
    errors,
    login,
    message,
    pump,
    pump_chunks,
    query,
    session,
    startup,
    status,
    streaming,
    tags,
)

# Each of many states takes its share of an ordinary run; `make fuzz` raises the number, and then it is meant.
_ORDINARY = 100
EXAMPLES = 30 if settings.default.max_examples <= _ORDINARY else settings.default.max_examples
LIMITS = Limits(startup_bytes=300, message_bytes=500)
AUTH = Scram({"replica": make_verifier("pencil", salt=b"x" * 16)}.get, b"secret", nonce=lambda: "ServerNonce")


def _scram() -> tuple[bytes, bytes]:
    """Both SASL messages of a client that knows the password, to the nonce of `AUTH`."""
    client = ScramClient([MECHANISM], "replica", "pencil", c_nonce="ClientNonce")
    first = client.get_client_first().encode()
    served = AUTH_SESSION()
    served.receive(login() + sasl_initial(first))
    server_first = served.outgoing().rpartition(b"r=")[2]
    client.set_server_first("r=" + server_first.decode())
    return sasl_initial(first), message(b"p", client.get_client_final().encode())


def sasl_initial(data: bytes) -> bytes:
    return message(b"p", MECHANISM.encode() + b"\0" + len(data).to_bytes(4, "big") + data)


def AUTH_SESSION() -> Session:  # noqa: N802  made again for each example
    return session(auth=AUTH, limits=LIMITS)


INITIAL, PROOF = _scram()
LOGIN = login() + INITIAL + PROOF


def after(*sent: bytes, answered: bool = True) -> Callable[[], Session]:
    """A session that was sent this; with ``answered`` the pump has answered all of it."""

    def make() -> Session:
        made = AUTH_SESSION()
        for data in sent:
            if answered:
                pump(made, data)
            else:
                made.receive(data)
        made.outgoing()
        return made

    return make


def we_ended() -> Session:
    made = streaming()
    made.end_stream()
    made.outgoing()
    return made


STATES: dict[State, Callable[[], Session]] = {
    State.STARTUP: AUTH_SESSION,
    State.NO_TLS: after(SSL_REQUEST),
    State.NO_GSS: after(GSSENC_REQUEST),
    State.PLAIN: after(SSL_REQUEST, GSSENC_REQUEST),
    State.SASL: after(login()),
    State.SASL_PROOF: after(login(), INITIAL),
    State.READY: after(LOGIN),
    State.COMMAND: after(LOGIN, query("IDENTIFY_SYSTEM"), answered=False),
    State.SKIPPING: after(LOGIN, message(b"P")),
    State.STREAMING: after(LOGIN, query(START)),
    State.CLIENT_ENDED: after(LOGIN),  # made below: it takes a stream that isn't answered
    State.WE_ENDED: we_ended,
    State.CLOSED: after(TERMINATE),
}


def client_ended() -> Session:
    made = streaming()
    made.receive(COPY_DONE)
    return made


STATES[State.CLIENT_ENDED] = client_ended

CONVERSATION = (
    SSL_REQUEST, GSSENC_REQUEST, login(), INITIAL, PROOF, query("IDENTIFY_SYSTEM"), query("SHOW nope"), query(""),
    query("CREATE_REPLICATION_SLOT \"r1\" LOGICAL pgoutput (SNAPSHOT 'nothing')"), query("DROP_REPLICATION_SLOT r1"),
    query("SELECT pg_catalog.set_config('search_path', '', false);"), query("READ_REPLICATION_SLOT r1"),
    message(b"P", b"\0select 1\0\0\0"), message(b"B"), SYNC, message(b"F"), query(START), status(5, 4, 3, asked=True),
    copy_data(b"h" + bytes(24)), COPY_DONE, query("select 1"), query(START), status(1), TERMINATE,
)  # fmt: skip

Outcome = tuple[list[Event], bytes, State]


def outcome(served: Session, chunks: Iterable[bytes]) -> Outcome:
    seen = pump_chunks(served, chunks)
    sent = served.outgoing()
    check(served, seen, sent)
    return seen, sent, served.state


def check(served: Session, seen: list[Event], sent: bytes) -> None:
    """What is true of every session: who fails is told why, in whole messages, and is done."""
    ends = [event for event in seen if isinstance(event, (Failed, Terminated, Cancel))]
    assert len(ends) <= 1
    if ends:
        assert served.state is State.CLOSED
        assert seen[-1] is ends[0]
    spoken = sent.lstrip(b"NS") if sent[:1] in (b"N", b"S") and sent[1:2] != b"\0" else sent
    told = errors(spoken)
    assert all(len(fields["C"]) == 5 and fields["M"] for fields in told)
    if ends and isinstance(ends[0], Failed):
        assert told[-1]["S"] == "FATAL"
        assert tags(spoken)[-1:] == b"E"
    assert served.outgoing() == b""


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places} | {len(data)})
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


places = st.lists(st.integers(0, 5000), max_size=12)


def tagged(tag: bytes) -> st.SearchStrategy[bytes]:
    return st.binary(max_size=60).map(lambda body: message(tag, body))


garbage = st.one_of(
    st.binary(max_size=80),
    st.sampled_from([bytes([tag]) for tag in b"QpPBEDCSHXFdcf~"]).flatmap(tagged),
    st.sampled_from(CONVERSATION),
    st.binary(max_size=40).map(lambda body: copy_data(b"r" + body)),
    st.text(max_size=40).map(query),
    st.binary(max_size=60).map(lambda body: (len(body) + 8).to_bytes(4, "big") + (3 << 16).to_bytes(4, "big") + body),
    st.just(startup(3 << 16 | 2, user="replica")),
    st.just(cancel(7, 11)),
)  # fmt: skip


@pytest.mark.parametrize("state", list(STATES), ids=lambda state: state.name.lower())
@settings(deadline=None, max_examples=EXAMPLES)
@given(data=st.lists(garbage, max_size=4).map(b"".join), where=places)
def test_garbage_in_every_state(state: State, data: bytes, where: list[int]) -> None:
    make = STATES[state]
    first = make()
    assert first.state is state
    whole = outcome(first, [data])
    assert outcome(make(), cut(data, where)) == whole


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """The conversation with some of its messages lost, doubled, exchanged or damaged."""
    parts = list(CONVERSATION)
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(parts) - 1))
        match draw(st.sampled_from(("lose", "double", "exchange", "flip", "shorten", "put"))):
            case "lose":
                parts[at] = b""
            case "double":
                parts.insert(at, parts[at])
            case "exchange":
                other = draw(st.integers(0, len(parts) - 1))
                parts[at], parts[other] = parts[other], parts[at]
            case "flip" if parts[at]:
                damaged = bytearray(parts[at])
                damaged[draw(st.integers(0, len(damaged) - 1))] ^= draw(st.integers(1, 255))
                parts[at] = bytes(damaged)
            case "shorten":
                parts[at] = parts[at][: draw(st.integers(0, len(parts[at])))]
            case "put":
                parts.insert(at, draw(garbage))
            case _:
                pass
    return b"".join(parts)


@settings(deadline=None)
@given(mutated(), places)
def test_a_damaged_conversation(data: bytes, where: list[int]) -> None:
    whole = outcome(AUTH_SESSION(), [data])
    assert outcome(AUTH_SESSION(), cut(data, where)) == whole


def test_the_conversation_cut_between_bytes() -> None:
    data = b"".join(CONVERSATION)
    whole = outcome(AUTH_SESSION(), [data])
    assert isinstance(whole[0][-1], Terminated)
    assert outcome(AUTH_SESSION(), [data[at : at + 1] for at in range(len(data))]) == whole
    for at in range(1, len(data), 4):
        assert outcome(AUTH_SESSION(), [data[:at], data[at:]]) == whole


@settings(deadline=None)
@given(st.sampled_from(TlsMode), mutated(), places)
def test_with_tls_nothing_is_raised_either(mode: TlsMode, data: bytes, where: list[int]) -> None:
    outcome(session(tls=mode, auth=AUTH, limits=LIMITS), cut(data, where))


@pytest.mark.parametrize(
    "state", [state for state in STATES if state is not State.CLOSED], ids=lambda s: s.name.lower()
)
def test_who_never_stops_sending_is_cut(state: State) -> None:
    """Nobody's memory is the client's to fill, in a state that reads nothing either."""
    made = STATES[state]()
    fed = 0
    while made.state is not State.CLOSED:
        made.receive(b"Q\0\0\1\xf4" if not fed else b"x" * 100)
        fed += 100
        assert fed < 2 * 1024 * 1024
