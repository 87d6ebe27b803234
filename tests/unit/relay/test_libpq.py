"""libpq, as it is in psycopg, against the core: logins, commands, a stream. A thread carries the bytes."""

from __future__ import annotations

import select
import shutil
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import pq

from logship.capture.link import Link
from logship.lsn import Lsn
from logship.relay import events
from logship.relay.authentication import Authenticator, Scram, Trust
from logship.relay.events import Event
from logship.relay.frames import encode_messages
from logship.relay.scram import end_point, make_verifier
from logship.relay.session import Limits, ServerIdentity, Session, TlsMode
from logship.relay.states import State
from tests.unit.relay.client import START, answer

PASSWORD = "tops3cret, ünïcode"
SCRAM = Scram({"replica": make_verifier(PASSWORD)}.get, b"secret")
FRAMES = encode_messages([b"Bxx", b"Cxx"], commit_lsn=Lsn(5), end_lsn=Lsn(9), sent_time_us=0)


class Served:
    """One connection: its events, and how it ended."""

    def __init__(
        self, listener: socket.socket, made: Session, context: ssl.SSLContext | None, bound: bytes
    ) -> None:
        self.events: list[Event] = []
        self._listener, self._session, self._context, self._bound = listener, made, context, bound
        self._link: socket.socket | None = None
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        self._link, _ = self._listener.accept()
        with ExitStack() as stack:
            stack.callback(lambda: self._link and self._link.close())
            while self._session.state is not State.CLOSED:
                data = self._link.recv(4096)
                if not data:
                    return
                self._turn(data)

    def _turn(self, data: bytes) -> None:
        assert self._link is not None
        pending = self._session.receive(data)
        while pending:
            for event in pending:
                self.events.append(event)
                if isinstance(event, events.StartTls) and self._context is not None:
                    self._link.sendall(self._session.outgoing())
                    self._link = self._context.wrap_socket(self._link, server_side=True)
                    self._session.tls_started(client_subject=None, end_point=self._bound)
                else:
                    answer(self._session, event)
                if isinstance(event, events.StartReplication):
                    self._link.sendall(self._session.copy_data(FRAMES))
            pending = self._session.receive(b"")
        self._link.sendall(self._session.outgoing())


@contextmanager
def serving(
    auth: Authenticator, tls: TlsMode = TlsMode.OFF, context: ssl.SSLContext | None = None, bound: bytes = b""
) -> Iterator[tuple[Served, str]]:
    made = Session(tls=tls, auth=auth, identity=ServerIdentity(7, 11, "app"), limits=Limits())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        served = Served(listener, made, context, bound)
        served.thread.start()
        try:
            yield (
                served,
                f"host=127.0.0.1 port={listener.getsockname()[1]} user=replica dbname=app gssencmode=disable",
            )
        finally:
            served.thread.join(20)
            assert not served.thread.is_alive()


def connect(conninfo: str, **more: str) -> psycopg.Connection:
    return psycopg.connect(conninfo, autocommit=True, replication="database", **more)


def test_a_login_with_a_password() -> None:
    with serving(SCRAM) as (served, conninfo), connect(conninfo, password=PASSWORD) as connection:
        assert connection.info.server_version == 150000
        assert connection.info.encoding == "utf-8"
        assert connection.info.backend_pid == 7
        assert connection.info.parameter_status("integer_datetimes") == "on"
        row = connection.execute("IDENTIFY_SYSTEM").fetchone()
        assert row == ("1", 1, "0/16B3748", "app")
        with pytest.raises(psycopg.errors.FeatureNotSupported) as refused:
            connection.execute("select 1")
        assert refused.value.diag.message_hint
        with pytest.raises(psycopg.errors.FeatureNotSupported):
            connection.execute("select %s", [1])  # the extended protocol
        assert connection.execute('SHOW "logship.mark"').fetchone() == ("0/1",)
    assert isinstance(served.events[-1], events.Terminated)


