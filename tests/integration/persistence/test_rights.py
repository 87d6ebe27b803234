"""What users wrote runs with their own rights, whoever replays, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from logship.change import Relation
from logship.replay.failures import StatementFailed
from logship.replay.session import Command
from tests.integration.persistence.replica import Log, Replica, cells, make_replica
from tests.servers import Database

# Notes who it runs as, and tries to become more; may be called from anywhere.
SPY = """
create table seen (who text, can_write boolean);
create function note() returns void language plpgsql as $$
begin
  begin
    execute 'reset role'; execute 'reset session authorization';
    execute 'set role postgres';
  exception when others then null;
  end;
  begin
    execute 'alter role ' || quote_ident('{owner}') || ' superuser';
  exception when others then null;
  end;
  insert into public.seen
  select current_user, has_table_privilege('logship.position', 'insert');
end $$;
create function spy(int) returns int language plpgsql immutable as $$
begin perform public.note(); return $1; end $$;
"""
ATTACKS = {
    "check": "create table t (id int primary key, n int check (public.spy(n) > 0))",
    "default": "create table t (id int primary key, n int, extra int default public.spy(1))",
    "generated": "create table t (id int primary key, n int, g int generated always as (public.spy(n)) stored)",
    "index": "create table t (id int primary key, n int); create index on t (public.spy(n))",
    "predicate": "create table t (id int primary key, n int); create index on t (n) where public.spy(n) > 0",
    "domain": "create domain d as int check (public.spy(value) > 0); create table t (id int primary key, n d)",
    "partition": "create table t (id int, n int) partition by list ((public.spy(n))); "
                 "create table tp partition of t default",
    "trigger": "create table t (id int primary key, n int); "
               "create function f() returns trigger language plpgsql as "
               "$$ begin perform public.spy(1); return new; end $$; "
               "create trigger g before insert on t for each row execute function f(); "
               "alter table t enable always trigger g",
}  # fmt: skip
DEFERRED = """
create table t (id int primary key, n int);
create function f() returns trigger language plpgsql as $$ begin perform public.spy(1); return null; end $$;
create constraint trigger g after insert on t deferrable initially deferred
  for each row execute function f();
alter table t enable always trigger g
"""
HARMFUL = """
create table t (id int primary key, n text);
create function f() returns trigger language plpgsql as $$
begin {code}; return new; end $$;
create trigger g before insert on t for each row execute function f();
alter table t enable always trigger g
"""


@pytest.fixture(params=[False, True], ids=["least-rights", "superuser"])
def either(request: pytest.FixtureRequest, secondary: Database) -> Iterator[Replica]:
    made = make_replica(secondary, superuser=request.param)
    yield made
    made.close()


def replay(replica: Replica) -> None:
    relation, types = replica.relation("t", "n")
    target = replica.resolve(Relation(1, "public", "t", "n", relation.columns[:2]), types)
    log, persistence = Log(), replica.opened()
    log.insert(target, cells("1", "1"))
    persistence.apply([log.batch()])


def gained_nothing(replica: Replica) -> bool:
    superuser = replica.execute(f"select rolsuper from pg_roles where rolname = '{replica.owner}'")
    seen = set(replica.execute("select * from seen"))
    return superuser == [(False,)] and seen <= {(replica.owner, False)}


@pytest.mark.parametrize("attack", list(ATTACKS))
def test_user_code_runs_as_the_owner(either: Replica, attack: str) -> None:
    either.create(SPY.replace("{owner}", either.owner))
    either.create(ATTACKS[attack])
    replay(either)
    assert gained_nothing(either)
    assert either.execute("select count(*) > 0 from seen") == [(True,)]


def test_a_deferred_trigger_gains_nothing(either: Replica) -> None:
    """Up to 17 it would run at commit as the replayer, could it defer itself again: it is refused."""
    either.create(SPY.replace("{owner}", either.owner))
    either.create(DEFERRED)
    try:
        replay(either)
    except StatementFailed as failure:
        assert failure.sqlstate == "LS003"
    assert gained_nothing(either)


@pytest.mark.parametrize(
    "code",
    [
        "perform set_config('client_encoding', 'LATIN1', false)",
        "perform set_config('synchronous_commit', 'off', false)",
        "perform set_config('search_path', 'public, pg_catalog', false)",
        "perform set_config('enable_nestloop', 'off', false); perform set_config('datestyle', 'german', false)",
        "perform set_config('work_mem', '64kB', false); perform set_config('bytea_output', 'escape', false)",
        "execute 'declare c cursor with hold for select public.spy(1)'",
    ],
)
def test_what_user_code_leaves_behind_changes_nothing(replica: Replica, code: str) -> None:
    replica.create(SPY.replace("{owner}", replica.owner))
    replica.create(HARMFUL.replace("{code}", code))
    target, log, persistence = replica.target("t"), Log(), replica.opened()
    log.insert(target, cells("1", "é €"))
    log.truncate([])
    log.insert(target, cells("2", "é €"))
    persistence.apply([log.batch()])
    log.update(target, cells("1", "ü €"))
    persistence.apply([log.batch()])
    assert replica.execute("select n from t order by id") == [("ü €",), ("é €",)]
    assert gained_nothing(replica)


def test_the_commit_is_synchronous_whatever_user_code_says(replica: Replica) -> None:
    """The setting in force at commit is what counts: seen through the session that persistence uses."""
    replica.create(HARMFUL.replace("{code}", "perform set_config('synchronous_commit', 'off', false)"))
    target, log, persistence = replica.target("t"), Log(), replica.opened()
    log.insert(target, cells("1", "x"))
    persistence.apply([log.batch(complete=False)])
    shown = persistence._live.run([Command(b"show synchronous_commit"), Command(b"show client_encoding")])
    assert shown == [b"on", b"UTF8"]
