"""`verify` and `repair` from inside, beside a replica that follows: what is equal, what is found, what is mended."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import psycopg
import pytest

from logship.errors import RefusedAsUnsafe, UsageError
from logship.service.compare.repair import repair
from logship.service.compare.verify import Notes, Options, Progress, Report, verify
from logship.snapshot.verify_compare import How, TableResult
from tests.conftest import Pair
from tests.follow import Follower

_TABLES = """
create table public.plain (id int primary key, v text, n numeric, u int unique,
  double int generated always as (id * 2) stored);
insert into public.plain select g, 'v' || g, g * 1.10, g from generate_series(1, 2500) g;
create table public.composite (a text collate "C", b int, v text, primary key (b, a));
insert into public.composite select md5(g::text), g / 3, 'x' from generate_series(1, 2500) g;
create table public.words (w text primary key, v int);
insert into public.words select (array['é', 'B', 'b-'])[g % 3 + 1] || g, g from generate_series(1, 1500) g;
create table public.keyless (a int, b text);
insert into public.keyless select g % 100, nullif(g % 7, 0)::text from generate_series(1, 2500) g;
create table public.nothing ();
insert into public.nothing select from generate_series(1, 3);
create domain public.price as numeric check (value > 0);
create table public.kinds (id public.price primary key, c "char",
  i int generated always as identity, f float8, r int4range, j jsonb);
insert into public.kinds (id, c, f, r, j)
  values (1.0, 'a', 'nan', '[1,3)', '{"a": 1}'), (2.5, '\\351', '-inf', 'empty', null);
