"""Every type there and back: what the secondary prints is what the primary printed."""

from __future__ import annotations

import psycopg
import pytest

from logship.change import Relation
from logship.replay.shape import SecondaryTarget
from tests.integration.persistence.replica import Log, Replica

# Type, and values as literals.
BUILT_IN: list[tuple[str, list[str]]] = [
    ("bool", ["true", "false"]),
    ("int2", ["-32768"]), ("int4", ["-2147483648"]), ("int8", ["-9223372036854775808"]),
    ("numeric", ["'NaN'", "'Infinity'", "'-Infinity'", "1e1000", "1.00", "-0.0000000001", "1e-500"]),
    ("numeric(10,2)", ["12345678.90", "'NaN'"]), ("numeric(3,-2)", ["12300"]),
    ("float4", ["'NaN'", "'-0'", "'Infinity'", "1e-45", "0.1"]),
    ("float8", ["'NaN'", "'-0'", "'-Infinity'", "5e-324", "0.1", "1.7976931348623157e308"]),
    ("money", ["'-92233720368547758.08'", "'1234.50'"]),
    ("text", ["''", "'NULL'", "E'a\\nb\\tc\\\\ ''q'' \"d\" {x,y} \\u00e9 \\U0001F600'"]),
    ("varchar(5)", ["'abc  '"]), ("char(5)", ["'ab'"]), ("bpchar", ["'ab  '"]), ("name", ["repeat('n', 63)"]),
    ('"char"', ["'a'", "''", "(-128)::\"char\"", "(-1)::\"char\"", "92::\"char\""]),
    ("bytea", ["'\\x00ff5c27'", "''"]),
    ("date", ["'infinity'", "'-infinity'", "'4713-01-01 BC'", "'5874897-12-31'"]),
    ("time", ["'24:00:00'", "'00:00:00.000001'"]), ("time(2)", ["'12:34:56.78'"]),
    ("timetz", ["'24:00:00-15:59'", "'12:00+05:30'"]),
    ("timestamp", ["'infinity'", "'0044-03-15 12:00 BC'", "'294276-12-31 23:59:59.999999'"]),
    ("timestamptz", ["'-infinity'", "'4714-11-24 00:00:00+00 BC'", "'2024-02-29 23:59:60+00'"]),
    ("timestamp(3)", ["'2024-01-01 00:00:00.123'"]),
    ("interval", ["'-1 year -2 mons +3 days -04:05:06.789'", "'178000000 years'"]),
    ("interval day to second(2)", ["'1 02:03:04.56'"]),
    ("uuid", ["'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"]),
    ("bit", ["B'1'"]), ("bit(5)", ["B'10101'"]), ("varbit", ["B''", "B'1011'"]), ("varbit(9)", ["B'101'"]),
    ("json", ["'{\"b\":1,  \"a\":null, \"a\":2}'", "'null'"]),
    ("jsonb", ["'{\"b\":1.00,\"a\":[null,\"\\\\\\\"\"]}'", "'null'"]), ("jsonpath", ["'$.a[*] ? (@ > 1)'"]),
    ("xml", ["'<a b=\"c\">t&amp;</a>'", "'content only'"]),
    ("inet", ["'192.168.0.1/24'", "'::1'"]), ("cidr", ["'10.0.0.0/8'"]),
    ("macaddr", ["'08:00:2b:01:02:03'"]), ("macaddr8", ["'08:00:2b:01:02:03:04:05'"]),
    ("point", ["'(-0,1e300)'"]), ("line", ["'{1,2,3}'"]), ("lseg", ["'[(1,2),(3,4)]'"]),
    ("box", ["'(3,4),(1,2)'"]), ("path", ["'[(1,2),(3,4)]'", "'((1,2),(3,4))'"]),
    ("polygon", ["'((0,0),(1,1),(2,0))'"]), ("circle", ["'<(1,2),3>'"]),
    ("tsvector", ["'''a b'':1A,2 c'"]), ("tsquery", ["'''x y'' & !b | c:*'"]),
    ("pg_lsn", ["'FFFFFFFF/FFFFFFFF'"]), ("pg_snapshot", ["'10:20:10,14,15'"]), ("xid8", ["'99999999999'"]),
    ("xid", ["'4294967295'"]), ("cid", ["'7'"]), ("tid", ["'(4294967295,65535)'"]), ("oid", ["4294967295"]),
    ("regclass", ["'pg_class'", "'src.v'", "0", "4000000000"]), ("regtype", ["'int4'", "0"]),
    ("regproc", ["'now'"]), ("regprocedure", ["'sum(int4)'"]), ("regoperator", ["'+(int4,int4)'"]),
    ("regrole", ["'postgres'"]), ("regnamespace", ["'pg_catalog'"]), ("regconfig", ["'simple'"]),
    ("regdictionary", ["'simple'"]), ("regcollation", ["'\"C\"'"]),
    ("int4range", ["'empty'", "'[1,5)'", "'(,)'"]), ("numrange", ["'[1.0,1.00]'"]),
    ("tstzrange", ["'[-infinity,2020-01-01 00:00+00)'"]), ("daterange", ["'[2020-01-01,)'"]),
    ("int8multirange", ["'{}'", "'{[1,2),[5,9)}'"]), ("datemultirange", ["'{[2020-01-01,2020-02-01)}'"]),
    ("int4[]", ["'{}'", "'{1,NULL,3}'", "'{{1,2},{3,4}}'", "'[0:1]={7,8}'", "'[-2:-1][3:3]={{1},{2}}'"]),
    ("text[]", ["array['', 'NULL', null, 'a\"b', E'c\\\\d', 'e,f', '{g}', ' h ', E'i\\nj']"]),
    ("numeric(5,1)[]", ["'{1.0,NaN}'"]), ("timestamptz[]", ["array['infinity'::timestamptz]"]),
    ("json[]", ["array['{\"a\":\"\\\\\\\"\"}'::json]"]), ("bytea[]", ["array['\\x5c00'::bytea]"]),
    ("varchar(3)[]", ["'{abc}'"]),
    ("bool[]", ["'{t,f}'"]), ("int4range[]", ["array['[1,2)'::int4range]"]),
    ("xml[]", ["array['<a/>'::xml]"]), ("point[]", ["array[point(1,2)]"]), ("int2vector", ["'1 2 3'"]),
    ("oidvector", ["'1 2'"]), ("bit(3)[]", ["array[B'101']"]), ("regclass[]", ["array['pg_class'::regclass]"]),
]  # fmt: skip

