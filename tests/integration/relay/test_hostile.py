"""Clients that don't mean well, or don't know how: one is lost, nothing else touched; nothing without credentials."""

from __future__ import annotations

import signal
import socket
import struct
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest

from logship.capture.slot import start_command
from logship.lsn import INVALID
from logship.relay.server import RelayLimits
from logship.relay.session import TlsMode
from tests.relay import PASSWORD, PUBLICATION, USER, Relay, publish
from tests.servers import Database, eventually

SSL_REQUEST = struct.pack(">II", 8, 1234 << 16 | 5679)


@pytest.fixture
def relay(primary: Database, tmp_path: Path) -> Iterator[Relay]:
    primary.execute("create table t (id int primary key, v text)")
    publish(primary)
    limits = RelayLimits(connections=6, login_s=1.0, sender_timeout_s=3.0)
    with Relay(primary, tmp_path / "relay", limits=limits) as relay:
        yield relay


def raw(relay: Relay) -> socket.socket:
    link = socket.create_connection(("127.0.0.1", relay.port))
    link.settimeout(20)
    return link


def rest(link: socket.socket) -> bytes:
    """All that comes until the relay closes."""
    found = b""
    while data := link.recv(4096):
        found += data
    return found


def startup(**parameters: str) -> bytes:
    body = (
        b"".join(name.encode() + b"\0" + value.encode() + b"\0" for name, value in parameters.items()) + b"\0"
    )
    return struct.pack(">II", len(body) + 8, 3 << 16) + body


def streaming(relay: Relay, name: str) -> psycopg.Connection:
    """A client that streams and hasn't read anything."""
    connection = psycopg.connect(relay.conninfo(replication="database"), autocommit=True)
    connection.execute(f"CREATE_REPLICATION_SLOT {name} LOGICAL pgoutput".encode())
    connection.pgconn.send_query(start_command(name, [PUBLICATION], INVALID).encode())
    eventually(lambda: connection.pgconn.consume_input() or not connection.pgconn.is_busy())  # type: ignore[func-returns-value]
    return connection


@contextmanager
def witness(relay: Relay) -> Iterator[Callable[[], None]]:
    """Somebody who streams all the time; what it yields sees to it that nothing has changed for it."""
    with psycopg.connect(relay.conninfo(replication="database"), autocommit=True) as connection:
        connection.execute("CREATE_REPLICATION_SLOT witness LOGICAL pgoutput")
    out = relay.users.parent / "witness"
    with subprocess.Popen(receiving(relay, "witness", str(out))) as process:
        try:
            yield lambda: serves(relay, out)
            assert process.poll() is None, "the witness was cut"
        finally:
            process.terminate()


def receiving(relay: Relay, slot: str, file: str) -> list[str | Path]:
    return [
        relay.primary.program("pg_recvlogical"), "--dbname", relay.conninfo(), f"--slot={slot}", "--start",
        f"--file={file}", "--status-interval=1", "-o", "proto_version=1",
        "-o", f"publication_names={PUBLICATION}",
    ]  # fmt: skip


def serves(relay: Relay, out: Path) -> None:
    """The witness gets what is committed now, and somebody new gets in."""
    mark = f"still {uuid.uuid4()}"
    relay.primary.execute("insert into t select coalesce(max(id), 0) + 1, %s from t", [mark])
    eventually(lambda: out.exists() and mark.encode() in out.read_bytes(), what="the witness gets it")
    with psycopg.connect(relay.conninfo(replication="database"), autocommit=True) as connection:
        assert connection.execute("SHOW server_encoding").fetchone() == ("UTF8",)


def test_without_credentials_nothing_is_served(relay: Relay) -> None:
    for wrong in ({"password": "no"}, {"user": "nobody"}):
        with pytest.raises(psycopg.OperationalError, match="password authentication failed") as refused:
            psycopg.connect(relay.conninfo(replication="database", **wrong))
        assert PASSWORD not in str(refused.value)
    with raw(relay) as link:  # a command in place of the exchange
        link.sendall(startup(user=USER, database=relay.primary.name, replication="database"))
        assert link.recv(1) == b"R"
        query = b"IDENTIFY_SYSTEM\0"
        link.sendall(b"Q" + struct.pack(">I", len(query) + 4) + query)
        answer = rest(link)
        assert b"08P01" in answer
        assert (
            str(relay.primary.value("select system_identifier from pg_control_system()")).encode()
            not in answer
        )


