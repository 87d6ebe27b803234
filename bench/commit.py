"""What replication costs a commit on the primary, and the primary's CPU.

Run: ``python bench/commit.py [--quick] [--only overlap,attached,modes,cpu]``. Everything on servers that this starts,
on one machine, in turns. Prints:

- overlap: the latency of a commit that waits (`on`), with the shipper's fsync slowed down, the replica's answer
  slowed down, and both: near the larger of the two, not their sum;
- attached: the latency at 500 transactions a second with an asynchronous shipper attached, and with none: pairs of
  rounds next to one another, the median of their ratios (bound: 3 %);
- modes: transactions a second with `local`, `on` and `remote_apply`, through `logship ship` and `logship replay`;
- cpu: CPU seconds of the primary for the same load, with one client of the relay and with four.

The load of the machine before each part is printed with it: latencies on a busy machine say little.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg

from logship.capture.copydata import Positions, status_update
from logship.config import Address
from logship.journal.files import Files
from logship.lsn import INVALID, Lsn
from logship.relay.frames import decode_record
from logship.service.init import initialise
from logship.service.servers import Server, environment, find_binaries
from logship.service.ship import Ship, ShipSettings

DELAY_S = 0.02
RATE = 500
INSERT = "insert into t (v) values ('twenty bytes of text')"
PUBLICATION = "logship_postgres"
RECORD = b"L"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="some seconds for each part")
    parser.add_argument("--only", default="overlap,attached,modes,cpu", help="which parts, with commas")
    given = parser.parse_args()
    parts: dict[str, Callable[[Bench], None]] = {
        "overlap": overlap, "attached": attached, "modes": modes, "cpu": cpu,
    }  # fmt: skip
    for name in given.only.split(","):
        print(f"{name}: load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
        with Bench(quick=given.quick) as bench:
            parts[name](bench)


class Bench:
    """A primary and a secondary, initialised; `ship`, `replay` and clients of the relay beside them."""

    def __init__(self, *, quick: bool) -> None:
        self.quick = quick
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Bench:
        enter, binaries = self._stack.enter_context, find_binaries()
        self.directory = Path(enter(tempfile.TemporaryDirectory(prefix="logship-bench-")))
        self.primary = enter(Server(binaries, "primary", {"max_wal_senders": "20"}, tcp="trust"))
        self.secondary = enter(Server(binaries, "secondary", tcp="trust"))
        self.run("create table t (id bigserial primary key, v text)")
        initialise(self.primary.conninfo(), self.secondary.conninfo())
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def run(self, statement: str) -> None:
        with psycopg.connect(self.primary.conninfo(), autocommit=True) as connection:
            connection.execute(statement.encode())

    def one(self, query: str) -> object:
        with psycopg.connect(self.primary.conninfo(), autocommit=True) as connection:
            row = connection.execute(query.encode()).fetchone()
        return None if row is None else row[0]

    def wait_for_commits(self, name: str) -> None:
        self.run(f"alter system set synchronous_standby_names = '{name}'")
        self.run("select pg_reload_conf()")

    @contextlib.contextmanager
    def logship(self, *arguments: str | Path) -> Iterator[None]:
        """A command of logship's that runs until the block ends."""
        log = self.directory / f"{arguments[0]}.log"
        with log.open("wb") as out, subprocess.Popen(
            [sys.executable, "-m", "logship", *arguments], stderr=out, stdout=out
        ) as process:  # fmt: skip
            try:
                until(lambda: b"streaming " in log.read_bytes() or process.poll() is not None)
                if process.poll() is not None:
                    raise SystemExit(log.read_text())
                yield
            finally:
                process.terminate()

    def shipper(self, port: int, *more: str) -> contextlib.AbstractContextManager[None]:
        return self.logship(
            "ship", "--primary", self.primary.conninfo(), "--journal", self.directory / "shipper",
            "--listen", f"127.0.0.1:{port}", "--auth", "trust", *more,
        )  # fmt: skip

    def pgbench(self, *arguments: str, options: str = "") -> str:
        script = self.directory / "script.sql"
        script.write_text(INSERT + ";\n")
        script.chmod(0o644)
        done = subprocess.run(
            [self.primary.binaries.directory / "pgbench", "-n", "-f", script, "-j", "2", *arguments,
             self.primary.conninfo()],
            check=True, capture_output=True, text=True, cwd=self.directory,
            env={**environment(), "PGOPTIONS": options},
        )  # fmt: skip
        return done.stdout


def until(condition: Callable[[], bool], deadline_s: float = 60.0) -> None:
    end_s = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end_s:
            raise SystemExit("it took too long")
        time.sleep(0.02)


# -- overlap ---------------------------------------------------------------------------------------------


