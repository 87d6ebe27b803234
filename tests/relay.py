"""A relay that runs while a test connects clients to it: `Ship` in a thread of this process."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from psycopg import conninfo as libpq

from logship.catalog.migrate import upgrade
from logship.config import MIB, Address, Intervals, JournalBounds
from logship.connection import Side
from logship.relay.server import RelayLimits
from logship.service.ship.ship import Ship, ShipSettings
from logship.service.ship.users import verifier_line
from tests.servers import Database, eventually

PUBLICATION = "published"
SLOT = "shipped"
USER = "replicator"
PASSWORD = "sésame"


def publish(primary: Database) -> None:
    """What init would have made, without a replica: schema, publication and slot."""
    upgrade(primary.conninfo, Side.PRIMARY)
    primary.execute(f"create publication {PUBLICATION} for all tables")
    primary.execute(f"select pg_create_logical_replication_slot('{SLOT}_{primary.name}', 'pgoutput')")


class Relay:
    """Use it in a ``with`` block: an error that stopped it is raised at its end."""

    def __init__(self, primary: Database, directory: Path, **settings: Any) -> None:
        self.primary = primary
        directory.mkdir(parents=True, exist_ok=True)
        self.users = directory / "users"
        if not self.users.exists():
            self.users.touch(0o600)
            self.users.write_text(verifier_line(USER, PASSWORD) + "\n")
        self.settings = ShipSettings(
            primary=primary.conninfo,
            journal=directory / "journal",
            listen=Address("127.0.0.1", 0),
            slot=f"{SLOT}_{primary.name}",
            publication=PUBLICATION,
            users=str(self.users),
            journal_bounds=JournalBounds(segment_bytes=1 * MIB),
            intervals=Intervals(report_s=0.2, retention_s=0.2),
            limits=RelayLimits(),
        )
        self.settings = dataclasses.replace(self.settings, **settings)
        self.error: BaseException | None = None
        self._start()

    def _start(self) -> None:
        self.ship = Ship(self.settings)
        self._thread = threading.Thread(target=self._work, name="ship", daemon=True)
        self._thread.start()
        eventually(lambda: self.error is not None or self.ship.address is not None, what="the relay listens")
        if self.error is not None:
            raise self.error

    def _work(self) -> None:
        try:
            self.ship.run()
        except BaseException as error:  # noqa: BLE001 - kept, and raised by whoever waits
            self.error = error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if kind is None and self.error is not None:
            raise self.error

    @property
    def port(self) -> int:
        address = self.ship.address
        assert address is not None
        return address.port

    def conninfo(self, **more: str) -> str:
        """For a client of the relay, who knows the password."""
        given = {
            "host": "127.0.0.1",
            "port": str(self.port),
            "dbname": self.primary.name,
            "user": USER,
            "password": PASSWORD,
        }
        return libpq.make_conninfo("", **{**given, **more})

    def stop(self) -> None:
        self.ship.stop()
        self._thread.join(20)
        assert not self._thread.is_alive(), "the relay did not stop"

    def restart(self) -> None:
        """Stop and start again, on the same port."""
        port = self.port
        self.stop()
        if self.error is not None:
            raise self.error
        self.settings.listen = Address("127.0.0.1", port)
        self._start()
