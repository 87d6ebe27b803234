"""Each blocking condition, on real servers: it is found, and the statement that is printed mends it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from logship.catalog import migrate
from logship.catalog.selection import Selection
from logship.connection import Side
from logship.errors import LogshipError, PrimaryError, UsageError
from logship.service.checks.finding import Severity
from logship.service.checks.table import CHECKS
from logship.service.demo.servers import Server
from logship.service.initial.init import initialise
from tests.conftest import Pair
from tests.integration.check.looking import blocking, ids, look, mend
from tests.servers import Database, eventually

T = "create table public.t (a int primary key, b text);"


@dataclass(frozen=True)
class Case:
    """A state of both sides that makes exactly the check ``id`` block."""

    id: str
    primary: str = T
    secondary: str = ""
    asked: dict[str, Any] = field(default_factory=dict)


CASES = {
    "read-only": Case("read-only", "alter database {name} set default_transaction_read_only = on"),
    "foreign schema": Case("own-schema", T, "create schema logship; create table logship.notes (a int)"),
    "foreign writers": Case(
        "own-schema", T, "create schema logship_writers; create view logship_writers.v as select 1"
    ),
    "slot": Case(
        "slot", "select pg_create_logical_replication_slot('other_{name}', 'test_decoding')",
        asked={"slot": "other_{name}"},
    ),
    "publication": Case("publication", asked={"publication": "none"}),
    "publication of inserts": Case(
        "publication", T + "create publication p for all tables with (publish = 'insert')",
        asked={"publication": "p"},
    ),
    "publication by root": Case(
        "publication", T + "create publication p for all tables with (publish_via_partition_root = true)",
        asked={"publication": "p"},
    ),
    "publication of columns": Case(
        "publication", T + "create publication p for table public.t (a)", asked={"publication": "p"}
    ),
    "publication of some rows": Case(
        "publication", T + "create publication p for table public.t where (a > 0)", asked={"publication": "p"}
    ),
    "roles": Case("roles", T + 'create role "Owner ""1"""; alter table public.t owner to "Owner ""1"""'),
    "existing tables": Case("existing", T, T),
    "an existing view": Case(
        "existing", T + "create view public.v as select 1 as x", "create view public.v as select 2 as y"
    ),
    "missing tables": Case("missing-tables", T, "", {"schema": "existing"}),
    "missing columns": Case(
        "missing-columns", T, "create table public.t (a int primary key)", {"schema": "existing"}
    ),
    "forced row security": Case(
        "forced-row-security",
        T + "create role held; alter table public.t owner to held;"
        "alter table public.t enable row level security, force row level security",
        "create role held",
    ),
    "shut-out owner": Case(
        "owners-shut-out",
        T + "create role guest; create schema closed; create table closed.t (a int primary key);"
        "alter table closed.t owner to guest",
        "create role guest",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(CASES))
def test_it_blocks_until_its_statement_has_run(pair: Pair, name: str) -> None:
    case = CASES[name]

    def fill(text: str) -> str:
        return text.replace("{name}", pair.primary.name)

    pair.primary.execute(fill(case.primary))
    if case.secondary:
        pair.secondary.execute(case.secondary)
    asked = {key: fill(value) for key, value in case.asked.items()}
    report = look(*pair, **asked)
    assert ids(blocking(report)) == {case.id}, report
    assert report.findings[: len(report.blocking)] == report.blocking
    mend(blocking(report), *pair)
    assert blocking(look(*pair, **asked)) == []


def test_every_blocking_check_is_tried_here() -> None:
    """Those that aren't cases have a test of their own below, in test_grants, or in ../init/test_map_role."""
    own = {
        "same-database", "recovery", "wal-level", "slots-free", "senders-free", "connections", "origins",
        "other-primary", "version", "pg-dump", "collations", "extensions", "rights", "superuser-needed", "journal",
        "selected", "schema-changes", "role-map", "rows",
    }  # fmt: skip
    blocks = {check.id for check in CHECKS if Severity.BLOCKS in check.severities}
    assert blocks == own | {case.id for case in CASES.values()}


def test_rows_are_never_destroyed_by_a_printed_statement(pair: Pair) -> None:
    """Whoever named the wrong database, or exchanged the two, must not paste away what is in it."""
    pair.primary.execute(T + "create table public.u (a int primary key)")
    pair.secondary.execute(T + "insert into public.t values (1); create table public.u (a int primary key)")
    found = blocking(look(*pair))
    assert ids(found) == {"rows", "existing"}
    assert not any(each.sql for each in found)
    assert blocking(look(*pair, schema="existing", existing="replace")) == []
    [found_rows] = blocking(look(*pair, schema="existing"))
    assert (found_rows.id, found_rows.sql) == ("rows", ())


