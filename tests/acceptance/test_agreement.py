"""Memory, persistence and the primary agree at every LSN that is looked at, whatever is loaded, evicted or killed.

One session writes random transactions, rows and schema changes mixed, each with its number in `marker`; what the
primary then holds is remembered by that number. Readers of both stores ask all the time: the number and the sums come
from one query, and must be those of one transaction, at an LSN that lies between its commit and the next one's.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest

import logship.memory
from logship.errors import LogshipError
from logship.lsn import Lsn
from tests.conftest import Pair
from tests.follow import assert_equal
from tests.servers import Database, Logship, Running, eventually

_SCHEMA = """
create table marker (id int primary key, n int); insert into marker values (1, 0);
create table keyed (k bigint primary key, v int, pad text);
create table texts (k text primary key, v int);
create table loose (k int, v int); alter table loose replica identity full;
create table parts (k int, v int, primary key (k)) partition by range (k);
create table parts_low partition of parts for values from (minvalue) to (500);
create table parts_high partition of parts for values from (500) to (maxvalue);
create table large (k int primary key, v int, pad text); create table bulky (k int primary key, v int, pad text);
create table untouched (id int primary key); insert into untouched values (1);
insert into keyed select g, g, repeat('x', 50) from generate_series(1, 500) g;
insert into texts select 'key ' || g, g from generate_series(1, 300) g;
insert into loose select g % 50, g % 7 from generate_series(1, 200) g;
insert into parts select g, g from generate_series(1, 900, 3) g;
insert into large select g, g, repeat('y', 400) from generate_series(1, 30000) g;
insert into bulky select g, g, repeat('z', 400) from generate_series(1, 30000) g
"""
_READ = ("keyed", "texts", "loose", "parts_low", "parts_high", "large", "bulky")


def _sums(*names: str) -> str:
    """Each table's count and sum, in one row behind the number."""
    parts = [
        f"(select count(*) from public.{name}), (select coalesce(sum(v), 0) from public.{name})"
        for name in names
    ]
    return f"select (select n from public.marker), {', '.join(parts)}"


_SEEN = _sums(*_READ)
_POSITION = "select replay_lsn::text from logship.position"


class Seen(NamedTuple):
    source: str
    names: tuple[str, ...]  # the tables that were asked for
    row: tuple[int, ...]
    lsn: Lsn


@dataclass
class Written:
    """What the primary held after each transaction, by its number; and where in the log that was."""

    sums: dict[int, tuple[int, ...]] = field(default_factory=dict)
    before: dict[int, Lsn] = field(default_factory=dict)  # its commit ends behind this
    after: dict[int, Lsn] = field(default_factory=dict)  # and not behind this

    def check(self, seen: tuple[int, ...], names: tuple[str, ...], lsn: Lsn) -> str:
        """What is wrong with ``seen`` of the tables ``names`` at ``lsn``; '' when nothing is."""
        n, sums = seen[0], seen[1:]
        if n not in self.sums:
            return f"number {n}, which nobody has written"
        places = [2 * _READ.index(name) + part for name in names for part in (0, 1)]
        expected = tuple(self.sums[n][place] for place in places)
        if sums != expected:
            return f"at {lsn}, number {n}: {sums} where the primary had {expected}"
        if n > 0 and lsn <= self.before[n]:
            return f"number {n} at {lsn}, before its commit (behind {self.before[n]})"
        if n + 1 in self.after and lsn >= self.after[n + 1]:
            return f"number {n} at {lsn}, when {n + 1} was committed already (up to {self.after[n + 1]})"
        return ""


