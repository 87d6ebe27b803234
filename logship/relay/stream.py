"""The thread that reads the log for one client, and what keeps it from reading more than the client takes.

In: a `Feed`. Out: its frames, sent at once where nothing is before them, else handed to the event loop. No more than
`limit_bytes` are on their way between the two; while the client's socket takes nothing, the thread waits, and costs
nobody anything. The event loop never waits for the feed. Where a commit waits, and the client has all that came
before, the thread that writes the log sends the little that it wrote: no other has to get its turn for that.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable

from logship.relay.ports import Feed, Outgoing

_IDLE_S = 10.0  # a wait for more ends so that the thread can't be forgotten
_LITTLE_BYTES = 64 * 1024  # what the log's writer sends by itself


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

    @property
    def is_clear(self) -> bool:
        """Nothing is on its way, and the socket takes more."""
        return not (self._under_way or self._paused or self._closed)

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
    """``deliver`` and ``failed`` are called in the event loop; ``send`` in any thread, one at a time, while nothing is
    on its way: False, where it is to be delivered instead."""

    def __init__(
        self,
        feed: Feed,
        *,
        loop: asyncio.AbstractEventLoop,
        name: str,
        limit_bytes: int,
        read_bytes: int,
        send: Callable[[list[Outgoing]], bool],
        deliver: Callable[[list[Outgoing]], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self.window = Window(limit_bytes)
        self._feed = feed
        self._loop = loop
        self._read_bytes = read_bytes
        self._send = send
        self._deliver = deliver
        self._turn = threading.Lock()  # whoever reads the feed, and sends what it read
        self._more = threading.Event()
        self._failed = failed
        self._stopping = False
        self._error: Exception | None = None  # of a push
        self._thread = threading.Thread(target=self._run, name=f"relay {name}", daemon=True)
        feed.listen(self._there_is_more)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Soon; `join` waits for it. From any thread."""
        self._stopping = True
        self.window.close()
        self._feed.wake()
        self._more.set()

    def join(self) -> None:
        """The feed is closed then."""
        self._thread.join()

    def _run(self) -> None:
        try:
            while self._goes_on():
                with self._turn:
                    found = self._pass_on(self._read_bytes)
                if found < 0:
                    self._more.wait(_IDLE_S)
        except Exception as error:  # noqa: BLE001 - the client is told, and the log
            told = error
            self._call(lambda: self._failed(told))
        finally:
            with self._turn:  # not while the log's writer reads it
                self._feed.close()

    def _goes_on(self) -> bool:
        """Whether to read again, once there is room. A `stop` that comes before this has closed the window, and one
        that comes later isn't forgotten: `_more` is cleared first."""
        self._more.clear()
        return self.window.wait()

    def _pass_on(self, max_bytes: int) -> int:
        """With the turn: about so much of the feed. How many bytes it was; -1: there is nothing."""
        if self._error is not None:
            raise self._error
        found = self._feed.read(max_bytes, 0.0)
        if not found:
            return -1
        size = sum(len(item.frames) for item in found)
        if not (self.window.is_clear and self._send(found)):
            self.window.take(size)
            self._call(lambda: self._deliver(found))
        return size

    def _there_is_more(self, hurried: bool) -> None:
        """By the thread that writes the log."""
        if hurried and self._pushed():
            return
        self._more.set()

    def _pushed(self) -> bool:
        """Whether all that there is was sent here. What isn't, and what goes wrong, is the other thread's."""
        if self._more.is_set() or not self.window.is_clear or not self._turn.acquire(blocking=False):
            return False
        try:
            return self._pass_on(_LITTLE_BYTES) < _LITTLE_BYTES
        except Exception as error:  # noqa: BLE001 - the log's writer goes on; the client is told by our own thread
            self._error = error
            return False
        finally:
            self._turn.release()

    def _call(self, work: Callable[[], None]) -> None:
        if self._stopping:
            return
        with contextlib.suppress(RuntimeError):  # the loop has ended since: nobody is there to be told
            self._loop.call_soon_threadsafe(work)
