"""Queries to a running replica's memory: the answers are PostgreSQL's, whoever gives them, and say who did."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from psycopg import sql

import logship.memory
from logship.catalog import memory_request
from logship.catalog.readable import readable
from logship.catalog.roles import identifier
from logship.connection import PINNED, Side, connect
from logship.lsn import Lsn
from logship.replay.memory.resident import Residence
from logship.replay.query.result import texts, type_names
from logship.service.demo.servers import Server
from logship.service.watch.probe import flushed_position
from tests.conftest import create_database
from tests.follow import Follower
from tests.servers import Database, Logship, Shared, eventually

_TOUCH = """
update shop.sale set ok = ok where id = 1; update shop.place set rank = rank; update shop.once set n = n;
update shop.secret set v = v; update shop.partly set open = open; update shop.guarded set owner = owner;
update shop."Odd ""name" set "Ein Feld" = 8;
"""

_TOUCHED = ("sale", "place", "once", "secret", "partly", "guarded", 'Odd "name')
PAGE = Path(__file__).parents[3] / "docs" / "memory.md"
_FILE = Path(__file__).parent / "queries.sql"
_TABLES = Path(__file__).parent / "tables.sql"


def _queries() -> list[tuple[str, bool]]:
    """Each query of the file, and whether memory answers it."""
    found, in_memory = [], False
    for line in _FILE.read_text().splitlines():
        if line.startswith("--"):
            in_memory = line == "-- memory"
        else:
            found.append((line, in_memory))
    return found


class Replica:
    def __init__(self, follower: Follower) -> None:
        self.follower = follower
        self.secondary = follower.secondary
        self.primary = follower.primary

    def postgresql(self, query: str) -> list[list[str | None]]:
        """What the secondary itself writes."""
        options = " ".join(f"-c {name}={value}" for name, value in PINNED.items() if name == "timezone")
        with psycopg.connect(self.secondary.conninfo, options=options) as link:
            for name, value in PINNED.items():
                if name != "search_path":
                    link.execute("select set_config(%s, %s, false)", [name, value])
            result = link.execute(query.encode()).pgresult
            assert result is not None
            rows = [
                [result.get_value(row, nth) for nth in range(result.nfields)] for row in range(result.ntuples)
            ]
        return [[None if cell is None else cell.decode() for cell in row] for row in rows]


@pytest.fixture(scope="module")
def replica(
    primary_server: Server, secondary_server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Replica]:
    before = [Shared.of(server) for server in (primary_server, secondary_server)]
    primary, secondary = (
        create_database(primary_server, "primary"),
        create_database(secondary_server, "secondary"),
    )
    primary.execute(_TABLES.read_text())
    with Follower(primary, secondary, tmp_path_factory.mktemp("reading")) as follower:
        primary.execute(_TOUCH)
        follower.catch_up()
        eventually(lambda: _resident(follower) >= {*_TOUCHED}, what="what was changed is in memory")
        secondary.execute(
            "create role analyst login; create role fellow login; create role team; grant team to analyst"
        )
        secondary.execute(
            "grant usage on schema shop to analyst, team; grant select on shop.sale, shop.guarded to analyst;"
            " grant select (id, open) on shop.partly to analyst; grant select on shop.place to team"
        )
        yield Replica(follower)
    for shared, database in zip(before, (primary, secondary), strict=True):
        database.drop()
        shared.restore(database.server)


def _resident(follower: Follower) -> set[str]:
    memory = follower.run.memory
    states = memory.objects() if memory is not None else []
    return {state.relname for state in states if state.residence is Residence.RESIDENT}


@pytest.fixture
def memory(replica: Replica) -> Iterator[logship.memory.Memory]:
    with logship.memory.connect(replica.secondary.conninfo) as memory:
        yield memory


def test_every_answer_is_what_postgresql_writes(replica: Replica, memory: logship.memory.Memory) -> None:
    wrong: list[tuple[object, ...]] = []
    for query, in_memory in _queries():
        expected: Any
        try:
            expected = replica.postgresql(query)
        except psycopg.Error as error:
            with pytest.raises(logship.memory.QueryFailed, match=error.sqlstate):
                memory.query(query)
            continue
        answer = memory.query(query)
        found = texts(answer.table)
        if " order by " not in query:
            found, expected = (sorted(rows, key=str) for rows in (found, expected))
        if found != expected:
            wrong.append(
                (query, [pair for pair in zip(found, expected, strict=False) if pair[0] != pair[1]][:3])
            )
        if (answer.source == "memory") is not in_memory or bool(answer.reason) is in_memory:
            wrong.append((query, answer.source, answer.reason))
    assert not wrong, "\n".join(map(str, wrong))


def asked(replica: Replica, role: str) -> logship.memory.Memory:
    return logship.memory.connect(f"{replica.secondary.conninfo} user={role}")


def test_memory_shows_a_role_what_the_secondary_shows_it_and_nothing_else(replica: Replica) -> None:
    with asked(replica, "analyst") as memory:
        assert memory.query("select count(*) from shop.sale").source == "memory"
        assert memory.query("select count(*) from shop.place").source == "memory", "through its membership"
        seen = memory.query("select id, open from shop.partly")
        assert (seen.source, texts(seen.table)) == ("persistence", [["1", "seen"]])
        assert "isn't wholly readable" in seen.reason
        owned = memory.query("select id, owner from shop.guarded")
        assert (owned.source, texts(owned.table)) == ("persistence", [["1", "analyst"]])
        for query in (
            "select * from shop.secret",
            "select closed from shop.partly",
            "select s.id from shop.sale s where exists (select 1 from shop.secret x where x.id = s.id)",
            "with q as (select v from shop.secret) select count(*) from q",
        ):
            with pytest.raises(logship.memory.QueryFailed, match="permission denied"):
                memory.query(query)
            with pytest.raises(logship.memory.NotInMemory):
                memory.query(query, cold="refuse")
    with (
        asked(replica, "fellow") as memory,
        pytest.raises(logship.memory.QueryFailed, match="permission denied"),
    ):
        memory.query("select * from shop.sale")


def test_rows_that_came_with_a_revoke_are_shown_to_nobody_whom_it_concerns(replica: Replica) -> None:
    """Memory has the transaction, and the secondary waits for a row: its catalog still grants."""
    for database in (replica.secondary, replica.primary):
        database.execute("create role clerk login")
    replica.primary.execute(
        "create schema pay; create table pay.wage (id int primary key, v int);"
        "grant usage on schema pay to clerk; grant select on pay.wage to clerk"
    )
    replica.primary.execute("insert into pay.wage values (1, 10)")
    query, run = "select v from pay.wage", replica.follower.run
    eventually(lambda: "wage" in _resident(replica.follower), what="it is in memory")
    replica.follower.catch_up()
    with asked(replica, "clerk") as memory, psycopg.connect(replica.secondary.conninfo) as blocker:
        assert (memory.query(query).source, texts(memory.query(query).table)) == ("memory", [["10"]])
        blocker.execute("select from shop.place where id = 2 for update")
        with psycopg.connect(replica.primary.conninfo) as link:
            link.execute("revoke select on pay.wage from clerk")
            link.execute("update pay.wage set v = 99")
            link.execute("update shop.place set rank = rank where id = 2")
        shown = logship.memory.of(run)
        eventually(lambda: texts(shown.query(query).table) == [["99"]], what="memory has the transaction")
        with pytest.raises(logship.memory.NotInTime):
            memory.query(query, timeout_s=0.5)
        blocker.rollback()
        with pytest.raises(logship.memory.QueryFailed, match="permission denied"):
            memory.query(query)


def test_nobody_asks_or_reads_under_another_name(replica: Replica) -> None:
    with (
        psycopg.connect(f"{replica.secondary.conninfo} user=fellow", autocommit=True) as fellow,
        psycopg.connect(f"{replica.secondary.conninfo} user=analyst", autocommit=True) as analyst,
    ):
        name = replica.secondary.value("select name from logship.replica")
        far = "clock_timestamp() + interval '1 hour'"
        for columns, values in (("asker, ", "'analyst', "), ("head, ", "'{}', "), ("pid, ", "1, ")):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                fellow.execute(
                    f"insert into logship.my_memory_request (replica, slot, token, question, {columns}expires_at)"
                    f" values (%s, 0, %s, '{{}}', {values}{far})".encode(),
                    [name, "x" * 32],
                )
        analyst.execute(
            f"insert into logship.my_memory_request (replica, slot, token, question, expires_at)"
            f" values (%s, 3, %s, 'no json', {far})".encode(),
            [name, "y" * 32],
        )
        analyst.execute("select pg_notify('logship_asked', '')")
        seen = b"select count(*) from logship.my_memory_request"
        eventually(
            lambda: (
                analyst.execute("select head from logship.my_memory_request").fetchall()[0][0] is not None
            ),
            what="what can't be read is answered, too",
        )
        assert analyst.execute(seen).fetchall() == [(1,)]
        assert fellow.execute(seen).fetchall() == [(0,)]
        for table in ("memory_request", "memory_reply"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                fellow.execute(f"select * from logship.{table}".encode())
        fellow.execute("delete from logship.my_memory_request")
        assert analyst.execute(seen).fetchall() == [(1,)]
        with pytest.raises(psycopg.errors.CheckViolation):
            analyst.execute(
                "insert into logship.my_memory_request (replica, slot, token, question, expires_at)"
                f" select %s, 16, %s, '{{}}', {far}".encode(),
                [name, "z" * 32],
            )
        analyst.execute("delete from logship.my_memory_request")


def test_the_replayers_role_may_answer(replica: Replica) -> None:
    """With the rights that init gives it, and no more."""
    name = replica.secondary.value("select name from logship.replica")
    with (
        connect(replica.secondary.conninfo, Side.SECONDARY) as replayer,
        psycopg.connect(f"{replica.secondary.conninfo} user=fellow", autocommit=True) as fellow,
    ):
        role = identifier("logship_replayer_", replica.secondary.name)
        replayer.execute(sql.SQL("set role {}").format(sql.Identifier(role)))
        assert memory_request.ask(fellow, name, "t" * 32, "{}", 60)
        memory_request.take(replayer, name, 5)
        assert memory_request.wanted(replayer, ["t" * 32, "u" * 32]) == {"t" * 32}
        memory_request.answer(replayer, name, "t" * 32, "head", [b"one", memoryview(b"two")])
        assert b"".join(memory_request.part(fellow, "t" * 32, number) for number in range(2)) == b"onetwo"
        memory_request.sweep(replayer, name)
        found = readable(replayer, "analyst", ["shop"], "sale")
        assert found is not None
        assert not found.why_not
        refused = readable(replayer, "fellow", ["shop"], "sale")
        assert refused is not None
        assert (refused.columns, "isn't wholly readable" in refused.why_not) == ((), True)
        memory_request.forget(fellow, name, "t" * 32)


def test_a_role_has_sixteen_questions_at_a_time_and_nobody_may_be_there(upgraded_secondary: Database) -> None:
    upgraded_secondary.execute(
        "insert into logship.replica (name, system_identifier, timeline, database, slot, publication, origin,"
        " keyless, created_at) values ('r', 1, 1, 'd', 's', 'p', 'o', 'full', now())"
    )
    with logship.memory.connect(upgraded_secondary.conninfo) as memory:
        with pytest.raises(logship.memory.NoReplayer, match='no replayer of replica "r" is running'):
            memory.query("select 1", timeout_s=0.05)
        with psycopg.connect(upgraded_secondary.conninfo, autocommit=True) as link:
            taken = [memory_request.ask(link, "r", f"{nth:032}", "{}", 60) for nth in range(17)]
            assert taken == [True] * 16 + [False]
        with pytest.raises(logship.memory.NotInMemory, match="as many questions"):
            memory.query("select 1", timeout_s=0.05)


def test_what_is_cold_is_answered_elsewhere_loaded_or_refused(
    replica: Replica, memory: logship.memory.Memory
) -> None:
    query, before = "select id, v from shop.cold order by id", replica.follower.position
    answer = memory.query(query)
    assert (answer.source, answer.loaded) == ("persistence", ())
    assert "shop.cold isn't in memory: " in answer.reason
    assert before <= answer.lsn <= replica.follower.position
    with pytest.raises(logship.memory.NotInMemory, match=r"shop\.cold isn't in memory"):
        memory.query(query, cold="refuse")
    replica.primary.execute("insert into shop.place values (90, 'x', 9) on conflict do nothing")
    replica.follower.catch_up()
    store = replica.follower.run.memory
    assert store is not None
    hits = {state.relname: state.hits for state in store.objects()}
    assert texts(memory.query("select count(*) from shop.place").table) == [["4"]]
    assert {state.relname: state.hits for state in store.objects()}["place"] == hits["place"] + 1


def test_what_is_cold_is_loaded_where_the_query_says_so(replica: Replica) -> None:
    """A replayer that begins anew has nothing in memory yet."""
    replica.follower.restart()
    replica.primary.execute("update shop.place set rank = rank")  # the replayer is there when it is answered
    with logship.memory.connect(replica.secondary.conninfo) as memory:
        eventually(lambda: "place" in _resident(replica.follower), what="the replayer is there")
        for name in _TOUCHED:
            query = f'select count(*) from shop."{name.replace(chr(34), chr(34) * 2)}"'
            cold = name not in _resident(replica.follower)
            answer = memory.query(query, cold="load")
            if name == "guarded":  # row level security: never answered from memory
                assert answer.source == "persistence"
                continue
            assert (answer.source, answer.reason) == ("memory", ""), name
            assert answer.loaded == ((f"shop.{name}",) if cold else ())
        never = memory.query("select count(*) from shop.cold", cold="load")
        assert (never.source, "shop.cold isn't in memory" in never.reason) == ("persistence", True)


def test_an_answer_is_no_older_than_was_asked_for(replica: Replica, memory: logship.memory.Memory) -> None:
    replica.primary.execute("update shop.place set rank = 77 where id = 3")
    lsn = flushed_position(replica.primary.conninfo)
    answer = memory.query("select rank from shop.place where id = 3", at_least=lsn)
    assert (answer.lsn >= lsn, texts(answer.table), answer.source) == (True, [["77"]], "memory")
    answer = memory.query("select max(name) from shop.sale", at_least=str(lsn))
    assert (answer.lsn >= lsn, answer.source) == (True, "persistence")
    far = Lsn(lsn + (1 << 40))
    for query in ("select 1", "select count(*) from shop.sale"):
        with pytest.raises(logship.memory.Behind, match=f"has not come to {far} in time") as behind:
            memory.query(query, at_least=far, timeout_s=0.2)
        assert lsn <= behind.value.reached < far
    with pytest.raises(logship.memory.Behind):
        logship.memory.of(replica.follower.run).query("select 1", at_least=far, timeout_s=0.05)


def test_connections_that_answer_are_closed_when_nobody_asks(replica: Replica) -> None:
    """One for each question under way; the one that stays listens for the next."""
    links = "select count(*) from pg_stat_activity where application_name like 'logship memory %'"
    far = Lsn(flushed_position(replica.primary.conninfo) + (1 << 40))

    def ask() -> None:
        with logship.memory.connect(replica.secondary.conninfo) as own, suppress(logship.memory.Behind):
            own.query("select 1", at_least=far, timeout_s=1)

    # As many as a role may have: each finds a place, though they look for one at the same time.
    asking = [threading.Thread(target=ask) for _ in range(8)]
    for one in asking:
        one.start()
    eventually(lambda: replica.secondary.value(links) >= 3, what="questions are under way")
    for one in asking:
        one.join()
    eventually(lambda: replica.secondary.value(links) == 1, what="only the listening one is left")


def test_one_lsn_across_tables_whatever_is_replayed(replica: Replica, memory: logship.memory.Memory) -> None:
    """Every transaction moves one from each table to the other: a sum that isn't 0 would be a part of one."""
    replica.primary.execute(
        "create table shop.left (id int primary key, v int); create table shop.right (id int primary key, v int);"
        "insert into shop.left values (1, 0); insert into shop.right values (1, 0)"
    )
    over = threading.Event()

    def move() -> None:
        with psycopg.connect(replica.primary.conninfo, autocommit=True) as link:
            while not over.is_set():
                with link.transaction():
                    link.execute("update shop.left set v = v + 1")
                    link.execute("update shop.right set v = v - 1")

    eventually(lambda: replica.secondary.value("select to_regclass('shop.right') is not null"))
    mover = threading.Thread(target=move)
    mover.start()
    try:
        eventually(lambda: _resident(replica.follower) >= {"left", "right"}, what="both are in memory")
        query = "select l.v + r.v, l.v from shop.left l join shop.right r on r.id = l.id"
        embedded = logship.memory.of(replica.follower.run)
        before, seen = Lsn(0), set()
        for _ in range(12):
            for answer in (memory.query(query, cold="refuse"), embedded.query(query)):
                [[total, value]] = [
                    list(row.values()) for row in answer.table.rename_columns(["a", "b"]).to_pylist()
                ]
                assert total == 0, answer
                assert answer.lsn >= before
                before = answer.lsn
                seen.add(value)
        assert len(seen) > 2, "nothing was replayed meanwhile"
    finally:
        over.set()
        mover.join()


