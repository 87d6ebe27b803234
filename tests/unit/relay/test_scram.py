"""SCRAM-SHA-256 on the server's side: verifiers as PostgreSQL writes them, logins of scramp and by hand."""

from __future__ import annotations

import base64
from typing import TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scramp import ScramClient

from logship.relay.authentication import Admitted, Authenticator, Certificate, Peer, Scram, Trust
from logship.relay.refusal import Refusal, Refused
from logship.relay.scram import MECHANISM, MECHANISM_PLUS, Exchange, Verifier, make_verifier, mock_verifier
from logship.relay.session import TlsMode
from logship.relay.states import State
from tests.unit.relay.client import error, errors, login, message, session, tags, taken

PASSWORD = "pencil"
VERIFIER = make_verifier(PASSWORD, salt=b"0123456789abcdef")
END_POINT = b"\x11" * 32


def scram(**verifiers: Verifier) -> Scram:
    return Scram(verifiers.get, b"secret")


def exchange(*, end_point: bytes = b"", known: bool = True) -> Exchange:
    return Exchange("u", VERIFIER, known=known, nonce="ServerNonce", tls=bool(end_point), end_point=end_point)


def test_the_example_of_the_rfc() -> None:
    """RFC 7677, section 3."""
    verifier = make_verifier(PASSWORD, salt=base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="))
    served = Exchange("user", verifier, known=True, nonce="%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0")
    first = served.begin(MECHANISM, b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO")
    assert first == b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    nonce, proof = first.split(b",")[0], b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    assert (
        served.finish(b"c=biws," + nonce + b"," + proof) == b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
    )


def test_a_verifier_is_written_as_in_pg_authid() -> None:
    text = str(VERIFIER)
    assert text.startswith("SCRAM-SHA-256$4096:MDEyMzQ1Njc4OWFiY2RlZg==$")
    assert Verifier.parse(text) == VERIFIER
    assert "MDEy" not in repr(VERIFIER)
    assert make_verifier(PASSWORD) != make_verifier(PASSWORD)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "md5abc",
        "SCRAM-SHA-256$4096:x$y:z",
        str(VERIFIER)[:-1],
        str(VERIFIER) + "\n",
        "SCRAM-SHA-256$0:AA==$AA==:AA==",
    ],
)
def test_what_is_no_verifier_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="verifier") as refused:
        Verifier.parse(text)
    assert not text or text not in str(refused.value)


def test_a_password_that_saslprep_refuses_is_taken_as_it_is() -> None:
    assert make_verifier("a\u0007b", salt=b"0123456789abcdef") == make_verifier(
        "a\u0007b", salt=b"0123456789abcdef"
    )
    assert make_verifier("I\u00adX", salt=b"x" * 16) == make_verifier("IX", salt=b"x" * 16)


Binding: TypeAlias = tuple[str, bytes]


def bound_to(end_point: bytes) -> Binding:
    return "tls-server-end-point", end_point


def play(served: Exchange, password: str, binding: Binding | None = None) -> None:
    """A login by scramp's client; raises what either side raises."""
    client = ScramClient(list(served.mechanisms), "u", password, channel_binding=binding)
    client.set_server_first(served.begin(client.mechanism_name, client.get_client_first().encode()).decode())
    client.set_server_final(served.finish(client.get_client_final().encode()).decode())


def test_a_login_by_another_implementation() -> None:
    play(exchange(), PASSWORD)
    play(exchange(end_point=END_POINT), PASSWORD, bound_to(END_POINT))
    for served, password in ((exchange(), "pen"), (exchange(known=False), PASSWORD)):
        with pytest.raises(Refused) as refused:
            play(served, password)
        assert refused.value.refusal == Refusal(
            "28P01", 'password authentication failed for user "u"', fatal=True
        )


def test_a_binding_to_another_certificate_is_refused() -> None:
    with pytest.raises(Refused, match="binding check failed"):
        play(exchange(end_point=END_POINT), PASSWORD, bound_to(b"\x22" * 32))


@pytest.mark.parametrize(
    ("mechanism", "data"),
    [
        ("SCRAM-SHA-1", b"n,,n=,r=abc"),
        (MECHANISM_PLUS, b"p=tls-server-end-point,,n=,r=abc"),
        (MECHANISM, b"p=tls-server-end-point,,n=,r=abc"),
        (MECHANISM, b""),
        (MECHANISM, b"\xff"),
        (MECHANISM, b"n,,n=,r="),
        (MECHANISM, b"n,,n=,r=a b"),
        (MECHANISM, b"n,a=x,n=,r=abc"),
        (MECHANISM, b"n,,m=x,n=,r=abc"),
        (MECHANISM, b"x,,n=,r=abc"),
    ],
)
def test_a_malformed_first_message(mechanism: str, data: bytes) -> None:
    with pytest.raises(Refused) as refused:
        exchange().begin(mechanism, data)
    assert refused.value.refusal.fatal


