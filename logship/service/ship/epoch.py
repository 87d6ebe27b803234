"""Fencing: of all shippers that were started for a slot, only the last one ships.

In: sessions on the primary. Out: this start's epoch, a row of `logship.shipper` with the highest number so far;
`Fenced` once another start has taken a higher one. An older shipper is told before each of its streams and once
a second; it can't acknowledge after its successor streams, because a slot has one reader. What it acknowledged
until then is on its disk, and a successor without it is stopped by `slot_state.gap`. The row also remembers the
journal that the slot is read into (`logship.journal.identity`); another one is refused.

A predecessor that hangs keeps the slot busy: its walsender is ended, if it is one (same application name, begun
before this epoch) and this user may. Any other session on the slot is waited for.
"""

from __future__ import annotations

import logging
import os
import socket
from dataclasses import dataclass
from typing import Final

import psycopg

from logship.connection import Side, connect
from logship.errors import PrimaryError, RefusedAsUnsafe

log = logging.getLogger(__name__)

_TAKE: Final = """
insert into logship.shipper as s (slot, epoch, started_at, host, pid)
values (%(slot)s, 1, pg_catalog.clock_timestamp(), %(host)s, %(pid)s)
on conflict (slot) do update set epoch = s.epoch operator(pg_catalog.+) 1, started_at = excluded.started_at,
       host = excluded.host, pid = excluded.pid
 where s.journal is null or s.journal operator(pg_catalog.=) %(journal)s or %(new_journal)s
returning s.epoch
"""
_OTHER: Final = """
select from logship.shipper s
 where s.slot operator(pg_catalog.=) %(slot)s and s.journal is not null
   and (s.journal operator(pg_catalog.=) %(journal)s) is not true
"""
_REMEMBER: Final = """
update logship.shipper s set journal = %(journal)s
 where s.slot operator(pg_catalog.=) %(slot)s and s.epoch operator(pg_catalog.=) %(epoch)s
returning true
"""
_LAST: Final = "select s.epoch, s.host, s.pid, s.started_at::text from logship.shipper s where s.slot = %s"
_END: Final = """
select a.pid, pg_catalog.pg_terminate_backend(a.pid)
  from pg_catalog.pg_replication_slots r
  join pg_catalog.pg_stat_activity a on a.pid = r.active_pid
  join logship.shipper s on s.slot = r.slot_name
 where r.slot_name = %(slot)s and s.epoch = %(epoch)s
   and a.application_name = %(application_name)s and a.backend_start < s.started_at
"""


class Fenced(RefusedAsUnsafe):
    """A later start of a shipper has taken this one's place."""

    def __init__(self, slot: str, epoch: int, by: str) -> None:
        super().__init__(
            f'fenced: a later shipper of slot "{slot}" has started ({by}); this one, of epoch {epoch}, ends',
            hint="one slot has one shipper. If the other was a mistake, stop it, and start this one again",
        )
        self.slot = slot
        self.epoch = epoch


class WrongJournal(RefusedAsUnsafe):
    """The slot has been read into another journal, whose replicas would lack what this one acknowledges."""

    def __init__(self, slot: str) -> None:
        super().__init__(
            f'slot "{slot}" has been read into another journal than this: what this one acknowledged, that one '
            "would never get",
            hint="give --journal the directory that the slot was read into. If it is gone for good: --new-journal, "
            "once. Replicas that had not received all that it acknowledged then have to be copied anew",
        )
        self.slot = slot