def test_who_may_not_capture_schema_changes(pair: Pair) -> None:
    """It blocks only who asked for it; whoever didn't is told what it means."""
    pair.primary.execute("create role plain login")
    primary = pair.primary.conninfo_as("plain")
    [found] = [each for each in look(primary, pair.secondary).findings if each.id == "schema-changes"]
    assert (found.severity, "logship ddl on" in found.action) == (Severity.WARNS, True)
    [found] = blocking(look(primary, pair.secondary, ddl="on"), "schema-changes")
    mend([found], *pair)
    assert blocking(look(primary, pair.secondary, ddl="on")) == []


def test_patterns_that_select_nothing(pair: Pair) -> None:
    """Found before anything is made: neither schema nor slot is left behind."""
    pair.primary.execute(T)
    [finding] = blocking(look(*pair, selection=Selection(("public.nope",))))
    assert (finding.id, finding.fault) == ("selected", "usage")
    with pytest.raises(UsageError, match="no table of the primary is selected"):
        initialise(pair.primary.conninfo, pair.secondary.conninfo, tables=["public.nope"])
    assert pair.primary.value("select to_regnamespace('logship') is null")
    slots = "select count(*) from pg_replication_slots where database = current_database()"
    assert pair.primary.value(slots) == 0
    assert blocking(look(*pair, selection=Selection(("public.t",)))) == []


def test_settings_that_take_a_restart(
    make_server: Callable[..., Server], make_database: Callable[[Server], Database], secondary: Database
) -> None:
    """All at once; then, where a slot may keep next to nothing, one that is lost."""
    server = make_server(
        "bare", durable=False,
        settings={
            "wal_level": "replica", "max_replication_slots": "1", "max_wal_senders": "0",
            "max_slot_wal_keep_size": "1MB", "min_wal_size": "32MB", "max_wal_size": "32MB",
        },
    )  # fmt: skip
    primary = make_database(server)
    primary.execute(T)
    found = blocking(look(primary, secondary))
    assert ids(found) == {"wal-level", "slots-free", "senders-free"}
    assert all("restart the primary" in each.action for each in found)
    with pytest.raises(PrimaryError, match="3 things stand in the way") as caught:
        initialise(primary.conninfo, secondary.conninfo)
    for each in found:
        assert each.what in str(caught.value)
        assert each.sql[0] in caught.value.hint
    mend(found, primary, secondary)
    server.restart()
    assert blocking(look(primary, secondary)) == []

    slot = f"logship_{primary.name}"
    primary.execute("select pg_create_logical_replication_slot(%s, 'pgoutput')", [slot])

    def lost() -> bool:
        primary.execute("insert into public.t select coalesce(max(a), 0) + 1 from public.t")
        primary.execute("select pg_switch_wal()")
        primary.execute("checkpoint")
        status = primary.value("select wal_status from pg_replication_slots where slot_name = %s", [slot])
        return bool(status == "lost")

    eventually(lost, 60)
    found = blocking(look(primary, secondary))
    assert ids(found) == {"slot"}
    mend(found, primary, secondary)
    assert blocking(look(primary, secondary)) == []


def test_a_secondary_without_origins_or_in_recovery(
    make_server: Callable[..., Server], primary: Database, primary_server: Server
) -> None:
    setting = (
        "max_active_replication_origins"
        if primary_server.binaries.version() >= 18
        else "max_replication_slots"
    )
    server = make_server("bare", durable=False, settings={setting: "0", "max_wal_senders": "0"})
    secondary = Database(server, "postgres")
    found = blocking(look(primary, secondary))
    assert ids(found) == {"origins"}
    mend(found, primary, secondary)
    server.stop()
    (server.data_directory / "standby.signal").touch()
    server.start()
    found = blocking(look(primary, secondary))
    assert ids(found) == {"recovery", "read-only"} or ids(found) == {"recovery"}
    mend([each for each in found if each.id == "recovery"], primary, secondary)
    assert blocking(look(primary, secondary)) == []


def test_the_same_database(pair: Pair) -> None:
    found = blocking(look(pair.primary, pair.primary.conninfo_as("postgres", tcp=True)))
    assert ids(found) == {"same-database"}
    other = Database(pair.primary.server, f"{pair.primary.name}_replica")
    mend(found, pair.primary, pair.primary)
    try:
        assert blocking(look(pair.primary, other)) == []
    finally:
        other.drop()


