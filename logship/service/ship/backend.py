"""What the relay's clients are told and given: slots, which are replicas here, their log, facts about the primary.

In: commands of the sessions (`logship.relay.ports.Backend`). Out: answers as PostgreSQL gives them, feeds over the
journal, and what the replicas report, handed on. A slot of the relay costs the primary nothing: it is a name in
the registry, for which the journal is kept.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import psycopg

from logship.capture.slot import System
from logship.connection import Side, connect
from logship.errors import JournalTooOld, LogshipError, PrimaryError
from logship.journal.log import Journal
from logship.lsn import INVALID, Lsn
from logship.relay import options as pgoutput_options
from logship.relay.events import SlotInfo, SystemInfo
from logship.relay.options import StreamOptions
from logship.relay.ports import ClientInfo, Feed, Rows
from logship.relay.refusal import INVALID_NAME, UNDEFINED, Refusal, Refused
from logship.service.positions import Positions, now_us
from logship.service.ship.feed import MessageFeed, RecordFeed, gone
from logship.service.ship.registered import RegisteredReplicas
from logship.service.ship.replicas import Replicas
from logship.service.watch.probe import Answer, flushed_position

_IN_USE: Final = "55006"
_DUPLICATE: Final = "42710"
_NO_LINK: Final = "08006"
_STARTING: Final = "57P03"
_SLOT_NAME: Final = re.compile(r"[a-z0-9_]{1,63}\Z")
_PRIMARY_COLUMNS: Final = (
    "wal_lsn", "flush_lsn", "clock_us", "age_us", "slot_active", "slot_wal_status", "slot_retained_bytes",
    "slot_safe_wal_size", "slot_exists",
)  # fmt: skip

# Our own schema is on the secondary, too, with content of its own.
_TABLES: Final = """
select distinct t.schemaname::text, t.tablename::text, t.attnames::text
  from pg_catalog.pg_publication_tables t
 where t.pubname = any(%s) and t.schemaname <> 'logship'
 order by 1, 2
