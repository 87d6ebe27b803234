"""The socket of a walsender connection, and a pipe by which other threads end a wait on it.

In: a libpq connection in non-blocking mode; `wake` from any thread. Out: when to read and write.
Everything but `wake` is for the one thread that streams. Never reads the socket itself: libpq does.
"""

from __future__ import annotations

import os
import selectors
import threading
import time
from dataclasses import dataclass
from typing import Final

from psycopg import pq

from logship.errors import StreamBroken

_WAKE: Final = "wake"
_BOTH: Final = selectors.EVENT_READ | selectors.EVENT_WRITE


@dataclass(frozen=True, slots=True)
class Ready:
    readable: bool
    woken: bool


class Link:
    def __init__(self, pgconn: pq.abc.PGconn) -> None:
        self._pgconn = pgconn
        self._socket = pgconn.socket
        # Not epoll: a socket that is registered there makes each of the peer's writes wake it, also while it is read
        # without a pause, which took 6 % of a walsender's CPU.
        self._selector = selectors.PollSelector()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._lock = threading.Lock()  # a descriptor that was closed may be somebody else's already
        self._closed = False
        # Sending may have read meanwhile: libpq may hold what no wait for the socket tells of. Who reads takes it back.
        self.has_read = False
        self._socket_only = selectors.PollSelector()
        self._socket_only.register(self._socket, selectors.EVENT_READ)
        self._selector.register(self._socket, selectors.EVENT_READ)
        self._selector.register(self._wake_read, selectors.EVENT_READ, _WAKE)

    def wake(self) -> None:
        """End the wait under way, or else the next one. From any thread, at any time."""
        with self._lock:
            if self._closed:
                return
            try:
                os.write(self._wake_write, b"\0")
            except BlockingIOError:
                return  # a full pipe wakes as well

    def wait(self, timeout_s: float) -> Ready:
        """Wait until the socket has something to read, `wake` was called, or the time is over."""
        readable = woken = False
        for key, _ in self._selector.select(max(0.0, timeout_s)):
            if key.data == _WAKE:
                os.read(self._wake_read, 65536)
                woken = True
            else:
                readable = True
        return Ready(readable, woken)

    def flush(self, deadline_s: float) -> None:
        """Send what libpq has buffered. It reads meanwhile: a server that is itself blocked on sending
        would never read ours. `StreamBroken` when the server takes nothing until the deadline."""
        end = time.monotonic() + deadline_s
        while self._pgconn.flush() != 0:
            self.has_read = True
            if not self._wait_for_socket(_BOTH, end):
                raise StreamBroken(f"the server took nothing for {deadline_s:g} s", transient=True)

    def result(self, deadline_s: float) -> pq.abc.PGresult | None:
        """The next result of the command under way, None at its end."""
        end = time.monotonic() + deadline_s
        while self._pgconn.is_busy():
            if not self._wait_for_socket(selectors.EVENT_READ, end):
                raise StreamBroken(f"the server didn't answer for {deadline_s:g} s", transient=True)
        return self._pgconn.get_result()

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._selector.close()
            self._socket_only.close()
            os.close(self._wake_read)
            os.close(self._wake_write)

    def _wait_for_socket(self, events: int, end: float) -> bool:
        """False when ``end`` (monotonic seconds) passes first. Wakes are left for the next `wait`."""
        left_s = end - time.monotonic()
        if left_s <= 0:
            return False
        self._socket_only.modify(self._socket, events)
        for _, found in self._socket_only.select(left_s):
            if found & selectors.EVENT_READ:
                self._pgconn.consume_input()
        return True
