"""A program in the foreground: `logship run`, `ship` and `replay` are each one, made of sides.

In: sides, which are threads that belong together. Out: nothing while all goes well. It ends when it is told
to (`stop`, from a signal), or with the error that stopped one of the threads; then all of them stop. Owns the
HTTP endpoint, which listens before anything else is there.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from logship.config import Address
from logship.service.crew import Crew

if TYPE_CHECKING:  # prometheus-client and http.server are imported only when figures are asked for
    from logship.service.watch.endpoint import Endpoint

log = logging.getLogger(__name__)


# How long a thread that computes keeps the interpreter from one that has heard from a server. By default 5 ms: then a
# batch of one row waited longer for its turns than for the secondary, and under backlog the secondary waited for us.
_TURN_S: Final = 0.0005


class Side(Protocol):
    """Threads that belong together, and what they share."""

    def start(self, crew: Crew) -> None:
        """Start the threads in ``crew``."""

    def stop(self) -> None:
        """Have the threads end; from any thread, once."""

    def end(self, crew: Crew) -> None:
        """The threads have ended, or had their time: give back what they used. ``crew.error`` says why."""


class Foreground:
    """`running` and `stand` from the main thread, once; `stop` from anywhere, a signal handler included."""

    def __init__(self, metrics: Address | None) -> None:
        self._address = metrics
        self._endpoint: Endpoint | None = None
        # A pipe, because a signal handler may not take a lock that the thread it interrupts holds.
        self._woken, self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._told = False

    def __del__(self) -> None:
        os.close(self._wake)

    def stop(self) -> None:
        """End cleanly. Harmless when it has ended."""
        self._told = True
        with contextlib.suppress(BlockingIOError, BrokenPipeError):  # full, or ended already
            os.write(self._wake, b"\0")

    def stopped(self, timeout_s: float) -> bool:
        """Wait so long, or until `stop`; whether it came."""
        end = time.monotonic() + timeout_s
        while not self._told and (left := end - time.monotonic()) > 0.0:
            self._sleep(left)
        return self._told

    def _sleep(self, timeout_s: float | None = None) -> None:
        """So long at most; until somebody says `stop`, or a signal has come, whose handler runs then."""
        if select.select([self._woken], [], [], timeout_s)[0]:
            os.read(self._woken, 512)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """The whole of the program, its beginning included, in which there are no threads yet."""
        try:
            if self._address is not None:
                from logship.service.watch.endpoint import Endpoint

                self._endpoint = Endpoint(self._address)
            with _short_turns(), _woken_by_signals(self._wake):
                yield
        finally:
            if self._endpoint is not None:
                self._endpoint.close()
            os.close(self._woken)

    @property
    def endpoint(self) -> Endpoint | None:
        """Where figures are served; None: nowhere, or not yet."""
        return self._endpoint

    @property
    def metrics(self) -> Address | None:
        """The endpoint's address, with the port that was taken."""
        return self._endpoint.address if self._endpoint is not None else None

    def stand(self, sides: Sequence[Side], grace_s: float, beside: Callable[[Crew], None]) -> None:
        """Start ``sides`` in their order, then what ``beside`` starts, and stay until `stop`, or until a thread
        fails: its error is raised once all have ended, or have had ``grace_s`` for it."""

        def stop_all() -> None:
            for side in sides:
                side.stop()
            self.stop()

        crew = Crew(stop_all)
        for side in sides:
            side.start(crew)
        beside(crew)
        while not self._told:
            self._sleep()
        crew.stop()
        if not crew.join(grace_s):
            log.warning("gave up waiting for %s", ", ".join(crew.alive))
        for side in sides:
            side.end(crew)
        if crew.error is not None:
            raise crew.error


@contextlib.contextmanager
def _woken_by_signals(pipe: int) -> Iterator[None]:
    """A signal writes to ``pipe``, whenever it comes. Its handler alone wakes nobody who began to wait a moment
    before: Python runs handlers between two steps of the main thread, and a wait that has begun is one step."""
    if threading.current_thread() is not threading.main_thread():  # no signals are handled here
        yield
        return
    before = signal.set_wakeup_fd(pipe, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)


@contextlib.contextmanager
def _short_turns() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(_TURN_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
