"""Threads that stand and fall together.

The first one that fails makes the others stop, and its error is the one that is raised. A thread
that ends without an error is done; the others go on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from logship.replay.failures import ReplayStopped


class Stopped(Exception):
    """Raised inside a stage that waits for something while the program stops."""


class Crew:
    """``stop`` is called once, from any thread, when a member has failed or `stop` was asked for."""

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._error: BaseException | None = None
        self._stopping = threading.Event()

    def start(self, name: str, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=self._guard, args=(work,), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def stop(self) -> None:
        with self._lock:
            first = not self._stopping.is_set()
            self._stopping.set()
        if first:
            self._stop()

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    def wait(self, timeout_s: float) -> bool:
        """For a member that has nothing to do: until the crew is stopping, or the time is over. Whether it is."""
        return self._stopping.wait(timeout_s)

    @property
    def error(self) -> BaseException | None:
        return self._error

    @property
    def alive(self) -> list[str]:
        return [thread.name for thread in self._threads if thread.is_alive()]

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait for all; whether all have ended. Raises nothing: look at `error`."""
        end = None if timeout_s is None else time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(None if end is None else max(0.0, end - time.monotonic()))
        return not self.alive

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except (Stopped, ReplayStopped):
            pass
        except BaseException as error:  # noqa: BLE001 - kept, and raised by whoever joins
            with self._lock:
                self._error = self._error or error
            self.stop()