USERS = """
create extension if not exists citext schema public; create extension if not exists hstore schema public;
create type public.mood as enum ('sad', 'it''s "so, so"', '');
create domain public.word as varchar(20) check (value <> 'never');
create domain public.flags as bit(3); create domain public.words as text[]; create domain public.ci as citext;
create type public.pair as (a int, b text, m public.mood, w public.word);
create domain public.sound as public.pair check ((value).a is distinct from 0);
create type public.span as range (subtype = float8, multirange_type_name = public.spans);
create type public.money_ as enum ('1', '2');
create function public.wrong(text) returns public.money_ language sql as $$ select '2'::public.money_ $$;
create cast (text as public.money_) with function public.wrong(text);
"""
USER_DEFINED: list[tuple[str, list[str]]] = [
    ("citext", ["'MiXed'"]), ("citext[]", ["'{A,b,NULL}'"]), ("hstore", ["'a=>\"x,\\\"y\", b=>NULL'", "''"]),
    ("mood", ["'sad'", "'it''s \"so, so\"'", "''"]), ("mood[]", ["array['sad', '']::mood[]"]),
    ("word", ["'x '"]), ("word[]", ["array['a\"', null]::word[]"]), ("flags", ["B'101'"]),
    ("words", ["'{a,b}'"]), ("ci", ["'Ci'"]), ("hstore[]", ["array['a=>1'::hstore]"]),
    ("pair", ["row(1, E'x\"\\\\,()', 'sad', 'w')", "row(null, null, null, null)", "row(1, '', '', null)"]),
    ("pair[]", ["array[row(1, 'a,\"b', '', 'w')::pair, null]", "array[[row(1,null,null,null)::pair]]"]),
    ("sound", ["row(7, 'x', 'sad', null)"]), ("span", ["'[-0,Infinity)'"]), ("spans", ["'{[1,2),[3,4)}'"]),
    ("span[]", ["array['[1,2)'::span]"]), ("money_", ["'1'"]), ("money_[]", ["array['1']::money_[]"]),
]  # fmt: skip


