"""Queries to a running replica's memory: the answers are PostgreSQL's, whoever gives them, and say who did."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

import logship.memory
from logship.connection import PINNED
from logship.replay.query.result import texts
from logship.replay.resident import Residence
from logship.service.servers import Server
from tests.conftest import create_database
from tests.follow import Follower
from tests.servers import Shared, eventually

_TABLES = """
create type public.mood as enum ('sad', 'ok', 'happy');
create schema shop;
create table shop.sale (
  id int primary key, region text collate "C", name text collate "C.utf8",
  code char(4), amount numeric(12,2), free numeric, qty int,
  small smallint, big bigint, f float8, r real, at timestamptz, ts timestamp, d date, t time, u uuid, ok bool,
  j jsonb, m public.mood, b bytea, iv interval, a int[]);
insert into shop.sale
select g, (array['north', 'South', 'é', null, ''])[g % 5 + 1], 'n' || g % 7, 'c' || g % 3,
       case when g % 11 = 0 then null else g * 1.37 - 50 end, g * 0.1, g % 10 - 5, g % 300 - 100,
       g::bigint * 9000000000, g / 8.0, g / 3.0, '2024-01-31 22:30:00+00'::timestamptz + g * interval '13 hours',
       '2023-12-30 23:59:59.5'::timestamp + g * interval '7 hours', '2024-02-27'::date + g,
       time '00:00' + g * interval '7 min',
       ('00000000-0000-0000-0000-0000000000' || lpad(to_hex(g % 256), 2, '0'))::uuid, g % 3 = 0,
       jsonb_build_object('g', g), (array['sad', 'ok', 'happy'])[g % 3 + 1]::public.mood,
       decode(to_hex(4096 + g), 'hex'),
       g * interval '1 day -3 min', array[g, null]
  from generate_series(1, 400) g;
insert into shop.sale (id, at, ts, d, f, r, amount, qty, big, t)
values (1001, 'infinity', '-infinity', 'infinity', 'NaN', '-0', -0.00, null, null, '24:00'),
       (1002, '-infinity', 'infinity', '-infinity', '-0', 'Infinity', 9999999999.99, 2147483647, 9223372036854775807,
        '00:00');
create table shop.place (id int primary key, region text collate "C", rank int);
insert into shop.place values (1, 'north', 2), (2, 'South', 1), (3, 'west', 3);
create table shop.once (id int primary key, d date, ts timestamp, n numeric(8,2));
insert into shop.once values (1, '0044-03-15 BC', '2024-01-01', 1), (2, '2024-01-01', '2024-01-01', 'NaN');
create table shop.cold (id int primary key, v text);
insert into shop.cold values (1, 'a'), (2, 'b');
create table shop.secret (id int primary key, v text);
create table shop.partly (id int primary key, open text, closed text);
create table shop.guarded (id int primary key, owner text);
alter table shop.guarded enable row level security;
create policy own on shop.guarded using (owner = current_user);
insert into shop.secret values (1, 'hush');
insert into shop.partly values (1, 'seen', 'unseen');
insert into shop.guarded values (1, 'analyst'), (2, 'other');
create view shop.seen as select id, region from shop.sale;
create table "shop"."Odd ""name" ("Ein Feld" int primary key);
insert into shop."Odd ""name" values (7);
"""
_TOUCH = """
update shop.sale set ok = ok where id = 1; update shop.place set rank = rank; update shop.once set n = n;
update shop.secret set v = v; update shop.partly set open = open; update shop.guarded set owner = owner;
update shop."Odd ""name" set "Ein Feld" = 8;
"""

_TOUCHED = ("sale", "place", "once", "secret", "partly", "guarded", 'Odd "name')
_FILE = Path(__file__).parent / "queries.sql"


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
    primary.execute(_TABLES)
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
    wrong = []
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