def test_both_sources_give_one_schema_and_the_same_values(
    replica: Replica, memory: logship.memory.Memory
) -> None:
    columns = "id, region, amount, qty, small, big, f, r, at, ts, d, t, u, ok, j, m, b, iv, a, free, code"
    plain = f"select {columns} from shop.sale where id < 1000 order by id"
    there = f'select {columns} from shop.sale where id < 1000 and name collate "C" is not null order by id'
    sums = "select sum(amount) s, sum(big) b from shop.sale where id < 400"
    for one, other in ((plain, there), (sums, sums + " and now() > '-infinity'")):
        found, expected = memory.query(one), memory.query(other)
        assert (found.source, expected.source) == ("memory", "persistence")
        assert found.table.schema.equals(expected.table.schema, check_metadata=True)
        assert found.table.equals(expected.table)
    kinds = dict(zip(found.table.column_names, type_names(found.table), strict=True))
    assert kinds == {"s": "numeric", "b": "numeric"}
    assert found.table.schema.field("s").type == pa.decimal128(38, 2)


def test_errors_say_what_to_do(replica: Replica, memory: logship.memory.Memory) -> None:
    cases: list[tuple[str, dict[str, Any], type[logship.memory.LogshipError], str]] = [
        ("delete from shop.sale", {}, logship.memory.NotOneSelect, "it is DELETE"),
        ("select 1; select 2", {}, logship.memory.NotOneSelect, "it is 2 statements"),
        ("select 1 into x", {}, logship.memory.NotOneSelect, "SELECT INTO"),
        ("selec", {}, logship.memory.NotOneSelect, "syntax error"),
        ("select * from nowhere", {}, logship.memory.NoSuchQuery, 'relation "nowhere" does not exist'),
        ("select $1::int", {}, logship.memory.NoSuchQuery, "parameters"),
        ("with x as (delete from shop.cold returning 1) select 1", {}, logship.memory.NoSuchQuery, "data-modifying"),
        ("select id from shop.sale", {"limit_bytes": 100}, logship.memory.TooLarge, "larger than 100 bytes"),
        ("select name from shop.sale order by name", {"limit_bytes": 100}, logship.memory.TooLarge, "100 bytes"),
        ("select pg_sleep(20)", {"timeout_s": 0.3}, logship.memory.NotInTime, "in time"),
        ("select count(*) from shop.sale a, shop.sale b, shop.sale c, shop.sale d where a.f < b.f + c.f * d.f",
         {"timeout_s": 0.5}, logship.memory.NotInTime, "in time"),
    ]  # fmt: skip
    for query, given, kind, words in cases:
        with pytest.raises(kind, match=words.replace("$", r"\$")) as error:
            memory.query(query, **given)
        assert error.value.hint
    assert texts(memory.query("select 1 -- the connection is whole\n;").table) == [["1"]]
    assert replica.secondary.value("select count(*) from logship.memory_request") == 0


