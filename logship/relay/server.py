"""The relay's pump: listens, admits connections up to a limit, looks after them. An event loop in a thread of its own.

In: a place to listen, an authenticator, a `Backend`. Out: served clients, until `close`. The loop never waits for a
disk or for the primary: the backend is called in threads, as many as there may be connections, so that nobody
waits for another's answer. Memory per connection is bounded: `Limits` of the session for what comes in,
`buffer_bytes` for what goes out, and a client that takes nothing is fed nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import itertools
import logging
import secrets
import socket
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final, TypeVar

from logship.config import MIB, Address
from logship.errors import UsageError
from logship.relay.authentication import Authenticator, Decision, Peer
from logship.relay.connection import TOO_MANY, Connection
from logship.relay.ports import Backend
from logship.relay.session import Limits, ServerIdentity, Session, TlsMode
from logship.relay.tls import Tls

log = logging.getLogger(__name__)

T = TypeVar("T")

_LOOK_S: Final = 0.5
_GOODBYE_S: Final = 1.0  # for clients to take the news that the relay stops
_BACKLOG: Final = 128
_MORE: Final = 32  # connections beyond the limit that are told so properly


class Door:
    """The authenticator of one connection. One too many is told so when it has said who it is, as PostgreSQL does
    it: libpq doesn't show an error that comes in place of the answer to its SSLRequest."""

    def __init__(self, auth: Authenticator) -> None:
        self.full = False
        self._auth = auth

    def decide(self, user: str, peer: Peer) -> Decision:
        return TOO_MANY if self.full else self._auth.decide(user, peer)


class Place:
    """An address that is taken: nobody else can listen there, and nobody is let in before `listen`. So a program
    knows that it may serve before it claims anything, and keeps no client waiting meanwhile."""

    def __init__(self, address: Address, *, trusting: bool = False) -> None:
        """``trusting``: whoever comes is let in, so only loopback may be listened on. `UsageError` when nobody can
        listen there."""
        self._asked = address
        try:
            self._socket = _bound(address, loopback_only=trusting)
        except OSError as error:
            raise self._taken(error) from error
        host, port = self._socket.getsockname()[:2]
        self.address = Address(str(host), int(port))

    def listen(self) -> socket.socket:
        try:
            self._socket.listen(_BACKLOG)
        except OSError as error:
            raise self._taken(error) from error
        return self._socket

    def close(self) -> None:
        """Give the address up; harmless when a server has done so."""
        self._socket.close()

    def _taken(self, error: OSError) -> UsageError:
        return UsageError(
            f"--listen: can't listen on {self._asked}: {error.strerror or error}",
            hint="give another HOST:PORT, or end the program that listens there; port 0 takes a free one",
        )


def _bound(address: Address, *, loopback_only: bool) -> socket.socket:
    infos = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, place = infos[0]
    if loopback_only and not ipaddress.ip_address(str(place[0]).partition("%")[0]).is_loopback:
        raise UsageError(
            f"--auth trust lets everybody in, and {address} is no loopback address",
            hint="listen on 127.0.0.1 or [::1], or give --users and leave --auth at scram",
        )
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setblocking(False)
        bound.bind(place)
    except BaseException:
        bound.close()
        raise
    return bound


@dataclass(frozen=True, slots=True)
class RelayLimits:
    """``buffer_bytes``: of one client's stream, on its way to the socket; ``read_bytes``: taken from the log at
    a time. ``sender_timeout_s``: as wal_sender_timeout."""

    connections: int = 100
    login_s: float = 10.0
    sender_timeout_s: float = 60.0
    buffer_bytes: int = 1 * MIB
    read_bytes: int = 1 * MIB
    session: Limits = field(default_factory=Limits)