class Writer:
    """Random transactions, one after the other, in one session."""

    def __init__(self, primary: Database, seed: int) -> None:
        self.written = Written()
        self.n = 0
        self._chance = random.Random(seed)
        self._columns: list[str] = []  # of keyed, added since
        self._next = {"keyed": 1000, "texts": 1000, "parts": 1000}
        self._link = psycopg.connect(primary.conninfo, autocommit=True)
        self._note(Lsn(0))

    def close(self) -> None:
        self._link.close()

    def write(self) -> None:
        self.n += 1
        link, chance = self._link, self._chance
        link.execute("begin")
        for _ in range(chance.randint(1, 4)):
            self._change()
        if chance.random() < 0.15:
            link.execute("savepoint s")
            known = list(self._columns)
            self._change()
            self._columns = known
            link.execute(f"create table gone_{self.n} (id int primary key)")
            link.execute("rollback to s")
        link.execute("update marker set n = %s", [self.n])
        before = self._lsn()
        link.execute("commit")
        self._note(before)

    def _change(self) -> None:
        chance, link = self._chance, self._link
        kind = chance.random()
        if kind < 0.1:
            self._schema()
        elif kind < 0.13:
            link.execute("truncate parts_low" if chance.random() < 0.5 else "truncate loose")
        else:
            link.execute(chance.choice(self._rows()).encode())

    def _rows(self) -> list[str]:
        k, v = self._chance.randint(1, 900), self._chance.randint(0, 1000)
        fresh = self._fresh()
        return [
            f"insert into keyed (k, v, pad) values ({fresh}, {v}, 'new')",
            f"update keyed set v = {v} where k % 97 = {k % 97}",
            f"update keyed set k = {fresh} where k = (select min(k) from keyed)",
            f"delete from keyed where k % 301 = {k % 301}",
            f"insert into texts values ('fresh {fresh}', {v})",
            f"update texts set v = v + 1 where v % 11 = {k % 11}",
            f"delete from texts where v % 53 = {k % 53}",
            f"insert into loose select {k % 50}, {v % 7} from generate_series(1, 3)",
            f"update loose set v = {v % 7} where k = {k % 50}",
            f"delete from loose where ctid = (select min(ctid) from loose where k = {k % 50})",
            f"insert into parts values ({fresh}, {v}) on conflict do nothing",
            f"insert into parts values ({-fresh}, {v}) on conflict do nothing",
            f"update parts set v = {v} where k % 13 = {k % 13}",
            f"delete from parts where k % 17 = {k % 17}",
            f"update large set v = {v} where k % 4001 = {k}",
            f"update bulky set v = {v} where k % 4001 = {k}",
        ]

    def _fresh(self) -> int:
        self._next["keyed"] += 1
        return self._next["keyed"]

    def _schema(self) -> None:
        chance, name = self._chance, f"c{self.n}_{self._fresh()}"
        choice = chance.random()
        if choice < 0.35 or not self._columns:
            self._link.execute(f"alter table keyed add column {name} int default {self.n}".encode())
            self._columns.append(name)
        elif choice < 0.6:
            gone = self._columns.pop(chance.randrange(len(self._columns)))
            self._link.execute(f"alter table keyed drop column {gone}".encode())
        elif choice < 0.8:
            place = chance.randrange(len(self._columns))
            self._link.execute(f"alter table keyed rename column {self._columns[place]} to {name}".encode())
            self._columns[place] = name
        else:
            self._link.execute(f"alter table untouched add column {name} text".encode())
            self._link.execute(f"create index on untouched ({name})".encode())

    def _lsn(self) -> Lsn:
        row = self._link.execute("select pg_current_wal_insert_lsn()::text").fetchone()
        assert row is not None
        return Lsn.parse(row[0])

    def _note(self, before: Lsn) -> None:
        after = self._lsn()
        row = self._link.execute(_SEEN.encode()).fetchone()
        assert row is not None
        self.written.before[self.n], self.written.after[self.n] = before, after
        self.written.sums[self.n] = tuple(map(int, row[1:]))


class Reader(threading.Thread):
    """Asks until it is stopped. ``seen``: answers by their source, to be checked when all has been written."""

    def __init__(self, ask: Callable[[], Seen]) -> None:
        super().__init__(daemon=True)
        self.seen: list[Seen] = []
        self.error: BaseException | None = None
        self._ask = ask
        self._end = threading.Event()
        self.start()

    def run(self) -> None:
        try:
            while not self._end.is_set():
                self.seen.append(self._ask())
        except BaseException as error:  # noqa: BLE001  raised by `stop`, in the test's own thread
            self.error = error

    def stop(self) -> list[Seen]:
        self._end.set()
        self.join(60)
        if self.error is not None:
            raise self.error
        return self.seen


def _asks_memory(memory: logship.memory.Memory, names: tuple[str, ...]) -> Seen:
    while True:
        try:
            answer = memory.query(_sums(*names), cold="persistence", timeout_s=30)
        except (
            LogshipError
        ):  # nobody to ask between a kill and the next start: what is answered is what counts
            continue
        cells = [column[0].as_py() for column in answer.table.columns]  # several have one name
        return Seen(answer.source, names, tuple(map(int, cells)), answer.lsn)


