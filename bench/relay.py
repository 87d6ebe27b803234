"""How fast a replica reads from the journal through the relay: our own records, and what a standard client gets.

    python bench/relay.py [--size MB] [--replicas N]

Fills a journal with row messages in transactions of about 256 kB, serves it on loopback from a process of its own
and reads it with plain sockets, which throw away what they read. Prints MB/s of the log's own bytes for each
kind, and as a ratio against the same number of bytes through a plain socket between two threads. The bound is
200 MB/s of records.
"""

from __future__ import annotations

import argparse
import multiprocessing
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from logship import pgoutput
from logship.change import Begin, Column, Commit, Insert, Relation
from logship.config import MIB, Address
from logship.journal import Journal, Record, RecordKind, Source
from logship.kernel import frame
from logship.lsn import Lsn
from logship.relay.authentication import Trust
from logship.relay.events import SlotInfo, SystemInfo
from logship.relay.options import parse
from logship.relay.ports import ClientInfo, Feed, Rows
from logship.relay.server import Place, RelayServer
from logship.service.ship.feed import MessageFeed, RecordFeed

SOURCE = Source(7_000_000_000_000_000_001, 1, "bench")
ROW_BYTES = 120
RUN_BYTES = 256 * 1024
ROUNDS = 3
OPTIONS = "proto_version '1', publication_names 'p'"


class Bench:
    """The least of a backend: every name reads the whole journal."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def identify(self) -> SystemInfo:
        return SystemInfo(SOURCE.system_identifier, 1, self._journal.written_lsn, SOURCE.database)

    def create(self, name: str, *, temporary: bool) -> Lsn:
        return Lsn(0)

    def drop(self, name: str) -> None: ...

    def read(self, name: str) -> SlotInfo | None: ...

    def start(self, name: str, start_lsn: Lsn, options: Mapping[str, str], client: ClientInfo) -> Feed:
        wanted = parse(options, {"p"})
        reader = self._journal.reader(Lsn(0), whole=not wanted.records)
        return (
            RecordFeed(reader, lambda: (Lsn(0), None))
            if wanted.records
            else MessageFeed(reader, messages=False)
        )

    def sent(self, name: str, lsn: Lsn) -> None: ...

    def status(self, name: str, write: Lsn, flush: Lsn, replay: Lsn) -> None: ...

    def ended(self, name: str) -> None: ...

    def publication_tables(self, publications: object) -> Rows:
        return []

    def publications(self, publications: object) -> Rows:
        return []

    def show(self, name: str) -> tuple[list[str], list[str | None]]:
        return [], []


def fill(journal: Journal, size: int) -> int:
    """Transactions up to about ``size`` bytes; the bytes of their runs."""
    relation = pgoutput.encode(
        Relation(1, "public", "t", "d", (Column("id", 23, -1, True), Column("v", 25, -1, False)))
    )
    rows = [
        pgoutput.encode(Insert(1, [b"%d" % i, b"x" * ROW_BYTES]))
        for i in range(RUN_BYTES // (ROW_BYTES + 30))
    ]
    written, lsn = 0, 100
    while written < size:
        begin, end = Lsn(lsn), Lsn(lsn + 80)
        messages = [
            pgoutput.encode(Begin(begin, 1, 7)),
            relation,
            *rows,
            pgoutput.encode(Commit(begin, end, 1)),
        ]
        run = frame(messages)
        journal.append(Record(RecordKind.CHANGES, True, True, 7, begin, end, 1, run))
        journal.write()
        written, lsn = written + len(run), lsn + 100
    return written


def serve(directory: str, size: int, pipe: multiprocessing.connection.Connection) -> None:  # type: ignore[name-defined]
    with Journal.open(Path(directory), SOURCE) as journal:
        written = fill(journal, size)
        relay = RelayServer(
            Place(Address("127.0.0.1", 0), trusting=True), backend=Bench(journal), auth=Trust()
        )
        thread = threading.Thread(target=relay.run)
        thread.start()
        pipe.send((relay.address.port, written, int(journal.written_lsn)))
        while pipe.recv():
            pipe.send(time.process_time())
        relay.stop()
        thread.join()
        relay.close()


def connected(port: int) -> socket.socket:
    link = socket.create_connection(("127.0.0.1", port))
    body = b"user\0bench\0database\0bench\0replication\0database\0\0"
    link.sendall(struct.pack(">II", len(body) + 8, 3 << 16) + body)
    answer = b""
    while not answer.endswith(b"Z\0\0\0\5I"):
        answer += link.recv(4096)
    return link


def stream(port: int, options: str, wanted: int) -> float:
    """Read until ``wanted`` bytes have come; the seconds it took."""
    with connected(port) as link:
        query = f"START_REPLICATION SLOT bench LOGICAL 0/0 ({options})".encode() + b"\0"
        link.sendall(b"Q" + struct.pack(">I", len(query) + 4) + query)
        buffer = bytearray(1 * MIB)
        began, size = time.perf_counter(), 0
        while size < wanted:
            size += link.recv_into(buffer)
        return time.perf_counter() - began


def plain(size: int) -> float:
    """The same amount through a socket of two threads of this process: what the machine can do."""
    one, other = socket.socketpair()
    block = bytes(MIB)
    thread = threading.Thread(target=lambda: [one.sendall(block) for _ in range(size // MIB)])
    buffer, came, began = bytearray(MIB), 0, time.perf_counter()
    thread.start()
    while came < size // MIB * MIB:
        came += other.recv_into(buffer)
    thread.join()
    one.close()
    other.close()
    return time.perf_counter() - began


def measure(port: int, options: str, written: int, replicas: int) -> float:
    """MB/s of the log's bytes that each replica gets."""
    times: list[float] = []
    threads = [
        threading.Thread(target=lambda: times.append(stream(port, options, written))) for _ in range(replicas)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return written / 1e6 / (sum(times) / len(times))


def cpu(pipe: multiprocessing.connection.Connection) -> float:  # type: ignore[name-defined]
    """CPU seconds that the relay's process has used."""
    pipe.send(True)
    return float(pipe.recv())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--size", type=int, default=512, help="MB of log")
    parser.add_argument("--replicas", type=int, default=1, help="that read at once")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.get_context("spawn").Process(
            target=serve, args=(directory, given.size * 1_000_000, theirs)
        )
        process.start()
        port, written, _ = ours.recv()
        socket_mb_s = written / 1e6 / plain(written)
        print(
            f"{written / 1e6:.0f} MB of log, {given.replicas} replica(s); a plain socket: {socket_mb_s:.0f} MB/s"
        )
        for name, options in (
            ("records (our own client)", f"{OPTIONS}, logship '1'"),
            ("messages (others)", OPTIONS),
        ):
            before = cpu(ours)
            rates = [measure(port, options, written, given.replicas) for _ in range(ROUNDS)]
            spent = cpu(ours) - before
            per_cpu = written / 1e6 * ROUNDS * given.replicas / spent
            print(
                f"{name:26} {max(rates):7.0f} MB/s each   {max(rates) / socket_mb_s:5.2f} of the plain socket   "
                f"{per_cpu:5.0f} MB per CPU second of the relay"
            )
        ours.send(None)
        process.join()


if __name__ == "__main__":
    main()
