"""init on real servers: what it carries over, what it refuses, and what it leaves to be done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest

from logship.catalog import migrate
from logship.connection import Side
from logship.errors import PrimaryError, RefusedAsUnsafe, SecondaryError, UsageError
from logship.lsn import Lsn
from logship.service.initial.init import InitResult, Progress, initialise
from tests.conftest import Pair
from tests.follow import assert_equal
from tests.servers import Database

AWKWARD = 'T "quoted".with.dots\nand a line'
LONG = "é" * 31 + "x"  # 63 bytes


def run(pair: Pair, **options: Any) -> InitResult:
    return initialise(pair.primary.conninfo, pair.secondary.conninfo, **options)


def quoted(name: str) -> str:
    return psycopg.sql.Identifier(name).as_string(None)


def test_everything_arrives(pair: Pair) -> None:
    """Tables of all kinds, under awkward names, with views, functions and sequences."""
    pair.primary.execute(
        f"""
        create table public.gen (b text, a int primary key, g int generated always as (a * 2) stored,
                                 i int generated always as identity);
        insert into public.gen (a, b) select n, 'v' || n from generate_series(1, 500) n;
        create schema {quoted(AWKWARD)};
        create table {quoted(AWKWARD)}.{quoted(LONG)} ({quoted(AWKWARD)} int primary key, {quoted(LONG)} text);
        insert into {quoted(AWKWARD)}.{quoted(LONG)} values (1, E'tab\\there\\\\\\nline'), (2, null), (3, '\\N');
        create table public.part (a int, b text, primary key (a)) partition by range (a);
        create table public.part_low partition of public.part for values from (0) to (50);
        create table public.part_high partition of public.part for values from (50) to (100);
        insert into public.part select n, 'p' from generate_series(0, 99) n;
        create table public.parent (a int primary key);
        create table public.child (c int) inherits (public.parent);
        insert into public.parent values (1); insert into public.child values (2, 3);
        create table public.empty ();
        create sequence public.counter start 10;
        select nextval('public.counter'), nextval('public.counter'), setval('public.counter', 77, false);
        create table public.fk (a int references public.gen (a), primary key (a)); insert into public.fk values (5);
        create view public.shown as select a from public.gen;
        create materialized view public.counted as select count(*) as n from public.gen;
        create function public.twice(x int) returns int language sql immutable as 'select x * 2';
        create type public.mood as enum ('sad', 'ok'); create domain public.small as int check (value < 100);
        create table public.typed (a public.small primary key, m public.mood[], n numeric, t timestamptz,
                                   j json, y bytea);
        insert into public.typed values (1, '{{sad,ok}}', 'NaN', 'infinity', '{{"a": 1}}', '\\x00ff');
        create unlogged table public.scratch (a int); insert into public.scratch values (1);
        comment on table public.gen is 'it''s \\ fine'
        """
    )
    told: list[Progress] = []
    result = run(pair, progress=told.append)
    assert_equal(pair.primary, pair.secondary)
    assert result.not_copied == {'"public"."scratch"': "unlogged"}
    assert result.rows == sum(progress.rows for progress in told)
    assert [p.done for p in told if p.table] == list(range(1, result.tables + 1))
    secondary = pair.secondary
    assert secondary.value("select n from public.counted") == 500
    assert secondary.value("select count(*) from public.shown") == 500
    assert secondary.value("select public.twice(4)") == 8
    assert secondary.value("select nextval('public.counter')") == 77
    assert secondary.value("insert into public.gen (a) values (1000) returning i") == 501
    assert secondary.value("select count(*) from pg_constraint where conname = 'fk_a_fkey'") == 1
    assert secondary.value("select obj_description('public.gen'::regclass)") == "it's \\ fine"
    assert secondary.value("select count(*) from public.scratch") == 0
    check_state(pair, result)


def check_state(pair: Pair, result: InitResult) -> None:
    """Slot, publication, position, origin and role belong together."""
    name = f"logship_{pair.primary.name}"
    assert (result.slot, result.publication) == (name, name)
    assert result.replayer_role == f"logship_replayer_{pair.secondary.name}"
    assert pair.primary.value("select puballtables from pg_publication where pubname = %s", [name]) is True
    slot = pair.primary.execute(
        "select plugin, temporary, active, confirmed_flush_lsn::text from pg_replication_slots where database = %s",
        [pair.primary.name],
    )
    assert [row[:3] for row in slot] == [("pgoutput", False, False)]
    position = Lsn.parse(pair.secondary.value("select replay_lsn::text from logship.position"))
    assert Lsn.parse(slot[0][3]) <= position == result.snapshot_lsn
    assert pair.secondary.execute(
        "select name, slot, publication, origin, initialised_at is not null from logship.replica"
    ) == [(result.replica, name, name, result.origin, True)]
    assert pair.secondary.value("select count(*) from logship.copy_progress") == 0
    assert (
        pair.secondary.value("select count(*) from pg_replication_origin where roname = %s", [result.origin])
        == 1
    )
    assert pair.primary.execute("select name, slot, initialised_at is not null from logship.replica") == [
        (result.replica, name, True)
    ]


def test_what_commits_after_the_snapshot_is_in_the_slot(pair: Pair) -> None:
    """A row committed while init copies is in the copy or in the log, and never in both."""
    pair.primary.execute("create table public.t (a int primary key); insert into public.t values (1)")

    def meddle(progress: Progress) -> None:
        if progress.text.startswith("schema by"):
            pair.primary.execute("insert into public.t values (2)")

    result = run(pair, progress=meddle)
    assert pair.secondary.execute("select a from public.t") == [(1,)]
    commits = pair.primary.execute(
        "select lsn::text from pg_logical_slot_peek_binary_changes(%s, null, null, 'proto_version', '1', "
        "'publication_names', %s) where get_byte(data, 0) = ascii('C')",
        [result.slot, result.publication],
    )
    assert result.snapshot_lsn is not None
    assert any(Lsn.parse(lsn) > result.snapshot_lsn for (lsn,) in commits)


def test_again_there_is_nothing_to_do(pair: Pair) -> None:
    pair.primary.execute("create table public.t (a int primary key)")
    first = run(pair)
    pair.secondary.execute(
        "create role late; create table public.u (a int); alter table public.u owner to late"
    )
    again = run(pair)
    assert (again.already, again.replica, again.snapshot_lsn) == (True, first.replica, first.snapshot_lsn)
    writers = "select pg_get_userbyid(proowner) from pg_proc where proname like 'write_as_%' order by 1"
    assert pair.secondary.execute(writers) == [("late",), ("pg_database_owner",), ("postgres",)]
    pair.primary.execute("select pg_drop_replication_slot(%s)", [first.slot])
    with pytest.raises(RefusedAsUnsafe, match=r"slot .* is gone from the primary"):
        run(pair)


def test_a_second_replica_shares_slot_and_publication(pair: Pair, make_database: Any) -> None:
    pair.primary.execute("create table public.t (a int primary key); insert into public.t values (1)")
    first = run(pair)
    pair.primary.execute("insert into public.t values (2)")
    other: Database = make_database(pair.secondary.server)
    second = initialise(pair.primary.conninfo, other.conninfo, "second")
    assert (second.slot, second.publication) == (first.slot, first.publication)
    assert second.origin != first.origin
    assert other.value("select count(*) from public.t") == 2
    assert first.snapshot_lsn is not None
    assert second.snapshot_lsn is not None
    assert second.snapshot_lsn > first.snapshot_lsn
    assert pair.primary.value("select count(*) from logship.replica") == 2


def test_the_same_database_is_refused(pair: Pair) -> None:
    with pytest.raises(RefusedAsUnsafe, match="the same database"):
        initialise(pair.primary.conninfo, pair.primary.conninfo_as("postgres", tcp=True))
    assert pair.primary.value("select count(*) from pg_namespace where nspname = 'logship'") == 0


def test_wal_level_is_asked_for(make_server: Any, secondary: Database) -> None:
    server = make_server("replica", durable=False, settings={"wal_level": "replica"})
    with pytest.raises(PrimaryError, match="wal_level is replica") as caught:
        initialise(server.conninfo(), secondary.conninfo)
    assert "alter system set wal_level = logical" in caught.value.hint


KEYLESS = "create table public.bare (a int); insert into public.bare values (1), (1)"


def test_keyless_full(pair: Pair) -> None:
    pair.primary.execute(KEYLESS)
    result = run(pair)
    assert result.identity_full == ['"public"."bare"']
    for side in pair:
        assert side.value("select relreplident::text from pg_class where relname = 'bare'") == "f"
    pair.primary.execute("update public.bare set a = 2")


def test_keyless_refuse(pair: Pair) -> None:
    pair.primary.execute(KEYLESS)
    result = run(pair, keyless="refuse")
    assert pair.secondary.value("select count(*) from public.bare") == 2
    assert '"public"."bare"' in result.warnings[0]
    with pytest.raises(psycopg.Error, match="does not have a replica identity"):
        pair.primary.execute("update public.bare set a = 2")


def test_keyless_leave_out(pair: Pair) -> None:
    pair.primary.execute(KEYLESS)
    result = run(pair, keyless="leave-out")
    assert result.left_out == ['"public"."bare"']
    assert pair.secondary.execute("select schemaname, relname from logship.left_out") == [("public", "bare")]
    assert pair.secondary.value("select count(*) from public.bare") == 0
    pair.primary.execute("update public.bare set a = 2")


def test_existing_tables_with_other_columns_in_another_order(pair: Pair) -> None:
    pair.primary.execute(
        "create table public.t (a int primary key, b text, c int); insert into public.t values (1, 'x', 2)"
    )
    pair.primary.execute(KEYLESS)
    pair.secondary.execute(
        "create table public.t (extra timestamptz default now(), c bigint, more text default 'd', b "
        "text, a int primary key)"
    )
    pair.secondary.execute("create table public.bare (a int)")
    with pytest.raises(RefusedAsUnsafe, match="exist on the secondary already") as caught:
        run(pair)
    assert "--schema existing" in caught.value.hint
    run(pair, schema="existing")
    assert pair.secondary.execute("select a, b, c, more, extra is not null from public.t") == [
        (1, "x", 2, "d", True)
    ]
    assert pair.secondary.value("select relreplident::text from pg_class where relname = 'bare'") == "f"


@pytest.mark.parametrize("mode", ["dump", "existing"])
def test_rows_on_the_secondary_are_never_touched(pair: Pair, mode: Any) -> None:
    for side in pair:
        side.execute("create table public.t (a int primary key); insert into public.t values (1)")
    with pytest.raises(RefusedAsUnsafe, match=r'hold rows already: "public"."t"'):
        run(pair, schema=mode)
    assert pair.secondary.execute("select a from public.t") == [(1,)]


def test_existing_misses_a_column_or_a_table(pair: Pair) -> None:
    pair.primary.execute("create table public.t (a int primary key, b text)")
    pair.secondary.execute("create table public.t (a int primary key)")
    with pytest.raises(SecondaryError, match='has no column "b"'):
        run(pair, schema="existing")
    pair.secondary.execute("drop table public.t")
    with pytest.raises(SecondaryError, match="does not exist on the secondary"):
        run(pair, schema="existing")
    pair.secondary.execute("create table public.t (a int primary key, b text)")
    run(pair, schema="existing")


def test_partitions_by_root_into_another_layout(pair: Pair) -> None:
    pair.primary.execute(
        "create table public.p (a int primary key) partition by range (a);"
        "create table public.p1 partition of public.p for values from (0) to (10);"
        "create table public.p2 partition of public.p for values from (10) to (20);"
        "insert into public.p select generate_series(0, 19)"
    )
    pair.secondary.execute("create table public.p (a int primary key)")
    with pytest.raises(SecondaryError, match=r"p1.*does not exist") as caught:
        run(pair, schema="existing")
    assert "--partitions root" in caught.value.hint
    pair.primary.execute(f"create publication logship_{pair.primary.name} for all tables")
    with pytest.raises(UsageError, match="publishes partitions by leaf"):
        run(pair, schema="existing", partitions="root")
    pair.primary.execute(f"drop publication logship_{pair.primary.name}")
    result = run(pair, schema="existing", partitions="root")
    assert pair.secondary.value("select count(*) from public.p") == 20
    assert "TRUNCATE of a single partition" in result.warnings[0]


def test_roles_and_extensions_are_asked_for_before_anything_is_made(pair: Pair) -> None:
    # Both clusters are apart: a role of the primary isn't one of the secondary.
    pair.primary.execute(
        'create role "Owner ""1"""; create role reader; create table public.t (a int primary key);'
        'alter table public.t owner to "Owner ""1"""; grant select on public.t to reader'
    )
    with pytest.raises(SecondaryError, match=r'roles that own or may use .*: Owner "1", reader') as caught:
        run(pair)
    assert 'create role "Owner ""1""" nologin; create role "reader" nologin;' in caught.value.hint
    assert pair.secondary.value("select to_regclass('public.t')") is None
    assert pair.primary.value("select count(*) from pg_publication") == 0
    pair.secondary.execute('create role "Owner ""1"""; create role reader')
    run(pair)
    assert (
        pair.secondary.value("select relowner::regrole::text from pg_class where relname = 't'")
        == '"Owner ""1"""'
    )


