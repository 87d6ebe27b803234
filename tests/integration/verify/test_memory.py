"""`verify --memory`: what the running replayer holds in memory is what the secondary holds, at the same LSN."""

from __future__ import annotations

import dataclasses
import re
import threading
from pathlib import Path
from typing import Any

import pytest

from logship.catalog import memory_question
from logship.connection import Side, connect
from logship.replay.memory.memory import Memory
from logship.service.compare.standing import NotAtOneLsn
from logship.service.compare.verify import MemoryReport, Options, Report, verify
from logship.service.memory.questions import NoMemory
from logship.snapshot.verify_compare import How
from tests.conftest import Pair
from tests.follow import Follower
from tests.servers import eventually

MEMORY = Options(how=How(chunk=200), max_hold_s=20, memory=True)

_TABLES = """
create type public.mood as enum ('sad', 'happy');
create type public.place as (x int, "y, z" text);
create domain public.price as numeric check (value > 0);
create table public.plain (id int primary key, v text, n numeric(12,2), at timestamptz);
insert into public.plain
  select g, case g % 5 when 0 then null when 1 then '' when 2 then '\\N' when 3 then 'a,b\\' else 'é' || g end,
         g * 1.1, '2020-01-01'::timestamptz + g * interval '1.5 hours'
    from generate_series(1, 2500) g;
create table public.composite (a text, b int, v text, primary key (b, a));
insert into public.composite select 'k' || g, g / 3, 'x' from generate_series(1, 500) g;
create table public.keyless (a int, b text);
insert into public.keyless select g % 100, nullif(g % 7, 0)::text from generate_series(1, 2500) g;
create table public.parts (id int, v text, primary key (id)) partition by range (id);
create table public.parts_low partition of public.parts for values from (0) to (100);
create table public.parts_high partition of public.parts for values from (100) to (1000);
insert into public.parts select g, 'p' from generate_series(1, 200) g;
create table public.kinds (
  id public.price primary key, b bool, s int2, i int4, l int8, r real, d float8, n numeric, m numeric(40,2),
  c char(5), vc varchar(9), x bytea, da date, t time, tz timetz, ts timestamp, iv interval, u uuid, j json,
  jb jsonb, xm xml, o mood, oa mood[], p place, ia int[], ta text[][], ip inet, mo money, bi bit(5), ra int4range,
  mr int4multirange, pt point, tv tsvector, ch "char", na name, re regclass, g int generated always as (i * 2) stored);
insert into public.kinds (id, b, s, i, l, r, d, n, m, c, vc, x, da, t, tz, ts, iv, u, j, jb, xm, o, oa, p, ia, ta, ip,
  mo, bi, ra, mr, pt, tv, ch, na, re)
  values (1.50, true, -5, 7, 9000000000, 0.1, -0.0, 1.500, 12345678901234567890.10, 'ab', ' ', '\\xdeadbeef',
    '0044-03-15 BC', '24:00', '12:00+02', 'infinity', '-1 day 02:03', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
    '{"a": [1,2]}', '{"b": 1.0}', '<a/>', 'happy', '{sad,happy}', '(1,"q, \\"r")', '{1,null,3}',
    '{{a,","},{"\\\\",null}}', '10.0.0.1/8', -12.3, '10101', '[1,5)', '{[1,3),[7,9)}', '(1.5,-2)', 'fat:1A cat', 'x',
    'n"m', 'pg_class'),
    (2, false, 0, 0, 0, 'nan', 'infinity', 'nan', 0.05, '', '', '', 'infinity', '00:00', '00:00+00', '2020-02-28',
    '1 mon', null, null, null, null, null, '{}', row(null, null), '{}', '{}', null, 0, null, 'empty', '{}', null, '',
    '', '', null);
create table public.untouched (id int primary key);
"""
_TOUCH = """
update public.plain set v = v where id = 1;
insert into public.composite values ('new', 9999, 'a,b\\');
insert into public.keyless values (5, null), (5, null);
update public.parts set v = 'q' where id in (1, 150);
update public.kinds set i = i + 1;
"""


def check(follower: Follower, options: Options = MEMORY, **more: Any) -> Report:
    options = dataclasses.replace(options, **more)
    return verify(follower.primary.conninfo, follower.secondary.conninfo, options=options)


def of(report: Report) -> MemoryReport:
    assert report.memory is not None
    return report.memory


_IN_MEMORY = re.compile(r"memory\.public\.(\w+)")


def _main(named: re.Match[str]) -> str:
    """A small object's main part is its first segment."""
    return f'memory."logship ""public"".""{named[1]}""".s0'


def damage(memory: Memory, *statements: str) -> None:
    """Behind the replayer's back: what no replay would do. From no thread that writes just now."""
    cursor = memory._store.writer.cursor()
    for statement in statements:
        cursor.execute(_IN_MEMORY.sub(_main, statement)).fetchall()
    cursor.close()