GARBAGE = {
    "http": b"GET / HTTP/1.1\r\nHost: relay\r\n\r\n",
    "bytes": bytes(range(256)) * 40,
    "huge": struct.pack(">II", 0x7FFFFFFF, 3 << 16),
    "tiny": struct.pack(">II", 3, 3 << 16),
    "old": struct.pack(">II", 12, 2 << 16) + b"\0\0\0\0",
    "ssl": SSL_REQUEST * 1000,
}


def test_garbage_costs_who_sends_it(relay: Relay) -> None:
    with witness(relay) as unharmed:
        for name, sent in GARBAGE.items():
            with raw(relay) as link:
                link.sendall(sent)
                try:
                    rest(link)  # whatever it is told, it is cut
                except ConnectionResetError:
                    pass
                except TimeoutError:
                    pytest.fail(f"who sent {name} was not cut")
        unharmed()


def test_the_slow_and_the_many_are_cut(relay: Relay) -> None:
    """Who doesn't log in is cut after --login-timeout whatever it sends; beyond the limit nobody comes in."""
    slow = [raw(relay) for _ in range(6)]
    for link in slow:
        link.sendall(startup(user=USER)[:5])
    with pytest.raises(psycopg.OperationalError, match="too many clients"):
        psycopg.connect(relay.conninfo())
    for link in slow:
        assert b"authentication due to timeout" in rest(link)
        link.close()
    with witness(relay) as unharmed:
        unharmed()


def test_a_client_that_never_reads_is_fed_nothing_and_cut(relay: Relay) -> None:
    with witness(relay) as unharmed:
        sleeper = streaming(relay, "sleeper")
        relay.primary.execute("insert into t select -i, repeat('x', 1000) from generate_series(1, 60000) i")
        unharmed()
        assert relay.ship.sent_bytes < 2 * 60_000 * 1000 + 40_000_000  # it isn't all in somebody's buffer

        def free() -> bool:
            try:
                with psycopg.connect(relay.conninfo(replication="database"), autocommit=True) as connection:
                    connection.execute("DROP_REPLICATION_SLOT sleeper")
            except psycopg.errors.ObjectInUse:
                return False
            return True

        eventually(free, what="it gave no sign of life, and its name is free")
        sleeper.close()


def test_a_killed_client_frees_its_name_and_nobody_else_notices(relay: Relay) -> None:
    with witness(relay) as unharmed:
        with psycopg.connect(relay.conninfo(replication="database"), autocommit=True) as connection:
            connection.execute("CREATE_REPLICATION_SLOT killed LOGICAL pgoutput")
        command = receiving(relay, "killed", "-")
        for _ in range(3):
            with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
                relay.primary.execute("insert into t select coalesce(max(id), 0) + 1, 'killed' from t")
                assert process.stdout is not None
                assert process.stdout.read(1)
                process.send_signal(signal.SIGKILL)
        unharmed()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    directory = tmp_path_factory.mktemp("tls")
    cert, key = directory / "cert.pem", directory / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={USER}",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    key.chmod(0o600)
    return cert, key


def test_tls(primary: Database, tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    publish(primary)
    settings = {"tls": TlsMode.REQUIRED, "tls_cert": cert, "tls_key": key, "tls_client_ca": cert}
    with Relay(primary, tmp_path / "relay", **settings) as relay:
        with raw(relay) as link:
            link.sendall(startup(user=USER, database=primary.name, replication="database"))
            answer = rest(link)
            assert b"28000" in answer
            assert answer[:1] == b"E"  # before anything of a password
        with raw(relay) as link:  # what is put behind SSLRequest isn't taken as said inside TLS
            link.sendall(SSL_REQUEST + startup(user=USER))
            assert b"unencrypted data after SSL request" in rest(link)
        verified = {"replication": "database", "sslmode": "verify-full", "sslrootcert": str(cert)}
        with closing(psycopg.connect(relay.conninfo(**verified), autocommit=True)) as connection:
            assert connection.pgconn.ssl_in_use
            assert connection.execute("IDENTIFY_SYSTEM").fetchone() is not None
        bound = relay.conninfo(**verified, channel_binding="require")
        with closing(psycopg.connect(bound, autocommit=True)) as connection:
            assert connection.pgconn.ssl_in_use
        certified = {**verified, "password": "wrong", "sslcert": str(cert), "sslkey": str(key)}
        with closing(psycopg.connect(relay.conninfo(**certified), autocommit=True)) as connection:
            assert connection.pgconn.ssl_in_use
        with pytest.raises(psycopg.OperationalError, match="certificate authentication failed"):
            psycopg.connect(relay.conninfo(**{**certified, "user": "another"}))