@pytest.mark.parametrize(
    ("mechanism", "data"),
    [
        (MECHANISM, b"y,,n=,r=abc"),
        (MECHANISM_PLUS, b"n,,n=,r=abc"),
        (MECHANISM_PLUS, b"p=tls-unique,,n=,r=abc"),
    ],
)
def test_a_better_mechanism_is_not_talked_away(mechanism: str, data: bytes) -> None:
    with pytest.raises(Refused):
        exchange(end_point=END_POINT).begin(mechanism, data)
    exchange(end_point=END_POINT).begin(MECHANISM, b"n,,n=,r=abc")


PROOF = base64.b64encode(bytes(32))


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\xff", b"c=biws", b"c=biws,r=cServerNonce,p=x", b"c=biws,r=other,p=" + PROOF,
        b"c=eSws,r=cServerNonce,p=" + PROOF, b"c=biws,r=cServerNonce,p=AAAA", b"c=biws,r=cServerNonce,p=" + PROOF,
    ],
)  # fmt: skip
def test_a_malformed_last_message(data: bytes) -> None:
    served = exchange()
    served.begin(MECHANISM, b"n,,n=,r=c")
    with pytest.raises(Refused) as refused:
        served.finish(data)
    assert refused.value.refusal.fatal


@settings(deadline=None)
@given(st.binary(max_size=60), st.binary(max_size=60))
def test_any_bytes_are_answered_or_refused(first: bytes, last: bytes) -> None:
    served = exchange()
    for step in (lambda: served.begin(MECHANISM, first), lambda: served.finish(last)):
        try:
            step()
        except Refused as refused:
            assert refused.refusal.fatal


# -- who may come in -----------------------------------------------------------------------------


def test_unknown_users_look_like_known_ones() -> None:
    auth = scram(u=VERIFIER)
    answers = {}
    for user in ("u", "nobody", "nobody"):
        served = auth.decide(user, Peer())
        assert isinstance(served, Exchange)
        first = served.begin(MECHANISM, b"n,,n=,r=c").decode()
        nonce, salt, iterations = first.split(",")
        assert (len(nonce), len(salt), iterations) == (len("r=c") + 24, len("s=") + 24, "i=4096")
        assert answers.setdefault(user, salt) == salt  # the same each time
    assert answers["u"] != answers["nobody"]
    assert mock_verifier("a", b"s") != mock_verifier("b", b"s")


def test_a_certificate_names_its_user() -> None:
    auth: Authenticator = Certificate(Trust())
    assert auth.decide("u", Peer(tls=True, client_subject="u")) == Admitted()
    assert auth.decide("u", Peer(tls=True)) == Admitted()
    for refusing, peer in ((auth, Peer(tls=True, client_subject="v")), (Certificate(), Peer(tls=True))):
        refused = refusing.decide("u", peer)
        assert isinstance(refused, Refusal)
        assert (refused.sqlstate, refused.fatal) == ("28000", True)


# -- in a session --------------------------------------------------------------------------------


def sasl_initial(data: bytes, mechanism: str = MECHANISM) -> bytes:
    return message(b"p", mechanism.encode() + b"\0" + len(data).to_bytes(4, "big") + data)


def test_a_login_in_a_session() -> None:
    served = session(auth=scram(replica=VERIFIER))
    assert served.receive(login()) == []
    assert taken(served.outgoing()) == [(b"R", b"\0\0\0\x0aSCRAM-SHA-256\0\0")]
    client = ScramClient([MECHANISM], "replica", PASSWORD)
    assert served.receive(sasl_initial(client.get_client_first().encode())) == []
    ((_, first),) = taken(served.outgoing())
    client.set_server_first(first[4:].decode())
    (entered,) = served.receive(message(b"p", client.get_client_final().encode()))
    assert type(entered).__name__ == "Authenticated"
    sent = taken(served.outgoing())
    client.set_server_final(sent[0][1][4:].decode())
    assert served.state is State.READY


def test_the_better_mechanism_is_offered_over_tls_only() -> None:
    served = session(tls=TlsMode.ALLOWED, auth=scram())
    served.receive(b"\0\0\0\x08\x04\xd2\x16\x2f")
    served.outgoing()
    served.tls_started(client_subject=None, end_point=END_POINT)
    served.receive(login())
    assert taken(served.outgoing()) == [(b"R", b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0")]


@pytest.mark.parametrize(
    "data",
    [
        message(b"p", b"secret\0"), message(b"Q", b"IDENTIFY_SYSTEM\0"), message(b"X"), b"p\0\0\xff\xff", b"p\0\0\0\3",
        sasl_initial(b"n,,n=,r=c", "PLAIN"), message(b"p", b"SCRAM-SHA-256\0\xff\xff\xff\xff"), sasl_initial(b"x"),
    ],
)  # fmt: skip
def test_anything_else_than_a_sasl_message_ends_the_session(data: bytes) -> None:
    served = session(auth=scram(replica=VERIFIER))
    served.receive(login())
    served.outgoing()
    served.receive(data)
    sent = served.outgoing()
    assert tags(sent) == b"E"
    assert errors(sent)[0]["S"] == "FATAL"
    assert served.state is State.CLOSED
    assert "secret" not in str(error(taken(sent)[0][1]))