@pytest.mark.parametrize(
    ("user", "password"), [("replica", "wrong"), ("nobody", PASSWORD)], ids=["wrong password", "unknown user"]
)
def test_a_login_that_fails(user: str, password: str) -> None:
    with (
        serving(SCRAM) as (_, conninfo),
        pytest.raises(psycopg.OperationalError, match=f'password authentication failed for user "{user}"'),
    ):
        connect(conninfo, user=user, password=password)


def copied(connection: psycopg.Connection) -> bytes | None:
    """The next CopyData, None at the end. libpq's own waiting would hold the lock that the server's thread needs."""
    link = connection.pgconn
    while True:
        length, data = link.get_copy_data(1)
        if length:
            return bytes(data) if length > 0 else None
        assert select.select([link.socket], [], [], 20)[0]
        link.consume_input()


def test_a_stream() -> None:
    with serving(Trust()) as (served, conninfo), connect(conninfo) as connection:
        link, waiting = connection.pgconn, Link(connection.pgconn)
        assert link.exec_(START.encode()).status == pq.ExecStatus.COPY_BOTH
        received = [copied(connection) or b"" for _ in range(2)]
        assert [data[25:] for data in received] == [b"Bxx", b"Cxx"]
        assert [struct.unpack_from(">cQ", data)[1] for data in received] == [5, 9]
        link.put_copy_data(struct.pack(">cQQQqB", b"r", 9, 8, 7, 6, 0))
        link.put_copy_end()
        assert copied(connection) is None
        ends = []
        while (result := waiting.result(20)) is not None:
            ends.append((result.status, result.command_status))
        assert ends == [
            (pq.ExecStatus.COMMAND_OK, b"COPY 0"),
            (pq.ExecStatus.COMMAND_OK, b"START_REPLICATION"),
        ]
        assert connection.execute("IDENTIFY_SYSTEM").fetchone()
        waiting.close()
    assert events.Status(Lsn(9), Lsn(8), Lsn(7), 6, False) in served.events


# -- TLS -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("the program openssl is not installed")
    directory = tmp_path_factory.mktemp("tls")
    key, cert = directory / "key.pem", directory / "cert.pem"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=127.0.0.1", "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


@pytest.fixture
def secured(certificate: tuple[Path, Path]) -> Callable[[], tuple[ssl.SSLContext, bytes]]:
    def make() -> tuple[ssl.SSLContext, bytes]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        return context, end_point(ssl.PEM_cert_to_DER_cert(certificate[0].read_text()))

    return make


@pytest.mark.parametrize("binding", ["require", "prefer", "disable"])
def test_a_login_over_tls_bound_to_the_certificate(
    secured: Callable[[], tuple[ssl.SSLContext, bytes]], binding: str
) -> None:
    context, bound = secured()
    with (
        serving(SCRAM, TlsMode.REQUIRED, context, bound) as (served, conninfo),
        connect(conninfo, password=PASSWORD, sslmode="require", channel_binding=binding) as connection,
    ):
        assert connection.pgconn.ssl_in_use
        assert connection.execute("IDENTIFY_SYSTEM").fetchone()
    assert isinstance(served.events[0], events.StartTls)


def test_tls_without_a_binding(secured: Callable[[], tuple[ssl.SSLContext, bytes]]) -> None:
    context, _ = secured()
    with (
        serving(SCRAM, TlsMode.ALLOWED, context) as (_, conninfo),
        connect(conninfo, password=PASSWORD, sslmode="require") as connection,
    ):
        assert connection.pgconn.ssl_in_use


def test_plain_text_is_refused_before_the_password() -> None:
    with (
        serving(SCRAM, TlsMode.REQUIRED) as (served, conninfo),
        pytest.raises(psycopg.OperationalError, match="connections without TLS are not accepted"),
    ):
        connect(conninfo, password=PASSWORD, sslmode="disable")
    assert [type(event) for event in served.events] == [events.Failed]
