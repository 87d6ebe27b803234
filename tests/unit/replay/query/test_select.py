"""What of a SELECT is carried to DuckDB, and what is not, with the reason. That answers agree: test_reading.py."""

from __future__ import annotations

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from logship.replay.query.kinds import Elsewhere, Kind, column_type
from logship.replay.query.relations import Column, Relation
from logship.replay.query.select import Carried, NotOneSelect, carry, names_in, parsed, statement

_PAIR = 16_500  # a composite type


def column(name: str, oid: int, typmod: int = -1, *, equal: bool = True, ordered: bool = False) -> Column:
    row = oid == _PAIR
    kind = column_type(oid, typmod, equal=equal, ordered=ordered, name="pair" if row else "jsonb", row=row)
    return Column(name, kind)


TABLE = Relation(
    "public",
    "t",
    (
        column("id", 23), column("v", 25), column("c", 25, ordered=True), column("x", 25, equal=False),
        column("n", 1700, (12 << 16 | 2) + 4), column("f", 701), column("d", 1082), column("at", 1184),
        column("j", 3802), column("p", _PAIR), column("r", 700),
        Column("gone", column_type(23, -1, equal=True, ordered=True), "isn't in memory"),
    ),
)  # fmt: skip
KEPT = Relation("public", "kept", (column("id", 23), column("c0", 23)))
SECRET = Relation("public", "secret", why_not="isn't wholly readable for the role that asks")


DATABASE = duckdb.connect(config={"threads": 1})


def look_up(schema: str | None, name: str) -> Relation | None:
    known = {relation.name: relation for relation in (TABLE, KEPT, SECRET)}
    return known.get(name) if schema in (None, "public") else None


def carried(query: str, *, ordered: bool = False) -> Carried:
    return carry(query, look_up, ordered=ordered)


def test_every_name_is_qualified_and_columns_are_numbered() -> None:
    found = carried("select id, n from t where v = 'it''s' order by n desc limit 3")
    assert found.sql == (
        'select r1."id" as c0, r1."n" as c1 from memory."public"."t" as r1'
        " where (r1.\"v\" = 'it''s') order by c1 desc nulls first limit 3"
    )
    assert found.tables == (("public", "t"),)
    assert [each.kind for each in found.types] == [Kind.INT4, Kind.NUMERIC]


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("select v from t order by v", "in the order of a collation other than C"),
        ("select max(v) from t", "in the order of a collation other than C"),
        ("select id from t where x = 'a'", "different texts can be equal"),
        ("select x, count(*) from t group by x", "different texts can be equal"),
        ("select j from t group by j", "it compares values of jsonb"),
        ("select * from t", 'column "gone" isn\'t in memory'),
        ("select gone from t", 'column "gone" isn\'t in memory'),
        ("select id from secret", "isn't wholly readable"),
        ("select 1 from kept where exists (select from secret)", "isn't wholly readable"),
        ("with q as (select * from secret) select 1", "isn't wholly readable"),
        ("select id from other.t", "other.t is no table that is kept in memory"),
        ("select n / 2 from t", "whose scale PostgreSQL finds"),
        ("select avg(id) from t", r"it calls avg\(integer\)"),
        ("select coalesce(n, 0) from t", "different scale"),
        ("select * from query('select 1')", "it reads from function"),
        ("select * from read_csv('/etc/passwd')", "it reads from function"),
        ("select getenv('HOME')", "it calls getenv"),
        ("select public.length(v) from t", "it calls public.length"),
        ("select id from t where v ~ 'a'", "it uses the operator ~"),
        ("select id from t where d > 'today'", "in a way that only PostgreSQL reads"),
        ("select t from t", "a whole row"),
        ("select id from t a, t a", "twice"),
        ("select id from t a, t b", "can mean several"),
        ("select rowid from t", "is no column"),
        ("select n from only t", "ONLY"),
        ("select id from t for update", "LOCKING"),
        ("select distinct on (id) id from t", "DISTINCT"),
        ("select id from t tablesample system (1)", "range table sample|table sample"),
        ("select rank() over (order by id) from t", "over a window"),
        ("select (select sum(a.id) from kept) from t a", "is no column"),
        ("select sum(count(*)) from t", "where there is nothing to aggregate"),
        ("select id from t where count(*) > 1", "where there is nothing to aggregate"),
        ("select 123456789012345678901234567890123456789.5", "more than 38 digits"),
        ("with recursive q as (select 1) select * from q", "WITH RECURSIVE"),
        ("select id from kept union select n from t", "different types"),
        ("select id from t order by id using <", "USING"),
        ("values (1)", "VALUES"),
        ("select '2024-01-01'::date + interval '1 day'", "casts to interval"),
        ("select $1", "param ref"),
        ("select case when id > 1 then 'a' else 'B' end from t order by 1", "a collation other than C"),
        ("select 'a' k union select 'B' order by k", "a collation other than C"),
        ("select max(id::text) from t", "a collation other than C"),
        ("select id from t where c < 'b'::text", "a collation other than C"),
        ("select id from t where x in (select v from t)", "different texts can be equal"),
        ("select id from t where p is null", "whether pair is NULL"),
        ("select p is not null from t", "whether pair is NULL"),
        ("select nullif(id, 2.5) from t", "NULLIF of integer and numeric"),
        ("select nullif(r, 1) from t", "NULLIF of real and integer"),
        ("select id from t where r in (0.1, 2)", "looks for real among other numbers"),
        ("select coalesce(r, id) from t", "mixes real and integers"),
        ("select round(n, nullif(1, 1)) from t", r"it calls round\(numeric, integer\)"),
    ],
)
def test_what_memory_leaves_to_the_secondary(query: str, reason: str) -> None:
    with pytest.raises(Elsewhere, match=reason):
        carried(query)