def test_a_locked_table_costs_no_more_than_the_time(replica: Replica, memory: logship.memory.Memory) -> None:
    """PostgreSQL locks a query's tables to say what its columns are."""
    query = "select id, v from shop.cold order by id"
    with psycopg.connect(replica.secondary.conninfo) as other:
        other.execute("lock table shop.cold in access exclusive mode")
        with pytest.raises(logship.memory.NotInTime):
            memory.query(query, timeout_s=0.3)
    assert texts(memory.query(query).table) == [["1", "a"], ["2", "b"]]


def test_what_is_somebodys_own_is_the_secondarys(replica: Replica, memory: logship.memory.Memory) -> None:
    query = "select length('abc'::text), max(rank) > 0 from shop.place where rank between 1 and 9"
    run = replica.secondary.execute
    run("create function public.max(shop.pair) returns int language sql as 'select 1'")
    assert memory.query(query).source == "memory", "it can't be meant"
    run(
        "create function public.length(varchar, varchar default '') returns bool language sql as 'select true'"
    )
    try:
        answer = memory.query(query)
        assert (answer.source, "public.length" in answer.reason) == ("persistence", True)
        run("alter function public.length(varchar, varchar) rename to ever")
        assert memory.query(query).source == "memory"
        run("create operator public.<= (function = public.ever, leftarg = varchar, rightarg = varchar)")
        answer = memory.query(query)
        assert (answer.source, "public.<=" in answer.reason) == ("persistence", True)
    finally:
        run("drop function if exists public.length(varchar, varchar), public.ever(varchar, varchar) cascade")
        run("drop function public.max(shop.pair)")