def _asks_persistence(link: psycopg.Connection) -> Seen:
    tables = ", ".join(f"public.{name}" for name in _READ)
    while True:
        try:
            with link.transaction():
                link.execute("set transaction isolation level repeatable read, read only")
                # To an older snapshot, a table that TRUNCATE emptied has always been empty: PostgreSQL's own rule.
                link.execute(f"lock table {tables} in access share mode".encode())
                position, row = link.execute(_POSITION).fetchone(), link.execute(_SEEN.encode()).fetchone()
        except psycopg.errors.DeadlockDetected:  # with the replay, which takes them in the primary's order
            continue
        assert position is not None
        assert row is not None
        return Seen("secondary", _READ, tuple(map(int, row)), Lsn.parse(position[0]))


@pytest.mark.parametrize(
    ("seed", "transactions", "kills"),
    [
        pytest.param(1, 100, 1, id="short"),
        *(
            pytest.param(
                seed, 1500, 8, id=f"long-{seed}", marks=[pytest.mark.soak, pytest.mark.timeout(3600)]
            )
            for seed in (2, 3)
        ),
    ],
)
def test_all_agree_at_every_commit(
    pair: Pair, logship: Logship, tmp_path: Path, seed: int, transactions: int, kills: int
) -> None:
    primary, secondary = pair
    primary.execute(_SCHEMA)
    both = ("--primary", primary.conninfo, "--secondary", secondary.conninfo)
    assert logship.run("init", *both, deadline_s=300).exit_code == 0
    # The two large tables don't fit together: they take turns.
    arguments = (
        "run",
        *both,
        "--journal",
        tmp_path / "journal",
        "--memory-budget",
        "32MB",
        "--batch-size",
        "64kB",
    )
    running = _start(logship, *arguments)
    writer, chance, pick = Writer(primary, seed), random.Random(seed), random.Random(seed)
    moments = sorted(chance.sample(range(10, transactions), kills))
    sources: dict[str, int] = {}
    with logship_memory(secondary) as memory, psycopg.connect(secondary.conninfo, autocommit=True) as link:
        readers = [
            Reader(lambda: _asks_memory(memory, _READ if pick.random() < 0.2 else (pick.choice(_READ),))),
            Reader(lambda: _asks_persistence(link)),
        ]
        for number in range(transactions):
            writer.write()
            if number in moments:
                running.kill()
                running = _start(logship, *arguments)
        last = writer.n
        eventually(
            lambda: secondary.value("select n from marker") == last, 120, what="the last transaction arrives"
        )
        assert running.alive, running.stderr
        # Memory has it, too: asked for at the commit's own LSN. Now that nothing changes any more, it answers.
        at_least = writer.written.before[last]

        def answered_by_memory() -> bool:
            query = "select n from public.marker"
            answer = memory.query(query, at_least=at_least, cold="load", timeout_s=60)
            assert answer.table.to_pylist() == [{"n": last}]
            return answer.source == "memory"

        eventually(answered_by_memory, 60, what="memory answers")
        for reader in readers:
            for seen in reader.stop():
                sources[seen.source] = sources.get(seen.source, 0) + 1
                wrong = writer.written.check(seen.row, seen.names, seen.lsn)
                assert not wrong, f"{seen.source}: {wrong}"
    writer.close()
    assert sources["secondary"] > 20, sources
    verified = logship.run("verify", *both, "--memory", deadline_s=120)
    assert verified.exit_code == 0, verified.stdout + verified.stderr[:3000]
    _cold_ones_were_not_loaded(secondary)
    assert running.terminate(10).exit_code == 0
    assert_equal(primary, secondary)


def logship_memory(secondary: Database) -> logship.memory.Memory:
    return logship.memory.connect(secondary.conninfo)


def _start(logship: Logship, *arguments: str | Path) -> Running:
    running = logship.start(*arguments)
    eventually(lambda: "streaming slot" in running.stderr, 60, what="the replica streams")
    return running


def _cold_ones_were_not_loaded(secondary: Database) -> None:
    """What only schema changes name stays on the secondary."""

    def told() -> tuple[object, ...] | None:
        with psycopg.connect(secondary.conninfo) as link:
            return link.execute(
                "select residence, loads, ddl_memory, ddl_persistence > 0 from logship.stat_object "
                "where relname = 'untouched'"
            ).fetchone()

    began = time.monotonic()
    eventually(lambda: told() is not None, 10, what="the object is reported")
    assert told() == ("cold", 0, 0, True), time.monotonic() - began