def test_extensions_come_along(pair: Pair) -> None:
    available = {
        name
        for side in pair
        for (name,) in side.execute(
            "select name from pg_available_extensions where name in ('hstore', 'citext')"
        )
    }
    if len(available) < 2:
        pytest.skip("hstore and citext aren't installed")
    pair.primary.execute(
        "create extension hstore; create extension citext;"
        "create table public.t (a citext primary key, h hstore); insert into public.t values ('X', 'a=>1')"
    )
    run(pair)
    assert pair.secondary.execute("select a::text, h -> 'a' from public.t where a = 'x'") == [("X", "1")]


def test_a_named_publication(pair: Pair) -> None:
    pair.primary.execute(
        "create table public.t (a int primary key, b int); create table public.u (a int); insert into "
        "public.t values (1, 2);"
        "insert into public.u values (1);"
        "create publication few for table public.t; create publication part for table public.t where (a > 0)"
    )
    with pytest.raises(UsageError, match=r'publication "none" does not exist'):
        run(pair, publication="none")
    with pytest.raises(UsageError, match=r'"part" publishes only part of "public"."t"'):
        run(pair, publication="part")
    result = run(pair, publication="few")
    assert (result.publication, result.tables, result.identity_full) == ("few", 1, [])
    assert pair.secondary.execute("select a, b from public.t") == [(1, 2)]
    assert pair.secondary.value("select count(*) from public.u") == 0