def test_what_is_equal_what_is_cold_and_what_was_damaged(pair: Pair, tmp_path: Path) -> None:
    primary, secondary = pair
    primary.execute(_TABLES)
    with Follower(primary, secondary, tmp_path) as follower:
        # The secondary may have more columns, and in another order.
        secondary.execute("alter table public.composite add extra int default 7")
        primary.execute(_TOUCH)
        follower.catch_up()
        memory = follower.run.memory
        assert memory is not None
        eventually(lambda: sum(state.loads for state in memory.objects()) == 6, what="what changed is loaded")
        report = check(follower)
        assert report.equal, of(report).differing
        rows = {t.table.relname: (t.secondary_rows, t.memory_rows) for t in of(report).tables}
        assert rows == {
            "plain": (2500, 2500), "composite": (501, 501), "keyless": (2502, 2502), "parts_low": (99, 99),
            "parts_high": (101, 101), "kinds": (2, 2),
        }  # fmt: skip
        assert list(of(report).cold) == ['"public"."untouched"']
        assert "nothing has changed it" in of(report).cold['"public"."untouched"']

        damage(
            memory,
            "update memory.public.plain set v = 'wrong' where id = 7",
            "update memory.public.plain set v = null where id = 11",
            "delete from memory.public.plain where id = 2500",
            "insert into memory.public.plain select * replace (0 as id) from memory.public.plain where id = 3",
            "insert into memory.public.plain select * from memory.public.plain where id = 4",
            "delete from memory.public.composite where a = 'k6' and b = 2",
            "delete from memory.public.keyless where rowid in"
            " (select min(rowid) from memory.public.keyless where a = 5)",
            "update memory.public.kinds set jb = '{\"b\": 1}' where id = '1.50'",
        )
        report = check(follower)
        assert not report.equal
        assert not report.differing, "the secondary itself is right"
        found = {
            t.table.relname: {(one.kind, *one.key) for one in t.found}
            for t in of(report).tables
            if not t.equal
        }
        assert found["plain"] == {
            ("differs", "7"), ("differs", "11"), ("missing", "2500"), ("extra", "0"), ("extra", "4"),
        }  # fmt: skip
        # The order of the key's columns is the replica identity's.
        assert {key[0] for key in found["composite"]} == {"missing"}
        assert sorted(next(iter(found["composite"]))[1:]) == ["2", "k6"]
        assert found["kinds"] == {("differs", "1.50")}
        [keyless] = [t for t in of(report).tables if t.table.relname == "keyless"]
        assert [(one.kind, one.secondary - one.memory) for one in keyless.found] == [("missing", 1)]
        assert len(found) == 4
        some = check(follower, tables=("public.plain",), how=How(chunk=200, limit=2))
        assert [(t.table.relname, len(t.found), t.more) for t in of(some).tables] == [("plain", 2, True)]

        follower.restart()  # memory is loaded anew
        primary.execute(_TOUCH.replace("'new'", "'newer'"))
        follower.catch_up()
        assert check(follower).equal


def test_under_load_and_one_at_a_time(pair: Pair, tmp_path: Path) -> None:
    """At one LSN each time, while the tables change; a second command is told to wait; nothing stays pinned."""
    primary, secondary = pair
    primary.execute("create table public.t (id int primary key, v int); insert into public.t values (0, 0)")
    with Follower(primary, secondary, tmp_path) as follower:
        over = threading.Event()

        def write() -> None:
            with primary.connect() as link:
                while not over.is_set():
                    link.execute("insert into public.t select max(id) + 1, 0 from public.t")
                    link.execute("update public.t set v = v + 1 where id % 3 = 0")

        writer = threading.Thread(target=write)
        writer.start()
        try:
            eventually(lambda: secondary.value("select count(*) from public.t") > 20)
            for _ in range(3):
                report = check(follower)
                assert report.equal
                assert of(report).tables[0].memory_rows == report.tables[0].primary_rows
            name = secondary.value("select name from logship.replica")
            with connect(secondary.conninfo, Side.SECONDARY) as link:
                assert memory_question.open_(link, name, "another's", 30)
                with pytest.raises(NotAtOneLsn, match="another command asks about the memory"):
                    check(follower)
                memory_question.close(link, name, "another's")
            assert check(follower).equal
        finally:
            over.set()
            writer.join(30)
        assert secondary.value("select count(*) from logship.memory_question") == 0
        answering = "select count(*) from pg_stat_activity where application_name like 'logship verify %'"
        eventually(lambda: secondary.value(answering) == 0, what="the replayer forgets the moment")


def test_without_memory_and_without_replayer(pair: Pair, tmp_path: Path) -> None:
    primary, secondary = pair
    primary.execute("create table public.t (id int primary key); insert into public.t values (1)")
    with Follower(primary, secondary, tmp_path, memory=False) as follower:
        primary.execute("insert into public.t values (2)")
        follower.catch_up()
        with pytest.raises(NoMemory, match="memory is off") as refused:
            check(follower)
        assert refused.value.exit_code == 1
        assert "--memory lazy" in refused.value.hint
        follower.stop()
        with pytest.raises(NoMemory, match=r"no replayer of replica .* is running"):
            check(follower)
        assert check(follower, memory=False).equal
