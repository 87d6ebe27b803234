"""What replication costs a commit on the primary, and the primary's CPU.

Run: ``python bench/commit.py [--quick] [--only overlap,attached,modes,cpu]``. Everything on servers that this starts,
on one machine, in turns. Prints:

- overlap: the latency of a commit that waits (`on`), with the shipper's fsync slowed down, the replica's answer
  slowed down, and both: near the larger of the two, not their sum;
- attached: the latency at 500 transactions a second, and CPU milliseconds for each, with an asynchronous shipper
  attached, and with none: rounds next to one another, the median of their ratios (bound: 3 %). Beside it the
  floor, a walsender whose client (pg_recvlogical) only reads, and a built-in subscription;
- modes: transactions a second of 1, 4 and 8 clients with `local`, `on` and `remote_apply`, through `logship ship` and
  `logship replay`, through `logship run`, and through a built-in subscription that flushes (memory is off);
- cpu: CPU seconds of the primary for the same load, with one client of the relay and with four, and with four built-in
  subscriptions.

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
from logship.service.demo.servers import Server, environment, find_binaries
from logship.service.initial.init import initialise
from logship.service.ship.ship import Ship, ShipSettings

DELAY_S = 0.02
RATE = 500
STREAMING = (
    "select count(*) from pg_stat_replication where application_name ~ '^builtin' and state = 'streaming'"
)
INSERT = "insert into t (v) values ('twenty bytes of text')"
PUBLICATION = "logship_postgres"
RECORD = b"L"
TICKS = os.sysconf("SC_CLK_TCK")


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

    def commits(self) -> int:
        """Rows of the load so far: each commit adds one."""
        last = self.one("select last_value from t_id_seq")
        assert isinstance(last, int)
        return last

    def wait_for_commits(self, name: str) -> None:
        self.run(f"alter system set synchronous_standby_names = '{name}'")
        self.run("select pg_reload_conf()")

    @contextlib.contextmanager
    def logship(self, *arguments: str | Path) -> Iterator[int]:
        """A command of logship's that runs until the block ends; its process."""
        log = self.directory / f"{arguments[0]}.log"
        with log.open("wb") as out, subprocess.Popen(
            [sys.executable, "-m", "logship", *arguments], stderr=out, stdout=out
        ) as process:  # fmt: skip
            try:
                until(lambda: b"streaming " in log.read_bytes() or process.poll() is not None)
                if process.poll() is not None:
                    raise SystemExit(log.read_text())
                yield process.pid
            finally:
                process.terminate()

    @contextlib.contextmanager
    def subscriptions(self, count: int) -> Iterator[None]:
        """Built-in logical replication to so many databases of the secondary; each commits durably."""
        names = [f"builtin_{number}" for number in range(count)]
        with psycopg.connect(self.secondary.conninfo(), autocommit=True) as own:
            self.run("create publication builtin for table t")
            for name in names:
                own.execute(f"create database {name}".encode())
                with psycopg.connect(self.secondary.conninfo(name), autocommit=True) as other:
                    other.execute("create table t (id bigserial primary key, v text)")
                    other.execute(
                        f"create subscription {name} connection '{self.primary.conninfo()}' publication builtin "
                        "with (copy_data = false, synchronous_commit = on)".encode()
                    )
            until(lambda: self.one(STREAMING) == count)
            try:
                yield
            finally:
                for name in names:
                    with psycopg.connect(self.secondary.conninfo(name), autocommit=True) as other:
                        other.execute(f"drop subscription {name}".encode())
                    own.execute(f"drop database {name} with (force)".encode())
                self.run("drop publication builtin")

    def shipper(self, port: int, *more: str) -> contextlib.AbstractContextManager[int]:
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


def until(condition: Callable[[], bool], deadline_s: float = 60.0, every_s: float = 0.02) -> None:
    end_s = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end_s:
            raise SystemExit("it took too long")
        time.sleep(every_s)


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
    seconds, rounds = ("4", 3) if bench.quick else ("15", 8)
    ways: dict[str, Callable[[], contextlib.AbstractContextManager[object]]] = {
        "none": contextlib.nullcontext,
        "reader": lambda: reading(bench, bench.primary.conninfo(), "floor"),
        "built-in": lambda: bench.subscriptions(1),
        "shipper": lambda: bench.shipper(0),
    }
    took: dict[str, list[tuple[float, float, float]]] = {way: [] for way in ways}
    for number in range(rounds):
        for way in list(ways) if number % 2 else reversed(ways):
            with ways[way]() as process:
                before = server_cpu_s(bench.primary), process_cpu_s(process), bench.commits()
                latency = latency_s(bench, seconds)
                commits = (bench.commits() - before[2]) / 1e3
                took[way].append((
                    latency * 1e3, (server_cpu_s(bench.primary) - before[0]) / commits,
                    (process_cpu_s(process) - before[1]) / commits,
                ))  # fmt: skip
    print(
        "            latency      of none   CPU of the primary   of the client  (ms, medians; CPU per commit)"
    )
    for way, rows in took.items():
        latency, primary, client = (statistics.median(column) for column in zip(*rows, strict=True))
        ratios = [row[0] / none[0] for row, none in zip(rows, took["none"], strict=True)]
        spread = ", ".join(f"{ratio:.2f}" for ratio in sorted(ratios))
        its = f"{client:9.3f}" if client else "        -"
        print(
            f"  {way:9} {latency:7.3f} {statistics.median(ratios):12.3f} {primary:16.3f} {its}      ({spread})"
        )


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


MODES = ("local", "on", "remote_apply")


