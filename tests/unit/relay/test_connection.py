"""A client that asks and takes no answers, over a true socket and a true event loop: they don't pile up."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Self

from logship.lsn import INVALID, Lsn
from logship.relay.authentication import Trust
from logship.relay.events import SlotInfo, SystemInfo
from logship.relay.messages import COPY_BOTH, READY_FOR_QUERY
from logship.relay.ports import ClientInfo, Feed, Outgoing, Rows
from logship.relay.server import Hub, RelayLimits
from logship.relay.session import TlsMode
from tests.servers import eventually
from tests.unit.relay.client import COPY_DONE, START, login, query, status, tags

TURNS = 3_000  # of the loop: a relay that reads on takes in each what there is
OFTEN = 50_000
SHOW = query("SHOW DateStyle")
ASKED = status(1, 1, 1, asked=True)


class EmptyLog:
    def read(self, max_bytes: int, timeout_s: float) -> list[Outgoing]:
        return []

    def listen(self, listener: Callable[[bool], None]) -> None: ...

    def wake(self) -> None: ...

    def close(self) -> None: ...


class OneReplica:
    """Of an empty log. ``reports``: how often it has said where it is."""

    def __init__(self) -> None:
        self.reports = 0

    def start(self, name: str, start_lsn: Lsn, options: Mapping[str, str], client: ClientInfo) -> Feed:
        return EmptyLog()

    def status(self, name: str, write: Lsn, flush: Lsn, replay: Lsn) -> None:
        self.reports += 1

    def sent(self, name: str, lsn: Lsn) -> None: ...

    def ended(self, name: str) -> None: ...

    def drop(self, name: str) -> None: ...

    def create(self, name: str, *, temporary: bool) -> Lsn:
        return INVALID

    def read(self, name: str) -> SlotInfo | None:
        return None

    def identify(self) -> SystemInfo:
        return SystemInfo(1, 1, INVALID, "app")

    def publication_tables(self, publications: Sequence[str]) -> Rows:
        return []

    def publications(self, publications: Sequence[str]) -> Rows:
        return []

    def show(self, name: str) -> tuple[Sequence[str], Sequence[str | None]]:
        return (), ()


class Client:
    """In the hub's own loop. ``taken``: what it has read."""

    def __init__(self, backend: OneReplica) -> None:
        self.loop = asyncio.get_running_loop()
        self.hub = Hub(
            self.loop, backend=backend, auth=Trust(), tls_mode=TlsMode.OFF, tls=None, database="",
            limits=RelayLimits(connections=2, buffer_bytes=64 * 1024),
        )  # fmt: skip
        self.taken = b""
        self.link, self._theirs = socket.socketpair()
        self.link.setblocking(False)

    async def __aenter__(self) -> Self:
        await self.loop.connect_accepted_socket(self.hub.connect, self._theirs)
        await self.say(login(), READY_FOR_QUERY)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.link.close()
        await self.hub.close()

    async def say(self, data: bytes, until: bytes) -> bytes:
        """Send ``data``, and read up to an answer that ends so."""
        self.taken = b""
        sending = self.loop.create_task(self.loop.sock_sendall(self.link, data))
        while not self.taken.endswith(until):
            await self.read()
        await sending
        return self.taken

    async def read(self) -> None:
        self.taken += await self.loop.sock_recv(self.link, 1 << 20)

    async def press(self, data: bytes) -> bytes:
        """Send as much of it as is taken while nothing is read. The rest."""
        for _ in range(TURNS):
            with contextlib.suppress(BlockingIOError):
                data = data[self.link.send(data[: 1 << 20]) :] if data else data
            turn = self.loop.create_future()
            self.loop.call_soon(turn.set_result, None)
            await turn
        return data


def test_questions_wait_outside_until_answers_are_taken() -> None:
    async def ask() -> None:
        async with Client(OneReplica()) as client:
            answer = await client.say(SHOW, READY_FOR_QUERY)
            rest = await client.press(SHOW * OFTEN)
            assert len(rest) > len(SHOW) * OFTEN / 2  # the sockets hold some, and a buffer of answers
            client.taken = b""
            sending = client.loop.create_task(client.loop.sock_sendall(client.link, rest))
            while len(client.taken) < len(answer) * OFTEN:
                await client.read()
            await sending
            assert client.taken == answer * OFTEN

    asyncio.run(ask())


def test_who_streams_is_heard_and_owed_one_answer() -> None:
    async def stream() -> None:
        backend = OneReplica()
        async with Client(backend) as client:
            await client.say(query(START), COPY_BOTH)
            assert await client.press(ASKED * OFTEN) == b""
            assert backend.reports == OFTEN  # commits may wait for what it says
            answers = tags(await client.say(COPY_DONE, READY_FOR_QUERY))
            assert 0 < answers.count(b"d") < OFTEN / 2
            await client.say(query(START), COPY_BOTH)
            await client.say(ASKED, b"\0")
            assert tags(client.taken) == b"d"

    asyncio.run(stream())


def test_a_question_that_hangs_keeps_a_place_and_not_the_end() -> None:
    class Hanging(OneReplica):
        def __init__(self) -> None:
            super().__init__()
            self.asked, self.answers = threading.Event(), threading.Event()

        def identify(self) -> SystemInfo:
            self.asked.set()
            self.answers.wait(60)
            return super().identify()

    async def ask() -> None:
        backend = Hanging()
        async with Client(backend) as client:
            await client.loop.sock_sendall(client.link, query("IDENTIFY_SYSTEM"))
            await client.loop.run_in_executor(None, backend.asked.wait, 20)
            (call,) = [each for each in threading.enumerate() if each.name.startswith("relay call")]
            assert call.daemon  # or the interpreter would wait for it at its end
            assert client.hub.connections == 1
        assert not backend.answers.is_set()  # `close` has ended all the same
        backend.answers.set()
        call.join(20)

    asyncio.run(ask())


def test_an_answer_that_comes_late_frees_its_place() -> None:
    class Slow(OneReplica):
        answers = threading.Event()

        def identify(self) -> SystemInfo:
            assert self.answers.wait(20)
            return super().identify()

    async def ask() -> None:
        async with Client(Slow()) as client:
            await client.loop.sock_sendall(client.link, query("IDENTIFY_SYSTEM"))
            await client.press(b"")
            client.link.close()
            await client.press(b"")
            assert client.hub.connections == 1
            Slow.answers.set()
            await client.loop.run_in_executor(None, eventually, lambda: client.hub.connections == 0)

    asyncio.run(ask())
