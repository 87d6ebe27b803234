"""The thread that reads the log for one client, and what keeps it from reading more than the client takes.

In: a `Feed`. Out: its frames, handed to the event loop. No more than `limit_bytes` are on their way between the
two; while the client's socket takes nothing, the thread waits, and costs nobody anything. The event loop
never waits for the feed.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable

from logship.relay.ports import Feed, Outgoing

_IDLE_S = 10.0  # a read that finds nothing ends so that the thread can't be forgotten


class Window:
    """How much may be on its way. The loop opens and closes it; the thread waits in front of it."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._changed = threading.Condition()
        self._under_way = 0
        self._paused = False
        self._closed = False

    def wait(self) -> bool:
        """Until there is room; False once it is closed."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or (not self._paused and self._under_way < self._limit_bytes)
            )
            return not self._closed

    def take(self, size: int) -> None:
        with self._changed:
            self._under_way += size

    def give(self, size: int) -> None:
        """``size`` bytes have reached the socket's buffer."""
        with self._changed:
            self._under_way -= size
            self._changed.notify_all()

    def pause(self, paused: bool) -> None:
        """Whether the socket's buffer is full."""
        with self._changed:
            self._paused = paused
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class Stream:
    """``deliver`` and ``failed`` are called in the event loop."""

    def __init__(
        self,
        feed: Feed,
        *,
        loop: asyncio.AbstractEventLoop,
        name: str,
        limit_bytes: int,
        read_bytes: int,
        deliver: Callable[[list[Outgoing]], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self.window = Window(limit_bytes)
        self._feed = feed
        self._loop = loop
        self._read_bytes = read_bytes
        self._deliver = deliver
        self._failed = failed
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=f"relay {name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Soon; `join` waits for it. From any thread."""
        self._stopping = True
        self.window.close()
        self._feed.wake()

    def join(self) -> None:
        """The feed is closed then."""
        self._thread.join()

    def _run(self) -> None:
        try:
            while self.window.wait():
                found = self._feed.read(self._read_bytes, _IDLE_S)
                if found:
                    self.window.take(sum(len(item.frames) for item in found))
                    self._call(lambda found=found: self._deliver(found))  # type: ignore[misc]
        except Exception as error:  # noqa: BLE001 - the client is told, and the log
            told = error
            self._call(lambda: self._failed(told))
        finally:
            self._feed.close()

    def _call(self, work: Callable[[], None]) -> None:
        if self._stopping:
            return
        with contextlib.suppress(RuntimeError):  # the loop has ended since: nobody is there to be told
            self._loop.call_soon_threadsafe(work)
