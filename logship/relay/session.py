"""One client's session, without I/O: bytes in, events and bytes out.

In: the client's bytes in any chunks, and the pump's answers to events. Out: events from `receive`, bytes
from `outgoing`. A peer's nonsense never raises: it ends in an ErrorResponse, and in `RefusedCommand` when
the session goes on, or `Failed` when it doesn't. An answer to something that was not asked is our own
defect: `InternalError`. After the end (`State.CLOSED`) everything is ignored, since a pump may hold an
answer to somebody who is gone.

The pump's loop: write what `outgoing` gives; close when the state is CLOSED; `receive` bytes; answer each
event that wants an answer; after an answer call ``receive(b"")``, since a client may have sent its next
commands already, and they wait in here. While the state is in `states.WAITING`, read no further from the
socket than to notice its end: what comes is kept, up to the limit, and is no more than the limit.

No clock, no I/O, no threads. What may happen when is one table: `logship.relay.states`.

Source: PostgreSQL documentation, "Message Flow"; src/backend/tcop/postgres.c.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from logship.errors import InternalError
from logship.lsn import Lsn
from logship.relay import commands, messages, startup
from logship.relay.authentication import Admitted, Authenticator, Peer
from logship.relay.catalogue import PARAMETERS, Answer
from logship.relay.events import (
    Authenticated,
    Cancel,
    CopyEnded,
    CreatedSlot,
    Event,
    Failed,
    RefusedCommand,
    SlotInfo,
    StartTls,
    SystemInfo,
    Terminated,
)
from logship.relay.messages import INT4, INT8, Column, Inbox
from logship.relay.refusal import (
    INVALID_AUTHORIZATION,
    NOT_SUPPORTED,
    Refusal,
    Refused,
    violation,
)
from logship.relay.scram import Exchange
from logship.relay.states import DEAF, FROM_CLIENT, TABLE, UNAUTHENTICATED, UNSTARTED, WAITING, Input, State

ADMIN_SHUTDOWN: Final = Refusal(
    "57P01", "terminating connection due to administrator command",
    "the relay is stopping: connect again, nothing is lost", fatal=True,
)  # fmt: skip


EXTENDED: Final = Refusal(
    NOT_SUPPORTED, "extended query protocol not supported in a replication connection",
    "send commands in the simple protocol: without parameters, unprepared",
)  # fmt: skip
FUNCTION_CALL: Final = Refusal(
    NOT_SUPPORTED, "fastpath function calls not supported in a replication connection",
    "send replication commands in the simple protocol",
)  # fmt: skip
SYSTEM: Final = (Column("systemid"), Column("timeline", INT4), Column("xlogpos"), Column("dbname"))
CREATED: Final = (
    Column("slot_name"), Column("consistent_point"), Column("snapshot_name"), Column("output_plugin"),
)  # fmt: skip
READ: Final = (Column("slot_type"), Column("restart_lsn"), Column("restart_tli", INT8))
# A walsender says it twice: src/backend/replication/walsender.c, exec_replication_command.
STREAM_COMPLETE: Final = (
    messages.command_complete("COPY 0")
    + messages.command_complete("START_REPLICATION")
    + messages.READY_FOR_QUERY
)


class TlsMode(enum.Enum):
    OFF = "off"
    ALLOWED = "allowed"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """What this session is to its client. ``pid`` and ``key`` are what a CancelRequest must name; ``database``
    is the one that is served, empty when any name will do."""

    pid: int
    key: int
    database: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """The longest message that is waited for, in bytes: before and after the client is in."""

    startup_bytes: int = 10_000
    message_bytes: int = 1024 * 1024


class Session:
    """``tls_started``, ``identified`` … are the pump's answers; the event says which one it wants."""

    def __init__(
        self, *, tls: TlsMode, auth: Authenticator, identity: ServerIdentity, limits: Limits
    ) -> None:
        self.state = State.STARTUP
        self._tls = tls
        self._auth = auth
        self._identity = identity
        self._limits = limits
        self._peer = Peer()
        self._inbox = Inbox()
        self._out: list[bytes] = []
        self._events: list[Event] = []
        self._client: startup.Startup | None = None
        self._exchange: Exchange | None = None

    # -- bytes -----------------------------------------------------------------------------------

    def receive(self, data: bytes) -> list[Event]:
        """What the client asks, in order; stops behind an event that wants an answer. Never raises."""
        events: list[Event] = []
        if self.state is State.CLOSED:
            return events
        self._events = events
        self._inbox.feed(data)
        try:
            if data and self.state in WAITING and len(self._inbox) > self._limits.message_bytes:
                raise violation("too much was sent behind a command that is not answered yet")
            while self.state not in DEAF and self._step():
                pass
        except Refused as refused:
            error = dataclasses.replace(refused.refusal, fatal=True)
            self._fail(error)
            events.append(Failed(error))
        return events

    def outgoing(self) -> bytes:
        """The bytes to be written now; they are given once."""
        data = b"".join(self._out)
        self._out.clear()
        return data

    def _step(self) -> bool:
        """Take one message; False when there is no whole one."""
        if self.state is State.HANDSHAKE:
            if len(self._inbox):
                # Somebody in between may have put it there, to be taken as said inside TLS.
                raise violation("received unencrypted data after SSL request")
            return False
        if self.state in UNSTARTED:
            packet = self._inbox.startup(self._limits.startup_bytes)
            if packet is not None:
                self._packet(*packet)
            return packet is not None
        tag = self._inbox.tag()
        if not tag:
            return False
        input_ = self._input(tag)
        before = self.state in UNAUTHENTICATED
        message = self._inbox.message(self._limits.startup_bytes if before else self._limits.message_bytes)
        if message is None:
            return False
        self._message(input_, message[1])
        return True

    # -- before the client is in -----------------------------------------------------------------

    def _packet(self, code: int, body: bytes) -> None:
        if code == messages.CANCEL_REQUEST:
            event = Cancel(*messages.cancel_key(body))
            self._move(Input.CANCEL_REQUEST)
            self._events.append(event)
        elif code == messages.SSL_REQUEST and self._may(Input.SSL_REQUEST):
            if self._tls is TlsMode.OFF:
                self._move(Input.SSL_REQUEST)
                self._out.append(b"N")
            else:
                self._move(Input.TLS_ACCEPTED)
                self._out.append(b"S")
                self._events.append(StartTls())
        elif code == messages.GSSENC_REQUEST and self._may(Input.GSSENC_REQUEST):
            self._move(Input.GSSENC_REQUEST)
            self._out.append(b"N")
        else:
            self._start(code, body)

    def _start(self, version: int, body: bytes) -> None:
        if self._tls is TlsMode.REQUIRED and not self._peer.tls:
            raise Refused(
                Refusal(INVALID_AUTHORIZATION, "connections without TLS are not accepted",
                        "connect with sslmode=require or better", fatal=True)
            )  # fmt: skip
        client = self._client = startup.parse(version, body)
        self._move(Input.STARTUP_MESSAGE)
        if client.newer or client.unknown:
            self._out.append(messages.negotiate_protocol(client.unknown))
        decision = self._auth.decide(client.user, self._peer)
        if isinstance(decision, Refusal):
            raise Refused(decision)
        if isinstance(decision, Admitted):
            self._admit(client)
            return
        self._exchange = decision
        self._move(Input.SASL_BEGUN)
        self._out.append(messages.authentication_sasl(decision.mechanisms))

    def _sasl(self, body: bytes) -> None:
        exchange, client = self._exchange, self._client
        assert exchange is not None
        assert client is not None
        if self.state is State.SASL:
            mechanism, data = messages.sasl_initial(body)
            if data is None:
                # Allowed, and then the client speaks first in a message of its own; nobody does it.
                raise violation("malformed SASL initial response: it has no first message")
            self._out.append(messages.authentication_sasl_continue(exchange.begin(mechanism, data)))
            self._move(Input.PROOF_AWAITED)
            return
        self._out.append(messages.authentication_sasl_final(exchange.finish(body)))
        self._admit(client)

    def _admit(self, client: startup.Startup) -> None:
        identity = self._identity
        self._out.append(messages.AUTHENTICATION_OK)
        if identity.database and client.database != identity.database:
            raise Refused(
                Refusal("3D000", f'database "{client.database}" does not exist',
                        f'the relay serves the database "{identity.database}"', fatal=True)
            )  # fmt: skip
        name = _printable(client.parameters.get("application_name", ""))
        parameters = {
            **PARAMETERS, "session_authorization": client.user, "application_name": name
        }  # fmt: skip
        self._out.append(messages.parameter_status(parameters))
        self._out.append(messages.backend_key_data(identity.pid, identity.key))
        self._out.append(messages.READY_FOR_QUERY)
        self._move(Input.ADMITTED)
        self._exchange = None
        self._events.append(
            Authenticated(client.user, client.database, name, client.parameters, client.replication)
        )

    # -- messages --------------------------------------------------------------------------------

    def _input(self, tag: bytes) -> Input:
        """What a message with this tag is here, judged before its body is waited for."""
        input_ = FROM_CLIENT.get(tag)
        if input_ is not None and self._may(input_):
            return input_
        if self.state in UNAUTHENTICATED:
            raise violation(f"expected SASL response, got message type {tag[0]}")
        if self.state in (State.STREAMING, State.WE_ENDED):
            raise violation(f"invalid standby message type {tag.decode('latin-1')!a}")
        raise violation(f"invalid frontend message type {tag[0]}")

    def _message(self, input_: Input, body: bytes) -> None:
        if input_ is Input.SASL_RESPONSE:
            self._sasl(body)
            return
        before = self.state
        self._move(input_)
        if input_ is Input.TERMINATE:
            self._events.append(Terminated())
        elif before is State.READY:
            self._command(input_, body)
        elif before is State.SKIPPING:
            if input_ is Input.SYNC:
                self._out.append(messages.READY_FOR_QUERY)
        elif input_ is Input.COPY_DATA:
            status = messages.standby_message(body)
            if status is not None:
                self._events.append(status)
        elif before is State.STREAMING:
            self._events.append(CopyEnded())
        else:
            self._out.append(STREAM_COMPLETE)

    def _command(self, input_: Input, body: bytes) -> None:
        """A message to a session that was ready for one. What is left of a stream is passed over."""
        if input_ is Input.QUERY:
            try:
                self._query(messages.string(body))
            except Refused as refused:
                if refused.refusal.fatal:
                    raise
                self._events.append(RefusedCommand(refused.refusal))
                self._move(Input.REFUSED)
                self._out += (messages.error_response(refused.refusal), messages.READY_FOR_QUERY)
        elif input_ is Input.EXTENDED or input_ is Input.FUNCTION_CALL:
            error = EXTENDED if input_ is Input.EXTENDED else FUNCTION_CALL
            self._events.append(RefusedCommand(error))
            self._out.append(messages.error_response(error))
            if input_ is Input.FUNCTION_CALL:
                self._out.append(messages.READY_FOR_QUERY)
        elif input_ is Input.SYNC:
            self._out.append(messages.READY_FOR_QUERY)

    def _query(self, text: str) -> None:
        assert self._client is not None
        command = commands.parse(text, replication=self._client.replication)
        if command is None:
            self._out += (messages.EMPTY_QUERY, messages.READY_FOR_QUERY)
        elif isinstance(command, Answer):
            self._result(command.columns, command.rows, command.tag)
        else:
            self._move(Input.ASKED)
            self._events.append(command)

    # -- the pump's answers ----------------------------------------------------------------------

    def tls_started(self, *, client_subject: str | None, end_point: bytes = b"") -> None:
        """After `StartTls`. ``client_subject``: the common name of a client certificate that was verified.
        ``end_point``: `scram.end_point` of our own, when SCRAM is to be bound to it."""
        if self.state is not State.CLOSED:
            self._move(Input.TLS_STARTED)
            self._peer = Peer(tls=True, client_subject=client_subject, end_point=end_point)

    def identified(self, system: SystemInfo) -> None:
        row = (str(system.system_identifier), str(system.timeline), str(system.xlogpos), system.database)
        self._answer(SYSTEM, [row], "IDENTIFY_SYSTEM")

    def rows(self, columns: Sequence[Column], rows: Sequence[Sequence[str | None]], tag: str) -> None:
        """A result. ``tag`` is as PostgreSQL has it: SHOW, SELECT 3."""
        self._answer(columns, rows, tag)

    def created(self, slot: CreatedSlot) -> None:
        row = (slot.name, str(slot.consistent_point), slot.snapshot_name, slot.plugin)
        self._answer(CREATED, [row], "CREATE_REPLICATION_SLOT")

    def dropped(self) -> None:
        self._answer(None, (), "DROP_REPLICATION_SLOT")

    def slot_read(self, slot: SlotInfo | None) -> None:
        row = (None, None, None)
        known = slot and (slot.slot_type, str(slot.restart_lsn), str(slot.restart_tli))
        self._answer(READ, [known or row], "READ_REPLICATION_SLOT")

    def streaming(self) -> None:
        """START_REPLICATION is granted: from now on `copy_data` and `keepalive`."""
        if self.state is not State.CLOSED:
            self._move(Input.COPY_BOTH)
            self._out.append(messages.COPY_BOTH)

    @property
    def is_clear(self) -> bool:
        """Whether CopyData messages may follow what was written."""
        return self.state is State.STREAMING and not self._out

    def copy_data(self, frames: bytes) -> bytes:
        """What is to be written for ``frames``, whole CopyData messages, with what was left to be written
        before them. They are dropped when nobody streams any more."""
        if self.state is not State.STREAMING:
            return self.outgoing()
        if not self._out:
            return frames
        self._out.append(frames)
        return self.outgoing()

    def keepalive(self, wal_end: Lsn, sent_time_us: int, *, reply_requested: bool) -> None:
        if self.state is State.STREAMING:
            self._out.append(messages.keepalive(wal_end, sent_time_us, reply_requested=reply_requested))

    def refuse(self, error: Refusal) -> None:
        """The command under way, or the stream, ends with ``error``; the client may go on unless it is fatal."""
        if self.state is State.CLOSED:
            return
        if error.fatal:
            self._fail(error)
            return
        if self.state not in (State.COMMAND, State.STREAMING, State.CLIENT_ENDED):
            raise InternalError(f"a session was refused something while it was {self.state.value}")
        self._move(Input.REFUSED)
        self._out += (messages.error_response(error), messages.READY_FOR_QUERY)

    def end_stream(self) -> None:
        """After `CopyEnded`: the command is complete. Or we end it: the client's CopyDone is awaited, and what
        it reports until then is still told."""
        if self.state is State.CLOSED:
            return
        ended_by_client = self.state is State.CLIENT_ENDED
        self._move(Input.END)
        self._out.append(messages.COPY_DONE)
        if ended_by_client:
            self._out.append(STREAM_COMPLETE)

    def shut_down(self) -> None:
        """The relay stops: the client is told why. Write `outgoing`, close."""
        if self.state is not State.CLOSED:
            self._fail(ADMIN_SHUTDOWN)

    # -- parts -----------------------------------------------------------------------------------

    def _may(self, input_: Input) -> bool:
        return (self.state, input_) in TABLE

    def _move(self, input_: Input) -> None:
        following = TABLE.get((self.state, input_))
        if following is None:
            raise InternalError(f"{input_.value} in a session that is {self.state.value}")
        self.state = following

    def _answer(
        self, columns: Sequence[Column] | None, rows: Sequence[Sequence[str | None]], tag: str
    ) -> None:
        if self.state is not State.CLOSED:
            self._move(Input.ANSWERED)
            self._result(columns, rows, tag)

    def _result(
        self, columns: Sequence[Column] | None, rows: Sequence[Sequence[str | None]], tag: str
    ) -> None:
        if columns is not None:
            self._out.append(messages.row_description(columns))
        self._out += map(messages.data_row, rows)
        self._out += (messages.command_complete(tag), messages.READY_FOR_QUERY)

    def _fail(self, error: Refusal) -> None:
        self._out.append(messages.error_response(error))
        self._inbox.clear()
        self._move(Input.ENDED)


def _printable(name: str) -> str:
    """As PostgreSQL shows application names: it may stand in a log."""
    return "".join(character if " " <= character <= "~" else "?" for character in name)
