"""What the event triggers of the primary write of each kind of statement, and that it is proven and understood."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from logship.replay.ddl import facts
from logship.replay.ddl.message import Statement, Verdict
from logship.replay.ddl.text import Located, Unlocated, Why, locate
from logship.service.demo.servers import Server
from tests.integration.ddl.captured import Captured, captured
from tests.integration.ddl.statements import CASES, Case


@pytest.fixture(scope="module")
def database(primary_server: Server) -> Iterator[Captured]:
    with captured(primary_server) as each:
        yield each


def touched(statement: Statement) -> set[str]:
    return {each.identity for each in (*statement.objects, *statement.dropped, *statement.rewritten)}


def test_every_kind_of_statement(primary_server: Server) -> None:
    with captured(primary_server) as database:
        wrong = [complaint for case in CASES for complaint in judge(database, case)]
    assert wrong == []


def judge(database: Captured, case: Case) -> Iterator[str]:
    """What is wrong with what was captured of a case."""
    said = database.run(case.statement)
    # What an extension's script drops is not its statement.
    said = [each for each in said if locate([each]) != [Unlocated(Why.EXTENSION)]]
    if any(each.verdict is not Verdict.PROVEN for each in database.judged):
        yield f"{case.statement}: {database.judged}"
    if [each.tag for each in said] != ([] if case.tag is None else [case.tag]):
        yield f"{case.statement}: {[each.tag for each in said]}"
        return
    for statement, found in zip(said, locate(said), strict=True):
        if found != Located(case.statement, statement.tag, False):
            yield f"{case.statement}: {found}"
        if missing := set(case.objects) - touched(statement):
            yield f"{case.statement}: lacks {missing}, has {touched(statement)}"
        yield from reread(database, statement)


def reread(database: Captured, statement: Statement) -> Iterator[str]:
    """The same question asked by address, as on the secondary, must say the same."""
    for each in statement.objects:
        row = database.connection.execute(
            "select logship.ddl_object_at(%s, %s, %s)", [each.type, list(each.names), list(each.args)]
        ).fetchone()
        assert row is not None
        if row[0] is None or (different := facts.compare(each.facts, row[0]["facts"])):
            yield f"{statement.query}: {each.identity}: {row[0] and different}"
        elif row[0]["owner"] != each.owner:
            yield f"{statement.query}: {each.identity}: {row[0]['owner']} is not {each.owner}"
    for gone in statement.dropped:
        row = database.connection.execute(
            "select logship.ddl_object_at(%s, %s, %s)", [gone.type, list(gone.names), list(gone.args)]
        ).fetchone()
        if row != (None,):
            yield f"{statement.query}: {gone.identity} is still there"


def test_facts_of_a_table(database: Captured) -> None:
    (statement,) = database.run(
        "create table facts_t (id int generated always as identity primary key, v numeric(8,2) not null default 1, "
        "g int generated always as (1) stored, d timestamptz default '2020-01-01 00:00+05')"
    )
    (table,) = [each for each in statement.objects if each.identity == "public.facts_t"]
    assert (table.owner, table.facts["kind"], table.facts["replica_identity"]) == ("postgres", "r", "d")
    columns = {column["name"]: column for column in table.facts["columns"]}
    assert columns["id"] == {"name": "id", "type": "integer", "not_null": True, "identity": "a"}
    assert columns["v"] == {"name": "v", "type": "numeric(8,2)", "not_null": True, "default": "1"}
    assert columns["g"]["generated"] == "s"
    assert columns["d"]["default"] == "'2019-12-31 19:00:00+00'::timestamp with time zone"
    assert table.facts["constraints"] == [
        {"name": "facts_t_pkey", "type": "p", "definition": "PRIMARY KEY (id)", "validated": True}
    ]
    (added,) = database.run("alter table facts_t add column at timestamptz default now()")
    assert added.objects[0].facts["columns"][-1]["missing"]


def test_context_is_the_callers(database: Captured) -> None:
    (statement,) = database.run(
        "begin", "set local search_path = 'sp one', public", "set local timezone = 'Asia/Tokyo'",
        "set local datestyle = 'German'", "set local intervalstyle = 'iso_8601'",
        "set local standard_conforming_strings = off", "set local check_function_bodies = off",
        "create table public.context_t ()", "commit",
    )  # fmt: skip
    assert dict(statement.context) | {"role": "none", "session_user": "postgres"} == statement.context
    said = {
        name: statement.context[name]
        for name in ("TimeZone", "DateStyle", "IntervalStyle", "check_function_bodies")
    }
    assert said == {
        "TimeZone": "Asia/Tokyo", "DateStyle": "German, DMY", "IntervalStyle": "iso_8601",
        "check_function_bodies": "off"
    }  # fmt: skip
    assert statement.context["search_path"] == '"sp one", public'
    assert statement.context["standard_conforming_strings"] == "off"


def test_a_rewrite_is_announced(database: Captured) -> None:
    database.run("create table rewrite_t (a int)")
    (statement,) = database.run("alter table rewrite_t alter column a type text")
    (table,) = statement.rewritten
    # The catalog is changed by then, the rows are not.
    assert (table.identity, table.facts["columns"][0]["type"]) == ("public.rewrite_t", "text")
    assert table.reason != 0
    assert database.run("alter table rewrite_t add column b int default 1")[0].rewritten == ()


def test_nested_statements(database: Captured) -> None:
    said = database.run(
        "do $$ begin execute 'create table nested_a (a int)'; create view nested_v as select 1 as one; end $$",
        "create function nested_f() returns void language plpgsql as $$ begin "
        "alter table nested_a add b text default E'\"\\nPL/pgSQL function x() line 1 at SQL statement'; end $$",
        "select nested_f()",
        "create function nested_s() returns void language sql as 'create table nested_s_t ()'",
        "select nested_s()",
    )
    found = locate(said)
    assert [each.text for each in found[:4] if isinstance(each, Located)] == [
        "create table nested_a (a int)",
        "create view nested_v as select 1 as one",
        said[2].query,
        "alter table nested_a add b text default E'\"\\nPL/pgSQL function x() line 1 at SQL statement'",
    ]
    assert isinstance(found[4], Located)
    assert found[5] == Located("create table nested_s_t ()", "CREATE TABLE", True)


def test_what_called_a_nested_statement_is_not_written_down(database: Captured) -> None:
    """It may hold anything: the password of a role, in a block that makes a table as well."""
    (said,) = database.run("do $$ begin perform 'hush'; create table nested_in_a_block (); end $$")
    assert said.query == ""
    assert "hush" not in repr(database.judged)
    assert locate([said]) == [Located("create table nested_in_a_block ()", "CREATE TABLE", True)]


def test_several_statements_in_one_string(database: Captured) -> None:
    said = database.run(
        "create table many (); alter table many add a int; -- a; comment\n alter table many add b text default ';'; "
        "insert into many values (1); alter table many add a2 int; drop table if exists not_there"
    )
    assert [each.text for each in locate(said) if isinstance(each, Located)] == [
        "create table many ()", "alter table many add a int", "alter table many add b text default ';'",
        "alter table many add a2 int",
    ]  # fmt: skip


def test_what_is_rolled_back_is_not_told(database: Captured) -> None:
    said = database.run(
        "begin", "create table kept ()", "savepoint s", "create table lost ()", "grant select on kept to public",
        "rollback to s", "alter table kept add a int", "commit",
    )  # fmt: skip
    assert [each.tag for each in said] == ["CREATE TABLE", "ALTER TABLE"]
    assert [each.verdict for each in database.judged] == [Verdict.PROVEN] * 2


def test_extensions_are_one_statement(database: Captured) -> None:
    said = database.run("create extension hstore", "alter extension hstore update", "drop extension hstore")
    found = [each for each in locate(said) if not (isinstance(each, Unlocated) and each.why is Why.EXTENSION)]
    assert [each.text for each in found if isinstance(each, Located)] == [
        "create extension hstore", "drop extension hstore",
    ]  # fmt: skip
    assert len(found) == 2


def test_an_insert_of_many_ddl_is_in_order(database: Captured) -> None:
    database.run(
        "do $$ begin for i in 1 .. 40 loop execute format('create table loop_%s ()', i); end loop; end $$"
    )
    numbers = [each.captured.number for each in database.judged if each.captured]
    assert numbers == sorted(numbers)
    assert len(numbers) == 40


def test_failure_of_the_capture(primary_server: Server) -> None:
    with captured(primary_server) as database:
        database.run("create table before_failure ()", "delete from logship.ddl_key")
        with pytest.raises(
            psycopg.Error, match="logship could not write this CREATE TABLE into the log"
        ) as caught:
            database.run("create table not_made ()")
        assert "on_failure = 'warn'" in (caught.value.diag.message_hint or "")
        notices: list[str] = []
        database.connection.add_notice_handler(lambda diag: notices.append(diag.message_primary or ""))
        database.run("update logship.ddl_setting set on_failure = 'warn'")
        assert database.run("create table made_all_the_same ()") == []
        assert "the secondary misses it" in notices[0]
        assert database.connection.execute("select tag from logship.ddl_failure").fetchall() == [
            ("CREATE TABLE",)
        ]


def test_a_failure_with_a_key_marks_the_log(primary_server: Server) -> None:
    with captured(primary_server) as database:
        database.run(
            "begin",
            "update logship.ddl_setting set on_failure = 'warn'",
            'alter event trigger "!logship_ddl_end" disable',
            "create or replace function logship.ddl_commands(tag text, stack text) returns jsonb language plpgsql as "
            "$$ begin raise exception 'broken'; end $$",
            'alter event trigger "!logship_ddl_end" enable always',
            "commit",
        )
        (lost,) = database.run("create table made ()")
        assert (lost.tag, lost.lost, lost.objects) == ("CREATE TABLE", "broken", ())
