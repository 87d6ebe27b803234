"""A queue bounded by bytes, between one thread that fills it and one that empties it.

An item larger than the bound passes alone; what an item takes however small it is counts, too. The
consumer takes what stands there in one go, so a consumer that falls behind works in larger portions.
`idle` says that it has nothing to do, which is when the filling thread hands over what it has instead
of letting it grow.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar

T = TypeVar("T")

# Counted for each item, as its bytes are: decoded, both take about eight times that. A batch of one row is 80 bytes of
# the log and 4 kB in memory, and while one store stands still the other may have each commit by itself.
ITEM_BYTES: Final = 512


class ByteQueue(Generic[T]):
    """``on_idle`` is called, without the lock, when the consumer finds nothing and starts to wait. It may `put`."""

    def __init__(self, bound_bytes: int, on_idle: Callable[[], object]) -> None:
        self._bound_bytes = bound_bytes
        self._on_idle = on_idle
        self._items: deque[tuple[T, int]] = deque()
        self._size_bytes = 0
        self._waiting = False
        self._closed = False
        self._woken = False
        self._changed = threading.Condition()

    @property
    def idle(self) -> bool:
        with self._changed:
            return self._waiting and not self._items

    @property
    def size_bytes(self) -> int:
        """Of the items, as they were given."""
        with self._changed:
            return self._size_bytes

    def has_room(self, size_bytes: int) -> bool:
        """Whether a `put` would wait for nothing. Only whoever fills the queue can rely on it."""
        with self._changed:
            counted = self._size_bytes + size_bytes + (len(self._items) + 1) * ITEM_BYTES
            return not self._items or counted <= self._bound_bytes

    def put(self, item: T, size_bytes: int) -> bool:
        """Wait for room, then add. False when the queue was closed: the item is not taken."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self.has_room(size_bytes))
            if self._closed:
                return False
            self._items.append((item, size_bytes))
            self._size_bytes += size_bytes
            self._changed.notify_all()
            return True

    def take(self, max_bytes: int, timeout_s: float | None = None) -> list[T]:
        """At least one item, and as many as ``max_bytes`` allow; none on timeout, after `wake`, or when closed."""
        with self._changed:
            found = bool(self._items)
            self._waiting = not found
        if not found:
            self._on_idle()
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._items or self._woken, timeout_s)
            self._waiting = self._woken = False
            if self._closed:
                return []
            taken: list[T] = []
            taken_bytes = 0
            while self._items and (not taken or taken_bytes + self._items[0][1] <= max_bytes):
                item, size_bytes = self._items.popleft()
                taken.append(item)
                taken_bytes += size_bytes
            self._size_bytes -= taken_bytes
            self._changed.notify_all()
            return taken

    def take_more(
        self, max_bytes: int, wanted: Callable[[T], bool], timeout_s: float | None = None
    ) -> list[T]:
        """For a consumer that is at work, and so not idle: those that are ``wanted``, up to the first that isn't, of
        ``max_bytes`` in all, what an item takes included. None on timeout or after `wake`; a closed queue has none,
        and wakes nobody."""
        with self._changed:
            self._changed.wait_for(lambda: self._woken or self._next_fits(max_bytes, wanted), timeout_s)
            self._woken = False
            taken: list[T] = []
            while self._next_fits(max_bytes, wanted):
                item, size_bytes = self._items.popleft()
                taken.append(item)
                max_bytes -= size_bytes + ITEM_BYTES
                self._size_bytes -= size_bytes
            self._changed.notify_all()
            return taken

    def _next_fits(self, max_bytes: int, wanted: Callable[[T], bool]) -> bool:
        return bool(self._items) and self._items[0][1] + ITEM_BYTES <= max_bytes and wanted(self._items[0][0])

    def wake(self) -> None:
        """Let the consumer look after something else; the next `take` returns at once."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    @property
    def closed(self) -> bool:
        with self._changed:
            return self._closed

    def close(self) -> None:
        """What still stands in the queue is dropped; both sides return at once."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._size_bytes = 0
            self._changed.notify_all()