def test_connections_run_out(pair: Pair) -> None:
    pair.secondary.execute("create role few login connection limit 2")
    found = blocking(look(pair.primary, pair.secondary.conninfo_as("few")), "connections")
    assert "1 more connections to the secondary, of the 7" in found[0].what
    mend(found, *pair)
    assert blocking(look(pair.primary, pair.secondary.conninfo_as("few")), "connections") == []


def test_pg_dump(pair: Pair, tmp_path: Path) -> None:
    (finding,) = blocking(look(*pair, pg_dump=str(tmp_path / "pg_dump")))
    assert (finding.id, finding.place) == ("pg-dump", "logship")
    assert blocking(look(*pair, pg_dump=str(pair.primary.program("pg_dump")))) == []


def test_a_collation_that_the_secondary_lacks(pair: Pair) -> None:
    name = pair.secondary.value(
        "select collname from pg_collation where collnamespace = 'pg_catalog'::regnamespace and oid >= 12000 "
        "and collprovider = 'c' and collencoding in (-1, 6) and collname like 'C.%%' limit 1", []
    )  # fmt: skip
    if name is None:
        pytest.skip("this machine has no locale that PostgreSQL could drop")
    pair.primary.execute(f'create table public.t (a text collate "{name}" primary key)')
    pair.secondary.execute(f'drop collation pg_catalog."{name}"')
    found = blocking(look(*pair))
    assert ids(found) == {"collations"}
    assert found[0].objects == (name,)
    mend(found, *pair)
    assert blocking(look(*pair)) == []


def test_an_extension_that_the_secondary_lacks(pair: Pair) -> None:
    """Both servers are of one installation here: so the primary's catalog is made to name another."""
    rename = "update pg_catalog.pg_extension set extname = '{}' where extname = '{}'"
    pair.primary.execute(rename.format("elsewhere", "plpgsql"))
    found = blocking(look(*pair))
    assert ids(found) == {"extensions"}
    assert "install" in found[0].action
    pair.primary.execute(rename.format("plpgsql", "elsewhere"))
    assert blocking(look(*pair)) == []


def test_the_journals_directory(pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert ids(blocking(look(*pair, journal=tmp_path / "file" / "journal"))) == {"journal"}
    assert blocking(look(*pair, journal=tmp_path / "made" / "later")) == []


def test_schemas_of_logship_on_the_wrong_side_or_too_new(pair: Pair) -> None:
    migrate.upgrade(pair.secondary.conninfo, Side.SECONDARY)
    (finding,) = blocking(look(pair.secondary, pair.primary), "own-schema")
    assert "of the other side" in finding.what
    pair.secondary.execute("update logship.alembic_version set version_num = 'secondary_9999'")
    (finding,) = blocking(look(*pair))
    assert "a newer logship made it" in finding.what


def test_after_init(pair: Pair, make_database: Callable[[Server], Database]) -> None:
    """Once it is initialised, only what `run` needs is looked at: its slot and publication, above all."""
    pair.primary.execute(T)
    initialise(pair.primary.conninfo, pair.secondary.conninfo, "one")
    report = look(*pair)
    assert (report.initialised, report.replica, blocking(report)) == (True, "one", [])
    other = make_database(pair.primary.server)
    found = blocking(look(other, pair.secondary))
    assert "other-primary" in ids(found)
    pair.primary.execute(f"drop publication logship_{pair.primary.name}")
    found = blocking(look(*pair))
    assert ids(found) == {"publication"}
    mend(found, *pair)
    assert blocking(look(*pair)) == []
    pair.primary.execute(f"select pg_drop_replication_slot('logship_{pair.primary.name}')")
    (finding,) = blocking(look(*pair))
    assert "is gone from the primary" in finding.what


def test_a_server_that_cant_be_reached(pair: Pair) -> None:
    away = "host=127.0.0.1 port=1 dbname=none"
    for code, primary, secondary in ((3, away, pair.secondary.conninfo), (4, pair.primary.conninfo, away)):
        with pytest.raises(LogshipError) as caught:
            look(primary, secondary)
        assert caught.value.exit_code == code


def test_nothing_is_changed(pair: Pair) -> None:
    """A look at databases that don't allow writing at all."""
    for side in pair:
        side.execute(f"alter database {side.name} set default_transaction_read_only = on")
    look(*pair)
    with psycopg.connect(pair.primary.conninfo) as connection:
        assert connection.execute(
            "select count(*) from pg_namespace where nspname = 'logship'"
        ).fetchone() == (0,)
