"""Which of several statements fired: known for certain, or said to be unknown."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logship.replay.ddl.grammar import split
from logship.replay.ddl.message import Captured, Object, Statement
from logship.replay.ddl.text import Located, Unlocated, Why, locate
from tests.integration.ddl.statements import CASES


def fired(
    query: str,
    tag: str,
    *names: str,
    frames: str = "",
    args: tuple[str, ...] = (),
    at_us: int = 1,
    bodies: tuple[tuple[str, str], ...] = (),
) -> Statement:
    kind = "function" if "FUNCTION" in tag else "table"
    touched = Object(kind, names, args, ".".join(names), None, "pg_class") if names else None
    return Statement(
        Captured(
            1, 1, "shop", 150018, at_us, "end", tag, query, "ours" + (f"\n{frames}" if frames else ""),
            MappingProxyType({}), (touched,) if touched else (), bodies=bodies,
        )
    )  # fmt: skip


def texts(*statements: Statement) -> list[str | Why]:
    return [each.text if isinstance(each, Located) else each.why for each in locate(statements)]


@pytest.mark.parametrize("case", [case for case in CASES if case.tag], ids=lambda case: case.statement[:40])
def test_every_statement_has_its_tag(case: object) -> None:
    assert hasattr(case, "statement")
    pieces = split(case.statement)
    assert pieces is not None
    assert [piece.tag for piece in pieces] == [case.tag]  # type: ignore[attr-defined]
    assert pieces[0].text == case.statement


def test_target_tells_statements_of_one_tag_apart() -> None:
    query = "alter table a add x int; alter table s.b add y int; alter table b rename to c"
    assert texts(fired(query, "ALTER TABLE", "s", "b")) == ["alter table s.b add y int"]
    assert texts(fired(query, "ALTER TABLE", "public", "c")) == ["alter table b rename to c"]


def test_one_that_did_nothing_leaves_two_possible() -> None:
    query = "alter table a add if not exists x int; alter table a add if not exists y int"
    one = fired(query, "ALTER TABLE", "public", "a")
    assert texts(one) == [Why.AMBIGUOUS]
    assert texts(one, one) == [
        "alter table a add if not exists x int", "alter table a add if not exists y int",
    ]  # fmt: skip


def test_the_new_name_tells_renames_apart() -> None:
    """Of one string that is several transactions, each is asked for by itself."""
    query = (
        "begin; alter table t rename a to b; commit; begin; alter table t rename b to c; commit; "
        "alter table s.t rename constraint x to y; alter table s.t rename constraint y to z; "
        "alter trigger b on t rename to q"
    )
    assert texts(fired(query, "ALTER TABLE", "s", "t", "b")) == ["alter table t rename a to b"]
    assert texts(fired(query, "ALTER TABLE", "s", "t", "c")) == ["alter table t rename b to c"]
    assert texts(fired(query, "ALTER TABLE", "s", "t", "z")) == ["alter table s.t rename constraint y to z"]
    assert texts(fired(query, "ALTER TRIGGER", "s", "t", "q")) == ["alter trigger b on t rename to q"]
    assert texts(fired(query, "ALTER TRIGGER", "s", "t", "c")) == [Why.NO_MATCH]


def test_the_labels_tell_new_values_of_an_enum_apart() -> None:
    query = "alter type e add value 'b'; alter type e add value 'c' before 'a'; alter type e rename value 'a' to 'd'"

    def labelled(*labels: str) -> Statement:
        statement = fired(query, "ALTER TYPE", "public.e")
        enum = replace(statement.objects[0], type="type", facts=MappingProxyType({"labels": [*labels]}))
        return replace(statement, last=replace(statement.last, objects=(enum,)))

    # The second was undone, say by a savepoint.
    assert texts(labelled("a", "b"), labelled("d", "b")) == [
        "alter type e add value 'b'", "alter type e rename value 'a' to 'd'",
    ]  # fmt: skip
    assert texts(labelled("c", "a", "b")) == [Why.AMBIGUOUS]


def test_the_same_text_twice_needs_no_telling_apart() -> None:
    query = "alter table a disable trigger t; alter table a disable trigger t"
    assert texts(fired(query, "ALTER TABLE", "public", "a")) == ["alter table a disable trigger t"]


def test_two_executions_are_told_apart_by_their_time() -> None:
    query = "alter table a add x int; alter table a drop x"
    said = [fired(query, "ALTER TABLE", "public", "a", at_us=at) for at in (1, 1, 2, 2)]
    assert texts(*said) == ["alter table a add x int", "alter table a drop x"] * 2


def test_types_whose_names_have_dots() -> None:
    first = """alter type "Dot.ted"."ty.pe" add value 'x'"""
    second = """alter type "Dot.ted"."ty""pe" add value 'x'"""
    for name, text in (('"Dot.ted"."ty.pe"', first), ('"Dot.ted"."ty""pe"', second)):
        assert texts(fired(f"{first}; {second}", "ALTER TYPE", name)) == [text]
    assert texts(fired(first, "ALTER TYPE", "ty.pe")) == [Why.NO_MATCH]  # pe of schema ty


def test_overloaded_functions() -> None:
    query = "create function f(a int) returns int return 1; create function f(text, b int8[]) returns int return 1"
    assert texts(fired(query, "CREATE FUNCTION", "public", "f", args=("pg_catalog.text", "bigint[]"))) == [
        "create function f(text, b int8[]) returns int return 1"
    ]


def test_a_nested_statement_is_never_looked_for_in_what_was_sent() -> None:
    query = "select f(); create table t (a int default evil())"
    sql_function = 'SQL function "f" statement 1'
    assert texts(fired(query, "CREATE TABLE", "public", "t", frames=sql_function)) == [Why.SQL_FUNCTION]
    assert texts(fired(query, "CREATE TABLE", "public", "t", frames="PL/Python function f")) == [Why.NO_MATCH]
    assert texts(
        fired(query, "CREATE TABLE", "public", "t", frames='SQL statement "create table other ()"')
    ) == [Why.NO_MATCH]


def test_a_statement_of_a_function_in_the_language_sql() -> None:
    def second(*bodies: tuple[str, str], frames: str = 'SQL function "f" statement 2') -> list[str | Why]:
        return texts(fired("select f()", "ALTER TABLE", "public", "t", frames=frames, bodies=bodies))

    body = "; create table t (); /* ; */ alter table t add a text default ';' ;; grant select on t to public"
    found = "alter table t add a text default ';'"
    nested = (
        'SQL function "f" statement 2\nSQL statement "select f()"\nPL/pgSQL function g() line 1 at PERFORM'
    )
    assert second(("f", body)) == second(("f", body), frames=nested) == [found]
    # Several of that name: those that agree, or can't be it.
    assert second(("f", body), ("f", "select 1; " + found)) == [found]
    assert second(("f", body), ("f", "select 1")) == [found]
    refused: list[str | Why] = [Why.SQL_FUNCTION]
    assert second(("f", body), ("f", "select 1; alter table t add a text default evil()")) == refused
    assert second(("f", body), ("f", "not SQL")) == second(("f", "not SQL")) == refused
    # Another statement, another name, a number that isn't there, none at all.
    assert (
        second(("f", "select 1; create table t ()"))
        == second(("f", "select 1; alter table u add b int"))
        == refused
    )
    assert second(("f2", body)) == second(("f", "select 1")) == second() == refused
    assert second(("f", body), frames='SQL function "f" during startup') == refused
    # A name that holds what the stack is made of.
    assert second(("f", body), ('f" statement 2\nSQL function "g', body),
                  frames='SQL function "f" statement 2\nSQL function "g" statement 3') == refused  # fmt: skip


def test_what_depends_on_an_extension() -> None:
    query = "alter function f() depends on extension x; alter function g() depends on extension x"
    assert texts(fired(query, "ALTER FUNCTION", "public", "g")) == [
        "alter function g() depends on extension x"
    ]


def test_quotes_inside_a_nested_statement() -> None:
    text = 'create table "t"\n(a text default \'"\nPL/pgSQL function x\')'
    frames = f'SQL statement "{text}"\nPL/pgSQL function f() line 1 at EXECUTE'
    assert texts(fired("select f()", "CREATE TABLE", "public", "t", frames=frames)) == [text]


def test_extensions() -> None:
    assert texts(fired("create extension x", "DROP OPERATOR", "public", "@")) == [Why.EXTENSION]
    frames = 'SQL statement "drop function f()"\nextension script file "x--1.sql", near line 3'
    assert texts(fired("create extension x", "DROP FUNCTION", "public", "f", frames=frames)) == [
        Why.EXTENSION
    ]


def test_what_the_grammar_refuses() -> None:
    assert texts(fired("create tabel", "CREATE TABLE", "t")) == [Why.UNREADABLE]
    assert isinstance(locate([fired("select 1", "CREATE TABLE", "t")])[0], Unlocated)


@given(st.lists(st.sampled_from([case.statement for case in CASES if case.tag]), min_size=1, max_size=6))
def test_joined_statements_are_split_as_they_were(statements: list[str]) -> None:
    pieces = split(" ;\n-- né; \n".join(statements))
    assert pieces is not None
    assert [piece.text for piece in pieces] == statements


@given(st.text(max_size=60))
def test_any_text_is_split_or_refused(text: str) -> None:
    pieces = split(text)
    assert pieces is None or all(piece.text in text for piece in pieces)


def of(kind: str, tag: str, query: str, names: tuple[str, ...], args: tuple[str, ...] = ()) -> Statement:
    touched = Object(kind, names, args, ".".join(names), None, "pg_class")
    return Statement(
        Captured(1, 1, "shop", 150018, 1, "end", tag, query, "ours", MappingProxyType({}), (touched,))
    )


def test_casts_are_told_apart_by_both_types() -> None:
    query = "create cast (a as int) with function f(a); create cast (a as s.b) with inout; "
    query += "create cast (c as a) with inout"
    pieces = [piece.text for piece in split(query) or ()]
    for piece, source, target in zip(pieces, "aac", ("integer", "s.b", "public.a"), strict=True):
        assert texts(of("cast", "CREATE CAST", query, (f"public.{source}",), (target,))) == [piece]


def test_columns_of_composite_types_and_of_tables() -> None:
    query = "comment on column pair.first is 'a'; comment on column t.first is 'b'; comment on column t.second is 'c'"
    pieces = [piece.text for piece in split(query) or ()]
    assert texts(of("type", "COMMENT", query, ("public.pair",))) == [pieces[0]]
    assert texts(of("table column", "COMMENT", query, ("public", "t", "second"))) == [pieces[2]]


@pytest.mark.parametrize(
    "text", ["alter function f stable", "alter function f(int) stable", "alter function s.f stable"]
)
def test_a_function_without_its_arguments(text: str) -> None:
    assert texts(of("function", "ALTER FUNCTION", text, ("s", "f"), ("integer",))) == [text]
    other = of("function", "ALTER FUNCTION", text, ("s", "f"), ("text",))
    assert texts(other) == ([Why.NO_MATCH] if "(" in text else [text])


def test_an_extension_is_not_in_its_schema() -> None:
    text = "alter extension cube set schema elsewhere"
    assert texts(of("extension", "ALTER EXTENSION", text, ("cube",))) == [text]


def test_a_tree_too_deep_to_be_read_is_no_text_to_carry() -> None:
    assert split("create view v as select " + " + ".join(["1"] * 20)) is not None
    assert split("create view v as select " + " + ".join(["1"] * 200)) is None
