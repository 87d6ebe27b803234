"""Least privilege: the roles and grants that `check --print-grants` prints are made as printed; init, run and
status work with them; and each of them is missed when it is taken away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest

from logship.catalog import status
from logship.connection import Side, connect
from logship.errors import LogshipError
from logship.service.check import grants_for
from logship.service.checks.facts import Asked
from logship.service.checks.grants import Grant
from logship.service.initial.init import initialise
from tests.conftest import Pair
from tests.follow import Follower
from tests.integration.check.looking import blocking, ids, look, mend
from tests.servers import Database

INIT, RUN = "test_init", "test_run"

SCHEMA = """
create role test_owner; create role test_reader; create schema shop authorization test_owner;
grant create on schema public to test_owner;
set role test_owner;
create table public.t (a int primary key, b text); insert into public.t values (1, 'x'), (2, 'y');
create table shop.bare (a int); insert into shop.bare values (1), (1);
create table shop.odd (a int primary key, check (pg_catalog.length(a::text) > 0), n int default random() * 5);
create sequence shop.s; grant select on public.t to test_reader
"""


class As:
    """A pair of databases, as seen by one role on each side; what `Follower` needs of a `Database`."""

    def __init__(self, database: Database, role: str) -> None:
        self._database = database
        self.conninfo = database.conninfo_as(role)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)


def printed(pair: Pair, place: str) -> list[Grant]:
    _, found = grants_for(
        pair.primary.conninfo, pair.secondary.conninfo, Asked(), place, init_role=INIT, run_role=RUN
    )
    return found


def make(pair: Pair, place: str) -> list[Grant]:
    """Paste what is printed for one side, as a superuser."""
    database = pair.primary if place == "primary" else pair.secondary
    found = printed(pair, place)
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        for grant in found:
            connection.execute(grant.statement.encode())
    return found


def prepare(pair: Pair) -> dict[str, list[Grant]]:
    """Schema, and what is printed for both sides; nothing is left of what everyone may by default."""
    pair.primary.execute(SCHEMA)
    for side in pair:
        side.execute(f"revoke connect, temporary on database {side.name} from public")
    return {place: make(pair, place) for place in ("primary", "secondary")}


@pytest.fixture
def prepared(pair: Pair) -> Pair:
    prepare(pair)
    return pair


def users(pair: Pair, role: str) -> tuple[str, str]:
    return pair.primary.conninfo_as(role), pair.secondary.conninfo_as(role)


def test_init_run_and_status_with_what_is_printed(prepared: Pair, tmp_path: Path) -> None:
    pair = prepared
    for side in pair:
        assert side.execute(
            "select rolsuper, rolcreaterole, rolbypassrls from pg_roles where rolname in (%s, %s)", [INIT, RUN]
        ) == [(False, False, False)] * 2  # fmt: skip
    assert blocking(look(*users(pair, INIT))) == []
    initialise(*users(pair, INIT))
    # Once there is a schema logship, its tables can be given on the primary.
    assert [grant.optional for grant in make(pair, "primary")] == [False, False, True, True]
    assert printed(pair, "primary") == []
    assert printed(pair, "secondary") == []
    assert blocking(look(*users(pair, RUN))) == []
    with Follower(
        As(pair.primary, RUN),
        As(pair.secondary, RUN),
        tmp_path,
        initialised=True,  # type: ignore[arg-type]
    ) as follower:
        pair.primary.execute(
            "insert into public.t values (3, 'z'); update public.t set b = 'w' where a = 1;"
            "update shop.bare set a = 2; insert into shop.odd values (1); delete from public.t where a = 2"
        )
        follower.assert_equal()
        assert follower.run.memory is not None
    with connect(pair.secondary.conninfo_as(RUN), Side.SECONDARY) as link:
        assert [replica.state for replica in status.replicas(link)] == ["stopped"]
    with connect(pair.primary.conninfo_as(RUN), Side.PRIMARY) as link:
        assert len(status.slots(link)) == 1
        shown = link.execute("select state, flush_lsn is not null from logship.stat_replication").fetchall()
        assert shown == [("streaming", True)]


# -- each grant is needed ------------------------------------------------------------------------


def undo(grant: Grant) -> str:
    statement = grant.statement
    if statement.endswith(" login replication"):
        return statement.replace(" login replication", " noreplication")
    if statement.startswith("create publication "):
        return f"drop publication {statement.split()[2]}"
    if statement.endswith(" replica identity full"):
        return statement.replace(" full", " default")
    if statement.startswith("grant "):
        return statement.replace("grant ", "revoke ", 1).replace(" to ", " from ")
    raise AssertionError(f"nobody knows how to take this back: {statement}")


def test_each_grant_is_missed_when_it_is_taken_away(pair: Pair) -> None:
    """Taken away one by one, found by check, given again by what check prints."""
    given = prepare(pair)
    tried = 0
    for place, grants in given.items():
        for grant in grants:
            if grant.statement.startswith("create role ") or grant.optional or RUN in grant.statement:
                continue
            if " connect on database " in grant.statement:
                no_session(pair, place, grant)
                continue
            taken_and_given(pair, place, grant)
            tried += 1
    assert tried >= 20
    assert blocking(look(*users(pair, INIT))) == []


def test_each_right_to_run_is_missed_when_it_is_taken_away(prepared: Pair) -> None:
    pair = prepared
    initialise(*users(pair, INIT))
    pair.primary.execute(f"alter role {RUN} noreplication")
    found = blocking(look(*users(pair, RUN)))
    assert ids(found) == {"rights"}
    mend(found, *pair)
    assert blocking(look(*users(pair, RUN))) == []
    for statement in (
        f"revoke insert on logship.shipper from {RUN}",
        f"revoke select on logship.shipper from {RUN}",
        f"revoke usage on schema logship from {RUN}",
    ):
        pair.primary.execute(statement)
        found = blocking(look(*users(pair, RUN)))
        assert ids(found) == {"rights"}, statement
        mend(found, *pair)
    role = f"logship_replayer_{pair.secondary.name}"
    rights = pair.secondary.execute(
        """
        select format('revoke delete on table logship.replay_report from %%I', %(role)s::text)
        union all select format('revoke execute on function %%s from %%I', p.oid::regprocedure, %(role)s::text)
                    from pg_proc p where p.proname = 'advance' or p.pronamespace = 'logship_writers'::regnamespace
        union all select format('revoke set on parameter session_replication_role from %%I', %(role)s::text)
        union all select format('revoke %%I from %%I', %(role)s::text, %(run)s::text)
        union all select format('revoke execute on function %%s from %%I', p.oid::regprocedure, %(role)s::text)
                    from pg_proc p where p.proname like 'pg_replication_origin_%%' and p.proacl::text like %(like)s
        """,
        {"role": role, "run": RUN, "like": f"%{role}%"},  # type: ignore[arg-type]
    )
    assert len(rights) >= 13
    for (statement,) in rights:
        pair.secondary.execute(statement)
        found = blocking(look(*users(pair, RUN)))
        assert ids(found) == {"rights"}, statement
        mend(found, *pair)
    # pg_read_all_data includes these two: they matter where it isn't given.
    pair.secondary.execute(
        f"revoke pg_read_all_data from {role}; revoke usage on schema logship, logship_writers from {role};"
        f"revoke select on all tables in schema logship from {role}"
    )
    missed = {statement for each in blocking(look(*users(pair, RUN))) for statement in each.sql}
    assert {statement.rpartition(" to ")[0] for statement in missed} == {
        "grant pg_read_all_data", "grant usage on schema logship, logship_writers",
        "grant select on all tables in schema logship",
    }  # fmt: skip
    mend(blocking(look(*users(pair, RUN))), *pair)
    assert blocking(look(*users(pair, RUN))) == []


def no_session(pair: Pair, place: str, grant: Grant) -> None:
    """Without CONNECT nobody can look; the error says so, by its exit code too."""
    database = pair.primary if place == "primary" else pair.secondary
    database.execute(undo(grant))
    with pytest.raises(LogshipError, match="permission denied for database") as caught:
        look(*users(pair, INIT))
    assert caught.value.exit_code == (3 if place == "primary" else 4)
    database.execute(grant.statement)


def taken_and_given(pair: Pair, place: str, grant: Grant) -> None:
    database = pair.primary if place == "primary" else pair.secondary
    database.execute(undo(grant))
    found = blocking(look(*users(pair, INIT)))
    assert [each.sql for each in found if grant.statement in each.sql], grant.statement
    mend(found, *pair)


def test_a_schema_that_takes_a_superuser(pair: Pair) -> None:
    pair.primary.execute("create table public.t (a int primary key)")
    for place in ("primary", "secondary"):
        make(pair, place)
    found = blocking(look(*users(pair, INIT)))
    assert ids(found) == {"superuser-needed"}
    assert found[0].objects == ("tables of postgres",)
    mend(found, *pair)
    assert blocking(look(*users(pair, INIT))) == []
    pair.secondary.execute(f"alter role {INIT} nosuperuser")


def test_tables_with_row_security_are_copied_by_who_bypasses_it(pair: Pair) -> None:
    pair.primary.execute(
        SCHEMA
        + "; alter table public.t enable row level security; create policy none on public.t using (false)"
    )
    given = {place: make(pair, place) for place in ("primary", "secondary")}
    (bypass,) = [grant for grant in given["primary"] if grant.statement.endswith(" bypassrls")]
    pair.primary.execute(bypass.statement.replace("bypassrls", "nobypassrls"))
    found = blocking(look(*users(pair, INIT)))
    assert [each.sql for each in found] == [(bypass.statement,)]
    mend(found, *pair)
    initialise(*users(pair, INIT))
    assert pair.secondary.value("select count(*) from public.t") == 2
