"""Who can log in can do much. None of it makes a message that is believed and says something else than happened."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from logship.catalog import ddl
from logship.replay.ddl.message import Verdict
from logship.replay.ddl.text import Located, Unlocated, Why, locate
from logship.service.demo.servers import Server
from tests.integration.ddl.captured import Captured, captured

# None of these may be called or read by a user, nor by one who may read and write all data.
_CALLS = (
    "select logship.ddl_sign('{}')",
    "select logship.ddl_capture('ddl_command_end', 'CREATE TABLE', '', '{}')",
    "select logship.ddl_body('end', 'CREATE TABLE', '', '{}', '[]', null)",
    "select logship.ddl_keys()",
    "select logship.ddl_commands('CREATE TABLE', '')",
    "select logship.ddl_xor('a', 'b')",
    "select logship.ddl_capture_on()",
    "select nextval('logship.ddl_number')",
    "insert into logship.ddl_key values (9, 'x')",
    "update logship.ddl_setting set on_failure = 'warn'",
    "create event trigger mine on ddl_command_end execute function logship.ddl_event()",
    "create function logship.mine() returns int language sql as 'select 1'",
    "alter function logship.ddl_event() security invoker",
)


@pytest.fixture(scope="module")
def database(primary_server: Server) -> Iterator[Captured]:
    with captured(primary_server) as each:
        for name in ("ddl_eve", "ddl_reader"):
            each.user(name).close()
        each.connection.execute("grant pg_read_all_data, pg_write_all_data to ddl_reader")
        yield each
        each.connection.execute("drop owned by ddl_eve, ddl_reader cascade; drop role ddl_eve, ddl_reader")


@pytest.mark.parametrize("user", ["ddl_eve", "ddl_reader"])
def test_inner_functions_are_nobodys(database: Captured, user: str) -> None:
    with database.user(user) as eve:
        for call in _CALLS:
            if user == "ddl_reader" and ("ddl_setting" in call):
                # Row security: there is no row that this user could change.
                assert eve.execute(call.encode()).rowcount == 0
                continue
            if user == "ddl_reader" and "nextval" in call:
                continue  # gives a number, which gives nothing: it is signed with the message
            with pytest.raises(psycopg.Error):
                eve.execute(call.encode())
    assert database.connection.execute("select on_failure from logship.ddl_setting").fetchone() == ("error",)


def test_no_function_is_everybodys(database: Captured) -> None:
    """Each would fail for another reason as well; what may be called says it for those to come, too."""
    rows = database.connection.execute(
        "select p.proname from pg_proc p where p.pronamespace = 'logship'::regnamespace "
        "and has_function_privilege('ddl_reader', p.oid, 'execute')"
    ).fetchall()
    assert {name for (name,) in rows} == {"ddl_sequences"}  # writes nothing but what is so


def test_who_reads_all_data_reads_no_key(database: Captured) -> None:
    with database.user("ddl_reader") as reader:
        assert reader.execute("select * from logship.ddl_key").fetchall() == []
        assert reader.execute("select share from logship.ddl_share").fetchall() != []  # worth nothing alone
    assert len(ddl.keys(database.connection)) == 1


def test_no_publication_carries_the_share(database: Captured) -> None:
    database.connection.execute("create publication all_of_it for all tables")
    rows = database.connection.execute(
        "select tablename from pg_publication_tables where pubname = 'all_of_it' and tablename like 'ddl_%'"
    ).fetchall()
    database.connection.execute("drop publication all_of_it")
    assert ("ddl_share",) not in rows
    with pytest.raises(psycopg.Error):
        database.connection.execute("create publication share for table logship.ddl_share")


def test_refreshing_the_share_changes_nothing(database: Captured) -> None:
    before = ddl.keys(database.connection)
    database.connection.execute("refresh materialized view logship.ddl_share")
    assert ddl.keys(database.connection) == before


def test_forged_and_repeated_messages_are_not_believed(database: Captured) -> None:
    database.connection.execute("create table real ()")
    rows = database.connection.execute(
        "select data from pg_logical_slot_peek_binary_changes(%s, null, null, 'proto_version', '1', "
        "'publication_names', 'nothing', 'messages', 'true') where get_byte(data, 0) = 77",
        [database.slot],
    ).fetchall()
    true = bytes(rows[-1][0]).split(b"logship.ddl\0", 1)[1][4:]
    assert true.startswith(b"1 1 ")
    database.read()
    with database.user("ddl_eve") as eve:
        for content in (
            true,
            true[:-1],
            true.replace(b"real", b"fake"),
            b"1 2 " + true[4:],
            b"",
            b"1 1 ",
            b"\xff\x00",
        ):
            eve.execute("select pg_logical_emit_message(true, 'logship.ddl', %s::bytea)", [content])
        eve.execute("select pg_logical_emit_message(false, 'logship.ddl', %s::bytea)", [true])
        eve.execute("select pg_logical_emit_message(true, 'logship.other', %s::bytea)", [true])
    assert database.verdicts() == [
        Verdict.OTHER_TRANSACTION, Verdict.FORGED, Verdict.FORGED, Verdict.UNKNOWN_KEY, Verdict.MALFORMED,
        Verdict.MALFORMED, Verdict.MALFORMED, Verdict.NOT_TRANSACTIONAL, Verdict.NOT_OURS,
    ]  # fmt: skip


def test_a_function_inside_create_table_as_signs_nothing(database: Captured) -> None:
    with database.user("ddl_eve") as eve:
        eve.execute(
            "create function evil() returns int language plpgsql as $$ begin "
            "begin perform logship.ddl_sign('{}'); raise 'signed'; "
            "exception when insufficient_privilege then null; end; "
            "begin perform logship.ddl_capture('ddl_command_end', 'DROP TABLE', '', '{}'); raise 'captured'; "
            "exception when insufficient_privilege then null; end; "
            # What an event trigger is told can be asked in here: it must not be enough.
            "perform count(*) from pg_event_trigger_ddl_commands(); return 1; end $$"
        )
        database.read()
        eve.execute("create table by_evil as select evil() as a")
    (statement,) = database.read()
    assert (statement.tag, statement.objects[0].owner) == ("CREATE TABLE AS", "ddl_eve")


def test_hostile_names_in_the_callers_path_run_nothing(database: Captured) -> None:
    """Operators, functions, types and tables of the user's, found first by everything that isn't qualified."""
    with database.user("ddl_eve") as eve:
        database.connection.execute("grant create on database " + database.verifier.database + " to ddl_eve")
        eve.execute("create table caught (who text)")
        eve.execute("grant all on caught to public")
        eve.execute("create schema trap")
        eve.execute(
            "create function trap.spring(text, text) returns boolean language plpgsql as "
            "$$ begin insert into public.caught values (current_user); return true; end $$"
        )
        for operator in ("=", "<>", "||", "~"):
            eve.execute(
                f"create operator trap.{operator} (leftarg = text, rightarg = text, function = trap.spring)".encode()
            )
        for name in ("current_setting", "to_jsonb", "sha256", "quote_ident"):
            eve.execute(
                f"create function trap.{name}(text) returns text language plpgsql as "
                "$$ begin insert into public.caught values (current_user); return 'x'; end $$".encode()
            )
        eve.execute(
            "create domain trap.text as pg_catalog.text check (trap.spring(value::pg_catalog.text, 'x'))"
        )
        eve.execute("create temp table pg_class as select * from pg_catalog.pg_class limit 0")
        eve.execute("create temp table ddl_setting (on_failure text)")
        eve.execute("set search_path = pg_temp, trap, pg_catalog, logship, public")
        database.read()
        eve.execute("create table public.trapped (a int check (a > 0))")
        eve.execute("alter table public.trapped add b pg_catalog.text default 'x'")
        eve.execute("grant select on public.trapped to public")
        eve.execute("drop table public.trapped")
        assert eve.execute("select who from public.caught").fetchall() == []
    said = database.read()
    assert [each.tag for each in said] == ["CREATE TABLE", "ALTER TABLE", "GRANT", "DROP TABLE"]
    assert {each.context["search_path"] for each in said} == {"pg_temp, trap, pg_catalog, logship, public"}


def test_settings_of_the_user_change_nothing(database: Captured) -> None:
    with database.user("ddl_eve") as eve:
        for setting in (
            "row_security = off", "standard_conforming_strings = off", "bytea_output = 'escape'",
            "quote_all_identifiers = on", "transform_null_equals = on", "plpgsql.extra_errors = 'all'",
            "logship.ddl_number = 1", "array_nulls = off",
        ):  # fmt: skip
            eve.execute(f"set {setting}".encode())
        eve.execute("create table set_t (a text default 'a\\\\b')")
    (statement,) = database.read()
    assert statement.objects[0].facts["columns"][0]["default"] == "'a\\b'::text"


def test_nobody_speaks_for_the_owner_of_a_definer_function(database: Captured) -> None:
    """A statement beside the call, of the same tag and name as the one inside, must not be taken for it."""
    database.run(
        "create function public.of_the_superuser() returns void language sql security definer as "
        "'create table public.victim (a int)'",
        "grant execute on function public.of_the_superuser() to public",
    )
    with database.user("ddl_eve") as eve:
        # One string, simple protocol.
        eve.execute(
            "select public.of_the_superuser(); drop table if exists nothing_there; "
            "create table if not exists public.victim (a int default public.evil())"
        )
    said = database.read()
    (statement,) = said
    assert (statement.tag, statement.objects[0].owner) == ("CREATE TABLE", "postgres")
    assert locate(said) == [Located("create table public.victim (a int)", "CREATE TABLE", True)]


def test_a_namesake_speaks_for_nobody_else(database: Captured) -> None:
    """The stack has a function's name only. What another's function of that name holds is never run as the owner."""
    define = (
        "create function public.namesake({}) returns void language sql security definer as "
        "'create table public.named ({})'"
    )
    database.run(define.format("", "a int"), "grant execute on function public.namesake() to public")
    with database.user("ddl_eve") as eve:
        eve.execute(define.format("int", "a int default public.evil()").encode())
        eve.execute("select public.namesake()")
    assert locate(database.read())[-1] == Located("create table public.named (a int)", "CREATE TABLE", True)
    database.run(
        "drop table public.named",
        "create function public.renames_itself() returns void language sql security definer as "
        "'alter function public.renames_itself() rename to renamed_itself; create table public.named (a int)'",
        "grant execute on function public.renames_itself() to public",
    )
    with database.user("ddl_eve") as eve:
        eve.execute(
            "create function public.renames_itself(int) returns void language sql as "
            "'select 1; create table public.named (a int default public.evil())'"
        )
        eve.execute(
            "select public.renames_itself()"
        )  # hers is the only one of that name when the table is made
    assert locate(database.read())[-1] == Unlocated(
        Why.SQL_FUNCTION, (), 'SQL function "renames_itself" statement 2'
    )
    # Those of the owner's own must agree.
    database.run(
        "drop table public.named",
        define.format("text", "b int"),
    )
    (found,) = locate(database.run("select public.namesake()"))
    assert isinstance(found, Unlocated)
    assert found.why is Why.SQL_FUNCTION
    assert found.candidates == ("create table public.named (a int)", "create table public.named (b int)")


def test_inside_a_definer_function_the_owner_comes_from_the_catalog(database: Captured) -> None:
    database.run(
        "create function public.makes() returns void language plpgsql security definer as "
        "$$ begin create table public.made_for_eve (a int); end $$"
    )
    with database.user("ddl_eve") as eve:
        eve.execute("select public.makes()")
    said = database.read()
    assert said[0].context["session_user"] == "ddl_eve"
    assert said[0].objects[0].owner == "postgres"
    assert locate(said) == [Located("create table public.made_for_eve (a int)", "CREATE TABLE", True)]


def test_a_new_key_is_believed_and_the_old_one_too(primary_server: Server) -> None:
    with captured(primary_server) as primary, captured(primary_server) as other:
        # The other database stands for a secondary: it has the same tables of keys.
        other.connection.execute("delete from logship.ddl_key")
        assert ddl.hand_over(primary.connection, other.connection) == 1
        primary.connection.execute("create table signed_with_the_first ()")
        assert ddl.rotate(primary.connection, [other.connection]) == 2
        primary.connection.execute("create table signed_with_the_second ()")
        assert ddl.keys(primary.connection) == ddl.keys(other.connection)
        primary.verifier.keys = lambda: ddl.keys(other.connection)
        assert primary.verdicts() == [Verdict.PROVEN, Verdict.PROVEN]