@dataclass(slots=True)
class Epoch:
    """``application_name``: that of this shipper's walsender, and of its predecessors'. ``number`` is None until
    `claim`. A session on the primary is given to each method; what it raises becomes `PrimaryError`, with what
    to do."""

    slot: str
    application_name: str
    new_journal: bool = False
    number: int | None = None
    _warned: bool = False

    def claim(self, connection: psycopg.Connection, journal: str | None = None) -> int:
        """Take the next epoch, the first time; after that see that nobody took a later one. `Fenced`.

        ``journal``: the identity of the one that goes on; None: it holds nothing yet. `WrongJournal`, and nobody is
        fenced, when the slot was read into another, unless ``new_journal`` says that this is meant."""
        try:
            if self.number is not None:
                self.check(connection)
                return self.number
            given = {
                "slot": self.slot, "host": socket.gethostname(), "pid": os.getpid(),
                "journal": journal, "new_journal": self.new_journal,
            }  # fmt: skip
            row = connection.execute(_TAKE, given).fetchone()
        except psycopg.Error as error:
            raise _meaning(error, connection) from error
        if row is None:
            raise WrongJournal(self.slot)
        self.number = int(row[0])
        log.info('shipper of slot "%s", epoch %d', self.slot, self.number)
        return self.number

    def admit(self, connection: psycopg.Connection, journal: str | None) -> None:
        """`WrongJournal` if `claim` would say so now. Changes nothing."""
        given = {"slot": self.slot, "journal": journal}
        try:
            row = connection.execute(_OTHER, given).fetchone()
        except psycopg.Error as error:
            raise _meaning(error, connection) from error
        if row is not None and not self.new_journal:
            raise WrongJournal(self.slot)

    def remember(self, connection: psycopg.Connection, journal: str) -> None:
        """From here on the slot is read into this journal and no other. Before the first byte is acknowledged."""
        given = {"slot": self.slot, "epoch": self.number, "journal": journal}
        try:
            if connection.execute(_REMEMBER, given).fetchone() is None:
                self.check(connection)
                raise PrimaryError(
                    "the primary has lost the row of logship.shipper that was just written",
                    hint="did somebody remove it, or logship's schema? Start again",
                )
        except psycopg.Error as error:
            raise _meaning(error, connection) from error

    def check(self, connection: psycopg.Connection) -> None:
        """`Fenced` when this is no longer the last; `psycopg.Error` when the primary doesn't say. Before `claim`
        there is nothing to check."""
        if self.number is None:
            return
        row = connection.execute(_LAST, [self.slot]).fetchone()
        if row is None:
            return  # logship's schema was made anew, or somebody removed the row: nobody else has started
        epoch, host, pid, started = row
        if epoch > self.number:
            raise Fenced(self.slot, self.number, f"epoch {epoch}, process {pid} on {host}, {started}")

    def end_predecessor(self, connection: psycopg.Connection) -> bool:
        """End the walsender of an older epoch that keeps the slot busy; whether there was one. When it may not
        be ended, that is said in the log, and it is waited for like any other."""
        given = {"slot": self.slot, "epoch": self.number, "application_name": self.application_name}
        try:
            ended = connection.execute(_END, given).fetchone()
        except psycopg.errors.InsufficientPrivilege as error:
            said, self._warned = self._warned, True
            log.log(
                logging.DEBUG if said else logging.WARNING,
                "a predecessor's session keeps the slot busy, and this user may not end it (%s): "
                "waiting for it. As its own user, or as a superuser: select pg_terminate_backend(active_pid) "
                "from pg_replication_slots where slot_name = '%s'",
                error.diag.message_primary, self.slot,
            )  # fmt: skip
            return False
        except psycopg.Error as error:
            raise _meaning(error, connection) from error
        if ended is not None:
            log.warning(
                'ended the session of an older shipper on slot "%s" (process %d)', self.slot, ended[0]
            )
        return ended is not None


def session(primary: str) -> psycopg.Connection:
    """On the primary, one that may write there."""
    settings = {"default_transaction_read_only": "off"}
    return connect(primary, Side.PRIMARY, application_name="logship epoch", settings=settings)


def _meaning(error: psycopg.Error, connection: psycopg.Connection) -> PrimaryError:
    match error:
        case psycopg.errors.UndefinedTable() | psycopg.errors.InvalidSchemaName():
            return PrimaryError(
                "the primary has no table logship.shipper, which says who ships",
                hint="run `logship init --primary … --secondary …`: it makes or upgrades logship's schema",
            )
        case psycopg.errors.InsufficientPrivilege():
            return PrimaryError(
                f'user "{connection.info.user}" may not write down on the primary that it ships: '
                f"{error.diag.message_primary}",
                hint="give it the rights that `logship check … --print-grants primary` prints "
                "(after init, once more), or see docs/privileges.md",
            )
    message = error.diag.message_primary or type(error).__name__
    return PrimaryError(f"can't take the next epoch on the primary: {message}", hint="see the primary's log")