def test_what_came_in_between_is_tried_again(replica: Replica, memory: logship.memory.Memory) -> None:
    """The lock of the session outlives the attempt that was rolled back: the second one finds it."""
    for state in ("40001", "40P01"):
        replica.secondary.execute(
            f"""
            create function public.in_between_{state}() returns int language plpgsql volatile as $$
            declare found bool := exists (select from pg_catalog.pg_locks l where l.locktype = 'advisory'
                and l.pid = pg_catalog.pg_backend_pid() and l.objid = hashtext('{state}')::oid);
            begin
                perform pg_catalog.pg_advisory_lock(0, hashtext('{state}'));
                if not found then raise sqlstate '{state}'; end if;
                return 1;
            end $$
            """
        )
        answer = memory.query(f"select public.in_between_{state}()", timeout_s=20)
        assert (texts(answer.table), answer.source) == ([["1"]], "persistence")
        replica.secondary.execute(f"drop function public.in_between_{state}()")


def test_the_documents_example(replica: Replica) -> None:
    [example] = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert "shop.orders" in example
    known = {"secondary": replica.secondary.conninfo}
    exec(example.replace("shop.orders", "shop.sale").replace("total", "qty"), known)
    answer: Any = known["answer"]
    assert (answer.source, answer.table.column_names) == ("memory", ["region", "sum"])
    embedded = logship.memory.of(replica.follower.run).query(
        "select sum(qty) from shop.sale", at_least=answer.lsn
    )
    assert embedded.table.to_pylist() == [{"sum(qty)": sum(row["sum"] for row in answer.table.to_pylist())}]


def test_the_command_writes_rows_and_says_where_they_are_from(replica: Replica, logship: Logship) -> None:
    secondary = ("--secondary", replica.secondary.conninfo)
    query = "select id, region, rank > 1 as high from shop.place where id < 3 order by id"
    shown = logship.run("query", query, *secondary)
    assert shown.stdout == "id  region  high\n 1  north   t\n 2  South   f\n"
    assert "2 rows from memory at " in shown.stderr
    refused = logship.run("query", "select * from nowhere", *secondary)
    assert (refused.exit_code, "does not exist" in refused.stderr) == (2, True)
