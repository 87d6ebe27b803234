"""A primary that is the same server by its identifier, and whose log isn't the one that the journal holds."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from logship.catalog import migrate
from logship.connection import Side
from logship.errors import JournalForeign, RefusedAsUnsafe
from logship.lsn import Lsn
from logship.service.demo.servers import Server
from tests.conftest import create_database
from tests.integration.capture.pump import publish
from tests.integration.ship.shipper import PUBLICATION, Ship
from tests.servers import Database, eventually


def _made(make_server: Callable[..., Server]) -> tuple[Database, str]:
    primary = create_database(make_server("changed", durable=False), "primary")
    migrate.upgrade(primary.conninfo, Side.PRIMARY)
    primary.execute("create table t (id int primary key)")
    return primary, publish(primary, PUBLICATION)


def _copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", source, target], check=True)  # also whose the files are


def _shipped(primary: Database, ship: Ship) -> None:
    end = Lsn.parse(primary.value("select pg_current_wal_lsn()::text"))
    eventually(lambda: ship.journal.flushed_lsn >= end, what="the journal has it")


def test_one_that_lost_the_end_of_its_log_is_refused(
    make_server: Callable[..., Server], tmp_path: Path
) -> None:
    """An old copy of the data directory: the same identifier, the same timeline, the slot where it was. What it
    commits from now on would stand before the journal's end, and would never be sent."""
    primary, slot = _made(make_server)
    server = primary.server
    with Ship(primary, slot, tmp_path / "j").streaming() as ship:
        _shipped(primary, ship)
    server.stop()
    copy = server.base / "copy"
    _copy(server.data_directory, copy)
    server.start()
    with Ship(primary, slot, tmp_path / "j").streaming() as ship:
        primary.execute("insert into t select generate_series(1, 5000)")
        _shipped(primary, ship)
        server.stop()
        shutil.rmtree(server.data_directory)
        _copy(copy, server.data_directory)
        server.start()
        eventually(lambda: ship.error is not None, what="it is refused")
        assert isinstance(ship.error, RefusedAsUnsafe), ship.error
        assert "lost" in str(ship.error)


def test_one_that_was_promoted_meanwhile_is_refused(
    make_server: Callable[..., Server], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And as long as it is a standby it is waited for: it may be on its way to anything."""
    primary, slot = _made(make_server)
    server = primary.server
    with Ship(primary, slot, tmp_path / "j").streaming() as ship:
        _shipped(primary, ship)
        server.stop()
        (server.data_directory / "standby.signal").touch()
        server.start()
        eventually(lambda: "is a standby, in recovery" in caplog.text, what="it is seen to be a standby")
        assert ship.error is None
        with psycopg.connect(server.conninfo(), autocommit=True) as link:
            link.execute("select pg_promote()")
        eventually(lambda: ship.error is not None, what="it is refused")
        assert isinstance(ship.error, JournalForeign), ship.error
        assert "promoted" in ship.error.hint
