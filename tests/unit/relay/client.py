"""A client of the relay in bytes: what it sends, and what it was sent. And a pump for tests: it answers
every event as a relay would, at once."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from logship.lsn import Lsn
from logship.relay import events, options
from logship.relay.authentication import Authenticator, Trust
from logship.relay.catalogue import PUBLICATION_TABLES, PUBLICATIONS
from logship.relay.events import CreatedSlot, Event, SystemInfo
from logship.relay.messages import Column
from logship.relay.refusal import Refusal, Refused
from logship.relay.session import Limits, ServerIdentity, Session, TlsMode
from logship.relay.states import State

SSL_REQUEST = struct.pack(">II", 8, 1234 << 16 | 5679)
GSSENC_REQUEST = struct.pack(">II", 8, 1234 << 16 | 5680)
START = "START_REPLICATION SLOT \"r1\" LOGICAL 0/0 (proto_version '1', publication_names '\"p\"')"


def message(tag: bytes, body: bytes = b"") -> bytes:
    return tag + struct.pack(">I", len(body) + 4) + body


def query(text: str) -> bytes:
    return message(b"Q", text.encode() + b"\0")


def startup(version: int = 3 << 16, **parameters: str) -> bytes:
    pairs = b"".join(f"{name}\0{value}\0".encode() for name, value in parameters.items())
    body = pairs + b"\0"
    return struct.pack(">II", len(body) + 8, version) + body


def login(user: str = "replica") -> bytes:
    return startup(user=user, database="app", replication="database", application_name="test")


def cancel(pid: int, key: int) -> bytes:
    return struct.pack(">IIII", 16, 1234 << 16 | 5678, pid, key)


def copy_data(body: bytes) -> bytes:
    return message(b"d", body)


def status(write: int, flush: int = 0, replay: int = 0, *, asked: bool = False) -> bytes:
    return copy_data(struct.pack(">cQQQqB", b"r", write, flush, replay, 0, asked))


COPY_DONE = message(b"c")
SYNC = message(b"S")
TERMINATE = message(b"X")


def taken(data: bytes) -> list[tuple[bytes, bytes]]:
    """The messages that a server sent, tag and body."""
    found = []
    while data:
        (length,) = struct.unpack_from(">I", data, 1)
        assert len(data) >= length + 1, "the server sent part of a message"
        found.append((data[:1], data[5 : length + 1]))
        data = data[length + 1 :]
    return found


def tags(data: bytes) -> bytes:
    return b"".join(tag for tag, _ in taken(data))


def error(body: bytes) -> dict[str, str]:
    """The fields of an ErrorResponse."""
    return {field[:1].decode(): field[1:].decode() for field in body.split(b"\0") if field}


def errors(data: bytes) -> list[dict[str, str]]:
    return [error(body) for tag, body in taken(data) if tag == b"E"]


def session(
    *,
    tls: TlsMode = TlsMode.OFF,
    auth: Authenticator | None = None,
    limits: Limits | None = None,
    database: str = "",
) -> Session:
    return Session(
        tls=tls, auth=auth or Trust(), identity=ServerIdentity(7, 11, database), limits=limits or Limits()
    )


def ready(**arguments: str) -> Session:
    """A session whose client is in."""
    made = session()
    made.receive(startup(**arguments) if arguments else login())
    assert made.state is State.READY
    made.outgoing()
    return made


def streaming() -> Session:
    made = ready()
    pump(made, query(START))
    assert made.state is State.STREAMING
    made.outgoing()
    return made


def pump(served: Session, data: bytes) -> list[Event]:
    """Give ``data`` to the session and answer everything it asks; the events, in order."""
    seen: list[Event] = []
    pending = served.receive(data)
    while pending:
        seen += pending
        for event in pending:
            answer(served, event)
        pending = served.receive(b"")
    return seen


def pump_chunks(served: Session, chunks: Iterable[bytes]) -> list[Event]:
    return [event for chunk in chunks for event in pump(served, chunk)]


def answer(served: Session, event: Event) -> None:
    match event:
        case events.StartTls():
            served.tls_started(client_subject=None)
        case events.Identify():
            served.identified(SystemInfo(1, 1, Lsn(0x16B3748), "app"))
        case events.Show(name) if name.startswith("logship."):
            served.rows([Column("lsn")], [["0/1"]], "SHOW")
        case events.Show(name):
            served.refuse(Refusal("42704", f'unrecognized configuration parameter "{name}"'))
        case events.PublicationTables(_, with_columns):
            columns = PUBLICATION_TABLES if with_columns else PUBLICATION_TABLES[:2]
            served.rows(columns, [["public", "t", "{a}"][: len(columns)]], "SELECT 1")
        case events.Publications(names):
            served.rows(PUBLICATIONS, [[name] for name in names], f"SELECT {len(names)}")
        case events.CreateSlot(name):
            served.created(CreatedSlot(name, Lsn(0x16B3748)))
        case events.DropSlot():
            served.dropped()
        case events.ReadSlot():
            served.slot_read(None)
        case events.StartReplication():
            try:
                options.parse(event.options, ["p"])
            except Refused as refused:
                served.refuse(refused.refusal)
            else:
                served.streaming()
        case events.CopyEnded():
            served.end_stream()
        case _:
            return
