"""The owners' writers: rows are written with the owner's rights, and nothing users wrote gets more.

``victim`` is a session of the replayer's kind: it may call every owner's writer. The attacker,
mallory, owns one replicated table and whatever code stands on it.
"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from logship.catalog import migrate
from logship.catalog.roles import ensure_replayer
from logship.catalog.writers import ARRAYS, OwnerNotReachable, ensure_wrappers, writers
from logship.connection import Side, connect
from tests.servers import Database


class Stage:
    def __init__(self, database: Database) -> None:
        self.database = database
        migrate.upgrade(database.conninfo, Side.SECONDARY)
        database.execute(
            "create role mallory; create role bob; create role carrier login;"
            "create table public.bobs (a int); alter table public.bobs owner to bob;"
            "create table public.evil (a int primary key, b text); alter table public.evil owner to mallory;"
            "create schema hers authorization mallory; grant create on schema public to mallory"
        )
        with connect(database.conninfo, Side.SECONDARY) as admin:
            self.role, warnings = ensure_replayer(admin)
            assert warnings == []
            self.owners = {row[1]: row[0] for row in admin.execute(
                "select oid::int8, rolname from pg_catalog.pg_roles where rolname in ('mallory', 'bob', 'postgres')"
            ).fetchall()}  # fmt: skip
            assert sorted(ensure_wrappers(admin, self.owners.values(), replayer=self.role)) == sorted(
                self.owners
            )
            assert ensure_wrappers(admin, self.owners.values(), replayer=self.role) == []
            self.writers = writers(admin)
            admin.execute(f"grant {self.role} to carrier")
            admin.execute(
                "insert into logship.replica values ('r',1,1,'d','s','p','o','full','0/1',now(),now())"
            )
            admin.execute("insert into logship.position (replica, replay_lsn) values ('r', '0/1')")
        self.victim = connect(
            database.conninfo_as("carrier"), Side.SECONDARY, settings={"session_replication_role": "replica"}
        )

    def as_mallory(self, statements: str) -> None:
        self.database.execute(f"set role mallory; {statements}")

    def write(self, owner: str, statement: str, *arrays: list[str | None]) -> int:
        call = f"select {self.writers[self.owners[owner]]}(%s{', %s::text[]' * len(arrays)})"
        row = self.victim.execute(call.encode(), [statement, *arrays]).fetchone()
        assert row is not None
        return int(row[0])

    def attack(self, code: str, *, declare: str = "") -> None:
        """A CHECK that runs ``code`` (PL/pgSQL) for each row that is written to mallory's table."""
        self.as_mallory(
            f"create or replace function hers.strike(x int) returns boolean language plpgsql as $f$ "
            f"declare {declare} begin {code}; return true; end $f$; "
            "alter table public.evil drop constraint if exists strike; "
            "alter table public.evil add constraint strike check (hers.strike(a)) not valid"
        )

    def insert(self) -> int:
        return self.write(
            "mallory",
            "insert into public.evil (a) values ((select coalesce(max(a), 0) + 1 from public.evil))",
        )


@pytest.fixture
def stage(secondary: Database) -> Iterator[Stage]:
    made = Stage(secondary)
    yield made
    made.victim.close()


def test_rows_are_written_and_counted(stage: Stage) -> None:
    insert = "insert into public.evil (a, b) select u.a::pg_catalog.int4, u.b from unnest($1, $2) as u (a, b)"
    assert stage.write("mallory", insert, ["1", "2"], ["x", None]) == 2
    assert stage.write("mallory", "delete from public.evil where a = 7") == 0
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        stage.write("bob", insert, ["3"], ["y"])


def test_all_arrays_arrive(stage: Stage) -> None:
    sums = " + ".join(f"(${n})[1]::pg_catalog.int8" for n in range(1, ARRAYS + 1))
    stage.write(
        "mallory", f"insert into public.evil (a) select {sums}", *[[str(n)] for n in range(1, ARRAYS + 1)]
    )
    assert stage.database.value("select a from public.evil") == sum(range(1, ARRAYS + 1))


