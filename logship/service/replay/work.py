"""What a store is at: for those who watch, and for the figures.

In: the beginning and the end of each piece of work, told by the thread that does it. Out: how many pieces
are done, how long they took, what is being done now. Any thread may read.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from logship.metrics import APPLY_BOUNDS_S, Durations


class Work:
    def __init__(self) -> None:
        self.finished = 0
        self.at = ""  # what is being done now; empty: nothing
        self.waits = False  # for the other store
        self.durations = Durations(APPLY_BOUNDS_S)

    @contextmanager
    def on(self, what: str) -> Iterator[None]:
        """One piece; one that raises isn't counted."""
        began = time.monotonic()
        with self.among(what):
            yield
            self.done(time.monotonic() - began)

    @contextmanager
    def among(self, what: str) -> Iterator[None]:
        """Several pieces, some of them at the same time; `done` says of each that it is."""
        before, self.at = self.at, what
        try:
            yield
        finally:
            self.at = before

    def done(self, seconds: float) -> None:
        self.durations.observe(seconds)
        self.finished += 1

    @contextmanager
    def waiting(self) -> Iterator[None]:
        self.waits = True
        try:
            yield
        finally:
            self.waits = False
