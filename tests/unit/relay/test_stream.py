"""The thread of a client's stream, over a true journal and a true event loop: who sends what, and in which order."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from logship.journal.log import Journal
from logship.journal.segment import Source
from logship.lsn import INVALID, Lsn
from logship.relay.ports import Outgoing
from logship.relay.stream import Stream
from logship.service.ship.feed import RecordFeed
from tests.servers import eventually
from tests.unit.journal.journals import changes

SOURCE = Source(7, 1, "db")


class Feed(RecordFeed):
    """Which can't be read, once ``broken``."""

    broken = False

    def read(self, max_bytes: int, timeout_s: float) -> list[Outgoing]:
        if self.broken:
            raise OSError("the disk is gone")
        return super().read(max_bytes, timeout_s)


class Client:
    """What came, up to which LSN, and by which thread; ``takes``: what the socket does."""

    def __init__(
        self,
        journal: Journal,
        *,
        awaited: bool,
        feed: type[Feed] = Feed,
        more: Callable[[Stream], threading.Event] | None = None,
    ) -> None:
        self.came: list[tuple[Lsn, str]] = []
        self.failure: Exception | None = None
        self.takes = True
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="loop")
        self._thread.start()
        self.feed = feed(journal.reader(Lsn(0)), lambda: (INVALID, None), awaited=awaited)
        self.stream = Stream(
            self.feed, loop=self._loop, name="r", limit_bytes=1 << 20, read_bytes=1 << 20, send=self._send,
            deliver=self._deliver, failed=self._failed,
        )  # fmt: skip
        if more is not None:
            self.stream._more = more(self.stream)
        self.stream.start()

    def _send(self, found: list[Outgoing]) -> bool:
        if self.takes:
            self.came += [(item.sent_lsn, threading.current_thread().name) for item in found]
        return self.takes

    def _deliver(self, found: list[Outgoing]) -> None:
        self.came += [(item.sent_lsn, threading.current_thread().name) for item in found]
        self.stream.window.give(sum(len(item.frames) for item in found))

    def _failed(self, error: Exception) -> None:
        self.failure = error

    def has(self, lsn: int) -> None:
        eventually(lambda: bool(self.came) and self.came[-1][0] == lsn)

    def close(self) -> None:
        self.stream.stop()
        self.stream.join()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@contextmanager
def served(journal: Journal, *, awaited: bool) -> Iterator[Client]:
    client = Client(journal, awaited=awaited)
    try:
        yield client
    finally:
        client.close()


def append(journal: Journal, lsn: int) -> None:
    journal.append(changes(lsn))
    journal.write_through(lambda: None)


@pytest.mark.parametrize("awaited", [True, False])
def test_who_is_waited_for_gets_it_before_anything_else_happens(tmp_path: Path, awaited: bool) -> None:
    with Journal.open(tmp_path, SOURCE) as journal, served(journal, awaited=awaited) as client:
        append(journal, 100)
        client.has(100)
        mine = threading.current_thread().name

        def by_the_writer() -> bool:
            before = journal.written_lsn
            append(journal, before + 100)
            at_once = client.came[-1] == (before + 100, mine)
            client.has(before + 100)
            return at_once

        if awaited:
            eventually(by_the_writer)  # once the stream's own thread has nothing to do
        else:
            assert not any(by_the_writer() for _ in range(20))
        reached = [lsn for lsn, _ in client.came]
        assert reached == sorted(set(reached))


def test_what_the_socket_does_not_take_goes_by_the_loop_and_nothing_passes_it(tmp_path: Path) -> None:
    with Journal.open(tmp_path, SOURCE) as journal, served(journal, awaited=True) as client:
        client.takes = False
        for lsn in range(100, 3000, 100):
            append(journal, lsn)
        client.has(2900)
        assert {name for _, name in client.came} == {"loop"}
        client.takes = True
        for lsn in range(3000, 6000, 100):
            append(journal, lsn)
        client.has(5900)
        reached = [lsn for lsn, _ in client.came]
        assert reached == sorted(set(reached))


def test_what_goes_wrong_for_a_client_is_no_business_of_the_journal(tmp_path: Path) -> None:
    with Journal.open(tmp_path, SOURCE) as journal, served(journal, awaited=True) as client:
        append(journal, 100)
        client.has(100)
        client.feed.broken = True
        append(journal, 200)
        assert journal.wait_flushed(Lsn(200), 30.0)
        eventually(lambda: isinstance(client.failure, OSError))


def test_an_end_that_comes_between_two_reads_is_not_forgotten(tmp_path: Path) -> None:
    class Interrupted(threading.Event):
        """Whoever is about to look for more is stopped at that moment."""

        def __init__(self, stream: Stream) -> None:
            super().__init__()
            self._stream = stream

        def clear(self) -> None:
            self._stream.stop()
            super().clear()

    class Counted(Feed):
        reads = 0

        def read(self, max_bytes: int, timeout_s: float) -> list[Outgoing]:
            Counted.reads += 1
            return super().read(max_bytes, timeout_s)

    with Journal.open(tmp_path, SOURCE) as journal:
        client = Client(journal, awaited=False, feed=Counted, more=Interrupted)
        client.close()
        assert (Counted.reads, client.failure) == (0, None)