def modes(bench: Bench) -> None:
    port, replayer = free_port(), ("--journal", bench.directory / "replayer", "--memory", "off")
    name = bench.one("select name from logship.replica")
    secondary = ("--secondary", bench.secondary.conninfo())
    replay = ("replay", "--shipper", f"host=127.0.0.1 port={port} user=x", *secondary, *replayer)
    with bench.shipper(port, "--synchronous", f"FIRST 1 ({name})"), bench.logship(*replay):
        shares(bench, "ship, replay")
    together = ("run", "--primary", bench.primary.conninfo(), *secondary, *replayer[2:], "--new-journal")
    with bench.logship(*together, "--journal", bench.directory / "together"):
        shares(bench, "run")
    with bench.subscriptions(1):
        shares(bench, "built-in")


def shares(bench: Bench, way: str) -> None:
    bench.wait_for_commits("*")
    for clients in ("1", "4", "8"):
        found: dict[str, list[float]] = {mode: [] for mode in MODES}
        for _ in range(1 if bench.quick else 3):
            for mode in MODES:
                said = bench.pgbench(
                    "-c", clients, "-T", "3" if bench.quick else "10", options=f"-c synchronous_commit={mode}"
                )
                (line,) = [line for line in said.splitlines() if line.startswith("tps")]
                found[mode].append(float(line.split()[2]))
        tps = {mode: statistics.median(each) for mode, each in found.items()}
        shown = ", ".join(
            f"{mode} {tps[mode]:.0f} tx/s = {tps[mode] / tps['local']:.2f}" for mode in MODES[1:]
        )
        print(f"  {way:12} {clients} clients: local {tps['local']:.0f} tx/s, {shown}", flush=True)
    bench.wait_for_commits("")


# -- CPU -------------------------------------------------------------------------------------------------


def cpu(bench: Bench) -> None:
    transactions = "2000" if bench.quick else "10000"
    port = free_port()
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}

    def load(way: str, caught_up: str) -> None:
        for kind, work in (
            ("one row each", lambda: bench.pgbench("-c", "4", "-t", transactions)),
            ("1,000 rows each", lambda: bulk(bench)),
        ):
            before = walsenders_cpu_s(bench), server_cpu_s(bench.primary)
            work()
            end = bench.one("select pg_current_wal_flush_lsn()::text")
            asked = caught_up.format(end).encode()
            with psycopg.connect(
                bench.primary.conninfo(), autocommit=True
            ) as asking:  # its CPU counts: seldom
                until(lambda: asking.execute(asked).fetchone() == (True,), every_s=0.2)  # noqa: B023
            after = walsenders_cpu_s(bench), server_cpu_s(bench.primary)
            found.setdefault((kind, way), []).append((after[0] - before[0], after[1] - before[1]))

    for _ in range(2 if bench.quick else 4):
        with bench.shipper(port):
            for clients in (1, 4):
                with contextlib.ExitStack() as stack:
                    for number in range(clients):
                        stack.enter_context(
                            reading(bench, f"host=127.0.0.1 port={port} user=x dbname=postgres", f"c{number}")
                        )
                    load(f"{clients} of the relay's clients", CONFIRMED)
        with bench.subscriptions(4):
            load("4 built-in subscriptions", ALL_CONFIRMED)
    for (kind, way), took in found.items():
        decoding, total = (statistics.median(column) for column in zip(*took, strict=True))
        least = statistics.median(each for each, _ in found[kind, "4 built-in subscriptions"])
        print(
            f"  {kind:15} {way:24} walsenders {decoding:.2f} s of CPU ({decoding / least:.2f}); "
            f"with the load's {total:.2f} s"
        )


def bulk(bench: Bench) -> None:
    for _ in range(50 if bench.quick else 300):
        bench.run("insert into t (v) select 'twenty bytes of text' from generate_series(1, 1000)")


CONFIRMED = "select confirmed_flush_lsn >= '{}'::pg_lsn from pg_replication_slots where slot_name = 'logship_postgres'"
ALL_CONFIRMED = (
    "select bool_and(confirmed_flush_lsn >= '{}'::pg_lsn) from pg_replication_slots where slot_name ~ '^builtin'"
)  # fmt: skip


@contextlib.contextmanager
def reading(bench: Bench, conninfo: str, slot: str) -> Iterator[int]:
    """pg_recvlogical, which throws away what it reads; its process."""
    program = bench.primary.binaries.directory / "pg_recvlogical"
    to: list[str | Path] = [program, "--dbname", conninfo, "--slot", slot]
    subprocess.run(
        [*to, "--create-slot", "--plugin=pgoutput", "--if-not-exists"], check=True, env=environment()
    )
    options = ["-o", "proto_version=1", "-o", f"publication_names={PUBLICATION}"]
    with subprocess.Popen([*to, "--start", "--file=/dev/null", *options], env=environment()) as process:
        try:
            yield process.pid
        finally:
            process.terminate()
    if conninfo == bench.primary.conninfo():  # one of the relay's costs nothing
        subprocess.run([*to, "--drop-slot"], check=True, env=environment())


def server_cpu_s(server: Server) -> float:
    """CPU seconds of all its processes, those that ended included."""
    postmaster = (server.data_directory / "postmaster.pid").read_text().split()[0]
    total = 0.0
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if fields[1] == postmaster:
                total += sum(map(int, fields[11:13])) / TICKS
            elif path.parent.name == postmaster:
                total += sum(map(int, fields[11:15])) / TICKS
    return total


def walsenders_cpu_s(bench: Bench) -> float:
    with psycopg.connect(bench.primary.conninfo(), autocommit=True) as connection:
        return sum(process_cpu_s(row[0]) for row in connection.execute("select pid from pg_stat_replication"))


def process_cpu_s(process: object) -> float:
    """0: it is no process of its own."""
    if not isinstance(process, int):
        return 0.0
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


if __name__ == "__main__":
    main()