@pytest.mark.parametrize(
    ("query", "what"),
    [
        ("delete from t", "DELETE"), ("select 1; select 2", "2 statements"), ("", "0 statements"),
        ("select 1 into x", "SELECT INTO"), ("selec 1", "syntax error"), ("set x = 1", "VARIABLE SET"),
        ("explain select 1", "EXPLAIN"), ("select '" + "x" * (1 << 20) + "'", "longer than"),
    ],
)  # fmt: skip
def test_one_select_and_nothing_else(query: str, what: str) -> None:
    with pytest.raises(NotOneSelect, match=what):
        carried(query)


def test_nesting_is_bounded() -> None:
    """The parser's own way down has no end but the stack's: such a query never gets there."""
    for deep in ("-".join(["1"] * 30_000), "(" * 20_000 + "1" + ")" * 20_000, "not " * 50_000 + "true"):
        with pytest.raises(Elsewhere, match="operators and words"):
            carried("select " + deep)
    with pytest.raises(Elsewhere, match="nested too deeply"):
        carried("select " + "-".join(["1"] * 500))
    assert carried("select id from t where id in (1, null, 2.5)").sql.count(" or ") == 2
    many = ", ".join(map(str, range(30_000)))
    assert carried(f"select id from t where id in ({many})").types[0].kind is Kind.INT4


def test_texts_that_are_no_columns_are_ordered_as_the_database_orders() -> None:
    label = "case when id > 1 then 'a' else 'B' end"
    for query in (
        f"select {label} from t order by 1",
        "select c from t where c < 'b'::text",
        "select max(id::text) from t",
    ):
        assert carried(query, ordered=True).types[0].kind is Kind.TEXT
    assert "'b'" in carried("select c from t where c < 'b'").sql, "a literal takes the column's collation"
    assert carried(f"select {label}, count(*) from t group by 1").tables, (
        "equality is that of bytes in any case"
    )


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("select nullif('a', q.v) from (select v from t) q", [(None,), ("a",)]),
        ("select id from t where nullif('a', v) = v", []),
        ("select nullif(v, 'a') from t", [("b",), (None,)]),
        ("select nullif(id, 1), nullif(null, id), nullif(id, null) from t", [(2, None, 2), (None, None, 1)]),
    ],
)
def test_nullif_is_its_first_value_or_null(query: str, expected: list[tuple[object, ...]]) -> None:
    with duckdb.connect() as database:
        database.execute("create schema memory.public")
        database.execute("create table memory.public.t as from (values (1, 'a'), (2, 'b')) q(id, v)")
        found = database.execute(carried(query).sql).fetchall()
    assert sorted(found, key=str) == sorted(expected, key=str)


def test_the_names_of_a_query() -> None:
    query = "with q as (select 1 from a.b) select (select 1 from c) from q join (select * from d) x on true"
    assert set(names_in(parsed(query))) == {("a", "b"), (None, "c"), (None, "q"), (None, "d")}


def test_a_statement_is_cut_out_of_what_surrounds_it() -> None:
    assert statement("  select 'é;' ; -- end").strip() == "select 'é;'"


@given(st.text(max_size=20), st.text(max_size=20))
def test_literals_and_names_stay_what_they_are(literal: str, name: str) -> None:
    """Whatever a query is written with, DuckDB gets one SELECT, and the literal back."""
    quoted = literal.replace("'", "''")
    alias = name.replace('"', '""')
    query = f"select '{quoted}' as \"{alias}\""
    try:
        found = carried(query)
    except NotOneSelect:
        assert "\0" in query or not name or len(alias.encode()) > 60
        return
    assert len(DATABASE.extract_statements(found.sql)) == 1
    assert DATABASE.execute(found.sql).fetchall() == [(literal,)]