def test_settings_of_the_session_dont_change_values(stage: Stage) -> None:
    stage.database.execute(
        "create table public.v (d date, i interval, x text[], t timestamptz); alter table public.v owner to bob"
    )
    for setting in ("datestyle = 'SQL, DMY'", "array_nulls = off", "timezone = 'Asia/Tokyo'"):
        stage.victim.execute(f"set {setting}".encode())
    stage.write(
        "bob",
        "insert into public.v select ($1)[1]::pg_catalog.date, null, ($2)[1]::pg_catalog._text, "
        "($3)[1]::pg_catalog.timestamptz",
        ["2001-02-03"], ["{NULL,a}"], ["2001-02-03 00:00:00"],
    )  # fmt: skip
    stage.database.execute("set timezone = 'UTC'")
    assert stage.database.execute("select d::text, x, extract(epoch from t)::int from public.v") == [
        ("2001-02-03", [None, "a"], 981158400)
    ]


@pytest.mark.parametrize(
    "code",
    [
        "reset role",
        "set role postgres",
        "set role none",
        "set session authorization carrier",
        "reset session authorization",
        "set session_replication_role = origin",
        "insert into public.bobs values (666)",
        "update logship.position set replay_lsn = '0/FFFF'",
        "perform logship.advance('r', '0/1', '0/FFFF', null, 0, 0, 0, 0, 0)",
        "perform logship_writers.write_as_10('create role owned superuser')",
        "execute 'alter function logship_writers.write_as_' || (select oid from pg_roles where rolname = current_user) "
        "|| ' security invoker'",
        "execute 'set role ' || session_user; insert into public.bobs values (666)",
    ],
)
def test_an_attack_is_refused(stage: Stage, code: str) -> None:
    stage.attack(code)
    with pytest.raises(psycopg.Error) as caught:
        stage.insert()
    assert caught.value.sqlstate in {"42501", "42704", "42883", "0A000", "55000", "22023", "42939"}, (
        caught.value
    )
    assert stage.database.value("select count(*) from public.bobs") == 0
    assert stage.database.value("select replay_lsn::text from logship.position") == "0/1"


def test_code_knows_only_its_owner(stage: Stage) -> None:
    stage.as_mallory("create table hers.seen (who text)")
    stage.attack("insert into hers.seen values (current_user)")
    assert stage.insert() == 1
    assert stage.database.execute("select who from hers.seen") == [("mallory",)]


def test_a_trigger_a_default_and_a_generated_column_too(stage: Stage) -> None:
    stage.as_mallory(
        "create table hers.seen (who text);"
        "create function hers.who() returns text language plpgsql as $$ begin insert into hers.seen "
        "values (current_user);"
        " return 'x'; end $$;"
        "create function hers.trig() returns trigger language plpgsql as $$ begin perform hers.who(); "
        "return new; end $$;"
        "alter table public.evil alter b set default hers.who();"
        "create trigger t before insert on public.evil for each row execute function hers.trig();"
        "alter table public.evil enable always trigger t"
    )
    stage.insert()
    assert stage.database.execute("select distinct who from hers.seen") == [("mallory",)]
    assert stage.database.value("select count(*) from hers.seen") == 2


