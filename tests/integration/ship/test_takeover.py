"""A slot is read into one journal, and a successor begins where the slot stands once its predecessor is out."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from logship.capture.slot import SlotStream
from logship.catalog import migrate
from logship.config import MIB, JournalBounds
from logship.connection import Side
from logship.errors import JournalBehind, JournalTooOld
from logship.journal.log import Journal
from logship.lsn import INVALID, Lsn
from logship.service.ship.epoch import Epoch, Fenced, WrongJournal
from logship.service.ship.shipper import survey
from logship.service.ship.shipping import require_from
from logship.service.ship.takeover import take_over
from logship.snapshot.source import ensure_slot
from tests.integration.capture.pump import publish
from tests.integration.ship.shipper import PUBLICATION, Ship
from tests.servers import Database, eventually

ROW = "select epoch, journal from logship.shipper where slot = %s"
CONFIRMED = "select confirmed_flush_lsn::text from pg_replication_slots where slot_name = %s"


@pytest.fixture
def slot(primary: Database) -> str:
    migrate.upgrade(primary.conninfo, Side.PRIMARY)
    primary.execute("create table t (id int primary key)")
    return publish(primary, PUBLICATION)


def row(primary: Database, slot: str) -> tuple[int, str | None] | None:
    with primary.connect() as connection:
        return connection.execute(ROW, [slot]).fetchone()


@contextmanager
def taken(
    primary: Database, slot: str, directory: Path, *, new_journal: bool = False, needs: Lsn | None = None
) -> Iterator[tuple[Journal, Epoch]]:
    epoch = Epoch(slot, "logship", new_journal)
    journal = take_over(
        primary.conninfo, epoch, survey(primary.conninfo, slot), directory, JournalBounds(segment_bytes=4 * MIB),
        stopped=threading.Event().wait,
        require=lambda oldest: None if needs is None else require_from(oldest, needs),
    )  # fmt: skip
    try:
        yield journal, epoch
    finally:
        journal.close()


def test_another_journal_is_refused_and_fences_nobody(primary: Database, slot: str, tmp_path: Path) -> None:
    with taken(primary, slot, tmp_path / "a") as (journal, epoch):
        known = journal.identity
        assert epoch.number == 1
    assert row(primary, slot) == (1, known)
    with taken(primary, slot, tmp_path / "a") as (journal, epoch):
        assert (epoch.number, journal.identity) == (2, known)
    with taken(primary, slot, tmp_path / "b", new_journal=True) as (journal, epoch):
        other = journal.identity
    assert row(primary, slot) == (3, other)
    emptied = tmp_path / "emptied"
    shutil.copytree(tmp_path / "b", emptied)
    for path in emptied.glob("*.seg"):
        path.unlink()
    for directory in (tmp_path / "empty", tmp_path / "a", emptied):
        with pytest.raises(WrongJournal, match="another journal") as caught, taken(primary, slot, directory):
            pass
        assert caught.value.exit_code == 6
        assert "--new-journal" in caught.value.hint
        assert row(primary, slot) == (3, other)
    with taken(primary, slot, tmp_path / "b") as (_, epoch):
        assert epoch.number == 4


def test_what_a_replica_needs_is_asked_before_anybody_is_fenced(
    primary: Database, slot: str, tmp_path: Path
) -> None:
    with taken(primary, slot, tmp_path / "a"):
        before = row(primary, slot)
    confirmed = Lsn.parse(primary.value(CONFIRMED, [slot]))
    with (
        pytest.raises(JournalTooOld),
        taken(primary, slot, tmp_path / "b", new_journal=True, needs=Lsn(confirmed - 1)),
    ):
        pass
    assert row(primary, slot) == before
    with taken(primary, slot, tmp_path / "b", new_journal=True, needs=confirmed) as (journal, _):
        assert journal.oldest_lsn == confirmed


def test_a_slot_made_anew_was_read_into_no_journal(primary: Database, slot: str, tmp_path: Path) -> None:
    with taken(primary, slot, tmp_path / "a"):
        pass
    primary.execute(f"select pg_drop_replication_slot('{slot}')")
    with primary.connect() as connection:
        assert ensure_slot(primary.conninfo, connection, slot, print)
    assert row(primary, slot) == (1, None)
    with taken(primary, slot, tmp_path / "b") as (journal, epoch):
        assert row(primary, slot) == (epoch.number, journal.identity) == (2, journal.identity)


def test_an_empty_journal_begins_where_the_slot_stands_once_its_predecessor_is_out(
    primary: Database, slot: str, tmp_path: Path
) -> None:
    """It acknowledges as fast as it can, up to the moment in which its session is ended."""
    stop = threading.Event()

    def write() -> None:
        with primary.connect() as connection:
            number = 0
            while not stop.is_set():
                number += 1
                connection.execute("insert into t values (%s)", [number])

    with Ship(primary, slot, tmp_path / "a").streaming() as old:
        load = threading.Thread(target=write)
        load.start()
        try:
            before = old.journal.flushed_lsn
            eventually(lambda: old.journal.flushed_lsn > before + 10_000, what="it ships under load")
            with taken(primary, slot, tmp_path / "b", new_journal=True) as (journal, _):
                assert journal.oldest_lsn == Lsn.parse(primary.value(CONFIRMED, [slot]))
                eventually(lambda: old.error is not None, what="the old one ends")
                assert isinstance(old.error, Fenced)  # not JournalBehind
                assert journal.oldest_lsn == Lsn.parse(primary.value(CONFIRMED, [slot]))
        finally:
            stop.set()
            load.join()


def test_one_that_was_succeeded_between_its_look_and_its_stream_is_told_so(
    primary: Database, slot: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    streamed = SlotStream.start

    def succeeded(stream: SlotStream, *given: object) -> object:
        monkeypatch.setattr(SlotStream, "start", streamed)
        primary.execute("insert into t values (1)")
        end = primary.value("select pg_current_wal_flush_lsn()::text")
        with taken(primary, slot, tmp_path / "b", new_journal=True):
            primary.execute(f"select pg_replication_slot_advance('{slot}', '{end}')")
        return streamed(stream, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(SlotStream, "start", succeeded)
    with Ship(primary, slot, tmp_path / "a") as old:
        eventually(lambda: old.error is not None, what="it ends")
        assert isinstance(old.error, Fenced), old.error


def test_a_journal_that_lost_its_end_is_refused_and_fences_nobody(
    primary: Database, slot: str, tmp_path: Path
) -> None:
    with taken(primary, slot, tmp_path / "a"):
        before = row(primary, slot)
    primary.execute("insert into t values (1)")
    with SlotStream(primary.conninfo, application_name="test") as stream:
        stream.start(slot, [PUBLICATION], INVALID)
    end = primary.value("select pg_current_wal_flush_lsn()::text")
    primary.execute(f"select pg_replication_slot_advance('{slot}', '{end}')")
    with pytest.raises(JournalBehind), taken(primary, slot, tmp_path / "a"):
        pass
    assert row(primary, slot) == before