class SlowFiles:
    """Slows down the journal's fsync, for this process."""

    def __init__(self) -> None:
        self.delay_s = 0.0
        true = Files.fdatasync

        def fdatasync(files: Files, fd: int) -> None:
            time.sleep(self.delay_s)
            true(files, fd)

        Files.fdatasync = fdatasync  # type: ignore[method-assign,assignment]


class Replica(threading.Thread):
    """A client that takes records, and answers ``delay_s`` after each: network and fsync of a replica."""

    def __init__(self, conninfo: str, name: str) -> None:
        super().__init__(daemon=True)
        self.delay_s = 0.0
        self._connection = psycopg.connect(conninfo, autocommit=True)
        made = self._connection.execute(
            f"CREATE_REPLICATION_SLOT {name} LOGICAL pgoutput".encode()
        ).fetchone()
        assert made is not None
        options = f"proto_version '1', publication_names '{PUBLICATION}', logship '1'"
        self._start = f"START_REPLICATION SLOT {name} LOGICAL {made[1]} ({options})".encode()

    def run(self) -> None:
        with contextlib.suppress(psycopg.OperationalError):  # the relay ends, and with it this
            self._serve()

    def _serve(self) -> None:
        link = self._connection.pgconn
        link.send_query(self._start)
        due: deque[tuple[float, Positions]] = deque()
        reached = INVALID
        link.nonblocking = 1
        while True:
            self._wait(due)
            link.consume_input()
            if link.is_busy():
                continue
            size, data = link.get_copy_data(1)
            while size > 0:
                lsn = None
                message = bytes(data)
                if message[:1] == RECORD:
                    record = decode_record(message)
                    lsn = record.end_lsn if record.last else None
                elif message[:1] == b"k":
                    lsn = Lsn(int.from_bytes(message[1:9], "big"))
                if lsn:
                    reached = max(reached, lsn)
                    due.append((time.monotonic() + self.delay_s, Positions(reached, reached, reached)))
                size, data = link.get_copy_data(1)
            while due and due[0][0] <= time.monotonic():
                link.put_copy_data(status_update(due.popleft()[1], 0, reply_requested=False))
                link.flush()

    def _wait(self, due: deque[tuple[float, Positions]]) -> None:
        import select

        wait_s = max(0.0, due[0][0] - time.monotonic()) if due else 1.0
        select.select([self._connection.pgconn.socket], [], [], wait_s)


def overlap(bench: Bench) -> None:
    slow = SlowFiles()
    ship = Ship(
        ShipSettings(
            primary=bench.primary.conninfo(), journal=bench.directory / "journal", listen=Address("127.0.0.1", 0),
            synchronous="FIRST 1 (r)", auth="trust",
        )
    )  # fmt: skip
    thread = threading.Thread(target=ship.run)
    thread.start()
    until(lambda: ship.address is not None)
    assert ship.address is not None
    replica = Replica(
        f"host=127.0.0.1 port={ship.address.port} user=x dbname=postgres replication=database", "r"
    )
    replica.start()
    bench.wait_for_commits("logship")
    found: dict[str, list[float]] = {}
    try:
        with psycopg.connect(bench.primary.conninfo(), autocommit=True) as connection:
            for _ in range(2 if bench.quick else 6):
                for name, fsync_s, answer_s in (
                    ("neither", 0.0, 0.0), ("slow fsync", DELAY_S, 0.0), ("slow answer", 0.0, DELAY_S),
                    ("both", DELAY_S, DELAY_S),
                ):  # fmt: skip
                    slow.delay_s, replica.delay_s = fsync_s, answer_s
                    for _ in range(25):
                        began = time.perf_counter()
                        connection.execute(INSERT)
                        found.setdefault(name, []).append(time.perf_counter() - began)
    finally:
        slow.delay_s = 0.0
        ship.stop()
        thread.join()
    for name, took in found.items():
        print(f"  {name:12} {statistics.median(took) * 1e3:6.1f} ms median of {len(took)} commits")


# -- an asynchronous shipper -----------------------------------------------------------------------------


def attached(bench: Bench) -> None:
    seconds, rounds = ("4", 3) if bench.quick else ("20", 8)
    ratios, both = [], []
    for number in range(rounds):
        found = {}
        for way in ("none", "shipper") if number % 2 else ("shipper", "none"):
            beside = bench.shipper(0) if way == "shipper" else contextlib.nullcontext()
            with beside:
                found[way] = latency_s(bench, seconds)
        both.append(found)
        ratios.append(found["shipper"] / found["none"])
    for way in ("none", "shipper"):
        print(
            f"  {way:8} {statistics.median(f[way] for f in both) * 1e3:.3f} ms, median of {rounds} rounds' medians"
        )
    spread = ", ".join(f"{ratio:.2f}" for ratio in sorted(ratios))
    print(f"  with a shipper: {statistics.median(ratios):.3f} of none (pairs: {spread})")