create schema "a.b ""q";
create table "a.b ""q"."t%s
x" ("k%(s)s ""1" int primary key, "{}$1" text);
insert into "a.b ""q"."t%s
x" values (1, '%s'), (2, null);
"""
_CHANGES = """
update public.plain set v = null where id = 7;
update public.plain set v = '' where id = 8;
update public.plain set n = 9.9 where id = 9;
delete from public.plain where id = 2500;
insert into public.plain (id) values (0), (99999);
update public.composite set v = 'y' where b = 500;
delete from public.composite where b = 0;
insert into public.words values ('c', 0);
delete from public.keyless where ctid in (select ctid from public.keyless where a = 5 limit 2);
insert into public.keyless values (5, ''), (5, '');
insert into public.nothing select;
update public.kinds set id = 1.00 where id = 1;
update "a.b ""q"."t%s
x" set "{}$1" = '' where "k%(s)s ""1" = 2;
"""
SMALL = Options(how=How(chunk=200), max_hold_s=20)


def by_table(report: Report) -> dict[str, TableResult]:
    return {table.relname: table for table in report.tables}


def found(table: TableResult) -> set[tuple[Any, ...]]:
    return {(one.kind, *one.key) for one in table.found}


def check(follower: Follower, options: Options = SMALL, **more: Any) -> Report:
    options = dataclasses.replace(options, **more)
    return verify(follower.primary.conninfo, follower.secondary.conninfo, options=options)


def mend(follower: Follower, **more: Any) -> Any:
    return repair(follower.primary.conninfo, follower.secondary.conninfo, options=SMALL, **more)


def test_every_difference_is_found_by_key_and_mended(pair: Pair, tmp_path: Path) -> None:
    primary, secondary = pair
    primary.execute(_TABLES)
    with Follower(primary, secondary, tmp_path) as follower:
        # The secondary may have more columns, and in another order.
        secondary.execute(
            "alter table public.plain add extra int default 7; update public.plain set extra = id"
        )
        secondary.execute(
            "alter table public.composite add v2 text; update public.composite set v2 = v;"
            "alter table public.composite drop v; alter table public.composite rename v2 to v"
        )
        primary.execute("select pg_logical_emit_message(true, 'logship.mark', '')")
        follower.catch_up()  # so the replica replays, and verify has it stand still
        equal = check(follower)
        assert equal.equal, equal.differing
        assert {t.relname: (t.primary_rows, t.secondary_rows) for t in equal.tables} | {} == {
            "plain": (2500, 2500), "composite": (2500, 2500), "words": (1500, 1500), "keyless": (2500, 2500),
            "nothing": (3, 3), "kinds": (2, 2), "t%s\nx": (2, 2),
        }  # fmt: skip
        assert equal.held_s is not None

        secondary.execute(_CHANGES)
        report = check(follower)
        tables = by_table(report)
        assert found(tables["plain"]) == {
            ("differs", "7"), ("differs", "8"), ("differs", "9"), ("missing", "2500"), ("extra", "0"),
            ("extra", "99999"),
        }  # fmt: skip
        assert {key[:2] for key in found(tables["composite"])} == {
            ("differs", "500"), ("missing", "0"),
        }  # fmt: skip
        assert len(tables["composite"].found) == 5
        assert found(tables["words"]) == {("extra", "c")}
        surplus = [one.secondary - one.primary for one in tables["keyless"].found]
        assert (max(surplus), sum(surplus)) == (2, 0)
        assert [(one.primary, one.secondary) for one in tables["nothing"].found] == [(3, 4)]
        assert found(tables["kinds"]) == {("missing", "1.0"), ("extra", "1.00")}
        assert found(tables["t%s\nx"]) == {("differs", "2")}
        assert all(one.values is None for table in report.tables for one in table.found)

        before = secondary.execute("select * from public.plain order by id")
        rehearsed = mend(follower, dry_run=True)
        assert secondary.execute("select * from public.plain order by id") == before
        done = mend(follower)
        assert rehearsed.rows == done.rows == 6 + 5 + 1 + 4 + 1 + 2 + 1
        assert check(follower).equal
        assert secondary.execute("select extra from public.plain where id in (7, 9) order by 1") == [
            (7,),
            (9,),
        ]
        assert mend(follower).lsn is None
        # What follows in the log falls on the mended rows.
        primary.execute("update public.plain set v = 'after'; delete from public.kinds")
        follower.catch_up()
        assert check(follower).equal


def test_values_only_when_asked_and_a_bound_on_what_is_listed(pair: Pair, tmp_path: Path) -> None:
    primary, secondary = pair
    primary.execute(
        "create table public.t (id int primary key, v text);"
        "insert into public.t select g, 'a' from generate_series(1, 3000) g;"
        "create table public.n (v text); insert into public.n values ('secret')"
    )
    with Follower(primary, secondary, tmp_path, memory=False) as follower:
        secondary.execute("update public.t set v = null where id = 5; update public.n set v = 'other'")
        tables = by_table(check(follower, how=How(chunk=200, show_values=True)))
        assert tables["t"].found[0].values == {"v": ("a", None)}
        assert {(one.kind, *(one.values or {})["v"]) for one in tables["n"].found} == {
            ("missing", "secret", None), ("extra", None, "other"),
        }  # fmt: skip
        secondary.execute(
            "truncate public.t; insert into public.t select g, 'b' from generate_series(2000, 9000) g"
        )
        table = by_table(check(follower, how=How(chunk=200, limit=150)))["t"]
        assert (len(table.found), table.more, table.primary_rows, table.secondary_rows) == (
            150,
            True,
            3000,
            7001,
        )
        assert mend(follower).rows == 1999 + 1001 + 6000 + 2
        assert check(follower).equal


def test_unique_values_that_change_hands(pair: Pair, tmp_path: Path) -> None:
    primary, secondary = pair
    primary.execute(
        "create table public.t (id int primary key, u int unique); insert into public.t values (1, 1), (2, 2), (3, 3)"
    )
    with Follower(primary, secondary, tmp_path, memory=False) as follower:
        secondary.execute(
            "update public.t set u = u + 10; update public.t set u = 2 where id = 1;"
            "update public.t set u = 1 where id = 2;"
            "delete from public.t where id = 3; insert into public.t values (4, 3)"
        )
        done = mend(follower)
        assert [(len(t.deleted), len(t.replaced), len(t.inserted)) for t in done.tables] == [(1, 2, 1)]
        assert check(follower).equal


def test_tables_that_cant_be_compared(pair: Pair, tmp_path: Path) -> None:
    primary, secondary = pair
    primary.execute(
        "create table public.gone (a int primary key); create table public.narrow (a int primary key, b int);"
        "create table public.typed (a int primary key); create unlogged table public.loose (a int);"
        "create table public.out (a int); create table public.kept (a int primary key)"
    )
    with Follower(primary, secondary, tmp_path, memory=False, keyless="leave-out") as follower:
        secondary.execute(
            "drop table public.gone; alter table public.narrow drop b; alter table public.typed alter a type bigint"
        )
        report = check(follower)
        reasons = {table.relname: table.reason for table in report.tables}
        assert reasons["gone"] == "the secondary has no such table"
        assert reasons["narrow"] == 'the secondary lacks column "b"'
        assert reasons["typed"] == 'column "a" is integer on the primary and bigint on the secondary'
        assert reasons["kept"] == ""
        assert not report.equal
        assert report.skipped == {
            '"public"."out"': "not replicated",
            '"public"."loose"': "unlogged: PostgreSQL doesn't publish it",
        }
        with pytest.raises(RefusedAsUnsafe, match="can't be mended"):
            mend(follower)
        only = check(follower, tables=("public.k*,public.n*",), exclude=("public.narrow",))
        assert [table.relname for table in only.tables] == ["kept"]
        with pytest.raises(UsageError, match="no table to compare"):
            check(follower, tables=("public.none",))


@pytest.mark.parametrize("partitions", ["leaf", "root"])
def test_partitions(pair: Pair, tmp_path: Path, partitions: str) -> None:
    primary, secondary = pair
    primary.execute(
        "create table public.p (id int, v text, primary key (id)) partition by range (id);"
        "create table public.p1 partition of public.p for values from (0) to (1000);"
        "create table public.p2 partition of public.p for values from (1000) to (3000);"
        "insert into public.p select g, 'v' from generate_series(0, 2999) g;"
        "create table public.q (id int, v text) partition by list (id);"
        "create table public.q1 partition of public.q default; insert into public.q select 1, 'v'"
    )
    with Follower(primary, secondary, tmp_path, memory=False, partitions=partitions) as follower:
        report = check(follower)
        assert report.equal
        names = {"p", "q"} if partitions == "root" else {"p1", "p2", "q1"}
        assert {table.relname for table in report.tables} == names
        secondary.execute("delete from public.p where id = 2000; insert into public.q values (1, 'v')")
        report = check(follower)
        assert {t.relname for t in report.differing} == ({"p", "q"} if partitions == "root" else {"p2", "q1"})
        assert mend(follower).rows == 2
        assert check(follower).equal


def test_keys_that_sort_differently(pair: Pair, tmp_path: Path) -> None:
    primary, secondary = pair
    if not primary.value("select count(*) from pg_collation where collname = 'en-x-icu'"):
        pytest.skip("this server has no ICU")
    primary.execute(
        'create table public.t (k text collate "en-x-icu" primary key, v int);'
        "insert into public.t select (array['a', 'B', 'ä', '-', ' ', 'Z'])[g % 6 + 1] || g, g"
        " from generate_series(1, 3000) g"
    )
    with Follower(primary, secondary, tmp_path, memory=False) as follower:
        secondary.execute('alter table public.t alter k type text collate "C"')
        assert check(follower).equal
        secondary.execute("update public.t set v = 0 where k = 'B7'; delete from public.t where k = 'ä8'")
        assert found(check(follower).tables[0]) == {("differs", "B7"), ("missing", "ä8")}
        mend(follower)
        assert check(follower).equal


def test_keys_of_types_that_arent_built_in(pair: Pair, tmp_path: Path) -> None:
    """Enums, arrays, row types, a type with an equality of its own: found by their text."""
    primary, secondary = pair
    primary.execute(
        "create type public.e as enum ('b', 'a'); create table public.enums (k public.e primary key, v int);"
        "insert into public.enums values ('a', 1), ('b', 2);"
        "create type public.pair as (a int, b text); create table public.pairs (k public.pair primary key, v int);"
        "insert into public.pairs values (row(1, null), 1), (row(2, 'x,y'), 2);"
        "create table public.arrays (k text[] primary key, v int);"
        "insert into public.arrays values ('{a,NULL}', 1), ('{}', 2)"
    )
    with Follower(primary, secondary, tmp_path, memory=False) as follower:
        assert check(follower).equal
        for table in ("enums", "pairs", "arrays"):
            secondary.execute(
                f"update public.{table} set v = 3 where v = 1; delete from public.{table} where v = 2"
            )
        assert {table.relname: found(table) for table in check(follower).tables} == {
            "enums": {("differs", "a"), ("missing", "b")},
            "pairs": {("differs", "(1,)"), ("missing", '(2,"x,y")')},
            "arrays": {("differs", "{a,NULL}"), ("missing", "{}")},
        }
        assert mend(follower).rows == 6
        assert check(follower).equal


def test_resume_leaves_out_what_was_equal(pair: Pair, tmp_path: Path) -> None:
    primary, secondary = pair
    primary.execute("create table public.a (i int primary key); create table public.b (i int primary key)")
    notes = tmp_path / "notes"
    with Follower(primary, secondary, tmp_path, memory=False) as follower:
        told: list[Progress] = []

        def interrupt(progress: Progress) -> None:
            told.append(progress)
            if progress.done == 1:
                raise KeyboardInterrupt

        options = dataclasses.replace(SMALL, resume=notes, jobs=1)
        with pytest.raises(KeyboardInterrupt):
            verify(primary.conninfo, secondary.conninfo, options=options, progress=interrupt)
        report = check(follower, options)
        assert len(report.tables) == len(report.resumed) == 1
        assert {*report.resumed, report.tables[0].table} == {'"public"."a"', '"public"."b"'}
        assert not notes.exists(), "all is done: the next run compares everything"
        notes.write_text("{}")
        with pytest.raises(Exception, match="not a file that verify wrote"):
            Notes.read(notes, report.replica)


def test_a_user_with_the_replayers_role_is_enough(pair: Pair, tmp_path: Path) -> None:
    primary, secondary = pair
    secondary.execute("create role reader")
    primary.execute(
        "create role reader login replication; create table public.t (id int primary key, v text);"
        "grant select on public.t to reader; create table public.n (v text); grant select on public.n to reader"
    )
    with Follower(primary, secondary, tmp_path, memory=False):
        role = secondary.value(
            "select rolname from pg_roles where rolname = 'logship_replayer_' || current_database()"
        )
        secondary.execute(f'create role mender login; grant "{role}" to mender')
        secondary.execute("insert into public.t values (1, 'x'); insert into public.n values ('x')")
        ends = (primary.conninfo_as("reader"), secondary.conninfo_as("mender"))
        assert [len(table.found) for table in verify(*ends).tables] == [1, 1]
        assert repair(*ends).rows == 2
        assert verify(*ends).equal
        with pytest.raises(psycopg.errors.InsufficientPrivilege), secondary.connect("mender") as link:
            link.execute("delete from public.t")


def test_memory_has_what_was_mended(pair: Pair, tmp_path: Path) -> None:
    """Rows that were lost behind the replayer's back before memory loaded the table, and come back by repair."""
    pair.primary.execute("create table t (id int primary key, v text)")
    pair.primary.execute("insert into t select g, 'v' from generate_series(1, 20) g")
    with Follower(pair.primary, pair.secondary, tmp_path) as follower:
        follower.catch_up()
        follower.secondary.execute("delete from t where id in (3, 4); update t set v = 'wrong' where id = 5")
        follower.primary.execute("update t set v = 'loads it' where id = 1")
        follower.catch_up()
        assert found(by_table(check(follower))["t"]) == {("missing", "3"), ("missing", "4"), ("differs", "5")}
        mend(follower)
        assert check(follower).equal
        # Without the rows in memory, these would stop the replica.
        follower.primary.execute("delete from t where id = 3; update t set v = 'again' where id in (4, 5)")
        follower.assert_equal()