class Hub:
    """What connections share. Belongs to the loop's thread, but for what says otherwise."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        backend: Backend,
        auth: Authenticator,
        tls_mode: TlsMode,
        tls: Tls | None,
        database: str,
        limits: RelayLimits,
    ) -> None:
        self.loop = loop
        self.backend = backend
        self.limits = limits
        self.tls = tls
        self.sent_bytes = 0  # of the log, to all clients: `count_sent`
        self._counting = threading.Lock()
        self.refused = 0  # connections beyond the limit
        self._auth = auth
        self._tls_mode = tls_mode
        self._database = database
        self._pids = itertools.count(1)
        self._connections: set[Connection] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._tasks: set[asyncio.Task[None]] = set()

    def connect(self) -> Connection:
        """The protocol of a new connection."""
        pid, key = next(self._pids) & 0x7FFFFFFF, secrets.randbits(32)
        door = Door(self._auth)
        session = Session(
            tls=self._tls_mode,
            auth=door,
            identity=ServerIdentity(pid, key, self._database),
            limits=self.limits.session,
        )
        return Connection(self, session, door, pid, key)

    @property
    def connections(self) -> int:
        return len(self._connections)

    def count_sent(self, size: int) -> None:
        """From any thread."""
        with self._counting:
            self.sent_bytes += size

    def admit(self, connection: Connection) -> bool:
        """False: so many are here that not even the reason is waited for."""
        self._connections.add(connection)
        self._empty.clear()
        connection.door.full = len(self._connections) > self.limits.connections
        self.refused += connection.door.full
        return len(self._connections) <= self.limits.connections + _MORE

    def gone(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    def cancel(self, pid: int, key: int) -> None:
        for connection in self._connections:
            if connection.pid == pid and secrets.compare_digest(str(connection.key), str(key)):
                connection.cancel()

    def spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def call(self, function: Callable[..., T], *arguments: object) -> T:
        """``function`` in a thread of its own: it may wait, and hang where the primary does, which keeps neither other
        clients nor the program's end. There are as many as connections (each has one under way), and their ends."""
        answer: Future[T] = Future()

        def work() -> None:
            if answer.set_running_or_notify_cancel():
                try:
                    answer.set_result(function(*arguments))
                except Exception as error:  # noqa: BLE001 - whoever awaits it gets it
                    answer.set_exception(error)

        threading.Thread(target=work, name="relay call", daemon=True).start()
        return await asyncio.wrap_future(answer, loop=self.loop)

    async def look(self) -> None:
        """For ever: look after the connections."""
        while True:
            await asyncio.sleep(_LOOK_S)
            now_s = self.loop.time()
            for connection in list(self._connections):
                connection.look(now_s)

    async def close(self) -> None:
        """Say goodbye, wait a moment, cut who is left, and let go of what was held for them."""
        for connection in list(self._connections):
            connection.shut_down()
        await self._emptied()
        for connection in list(self._connections):
            connection.abort()
        await self._emptied()
        if self._tasks:
            _, left = await asyncio.wait(self._tasks, timeout=_GOODBYE_S)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def _emptied(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._empty.wait(), _GOODBYE_S)


class RelayServer:
    """`run` in a thread of its own, `stop` from any, `close` at the end."""

    def __init__(
        self,
        place: Place,
        *,
        backend: Backend,
        auth: Authenticator,
        tls_mode: TlsMode = TlsMode.OFF,
        tls: Tls | None = None,
        database: str = "",
        limits: RelayLimits | None = None,
    ) -> None:
        """Listens at ``place``, and closes it at the end; `UsageError` when nobody can listen there.
        ``database``: the one that is served."""
        self._socket = place.listen()
        self.address = place.address
        self._loop = asyncio.new_event_loop()
        self._hub = Hub(
            self._loop,
            backend=backend,
            auth=auth,
            tls_mode=tls_mode,
            tls=tls,
            database=database,
            limits=limits or RelayLimits(),
        )
        self._ended = asyncio.Event()

    def run(self) -> None:
        """Serve until `stop`."""
        log.info("the relay listens on %s", self.address)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    def stop(self) -> None:
        """Stop listening and end all sessions, within a few seconds."""
        with contextlib.suppress(RuntimeError):  # it has ended
            self._loop.call_soon_threadsafe(self._ended.set)

    def close(self) -> None:
        """After `run`, or in its place."""
        if not self._loop.is_running():
            self._loop.close()
            self._socket.close()

    @property
    def connections(self) -> int:
        return self._hub.connections

    @property
    def refused(self) -> int:
        """Connections beyond the limit, since the start."""
        return self._hub.refused

    @property
    def sent_bytes(self) -> int:
        """Of the log, to all clients, since the start."""
        return self._hub.sent_bytes

    async def _serve(self) -> None:
        server = await self._loop.create_server(self._hub.connect, sock=self._socket, backlog=_BACKLOG)
        watch = self._loop.create_task(self._hub.look())
        ended = self._loop.create_task(self._ended.wait())
        try:
            await asyncio.wait((watch, ended), return_when=asyncio.FIRST_COMPLETED)
            if watch.done():
                watch.result()
        finally:
            watch.cancel()
            ended.cancel()
            server.close()
            await self._hub.close()
