"""Registers the replicas that the primary knows: `logship init` notes each in `logship.replica` before it copies.

In: a connection of its own to the primary, looked at once a second. Out: registrations, at the journal's oldest
position, since a replica says itself where it goes on. A row that goes (`logship drop`), also while nobody ships,
ends the registration. Writes down what moved (`RegisteredReplicas.save`). A primary that doesn't answer is
nobody's trouble here: what is registered stays.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

import psycopg

from logship.connection import Side, connect, cut
from logship.errors import PrimaryError, UsageError
from logship.lsn import Lsn
from logship.service.ship.registered import RegisteredReplicas
from logship.service.ship.replicas import Replicas
from logship.service.sides import require_not_exchanged

log = logging.getLogger(__name__)

_NAMES = "select r.name from logship.replica r where r.slot = %s"
_SLOTS = "select distinct r.slot, r.publication from logship.replica r order by 1"


@dataclass(frozen=True, slots=True)
class Names:
    slot: str
    publication: str


def find_names(primary: str, slot: str | None, publication: str | None) -> Names:
    """Slot and publication as given, or as init has noted them on the primary. `PrimaryError`, `UsageError`."""
    if slot is not None and publication is not None:
        return Names(slot, publication)
    with connect(primary, Side.PRIMARY, application_name="logship ship") as connection:
        require_not_exchanged(connection, Side.PRIMARY)
        try:
            rows = connection.execute(_SLOTS).fetchall()
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName) as error:
            raise PrimaryError(
                "the primary has no schema logship, which would say what slot to read",
                hint="run `logship init --primary … --secondary …` first, or give --slot and --publication",
            ) from error
        except psycopg.errors.InsufficientPrivilege as error:
            raise PrimaryError(
                f'user "{connection.info.user}" may not read logship.replica on the primary',
                hint="use the user that ran `logship init`, or give --slot and --publication",
            ) from error
    found = [Names(slot or row[0], publication or row[1]) for row in rows if slot in (None, row[0])]
    if not found:
        raise PrimaryError(
            "the primary keeps no replica yet" + (f' with slot "{slot}"' if slot else ""),
            hint="run `logship init --primary … --secondary …` first, or give --slot and --publication",
        )
    if len(found) > 1:
        raise UsageError(
            "the primary's replicas read several slots: " + ", ".join(sorted(each.slot for each in found)),
            hint="choose one with --slot",
        )
    return found[0]


class Registrar:
    """``oldest``: where the journal begins. ``tick`` is called each time, e.g. to read the users anew."""

    def __init__(
        self,
        primary: str,
        slot: str,
        registered: RegisteredReplicas,
        replicas: Replicas,
        oldest: Callable[[], Lsn],
        *,
        interval_s: float,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        self._primary = primary
        self._slot = slot
        self._registered = registered
        self._replicas = replicas
        self._oldest = oldest
        self._interval_s = interval_s
        self._tick = tick
        self._stopping = threading.Event()
        self._connection: psycopg.Connection | None = None
        # Those that the primary has had, also before the last restart.
        self._noted = {replica.name for replica in registered.all() if replica.noted}

    def run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._look()
                self._registered.save()
                self._tick()
                self._stopping.wait(self._interval_s)
        finally:
            self._registered.save()
            self._close()

    def stop(self) -> None:
        self._stopping.set()
        connection = self._connection
        if connection is not None:
            cut(connection)

    def _look(self) -> None:
        # The probe says when the primary is away; there is nothing to add.
        with contextlib.suppress(PrimaryError):
            try:
                names = self._ask()
            except psycopg.Error:
                self._close()
                return
            # One whose slot a client dropped here is named still: it begins anew, with what there is.
            for name in sorted(names - {replica.name for replica in self._registered.all() if replica.noted}):
                if self._registered.get(name) is None:
                    found = self._registered.add(name, self._oldest())
                    log.info('replica "%s" is registered at %s', name, found.flush_lsn)
                self._registered.note(name)
            for name in sorted(self._noted - names):
                if self._replicas.client(name) is None and self._registered.drop(name):
                    self._replicas.forgotten(name)
                    log.info('replica "%s" was dropped', name)
            self._noted = names | {name for name in self._noted - names if self._registered.get(name)}

    def _ask(self) -> set[str]:
        if self._connection is None:
            self._connection = connect(self._primary, Side.PRIMARY, application_name="logship registrar")
        try:
            return {row[0] for row in self._connection.execute(_NAMES, [self._slot]).fetchall()}
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
            return set()  # nobody ran init there: all replicas are those of other clients

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
