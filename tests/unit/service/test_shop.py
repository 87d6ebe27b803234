"""The demo's shop on a real server: its load does what it says, and stops when it is told to."""

from __future__ import annotations

import psycopg
import pytest

from logship.service.compare.comparison import Compared, compare
from logship.service.demo import shop
from tests.servers import Database, eventually


def test_the_workload_inserts_updates_deletes(primary: Database) -> None:
    shop.create(primary.conninfo)
    workload = shop.Workload(primary.conninfo, clients=2, rate=1000)
    workload.start()
    eventually(lambda: workload.transactions > 200 or workload.failed)
    workload.stop()
    assert primary.value("select count(*) from shop.purchase_line") > 0
    assert primary.value("select count(*) from shop.event where kind = 'cancelled'") > 0
    assert primary.value("select count(*) from shop.purchase where status <> 'placed'") > 0
    assert primary.value("select count(*) from shop.customer") > shop.CUSTOMERS
    assert {table for (table,) in primary.execute(
        "select schemaname || '.' || tablename from pg_tables where schemaname = 'shop'"
    )} == set(shop.TABLES)  # fmt: skip


def test_what_stops_a_client_is_raised(primary: Database) -> None:
    shop.create(primary.conninfo)
    workload = shop.Workload(primary.conninfo, clients=2, rate=1000)
    workload.start()
    eventually(lambda: workload.transactions > 5)
    primary.execute("drop table shop.event")
    eventually(lambda: workload.failed)
    with pytest.raises(psycopg.errors.UndefinedTable):
        workload.stop()


def test_a_workload_that_was_never_started_stops(primary: Database) -> None:
    shop.Workload(primary.conninfo).stop()


def test_equal_and_different_tables(primary: Database, secondary: Database) -> None:
    for database in (primary, secondary):
        database.execute("create schema s")
        database.execute('create table s."T" (a int, b text)')
        database.execute("create table s.u (a float8)")
        database.execute("insert into s.\"T\" values (1, 'x'), (1, 'x'), (2, null)")
    primary.execute("insert into s.u values (0.1)")
    assert compare(primary.conninfo, secondary.conninfo, ["s.T", "s.u"]) == [
        Compared("s.T", 3, 3, True),
        Compared("s.u", 1, 0, False),
    ]
    secondary.execute("update s.\"T\" set a = 2 where ctid = '(0,1)'")
    assert not compare(primary.conninfo, secondary.conninfo, ["s.T"])[0].equal


def test_the_setting_of_a_database_makes_no_difference(primary: Database, secondary: Database) -> None:
    for database in (primary, secondary):
        database.execute("create table public.t (at timestamptz)")
        database.execute("insert into public.t values ('2026-01-01 00:00+00')")
    secondary.execute(f"alter database {secondary.name} set timezone = 'Asia/Tokyo'")
    assert compare(primary.conninfo, secondary.conninfo, ["public.t"])[0].equal
