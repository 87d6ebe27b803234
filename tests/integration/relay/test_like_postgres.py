"""The core and a real walsender are sent the same bytes, and answer alike: the kinds of messages, the columns of
results, the SQLSTATEs. What the relay serves differently on purpose is in docs/relay.md, and not asked here."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pytest
from psycopg import conninfo as libpq

from logship.relay.authentication import Trust
from logship.relay.session import Limits, ServerIdentity, Session, TlsMode
from logship.relay.states import State
from logship.service.demo.servers import Server
from tests.conftest import create_database
from tests.servers import Database
from tests.unit.relay.client import (
    COPY_DONE,
    GSSENC_REQUEST,
    SSL_REQUEST,
    SYNC,
    TERMINATE,
    copy_data,
    error,
    message,
    pump,
    query,
    startup,
    status,
    taken,
)

START = "START_REPLICATION SLOT r1 LOGICAL 0/0 (proto_version '1', publication_names 'p')"
PARSE = message(b"P", b"\0select 1\0\0\0")
SILENT = {b"S", b"N"}  # settings and notices: as many as there are

# What is sent, after a login unless it begins with a startup packet. Each step waits for ReadyForQuery, or the end.
CONVERSATIONS: dict[str, list[bytes]] = {
    "commands": [
        query("IDENTIFY_SYSTEM"), query("SELECT pg_catalog.set_config('search_path', '', false);"), query(""),
        query("SHOW data_directory_mode"), query('SHOW "no.such"'), query("IDENTIFY_SYSTEM x"),
        query("CREATE_REPLICATION_SLOT \"S!\" LOGICAL pgoutput"),
        query("CREATE_REPLICATION_SLOT x LOGICAL pgoutput (SNAPSHOT 'foo')"),
        query("SELECT DISTINCT t.schemaname, t.tablename \n, t.attnames\nFROM pg_catalog.pg_publication_tables t\n"
              " WHERE t.pubname IN ('p')"),
        query("SELECT t.pubname FROM\n pg_catalog.pg_publication t WHERE\n t.pubname IN ('p')"),
        query("READ_REPLICATION_SLOT gone"), message(b"Q", b"abc"), message(b"Q", b"abc\0d\0"),
        message(b"Q", b"\xff\0"),
        copy_data(b"x") + COPY_DONE + message(b"f", b"\0") + SYNC, query("IDENTIFY_SYSTEM") + TERMINATE,
    ],
    "options": [
        query(f"START_REPLICATION SLOT r1 LOGICAL 0/0 ({options})")
        for options in (
            "proto_version '1'", "publication_names 'p'", "proto_version 'x', publication_names 'p'",
            "proto_version '9', publication_names 'p'", "proto_version '1', publication_names '\"p'",
            "proto_version '1', publication_names ''", "proto_version '1', proto_version '1', publication_names 'p'",
            "proto_version '1', publication_names 'p', binary 'maybe'",
            "proto_version '1', publication_names 'p', streaming 'on'",
        )
    ],
    "extended": [PARSE + message(b"B") + query("IDENTIFY_SYSTEM") + SYNC, SYNC, query("IDENTIFY_SYSTEM") + TERMINATE],
    "password": [message(b"p", b"x\0")],
    "unknown": [b"~\0\0\0\4"],
    "stream": [query(START) + status(1) + COPY_DONE, query("IDENTIFY_SYSTEM") + TERMINATE],
    "stream, CopyFail": [query(START) + message(b"f", b"no\0")],
    "stream, Query": [query(START) + query("IDENTIFY_SYSTEM")],
    "stream, Sync": [query(START) + SYNC],
    "refused twice": [SSL_REQUEST, GSSENC_REQUEST, SSL_REQUEST],
    "minor version": [startup(3 << 16 | 2, user="postgres", database="DATABASE", replication="database") + TERMINATE],
    "option": [startup(**{"user": "postgres", "database": "DATABASE", "_pq_.wish": "1"}) + TERMINATE],
    "version 4": [startup(4 << 16, user="postgres")],
    "no user": [startup(database="x")],
    "bad replication": [startup(user="postgres", replication="zz")],
    "layout": [b"\0\0\0\x0c\0\3\0\0user"],
    "no such database": [startup(user="postgres", database="nowhere", replication="database")],
}  # fmt: skip
BEFORE_LOGIN = list(CONVERSATIONS)[-8:]
READY = b"Z\0\0\0\5I"


def alike(data: bytes, *, codes: bool = True) -> list[object]:
    """What is compared of what a server sent."""
    if data == b"N":
        return [data]
    said: list[object] = []
    for tag, body in taken(data):
        if tag == b"E":
            said.append((error(body)["S"], error(body)["C"] if codes else "any"))
        elif tag == b"T":
            said.append(columns(body))
        elif tag in (b"C", b"v", b"W", b"Z"):
            said.append((tag, body))
        elif tag not in SILENT and not (tag == b"d" and body[:1] == b"k"):
            said.append(tag)
    return said


def columns(body: bytes) -> list[tuple[object, ...]]:
    """Of a RowDescription: name, type, size, typmod, format; not of which relation they are."""
    found: list[tuple[object, ...]] = []
    at = 2
    while at < len(body):
        end = body.index(b"\0", at)
        found.append((body[at:end], *struct.unpack_from(">IhIhih", body, end + 1)[2:]))
        at = end + 19
    return found


def said_by(link: socket.socket, data: bytes, like: bytes, *, to_the_end: bool) -> bytes:
    """What the server answers: until it has been ready as often as in ``like``, or to the end."""
    link.sendall(data)
    said = b""
    while to_the_end or said.count(READY) < like.count(READY) or not said:
        try:
            more = link.recv(65536)
        except ConnectionResetError:
            break  # it closed without having read everything
        if not more:
            break
        said += more
    return said


@pytest.fixture(scope="module")
def database(primary_server: Server) -> Iterator[Database]:
    """One for all conversations: they leave nothing behind."""
    made = create_database(primary_server, "like")
    if not made.value("show server_version").startswith("15."):
        made.drop()
        pytest.skip("the relay speaks as PostgreSQL 15 does")
    made.execute("create table t (a int primary key)")
    made.execute("create publication p for all tables")
    made.execute("select pg_create_logical_replication_slot('r1', 'pgoutput')")
    yield made
    made.drop()


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_both_answer_alike(database: Database, name: str) -> None:
    parts = libpq.conninfo_to_dict(database.conninfo)
    served = Session(
        tls=TlsMode.OFF, auth=Trust(), identity=ServerIdentity(7, 11, database.name), limits=Limits()
    )
    steps = list(CONVERSATIONS[name])
    if name not in BEFORE_LOGIN:
        steps.insert(0, startup(user="postgres", database=database.name, replication="database"))
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(20)
        link.connect(f"{parts['host']}/.s.PGSQL.{parts.get('port', 5432)}")
        for step in steps:
            data = step
            if b"DATABASE" in step:
                data = startup(3 << 16 | step[7], **named(step, database.name)) + TERMINATE
            pump(served, data)
            ours = served.outgoing()
            theirs = said_by(link, data, ours, to_the_end=served.state is State.CLOSED)
            # A walsender calls the extended protocol a violation (08P01), we call it not supported.
            codes = name != "extended"
            assert alike(ours, codes=codes) == alike(theirs, codes=codes), step


def named(step: bytes, database: str) -> dict[str, str]:
    """The parameters of a startup packet, with the name of the database that was made for this test."""
    values = step[8 : -len(TERMINATE) - 2].replace(b"DATABASE", database.encode()).decode().split("\0")
    return dict(zip(values[::2], values[1::2], strict=True))
