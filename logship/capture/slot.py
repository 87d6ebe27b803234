"""The walsender client: streams one logical slot of the primary in pgoutput's protocol version 1.

In: a conninfo, the names of slot and publications, the position to start from. Out: stretches of pgoutput
messages and keepalives in the order in which they were sent; in return, status updates. Messages are gathered
by `logship.kernel.Drain`, not one by one. Settings are
pinned by `logship.connection`, so values come as UTF-8 text in one spelling whatever the database
says. Assumes one thread that does everything but `wake`.

Never makes or drops a slot, never acknowledges by itself, never looks into a message. After any error
the stream is to be closed; ``error.transient`` says whether a new one may go on from the journal's end.

Source: PostgreSQL documentation, "Streaming Replication Protocol" and "Logical Streaming Replication
Protocol".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

import psycopg
from psycopg import pq

from logship.capture.copydata import Keepalive, Stretch, header, keepalive
from logship.capture.libpq import copy_functions
from logship.capture.slot_state import SlotState, check_slot
from logship.capture.stream import ANSWER_S, State, Stream, System, identifier, literal
from logship.capture.stream_errors import HINTS, stream_error
from logship.config import RECEIVER_TIMEOUT_S
from logship.connection import Side, connect
from logship.errors import PrimaryError, ProtocolViolation, PublicationMissing, SlotActive, StreamBroken
from logship.kernel import CopySource, Drain
from logship.lsn import Lsn

__all__ = ["SlotStream", "System", "start_command"]

_ENOUGH_BYTES: Final = 256 * 1024  # it isn't worth while to gather more before it is passed on


class SlotStream(Stream[Stretch]):
    """One connection: `identify`, `start`, then `read` and `send_status` in turn, `stop`, `close`."""

    def __init__(
        self,
        conninfo: str,
        *,
        application_name: str = "logship",
        receiver_timeout_s: float = RECEIVER_TIMEOUT_S,
    ) -> None:
        """Connects. ``application_name`` is the name that synchronous_standby_names may list."""
        super().__init__(_walsender(conninfo, application_name), receiver_timeout_s)
        # Each implementation of psycopg's PGconn has `pgconn_ptr`; its protocol class doesn't name it.
        self._drain = Drain(cast("CopySource", self._pgconn), copy_functions())
        self.gather_s = 0.0  # how long a read to which little has come looks for more
        self._slot = ""
        self._publications: tuple[str, ...] = ()

    def check(self, slot: str, publications: Sequence[str]) -> SlotState:
        """The slot, when it can be streamed from: see `logship.capture.slot_state.check_slot`."""
        self._expect(State.IDLE)
        try:
            return check_slot(self._connection, slot, publications)
        except psycopg.Error as error:
            raise self._meaning(error) from error

    def require_primary(self) -> None:
        """`StreamBroken`, transient, when the server is a standby: it may be promoted, or be put back in its place."""
        self._expect(State.IDLE)
        try:
            row = self._connection.execute("select pg_catalog.pg_is_in_recovery()").fetchone()
        except psycopg.Error as error:
            raise self._meaning(error) from error
        if row is None or row[0]:
            raise StreamBroken(
                "the server is a standby, in recovery",
                transient=True,
                hint="give the conninfo of the primary; one that is promoted counts as another server",
            )

    def start(self, slot: str, publications: Sequence[str], start_lsn: Lsn) -> SlotState:
        """Check the slot and stream what committed after ``start_lsn``. The server starts at the slot's
        confirmed_flush_lsn if that is later: the caller judges the answer with `slot_state.gap` before it
        appends or acknowledges anything. `SlotActive`: wait and try again on a new stream."""
        state = self.check(slot, publications)
        self._slot, self._publications = slot, tuple(publications)
        refused = self._begin(start_command(slot, publications, start_lsn))
        if refused is not None:
            raise self._refused(refused)
        return state

    def _gather(self, items: list[Stretch], keepalives: list[Keepalive], max_bytes: int) -> int:
        """Take what libpq and the socket have, as one stretch."""
        drain, self._drained = self._drain, False
        try:
            size = drain.read(max_bytes, _ENOUGH_BYTES, self.gather_s)
        finally:
            self._pass_on(items, keepalives)
        if drain.odd:
            raise ProtocolViolation(f"CopyData of the unknown kind {drain.odd[:1]!r}")
        if drain.ended:
            raise self._broken(None)
        self._drained = size < max_bytes and not self._tls
        return size

    def _pass_on(self, items: list[Stretch], keepalives: list[Keepalive]) -> None:
        """What has gathered, also in front of an error."""
        gathered = self._drain.take()
        if not gathered.size_bytes:
            return
        alive = [(offset, keepalive(data)) for offset, data in gathered.keepalives]
        if gathered.run or alive:
            items.append(Stretch(gathered.run, gathered.marks, alive))
        for _, message in alive:
            self._told(message, keepalives)
        if gathered.header:
            last = header(gathered.header)
            self._wal_end, self._sent_time_us = last.wal_end, last.sent_time_us

    def _notice(self, diagnostic: psycopg.errors.Diagnostic) -> None:
        # From 18 on, a publication that is gone is a warning, and its tables silently aren't sent.
        if diagnostic.severity_nonlocalized == "WARNING":
            for publication in self._publications:
                if f'"{publication}"' in (diagnostic.message_primary or ""):
                    self._warned = PublicationMissing(publication, sqlstate=diagnostic.sqlstate or "")

    def _refused(self, result: pq.abc.PGresult) -> PrimaryError:
        """Why START_REPLICATION was refused: the slot's state now says it better than the message."""
        refused = self._of_result(result)
        try:
            while self._link.result(ANSWER_S) is not None:
                pass
            state = check_slot(self._connection, self._slot, self._publications)
        except (StreamBroken, psycopg.Error):
            return refused
        except PrimaryError as better:
            better.__cause__ = refused
            return better
        return SlotActive(self._slot, state.active_pid) if isinstance(refused, SlotActive) else refused

    def _explain(self, sqlstate: str | None, message: str) -> PrimaryError:
        return stream_error(sqlstate, message, self._slot, self._publications)


def _walsender(conninfo: str, application_name: str) -> psycopg.Connection:
    try:
        return connect(conninfo, Side.PRIMARY, application_name=application_name, replication=True)
    except PrimaryError as error:
        # "must be … to start walsender" (15), "permission denied to start WAL sender" (16 and later).
        if "walsender" in error.message.lower().replace(" ", ""):
            raise PrimaryError(error.message, hint=HINTS["42501"]) from error
        raise


def start_command(slot: str, publications: Sequence[str], start_lsn: Lsn) -> str:
    """START_REPLICATION as the walsender's grammar has it. The names of publications are a list of
    identifiers inside a string: quoted twice."""
    names = literal(",".join(identifier(name) for name in publications))
    return (
        f"START_REPLICATION SLOT {identifier(slot)} LOGICAL {start_lsn} "
        f"(proto_version '1', publication_names {names}, messages 'true')"
    )