"""


class RelayBackend:
    """``answer``: what the primary last said; ``epoch``: of this shipper, None until it has one."""

    def __init__(
        self,
        *,
        primary: str,
        publication: str,
        system: System,
        journal: Journal,
        positions: Positions,
        replicas: Replicas,
        registered: RegisteredReplicas,
        answer: Callable[[], Answer | None],
        epoch: Callable[[], int | None],
    ) -> None:
        self._primary = primary
        self._publication = publication
        self._system = system
        self._journal = journal
        self._positions = positions
        self._replicas = replicas
        self._registered = registered
        self._answer = answer
        self._epoch = epoch

    def identify(self) -> SystemInfo:
        answer, system = self._answer(), self._system
        end = self._journal.written_lsn if answer is None else answer.flush_lsn
        return SystemInfo(system.system_identifier, system.timeline, end, system.database)

    # -- slots ---------------------------------------------------------------------------------------

    def create(self, name: str, *, temporary: bool) -> Lsn:
        if _SLOT_NAME.match(name) is None:
            raise _refused(
                INVALID_NAME,
                f'replication slot name "{name}" is not allowed',
                "Replication slot names may only contain lower case letters, numbers, and the underscore "
                "character, at most 63 of them.",
            )
        if self._registered.get(name) is not None:
            raise _refused(_DUPLICATE, f'replication slot "{name}" already exists')
        # What isn't fsynced here may come again after a crash, from this position on.
        return self._registered.add(name, self._journal.flushed_lsn, temporary=temporary).flush_lsn

    def drop(self, name: str) -> None:
        self._require_free(name)
        if not self._registered.drop(name):
            raise self._unknown(name)
        self._replicas.forgotten(name)

    def read(self, name: str) -> SlotInfo | None:
        found = self._registered.get(name)
        return None if found is None else SlotInfo(found.flush_lsn, self._system.timeline)

    # -- the stream ----------------------------------------------------------------------------------

    def start(self, name: str, start_lsn: Lsn, options: Mapping[str, str], client: ClientInfo) -> Feed:
        wanted = pgoutput_options.parse(options, {self._publication})
        known = self._registered.get(name)
        if known is None:
            raise self._unknown(name)
        if not self._replicas.connected(name, client):
            self._require_free(name)
            raise _refused(_IN_USE, f'replication slot "{name}" is active')  # it left in this moment
        try:
            # A slot never goes back: PostgreSQL forwards a start that is before what was confirmed. Our own
            # client's journal may have been lost with what it confirmed, and it says exactly where it is.
            start = start_lsn if wanted.records else max(start_lsn, known.flush_lsn)
            return self._feed(name, start, wanted)
        except BaseException:
            self._replicas.gone(name)
            raise

    def _feed(self, name: str, start: Lsn, wanted: StreamOptions) -> Feed:
        try:
            reader = self._journal.reader(start, whole=not wanted.records)
        except JournalTooOld as error:
            refusal = gone(error)
            raise Refused(Refusal(refusal.sqlstate, refusal.message, refusal.hint)) from error
        if wanted.records:
            return RecordFeed(reader, self._primary_end, awaited=self._replicas.are_awaited(name))
        return MessageFeed(reader, messages=wanted.messages)

    def sent(self, name: str, lsn: Lsn) -> None:
        self._replicas.sent(name, lsn)

    def status(self, name: str, write: Lsn, flush: Lsn, replay: Lsn) -> None:
        self._replicas.reported(name, write, flush, replay)

    def ended(self, name: str) -> None:
        self._replicas.gone(name)

    # -- the catalog and settings --------------------------------------------------------------------

    def publication_tables(self, publications: Sequence[str]) -> Rows:
        for name in publications:
            if name != self._publication:
                raise _refused(
                    UNDEFINED,
                    f'publication "{name}" does not exist at this relay',
                    f'there is: "{self._publication}"',
                )
        try:
            with connect(self._primary, Side.PRIMARY, application_name="logship relay") as connection:
                return connection.execute(_TABLES, [list(publications)]).fetchall()
        except (PrimaryError, psycopg.Error) as error:
            raise _unreachable(error) from error

    def publications(self, publications: Sequence[str]) -> Rows:
        return [[name] for name in publications if name == self._publication]

    def show(self, name: str) -> tuple[Sequence[str], Sequence[str | None]]:
        match name:
            case "logship.primary":
                return _PRIMARY_COLUMNS, self._primary_row()
            case "logship.mark":
                return ("lsn",), (str(self._mark()),)
            case "logship.epoch":
                return ("epoch",), (str(self._known_epoch()),)
        raise _refused(UNDEFINED, f'unrecognized configuration parameter "{name}"')

    def _primary_row(self) -> Sequence[str | None]:
        answer, primary = self._answer(), self._positions.primary
        if answer is None or primary is None:
            return (None,) * len(_PRIMARY_COLUMNS)
        wal_lsn, true_us = primary
        slot = answer.slot
        return (
            str(wal_lsn),
            str(answer.flush_lsn),
            str(true_us + self._positions.clock_offset_us),
            str(max(0, now_us() - true_us)),
            _said(slot.active),
            slot.wal_status,
            _said(slot.retained_bytes),
            _said(slot.safe_wal_size),
            _said(slot.exists),
        )

    def _known_epoch(self) -> int:
        epoch = self._epoch()
        if epoch is None:
            raise _refused(
                _STARTING, "the relay hasn't reached the primary yet, which gives it its epoch", "try again"
            )
        return epoch

    def _mark(self) -> Lsn:
        try:
            return flushed_position(self._primary)
        except (PrimaryError, psycopg.Error) as error:
            raise _unreachable(error) from error

    def _primary_end(self) -> tuple[Lsn, int | None]:
        answer = self._answer()
        if answer is None:
            return INVALID, None
        return answer.flush_lsn, max(0, int((time.monotonic() - answer.at_s) * 1e6))

    # -- refusals ------------------------------------------------------------------------------------

    def _require_free(self, name: str) -> None:
        client = self._replicas.client(name)
        if client is not None:
            raise _refused(
                _IN_USE,
                f'replication slot "{name}" is active for PID {client.pid}',
                f'its client is "{client.application_name}" at {client.address or "a socket"}: one replica has '
                "one client",
            )

    def _unknown(self, name: str) -> Refused:
        names = ", ".join(f'"{replica.name}"' for replica in self._registered.all()) or "none"
        return _refused(
            UNDEFINED,
            f'replication slot "{name}" does not exist',
            f"this relay's slots are its replicas: {names}. Create one with CREATE_REPLICATION_SLOT, or a replica "
            "with `logship init`, which the relay sees within a second",
        )


def _refused(sqlstate: str, message: str, hint: str = "") -> Refused:
    return Refused(Refusal(sqlstate, message, hint))


def _unreachable(error: LogshipError | psycopg.Error) -> Refused:
    """Without what the error says: it may name the primary's address and user."""
    return _refused(
        _NO_LINK,
        f"the relay can't ask the primary now ({type(error).__name__})",
        "try again; the relay's log says why",
    )


def _said(value: object) -> str | None:
    if value is None or isinstance(value, bool):
        return None if value is None else ("t" if value else "f")
    return str(value)