def latency_s(bench: Bench, seconds: str) -> float:
    """The median at `RATE`, without what a transaction waited for its turn."""
    for old in bench.directory.glob("log.*"):
        old.unlink()
    bench.pgbench("-c", "4", "-R", str(RATE), "-T", seconds, "-l", "--log-prefix=log")
    took = [
        int(fields[2]) - int(fields[6])
        for path in bench.directory.glob("log.*")
        for line in path.read_text().splitlines()
        if len(fields := line.split()) >= 7
    ]
    return statistics.median(took) / 1e6


# -- modes -----------------------------------------------------------------------------------------------


def modes(bench: Bench) -> None:
    port = free_port()
    replay = (
        "replay", "--shipper", f"host=127.0.0.1 port={port} user=x", "--secondary", bench.secondary.conninfo(),
        "--journal", bench.directory / "replayer",
    )  # fmt: skip
    name = bench.one("select name from logship.replica")
    found: dict[str, list[float]] = {}
    with bench.shipper(port, "--synchronous", f"FIRST 1 ({name})"), bench.logship(*replay):
        bench.wait_for_commits("logship")
        for _ in range(2 if bench.quick else 5):
            for mode in ("local", "on", "remote_apply"):
                said = bench.pgbench(
                    "-c", "8", "-T", "3" if bench.quick else "10", options=f"-c synchronous_commit={mode}"
                )
                (line,) = [line for line in said.splitlines() if line.startswith("tps")]
                found.setdefault(mode, []).append(float(line.split()[2]))
        bench.wait_for_commits("")
    local = statistics.median(found["local"])
    for mode, tps in found.items():
        print(
            f"  {mode:12} {statistics.median(tps):7.0f} tx/s, {statistics.median(tps) / local:.2f} of local"
        )


# -- CPU -------------------------------------------------------------------------------------------------


def cpu(bench: Bench) -> None:
    transactions = "2000" if bench.quick else "10000"
    port = free_port()
    found: dict[int, list[tuple[float, float]]] = {}
    with bench.shipper(port):
        sender = bench.one("select pid from pg_stat_replication where application_name = 'logship'")
        assert isinstance(sender, int)
        for _ in range(2 if bench.quick else 4):
            for clients in (1, 4):
                with contextlib.ExitStack() as stack:
                    for number in range(clients):
                        stack.enter_context(receiving(bench, port, f"c{number}"))
                    before = cpu_s(bench, sender)
                    bench.pgbench("-c", "4", "-t", transactions)
                    end = bench.one("select pg_current_wal_flush_lsn()::text")
                    until(lambda end=end: bench.one(CONFIRMED.format(end)) is True)  # type: ignore[misc]
                    after = cpu_s(bench, sender)
                found.setdefault(clients, []).append((after[0] - before[0], after[1] - before[1]))
    for clients, took in found.items():
        total, decoding = (statistics.median(column) for column in zip(*took, strict=True))
        print(
            f"  {clients} of the relay's clients: walsender {decoding:.2f} s of CPU; it and load {total:.2f} s"
        )


CONFIRMED = "select confirmed_flush_lsn >= '{}'::pg_lsn from pg_replication_slots"


@contextlib.contextmanager
def receiving(bench: Bench, port: int, slot: str) -> Iterator[None]:
    program = bench.primary.binaries.directory / "pg_recvlogical"
    to: list[str | Path] = [
        program,
        "--dbname",
        f"host=127.0.0.1 port={port} user=x dbname=postgres",
        "--slot",
        slot,
    ]
    subprocess.run(
        [*to, "--create-slot", "--plugin=pgoutput", "--if-not-exists"], check=True, env=environment()
    )
    options = ["-o", "proto_version=1", "-o", f"publication_names={PUBLICATION}"]
    with subprocess.Popen([*to, "--start", "--file=/dev/null", *options], env=environment()) as process:
        try:
            yield
        finally:
            process.terminate()


def cpu_s(bench: Bench, sender: int) -> tuple[float, float]:
    """CPU seconds of all the server's processes, those that ended included, and of the walsender."""
    tick = os.sysconf("SC_CLK_TCK")
    postmaster = int((bench.primary.data_directory / "postmaster.pid").read_text().split()[0])
    total = 0.0
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[1]) == postmaster:
                total += (int(fields[11]) + int(fields[12])) / tick
            elif path.parent.name == str(postmaster):
                total += sum(map(int, fields[11:15])) / tick
    fields = Path(f"/proc/{sender}/stat").read_text().rpartition(")")[2].split()
    return total, (int(fields[11]) + int(fields[12])) / tick


def free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


if __name__ == "__main__":
    main()
