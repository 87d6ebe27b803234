"""One client's connection: carries bytes between its socket and `Session`, and the session's questions to the backend.

In: what asyncio calls a protocol with. Out: bytes on the transport, calls of the `Backend` in threads, a `Stream`
while the client streams. Lives in the event loop and never waits in it. Whatever a client does, or whatever goes
wrong for it, ends this connection and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from logship.errors import LogshipError
from logship.lsn import INVALID
from logship.relay.events import (
    Authenticated,
    Cancel,
    CopyEnded,
    Event,
    Failed,
    RefusedCommand,
    StartReplication,
    StartTls,
    Status,
)
from logship.relay.messages import error_response
from logship.relay.ports import ClientInfo, Outgoing
from logship.relay.questions import Questions, Work
from logship.relay.refusal import Refusal, Refused
from logship.relay.session import Session
from logship.relay.states import State
from logship.relay.stream import Stream
from logship.relay.tls import subject_of

if TYPE_CHECKING:
    from logship.relay.server import Door, Hub

log = logging.getLogger(__name__)

_EPOCH_US: Final = 946_684_800_000_000  # 2000-01-01 UTC after the Unix epoch
_CLOSING_S: Final = 5.0  # for a client to take its last bytes
TOO_MANY: Final = Refusal(
    "53300", "sorry, too many clients already", "raise --max-connections of the relay", fatal=True
)
_TOO_SLOW: Final = Refusal("57014", "canceling authentication due to timeout", fatal=True)
_CANCELLED: Final = Refusal("57014", "canceling statement due to user request")


class Connection(asyncio.Protocol):
    """``address`` is what the log calls it; everything else is its own business."""

    def __init__(self, hub: Hub, session: Session, door: Door, pid: int, key: int) -> None:
        self.door = door
        self.pid = pid
        self.key = key
        self.address = ""
        self.streams = ""  # the replica that it is served as
        self.sent_bytes = 0
        self._hub = hub
        self._session = session
        self._port = 0
        self._transport: asyncio.Transport | None = None
        self._events: deque[Event] = deque()
        self._work: asyncio.Task[None] | None = None
        self._client: Authenticated | None = None
        self._questions = Questions(hub, session, who=lambda: self._who, lost=lambda: self._lost)
        self._stream: Stream | None = None
        self._sent_lsn = INVALID
        self._lost = False
        # Held while bytes are written to the socket: by the loop, or by whoever has something to stream.
        self._writing = threading.Lock()
        self._backlog = False  # the transport had bytes left when it was last written to: the rest goes by it
        self._socket: int | None = None  # None: only the transport may write, as under TLS
        self._streams = False  # the client has been told that the stream begins
        self._rest = b""  # of what was streamed, that the socket didn't take: before all else
        self._since_s = self._heard_s = hub.loop.time()
        self._closing_s: float | None = None
        self._asked = False  # for a sign of life
        self._full = False  # the client takes nothing: the transport's buffer has reached its limit
        self._owes_keepalive = False  # asked for while it was full
        # What came inside TLS before `start_tls` has returned: asyncio delivers it as soon as it is there.
        self._early: bytes | None = None

    # -- asyncio's side --------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        name = transport.get_extra_info("peername") or ("", 0)
        self.address, self._port = str(name[0]), int(name[1])
        self._socket = transport.get_extra_info("socket").fileno()
        transport.set_write_buffer_limits(high=self._hub.limits.buffer_bytes)
        if not self._hub.admit(self):
            transport.write(error_response(TOO_MANY))
            self._close()

    def data_received(self, data: bytes) -> None:
        self._heard_s, self._asked = self._hub.loop.time(), False
        if self._early is None:
            self._take(data)
        else:
            self._early += data

    def pause_writing(self) -> None:
        self._full = True
        if self._stream is not None:
            self._stream.window.pause(True)
        self._listen()

    def resume_writing(self) -> None:
        self._full = False
        if self._stream is not None:
            self._stream.window.pause(False)
        if self._owes_keepalive:
            self._owes_keepalive = False
            self._keepalive(reply_requested=False)
        self._listen()

    def connection_lost(self, exc: Exception | None) -> None:
        with self._writing:
            self._lost, self._socket = True, None  # the number may be another's from here on
        self._events.clear()
        if self._stream is not None or self._questions.temporary:
            self._hub.spawn(self._leave())
        if self._work is None:
            self._hub.gone(self)

    # -- from the hub ----------------------------------------------------------------------------

    @property
    def authenticated(self) -> bool:
        return self._client is not None

    def look(self, now_s: float) -> None:
        """About once a second at least: cuts who is too slow to log in, doesn't go, or gives no sign of life."""
        limits = self._hub.limits
        if self._closing_s is not None:
            if now_s - self._closing_s > _CLOSING_S:
                self._abort()
        elif self._client is None:
            if now_s - self._since_s > limits.login_s:
                self._session.refuse(_TOO_SLOW)
                self._flush()
        elif self._stream is not None:
            silent_s = now_s - self._heard_s
            if silent_s > limits.sender_timeout_s:
                log.warning("%s: nothing was heard for %.0f s; the connection is cut", self._who, silent_s)
                self._abort()
            elif silent_s > limits.sender_timeout_s / 2 and not self._asked:
                self._asked = True
                self._keepalive(reply_requested=True)

    def cancel(self) -> None:
        """Somebody who knows our key wants the command under way to end: the stream, that is."""
        if self._stream is not None and self._work is None:
            self._begin(self._end(lambda: self._session.refuse(_CANCELLED)))

    def shut_down(self) -> None:
        if self._stream is not None:
            self._stream.stop()
        self._session.shut_down()
        self._flush()

    def abort(self) -> None:
        self._abort()

    # -- events ----------------------------------------------------------------------------------

    def _take(self, data: bytes) -> None:
        """The client's bytes, or none, to go on with what had to wait for an answer."""
        self._events.extend(self._session.receive(data))
        while self._events and self._work is None:
            work = self._react(self._events.popleft())
            if work is not None:
                self._begin(work)
        self._flush()

    def _begin(self, work: Work) -> None:
        """One thing at a time that waits, and no more of the client's bytes meanwhile."""
        self._work = self._hub.spawn(self._finish(work))
        self._listen()

    async def _finish(self, work: Work) -> None:
        try:
            await work
        except Refused as refused:
            self._refuse(refused.refusal)
        except LogshipError as error:
            log.warning("%s: %s", self._who, error)
            self._refuse(Refusal("58000", "the relay can't do that now", "see the relay's log"))
        except Exception:
            log.exception("%s: a defect of the relay ends this connection", self._who)
            self._session.refuse(Refusal("XX000", "a defect of the relay", "see the relay's log", fatal=True))
        self._work = None
        if self._lost:  # until then what it asked for counts as a connection: it may hang
            self._hub.gone(self)
        if self._lost or self._transport is None:
            return
        self._listen()
        self._take(b"")

    def _listen(self) -> None:
        """Read on, unless something is under way, or the client takes no answers: then it is answered no more. While
        it streams it is heard all the same: commits may wait for what it says, and that needs no answers."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self._work is None and (self._stream is not None or not self._full):
            transport.resume_reading()
        else:
            transport.pause_reading()

    def _react(self, event: Event) -> Work | None:
        """What is done at once is done; what must wait is returned."""
        match event:
            case Status():
                self._status(event)
            case Authenticated():
                self._client = event
                log.debug("%s: authenticated", self._who)
            case Cancel():
                self._hub.cancel(event.pid, event.key)
            case RefusedCommand() | Failed():
                log.info("%s: %s", self._who, event.error.message)
            case _:
                return self._asked_for(event)
        return None

    def _asked_for(self, event: Event) -> Work | None:
        match event:
            case StartTls():
                return self._start_tls()
            case StartReplication():
                return self._start(event)
            case CopyEnded():
                return self._end(self._session.end_stream)
        return self._questions.asked(event)

    def _refuse(self, refusal: Refusal) -> None:
        log.info("%s: %s", self._who, refusal.message)
        self._session.refuse(refusal)

    # -- commands --------------------------------------------------------------------------------

    async def _start_tls(self) -> None:
        tls, transport = self._hub.tls, self._transport
        assert tls is not None
        assert transport is not None
        self._flush()
        self._early, self._socket = b"", None
        left_s = max(0.1, self._since_s + self._hub.limits.login_s - self._hub.loop.time())
        try:
            secured = await self._hub.loop.start_tls(
                transport, self, tls.context, server_side=True, ssl_handshake_timeout=left_s
            )
        except OSError as error:  # an SSLError is one
            log.info("%s: the TLS handshake failed: %s", self._who, getattr(error, "reason", None) or error)
            self._abort()
            return
        if secured is None:  # the client left meanwhile
            return
        self._transport = secured
        secured.set_write_buffer_limits(high=self._hub.limits.buffer_bytes)
        subject = subject_of(secured.get_extra_info("ssl_object"))
        self._session.tls_started(client_subject=subject, end_point=tls.end_point)
        early, self._early = self._early, None
        self._events.extend(self._session.receive(early))

    async def _start(self, event: StartReplication) -> None:
        client = self._client
        assert client is not None
        info = ClientInfo(
            user=client.user,
            application_name=client.application_name,
            address=self.address,
            port=self._port,
            pid=self.pid,
        )
        name = event.slot
        feed = await self._hub.call(self._hub.backend.start, name, event.start_lsn, event.options, info)
        limits = self._hub.limits
        self.streams, self._sent_lsn = name, INVALID
        self._stream = Stream(
            feed,
            loop=self._hub.loop,
            name=name,
            limit_bytes=limits.buffer_bytes,
            read_bytes=limits.read_bytes,
            send=self._send,
            deliver=self._deliver,
            failed=self._failed,
        )
        self._stream.window.pause(self._full)
        self._stream.start()
        if self._lost:
            await self._leave()
            return
        log.info('%s: streams replica "%s" from %s', self._who, name, event.start_lsn)
        self._session.streaming()
        self._flush()
        self._streams = True

    # -- the stream ------------------------------------------------------------------------------

    def _send(self, found: list[Outgoing]) -> bool:
        """In any thread: straight to the socket. False: nothing was, as something else is before it."""
        frames = b"".join([item.frames for item in found])
        with self._writing:
            if not self._is_clear() or not all(item.frames for item in found):
                return False
            assert self._socket is not None
            try:
                written = os.write(self._socket, frames)
            except OSError:  # it takes nothing, or it is gone: the loop hears of that
                return False
            self._rest = frames[written:]
            self._note_sent(found, len(frames))
        if written < len(frames):
            self._hub.loop.call_soon_threadsafe(self._flush)
        return True

    def _is_clear(self) -> bool:
        """While writing: whether a frame may follow at once."""
        transport = self._transport
        return not (
            not self._streams or self._socket is None or self._rest or self._backlog or transport is None
            or transport.is_closing() or not self._session.is_clear
        )  # fmt: skip

    def _note_sent(self, found: list[Outgoing], size: int) -> None:
        """While writing."""
        for item in found:
            if item.sent_lsn > self._sent_lsn:  # what has no frames may come after what was sent past it
                self._sent_lsn = item.sent_lsn
                self._hub.backend.sent(self.streams, item.sent_lsn)
        self.sent_bytes += size
        self._hub.count_sent(size)

    def _deliver(self, found: list[Outgoing]) -> None:
        """In the loop, for the stream's thread."""
        if self._stream is None or self._transport is None or self._transport.is_closing():
            return
        for item in found:
            with self._writing:
                self._note_sent([item], len(item.frames))
            if item.frames:
                self._write(item.frames)
                self._stream.window.give(len(item.frames))
            else:
                # Nothing to send up to there. A commit may wait for the answer, if it decoded to nothing.
                self._keepalive(reply_requested=True)

    def _failed(self, error: Exception) -> None:
        """The stream's thread has ended with an error, in the loop."""
        if self._stream is None or self._lost or self._session.state is State.CLOSED:
            return
        if isinstance(error, Refused):
            refusal = error.refusal
        else:
            log.error("%s: reading the log for it failed: %s", self._who, error, exc_info=error)
            refusal = Refusal("XX000", "the relay can't read its log", "see the relay's log", fatal=True)
        self._refuse(refusal)
        self._flush()

    def _status(self, event: Status) -> None:
        self._hub.backend.status(self.streams, event.write, event.flush, event.replay)
        if event.reply_requested and self._full:
            self._owes_keepalive = True  # one will do, when it takes something again
        elif event.reply_requested:
            self._keepalive(reply_requested=False)

    def _keepalive(self, *, reply_requested: bool) -> None:
        self._session.keepalive(self._sent_lsn, _now_us(), reply_requested=reply_requested)
        self._flush()

    async def _end(self, answer: Callable[[], None]) -> None:
        """Stop reading the log; then the session is told how the stream ended."""
        await self._stop_stream()
        answer()

    async def _leave(self) -> None:
        """The client is gone: what was held for it is let go."""
        await self._stop_stream()
        await self._questions.let_go()

    async def _stop_stream(self) -> None:
        stream, name = self._stream, self.streams
        if stream is None:
            return
        self._stream, self.streams, self._streams = None, "", False
        stream.stop()
        await self._hub.call(stream.join)
        await self._hub.call(self._hub.backend.ended, name)

    # -- bytes -----------------------------------------------------------------------------------

    def _flush(self) -> None:
        transport = self._transport
        if transport is None:
            return
        self._write()
        if self._session.state is State.CLOSED:
            self._close()

    def _write(self, frames: bytes = b"") -> None:
        """What the session has to say, and ``frames`` behind it."""
        transport = self._transport
        with self._writing:
            data = self._rest + (self._session.copy_data(frames) if frames else self._session.outgoing())
            self._rest = b""
            if data and transport is not None and not transport.is_closing():
                transport.write(data)
                # Only the loop may ask: while it writes on by itself, the transport's own count isn't to be relied on.
                self._backlog = transport.get_write_buffer_size() > 0

    def _close(self) -> None:
        """Once what is written is taken; `look` sees to it that this doesn't take for ever."""
        if self._closing_s is None and self._transport is not None:
            self._closing_s = self._hub.loop.time()
            if self._stream is not None:
                self._stream.stop()
            self._transport.close()

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    @property
    def _who(self) -> str:
        user = f"{self._client.user}@" if self._client else ""
        return f"relay client {user}{self.address or 'local'}:{self._port}"


def _now_us() -> int:
    return time.time_ns() // 1_000 - _EPOCH_US
