"""A shipper that nobody waits for gathers: what it tells is on its disk all the same, and whoever begins to wait is
answered as soon as that is."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from logship.catalog import migrate
from logship.connection import Side
from logship.journal.files import Files
from logship.lsn import Lsn
from logship.service.demo.servers import Server
from tests.integration.capture.pump import publish
from tests.integration.ship.shipper import PUBLICATION, Ship
from tests.servers import Database, commits_wait_for, eventually

TOLD = "select {}_lsn::text from pg_stat_replication where application_name = 'logship'"
CONFIRMED = "select confirmed_flush_lsn::text from pg_replication_slots where slot_name = %s"
WAITS = "select count(*) from pg_stat_activity where wait_event = 'SyncRep'"


class Disk:
    """Every fdatasync of this process waits while it stands still."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.moves = threading.Event()
        self.moves.set()
        fdatasync = Files.fdatasync

        def held(files: Files, fd: int) -> None:
            assert self.moves.wait(60)
            fdatasync(files, fd)

        monkeypatch.setattr(Files, "fdatasync", held)


def told(primary: Database, which: str) -> Lsn:
    found = primary.value(TOLD.format(which))
    return Lsn.parse(found) if found else Lsn(0)


def committed(primary: Database) -> Lsn:
    """The end of a commit of one row."""
    primary.execute("insert into t default values")
    return Lsn.parse(primary.value("select pg_current_wal_insert_lsn()::text"))


def test_it_tells_what_is_on_disk_and_begins_to_hurry_when_somebody_waits(
    make_server: Callable[..., Server],
    make_database: Callable[[Server], Database],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk, primary = Disk(monkeypatch), make_database(make_server("first", durable=False))
    migrate.upgrade(primary.conninfo, Side.PRIMARY)
    primary.execute("create table t (id int generated always as identity primary key)")
    slot = publish(primary, PUBLICATION)
    with Ship(primary, slot, tmp_path / "j").streaming() as ship:
        pace, journal = ship.shipping.shipper.pace, ship.journal
        eventually(lambda: not pace.awaited, what="it knows that nobody waits")

        # What is written and not fsynced is told as that, however often it is told.
        disk.moves.clear()
        end = committed(primary)
        eventually(lambda: told(primary, "write") >= end, what="it is told that it is written")
        assert journal.flushed_lsn < end
        assert told(primary, "flush") < end
        assert Lsn.parse(primary.value(CONFIRMED, [slot])) < end

        # Who begins to wait now isn't told anything sooner, and is once it is so.
        commits_wait_for(primary, "logship")
        eventually(lambda: pace.awaited, what="it knows that somebody waits")
        begun = Lsn.parse(primary.value("select pg_current_wal_insert_lsn()::text"))
        acknowledged: list[Lsn] = []

        def commit() -> None:
            with psycopg.connect(primary.conninfo, autocommit=True) as connection:
                connection.execute("insert into t default values")
                acknowledged.append(journal.flushed_lsn)

        client = threading.Thread(target=commit)
        client.start()
        eventually(lambda: primary.value(WAITS) == 1, what="a commit waits")
        assert not acknowledged
        disk.moves.set()
        client.join(60)
        assert acknowledged
        assert acknowledged[0] > begun

        # The end, in the middle of gathering: what was taken from the stream is on disk.
        commits_wait_for(primary, "")
        eventually(lambda: not pace.awaited, what="nobody waits any more")
        primary.execute(
            "do $$ begin for i in 1..300 loop insert into t default values; commit; end loop; end $$"
        )
        eventually(lambda: journal.written_lsn > acknowledged[0], what="some of it has come")
        taken = told(primary, "write")
    assert ship.error is None
    assert journal.flushed_lsn == journal.written_lsn >= taken
