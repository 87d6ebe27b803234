"""The core and a real walsender are sent the same bytes, and answer alike: the kinds of messages, the columns of
results, the SQLSTATEs. What the relay serves differently on purpose is in docs/relay.md, and not asked here."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest
from psycopg import conninfo as libpq

from logship.relay.session import Limits, ServerIdentity, Session, TlsMode
from logship.relay.authentication import Trust
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
        query("CREATE_REPLICATION_SLOT \"S!\" LOGICAL pgoutput"), query("DROP_REPLICATION_SLOT gone"),
        query("CREATE_REPLICATION_SLOT x LOGICAL pgoutput (SNAPSHOT 'foo')"),
        query("SELECT DISTINCT t.schemaname, t.tablename \n, t.attnames\nFROM pg_catalog.pg_publication_tables t\n"
              " WHERE t.pubname IN ('p')"),
        query("SELECT t.pubname FROM\n pg_catalog.pg_publication t WHERE\n t.pubname IN ('p')"),
        query("READ_REPLICATION_SLOT gone"), message(b"Q", b"abc"), message(b"Q", b"abc\0d\0"), message(b"Q", b"\xff\0"),
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
    "refused twice": [SSL_REQUEST + GSSENC_REQUEST + SSL_REQUEST],
    "minor version": [startup(3 << 16 | 2, user="postgres", database="DATABASE", replication="database") + TERMINATE],
    "option": [startup(**{"user": "postgres", "database": "DATABASE", "_pq_.wish": "1"}) + TERMINATE],
    "version 4": [startup(4 << 16, user="postgres")],
    "no user": [startup(database="x")],
    "bad replication": [startup(user="postgres", replication="zz")],
    "layout": [b"\0\0\0\x0c\0\3\0\0user"],
    "no such database": [startup(user="postgres", database="nowhere", replication="database")],
}  # fmt: skip
BEFORE_LOGIN = list(CONVERSATIONS)[-8:]

Talk = Callable[[bytes], bytes]


def alike(data: bytes) -> list[object]:
    """What is compared of what a server sent."""
    while data[:1] in (b"N",) and data[1:2] in (b"N", b"E", b""):
        data = data[1:]
    said: list[object] = []
    for tag, body in taken(data):
        if tag == b"E":
            said.append((error(body)["S"], error(body)["C"]))
        elif tag in (b"T", b"C", b"v", b"W", b"Z"):
            said.append((tag, body))
        elif tag not in SILENT and not (tag == b"d" and body[:1] == b"k"):
            said.append(tag)
    return said


def real(database: Database) -> tuple[socket.socket, Talk]:
    parts = libpq.conninfo_to_dict(database.conninfo)
    link = socket.socket(socket.AF_UNIX)
    link.settimeout(20)
    link.connect(f"{parts['host']}/.s.PGSQL.{parts.get('port', 5432)}")
    return link, lambda data: _said(link, data)


def _said(link: socket.socket, data: bytes) -> bytes:
    """Send, and take what comes up to the last ReadyForQuery that is due, or the end."""
    due = max(1, sum(data.count(tag) for tag in ()) or 1)
    link.sendall(data)
    said = b""
    while said.count(b"Z\0\0\0\5I") < due:
        try:
            more = link.recv(65536)
        except ConnectionResetError:
            break
        if not more:
            break
        said += more
    return said