def make_tables(replica: Replica, types: list[tuple[str, list[str]]]) -> tuple[SecondaryTarget, int]:
    """src.v with a row for each value, in the column of its type; public.v without rows."""
    columns = ", ".join(f"c{n} {kind}" for n, (kind, _) in enumerate(types))
    replica.create(f"create table src.v (id int primary key, {columns})")
    replica.create(f"create table public.v (id int primary key, {columns})")
    count = 0
    for n, (kind, values) in enumerate(types):
        for value in values:
            try:
                replica.create(
                    f"set search_path = public; insert into src.v (id, c{n}) values ({count}, {value})"
                )
            except psycopg.errors.FeatureNotSupported:
                assert "xml" in kind  # a server may be built without libxml
                continue
            count += 1
    relation, names = replica.relation("src.v")
    return replica.resolve(Relation(1, "public", "v", "d", relation.columns), names), count


@pytest.mark.parametrize("types", [BUILT_IN, USER_DEFINED], ids=["built-in", "user-defined"])
def test_every_type_there_and_back(replica: Replica, types: list[tuple[str, list[str]]]) -> None:
    replica.database.execute(USERS)
    replica.create("create schema src")
    target, count = make_tables(replica, types)
    log, persistence = Log(), replica.opened()
    rows = replica.rows("src.v")
    assert len(rows) == count
    for row in rows:
        log.insert(target, row)
    persistence.apply([log.batch()])
    assert replica.rows("v") == rows
    # Each value once more, through UPDATE: rows change their values around.
    for row, other in zip(rows, rows[1:] + rows[:1], strict=True):
        log.update(target, [row[0], *other[1:]])
    persistence.apply([log.batch()])
    assert [row[1:] for row in replica.rows("v")] == [row[1:] for row in rows[1:] + rows[:1]]


@pytest.mark.parametrize("types", [BUILT_IN, USER_DEFINED], ids=["built-in", "user-defined"])
def test_every_type_finds_its_row_without_a_key(replica: Replica, types: list[tuple[str, list[str]]]) -> None:
    replica.database.execute(USERS)
    replica.create("create schema src")
    make_tables(replica, types)
    replica.create("alter table public.v drop constraint v_pkey, alter id drop not null")
    replica.create("insert into public.v select * from src.v")
    relation, names = replica.relation("src.v", "f")
    target = replica.resolve(Relation(1, "public", "v", "f", relation.columns), names)
    assert target.key == ()
    log, persistence = Log(), replica.opened()
    rows = replica.rows("src.v")
    for row in rows[::2]:
        log.delete(target, row)
    for row in rows[1::2]:
        log.update(target, [b"-1", *row[1:]], old=row)
    persistence.apply([log.batch()])
    assert sorted(map(repr, replica.rows("v"))) == sorted(repr([b"-1", *row[1:]]) for row in rows[1::2])


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("citext", ["'Alpha'", "'beta'"]), ("numeric", ["1.0", "2"]), ("char(4)", ["'a'", "'b'"]),
        ("text collate ci", ["'A'", "'b'"]), ("mood", ["'sad'", "''"]), ("int[]", ["'{1}'", "'{}'"]),
        ("pair", ["row(1,'a',null,null)", "row(2,'a',null,null)"]), ("span", ["'[1,2)'", "'empty'"]),
        ("hstore", ["'a=>1'", "''"]), ("word", ["'a'", "'b'"]), ("float8", ["'NaN'", "'-0'"]),
        ('"char"', ["'a'", "(-1)::\"char\""]), ("regclass", ["'pg_class'", "4000000000"]),
        ("uuid", ["gen_random_uuid()", "gen_random_uuid()"]), ("cidr", ["'10.0.0.0/8'", "'::/0'"]),
    ],
)  # fmt: skip
def test_keys_of_many_types(replica: Replica, kind: str, values: list[str]) -> None:
    replica.database.execute(USERS)
    if "collate" in kind:
        try:
            replica.database.execute(
                "create collation ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
            )
        except psycopg.errors.FeatureNotSupported:
            pytest.skip("this server was built without ICU: it has no nondeterministic collations")
    replica.create(f"create table t (k {kind} primary key, a text)")
    for value in values:
        replica.create(f"insert into t values ({value}, 'x')")
    target, log, persistence = replica.target("t"), Log(), replica.opened()
    first, second = replica.rows("t")
    log.update(target, [first[0], b"y"])
    log.delete(target, second)
    persistence.apply([log.batch()])
    assert replica.rows("t") == [[first[0], b"y"]]
    log.update(target, [second[0], b"z"], old=first)
    persistence.apply([log.batch()])
    assert replica.rows("t") == [[second[0], b"z"]]