def test_the_owner_cant_name_its_writer(stage: Stage) -> None:
    writer = stage.writers[stage.owners["mallory"]]
    for statement in (
        f"alter function {writer} security invoker",
        f"alter function {writer} reset all",
        f"drop function {writer}",
        f"grant execute on function {writer} to public",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            stage.as_mallory(statement)


def test_settings_that_matter_are_put_back(stage: Stage) -> None:
    names = [
        "client_encoding",
        "synchronous_commit",
        "statement_timeout",
        "default_transaction_read_only",
        "lock_timeout",
    ]
    before = [stage.victim.execute(f"show {name}".encode()).fetchone() for name in names]
    stage.attack(
        "set client_encoding = 'LATIN1'; set synchronous_commit = off; set statement_timeout = 1000000; "
        "set default_transaction_read_only = on; set lock_timeout = 1; set search_path = hers; set "
        "datestyle = 'SQL, DMY'"
    )
    assert stage.insert() == 1
    assert [stage.victim.execute(f"show {name}".encode()).fetchone() for name in names] == before
    assert stage.victim.execute("show search_path").fetchone() == ("pg_catalog, pg_temp",)
    assert stage.victim.execute("show datestyle").fetchone() == ("ISO, YMD",)


def test_reset_all_that_changes_the_replication_role_is_refused(stage: Stage) -> None:
    stage.attack("reset all")
    assert stage.insert() == 1  # a startup option: RESET comes back to it
    assert stage.victim.execute("show session_replication_role").fetchone() == ("replica",)
    with connect(stage.database.conninfo_as("carrier"), Side.SECONDARY) as careless:
        careless.execute("set session_replication_role = replica")
        stage.victim.close()
        stage.victim = careless
        with pytest.raises(psycopg.Error, match="session_replication_role") as caught:
            stage.insert()
        assert caught.value.sqlstate == "LS003"


def test_nothing_is_left_to_run_at_commit_from_a_cursor(stage: Stage) -> None:
    stage.as_mallory(
        "create table hers.seen (who text); grant all on hers.seen to public; grant usage on schema hers to public;"
        "create function hers.late() returns int language plpgsql as $$ begin insert into hers.seen "
        "values (current_user);"
        " return 1; end $$"
    )
    stage.attack("execute 'declare trap cursor with hold for select hers.late()'")
    with stage.victim.transaction():
        assert stage.insert() == 1
    assert stage.database.execute("select who from hers.seen") == []


def test_a_prepared_statement_left_behind_is_refused(stage: Stage) -> None:
    stage.attack("execute 'prepare trap as select 1'")
    with pytest.raises(psycopg.Error, match="prepared statement") as caught:
        stage.insert()
    assert caught.value.sqlstate == "LS003"


def test_a_trigger_cant_defer_itself_past_the_writer(stage: Stage) -> None:
    """On 18 it runs as its owner; before, it would run as the replayer at commit, and so is refused."""
    stage.as_mallory(
        "create table hers.seen (who text); grant all on hers.seen to public; grant usage on schema hers to public;"
        "create table hers.again (n int);"
        "create function hers.defer() returns trigger language plpgsql as $$ begin "
        "insert into hers.seen values (current_user); set constraints all deferred;"
        " if new.n < 5 then insert into hers.again values (new.n + 1); end if; return null; end $$;"
        "create constraint trigger t after insert on hers.again deferrable initially deferred "
        "for each row execute function hers.defer();"
        "alter table hers.again enable always trigger t"
    )
    stage.attack("insert into hers.again values (0)")
    try:
        with stage.victim.transaction():
            stage.insert()
            # What it put off is done, under the writer's settings, and not left to the commit.
            assert stage.victim.execute("select count(*) > 0 from hers.seen").fetchone() == (True,)
    except psycopg.Error as error:
        assert error.sqlstate == "LS003"
        assert stage.victim.info.server_version < 180000
    assert stage.database.execute("select distinct who from hers.seen where who <> 'mallory'") == []


def test_nothing_but_the_statement_is_looked_up_in_the_users_path(stage: Stage) -> None:
    """Her operators stand in front of PostgreSQL's: what checks that nothing is left behind must not ask them."""
    stage.as_mallory(
        "create table hers.seen (who text);"
        "create function hers.caught(text, text) returns boolean language plpgsql as $$ begin insert into hers.seen "
        "values (current_user); return false; end $$;"
        "create operator hers.<> (leftarg = text, rightarg = text, function = hers.caught);"
        "create operator hers.= (leftarg = text, rightarg = text, function = hers.caught)"
    )
    stage.victim.execute(
        f"select logship_writers.ddl_as_{stage.owners['mallory']}(%s, %s::text[], %s::text[])".encode(),
        ["create table made (a int)", ["search_path"], ["hers, pg_catalog"]],
    )
    assert stage.database.value("select count(*) from hers.made") == 0
    assert stage.database.execute("select who from hers.seen") == []


def test_a_user_who_is_neither_superuser_nor_member_is_told(secondary: Database) -> None:
    secondary.execute("create role owner1; create role helper login createrole; grant create on database "
                      f"\"{secondary.name}\" to helper")  # fmt: skip
    migrate.upgrade(secondary.conninfo_as("helper"), Side.SECONDARY)
    secondary.execute("create role replayer; grant owner1 to helper")
    owner = secondary.value("select oid::int8 from pg_roles where rolname = 'owner1'")
    with connect(secondary.conninfo_as("helper"), Side.SECONDARY) as link:
        assert ensure_wrappers(link, [owner], replayer="replayer") == ["owner1"]
        assert secondary.value("select has_schema_privilege('owner1', 'logship_writers', 'create')") is False
        with pytest.raises(OwnerNotReachable, match='"postgres", who owns') as caught:
            ensure_wrappers(link, [10], replayer="replayer")
    assert 'grant "postgres" to "helper"' in caught.value.hint
