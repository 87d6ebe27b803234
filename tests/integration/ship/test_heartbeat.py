"""A database where nobody writes still has a log that moves, and nothing is counted for it."""

from __future__ import annotations

from pathlib import Path

from logship.catalog import migrate
from logship.connection import Side
from logship.journal.segment import RecordKind
from logship.lsn import Lsn
from tests.integration.capture.pump import publish
from tests.integration.ship.shipper import PUBLICATION, Ship
from tests.servers import Database, eventually

CONFIRMED = "select confirmed_flush_lsn::text from pg_replication_slots where slot_name = %s"


def test_the_slot_advances_and_commit_times_come_through_the_stream(
    primary: Database, tmp_path: Path
) -> None:
    migrate.upgrade(primary.conninfo, Side.PRIMARY)
    slot = publish(primary, PUBLICATION)
    with Ship(primary, slot, tmp_path / "j", heartbeat_s=0.1).streaming() as ship:
        eventually(lambda: ship.shipping.shipper.transactions >= 4, what="heartbeats come back")
        end = ship.journal.written_lsn
        eventually(lambda: Lsn.parse(primary.value(CONFIRMED, [slot])) >= end, what="the slot has advanced")
        assert ship.error is None
        with ship.journal.reader(ship.journal.oldest_lsn) as reader:
            records = [record for record in reader.read(1 << 20, 0.0) if record.kind is RecordKind.CHANGES]
    assert len({record.commit_time_us for record in records}) >= 4
    assert any(b"logship.heartbeat" in record.run for record in records)