@pytest.mark.parametrize("names", [{"slot": "With-Capitals"}, {"name": "a\nb"}, {"name": "x" * 64}])
def test_names_that_cant_be(pair: Pair, names: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="can't be the name"):
        run(pair, **names)


def test_a_slot_of_something_else_is_refused(pair: Pair) -> None:
    pair.primary.execute("select pg_create_logical_replication_slot('other', 'test_decoding')")
    with pytest.raises(UsageError, match='"other" exists, and is not a pgoutput slot'):
        run(pair, slot="other")


def test_a_pg_dump_that_isnt_one(pair: Pair, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a pg_dump that runs"):
        run(pair, pg_dump=str(tmp_path / "pg_dump"))


def test_a_schema_that_cant_be_made_leaves_nothing_behind(pair: Pair) -> None:
    pair.primary.execute("create function public.f() returns int language sql as 'select 1'")
    pair.primary.execute("create table public.t (a int primary key)")
    pair.secondary.execute("create function public.f() returns int language sql as 'select 2'")
    with pytest.raises(SecondaryError, match="can't make the primary's schema") as caught:
        run(pair)
    assert "isn't empty" in caught.value.hint
    assert pair.secondary.value("select to_regclass('public.t')") is None
    pair.secondary.execute("drop function public.f()")
    run(pair)


def test_values_of_rows_are_in_no_error(pair: Pair) -> None:
    pair.primary.execute(
        "create table public.t (a int primary key, b text); insert into public.t values (1, 'hidden')"
    )
    pair.secondary.execute("create table public.t (a int primary key, b int)")
    with pytest.raises(SecondaryError, match=r'can\'t fill "public"."t".*22P02') as caught:
        run(pair, schema="existing")
    assert "hidden" not in str(caught.value)


def test_users_code_runs_with_no_more_than_its_owners_rights(pair: Pair) -> None:
    """A CHECK function, a default of a column of the secondary's own, and PostgreSQL's own functions."""
    for side in pair:
        side.execute("create role mallory; grant create on schema public to mallory")
    pair.primary.execute(
        "create schema hers authorization mallory; set role mallory;"
        "create unlogged table hers.seen (who text); create sequence hers.s;"  # no copy empties it
        "create function hers.strike() returns boolean language plpgsql as $$ begin "
        "execute 'insert into hers.seen values (current_user)';"
        " begin execute 'alter role mallory superuser'; exception when others then null; end;"
        " begin execute 'reset role'; execute 'alter role mallory superuser'; exception when others then null; end;"
        " return true; end $$;"
        "create table public.evil (a int primary key, b text, g text generated always as (upper(b)) stored,"
        " check (hers.strike()));"
        "create table public.sneaky (a int primary key, check (set_config('logship.seen', current_user, "
        "false) = current_user));"
        "insert into public.evil select n, 'x' || n from generate_series(1, 1000) n; insert into "
        "public.sneaky values (1);"
        "truncate hers.seen"
    )
    result = run(pair)
    assert result.staged == {'"public"."evil"': "a check", '"public"."sneaky"': "a check"}
    assert pair.secondary.value("select rolsuper from pg_roles where rolname = 'mallory'") is False
    assert_equal(pair.primary, pair.secondary, without={"seen"})
    assert pair.secondary.execute("select distinct who from hers.seen") == [("mallory",)]


def test_the_least_rights_are_enough(pair: Pair) -> None:
    """A user of the secondary who is no superuser, once an administrator has run what init asks for."""
    for side in pair:
        side.execute("create role helper login createrole replication; create role own; grant own to helper")
        side.execute(
            f"grant create on database {side.name} to helper; grant create on schema public to helper, own"
        )
    pair.primary.execute(
        "set role own; create table public.t (a int primary key); insert into public.t values (1), (2);"
        "reset role; grant select on public.t to helper"
    )
    secondary = pair.secondary.conninfo_as("helper")
    for _ in range(12):
        try:
            initialise(pair.primary.conninfo, secondary)
            break
        except SecondaryError as error:
            assert "as a superuser: " in error.hint, error.message
            for line in error.hint.splitlines():
                pair.secondary.execute(
                    line.partition("as a superuser: ")[2].partition("; then run")[0] or "select"
                )
    assert pair.secondary.execute("select a from public.t order by a") == [(1,), (2,)]


def test_the_secondary_of_another_primary_is_refused(pair: Pair, make_database: Any) -> None:
    pair.primary.execute("create table public.t (a int primary key)")
    run(pair, name="one")
    other: Database = make_database(pair.primary.server)
    with pytest.raises(RefusedAsUnsafe, match="follows another primary"):
        initialise(other.conninfo, pair.secondary.conninfo, "one")


def test_it_is_logships_own_newest_schema(pair: Pair) -> None:
    run(pair)
    for side, database in ((Side.PRIMARY, pair.primary), (Side.SECONDARY, pair.secondary)):
        assert migrate.current(database.conninfo, side) == migrate.head(side)
