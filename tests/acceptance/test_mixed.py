"""Readers of both stores see a transaction of rows and schema changes whole, or not at all, while many are replayed."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from logship.lsn import Lsn
from logship.replay.memory.query import QueryRefused
from logship.service.watch.probe import flushed_position
from tests.conftest import Pair
from tests.follow import Follower, assert_equal
from tests.servers import Database, Logship, eventually

_SCHEMA = """
create table head (id int primary key, n int); insert into head values (1, 0);
create table tail (id int primary key, n int); insert into tail values (1, 0);
create table facts (id int primary key);
create table wide (id int, n int, v text, primary key (id));
insert into wide select g, 0, 'v' from generate_series(1, 2000) g
"""
# Round {n} leaves n in head and in tail, n rows and n columns in facts, n tables part_…; what it rolled back: nowhere.
_ROUND = """
begin;
update head set n = {n};
alter table facts add column c{n} int default {n};
insert into facts (id, c{n}) values ({n} + 1, {n});
savepoint s;
create table gone_{n} (id int primary key); insert into gone_{n} values (1);
update head set n = -{n}; alter table facts drop column c{n}; insert into facts (id) values (-{n});
rollback to s;
create table part_{n} (id int primary key); insert into part_{n} values ({n});
{wide}
alter table part_{n} add column v int;
update tail set n = {n};
commit
"""
# Larger than what is replayed at a time: it comes in pieces.
_WIDE = "update wide set n = {n}, v = repeat('{n}', 40);"
_SEEN = """
select (select n from head), (select n from tail), (select count(*) from facts),
  (select coalesce(max(id) - 1, 0) from facts),
       (select count(*) - 1 from pg_attribute a join pg_class c on c.oid = a.attrelid
         where c.relname = 'facts' and a.attnum > 0 and not a.attisdropped),
       (select count(*) from pg_class c where c.relname like 'part\\_%' and c.relkind = 'r'),
       (select count(*) / 2 from pg_attribute a join pg_class c on c.oid = a.attrelid
         where c.relname like 'part\\_%' and c.relkind = 'r' and a.attnum > 0),
       (select count(*) from pg_class c where c.relname like 'gone\\_%'), (select count(distinct n) - 1 from wide)
"""
_IN_MEMORY = (
    "select (select n from public.head), (select n from public.tail), (select count(distinct n) - 1 from public.wide)",
    "select (select count(*) from public.facts), (select max(id) - 1 from public.facts)",
)
# What a round altered leaves memory with all that the round changed, and is loaded at its next change.
_TOUCH = "begin; update head set n = n; update tail set n = n; update wide set v = v where id = 1; commit"
_ROUNDS = 50
_PACE_S = 0.002


def _round(n: int) -> str:
    return _ROUND.format(n=n, wide=_WIDE.format(n=n) if n % 10 == 5 else "")


class Reader:
    """Asks again and again until it is stopped; what it has seen, and what it must never see."""

    def __init__(self, ask: Callable[[], None]) -> None:
        self.rounds: set[int] = set()
        self.samples = 0
        self.wrong: list[tuple[object, ...]] = []
        self._ask = ask
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(30)
        assert not self._thread.is_alive()

    def _read(self) -> None:
        while not self._stopping.wait(_PACE_S):  # it leaves the others, of one process, some of its time
            self._ask()

    def sample(self, *numbers: int, none: tuple[int, ...] = ()) -> None:
        """All ``numbers`` are of one round, and those in ``none`` 0."""
        self.samples += 1
        self.rounds.add(numbers[0])
        if len(set(numbers)) != 1 or any(none):
            self.wrong.append((*numbers, *none))


@contextmanager
def reading_secondary(conninfo: str) -> Iterator[Reader]:
    with psycopg.connect(conninfo, autocommit=True) as link:

        def ask() -> None:
            row = link.execute(_SEEN.encode()).fetchone()
            assert row is not None
            reader.sample(*row[:7], none=row[7:])

        reader = Reader(ask)
        try:
            yield reader
        finally:
            reader.stop()


@contextmanager
def reading_memory(following: Follower) -> Iterator[Reader]:
    """Of tables that no round alters, and of the one that each does."""

    def ask() -> None:
        for query in _IN_MEMORY:
            memory = following.run.memory
            if memory is None:
                continue
            try:
                found, _ = memory.query(query)
            except QueryRefused:
                continue  # not in memory just now
            (row,) = found.to_pylist()
            one, two, *none = row.values()
            reader.sample(one, two, none=tuple(none))

    reader = Reader(ask)
    try:
        yield reader
    finally:
        reader.stop()


def _touched(primary: Database) -> bool:
    primary.execute(_TOUCH)
    return True


@pytest.mark.parametrize(
    "rounds", [10, pytest.param(_ROUNDS, marks=[pytest.mark.soak, pytest.mark.timeout(900)])]
)
def test_readers_of_both_stores_see_whole_transactions(pair: Pair, tmp_path: Path, rounds: int) -> None:
    primary, secondary = pair
    primary.execute(_SCHEMA)
    with Follower(*pair, tmp_path, batch_bytes=65536) as following:
        primary.execute(_TOUCH)
        following.assert_equal()
        with reading_secondary(secondary.conninfo) as persistence, reading_memory(following) as memory:
            for n in range(1, rounds + 1):
                primary.execute(_round(n))
                if n % (rounds // 2) == 0:
                    eventually(lambda n=n: n in persistence.rounds, 60, what=f"round {n} is seen")
                    eventually(
                        lambda n=n: _touched(primary) and n in memory.rounds, 60, what="in memory, too"
                    )
        following.assert_equal()
    assert persistence.wrong == []
    assert memory.wrong == []


@pytest.mark.soak
def test_readers_see_whole_transactions_while_it_is_killed(
    pair: Pair, logship: Logship, tmp_path: Path
) -> None:
    primary, secondary = pair
    primary.execute(_SCHEMA)
    both = ("--primary", primary.conninfo, "--secondary", secondary.conninfo)
    begun = logship.run("init", *both, "--ddl", "on")
    assert begun.exit_code == 0, begun.stderr
    run = ("run", *both, "--journal", tmp_path / "j", "--batch-size", "64kB")
    chance = random.Random(11)
    running = logship.start(*run)
    with reading_secondary(secondary.conninfo) as persistence:
        for n in range(1, _ROUNDS * 4 + 1):
            primary.execute(_round(n))
            assert running.alive, running.stderr
            if chance.random() < 0.1:
                seen = persistence.samples + chance.randrange(40)
                eventually(lambda seen=seen: persistence.samples > seen, what="it reads on")
                running.kill()
                running = logship.start(*run)
        end = flushed_position(primary.conninfo)
        position = "select replay_lsn::text from logship.position"
        eventually(lambda: Lsn.parse(secondary.value(position)) >= end, 300, what="all of it is there")
    assert persistence.wrong == []
    assert len(persistence.rounds) > 20
    assert running.terminate().exit_code == 0
    assert_equal(primary, secondary)
